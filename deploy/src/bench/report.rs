//! The result of a run, for people and for programs.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::Serialize;

use super::args::{Args, Target, Workload};
use super::driver::Outcome;

/// Everything that a run has measured, with what it was made of.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    target: Target,
    workload: Workload,
    endpoints: Vec<String>,
    clients: usize,
    connections: usize,
    threads: usize,
    keys: usize,
    directories: usize,
    key_prefix: String,
    value_bytes: usize,
    batch_size: Option<usize>,
    get_percent: Option<u8>,
    duration_s: f64,
    /// Requests answered with success.
    pub(super) requests: u64,
    operations: u64,
    errors: u64,
    /// The first failure, even if it was before the measured window.
    pub(super) first_error: Option<String>,
    requests_per_s: f64,
    operations_per_s: f64,
    latency_us: Latency,
    load_cpu_s: f64,
    servers: Option<Servers>,
    /// What else was measured.
    figures: BTreeMap<&'static str, f64>,
}

/// Of whole requests, in microseconds.
#[derive(Debug, Serialize)]
struct Latency {
    mean: f64,
    p50: u64,
    p90: u64,
    p99: u64,
    p999: u64,
    max: u64,
}

/// The processes of `--pids`.
#[derive(Debug, Serialize)]
struct Servers {
    cpu_s: f64,
    cpu_us_per_operation: f64,
    rss_bytes_max: u64,
    /// Of everything that is neither a server nor the load generator: it disturbs the measurement.
    others_cpu_s: f64,
    processes: Vec<Process>,
}

#[derive(Debug, Serialize)]
struct Process {
    pid: u32,
    cpu_s: f64,
    rss_bytes_max: u64,
}

impl Report {
    /// Works out the rates.
    pub(super) fn new(args: &Args, outcome: &Outcome) -> Self {
        let tally = &outcome.tally;
        let duration_s = args.duration.as_secs_f64();
        let latency = &tally.latency_us;
        Report {
            target: args.target,
            workload: args.workload,
            endpoints: args.endpoints.clone(),
            clients: args.clients,
            connections: args.connections(),
            threads: args.threads(),
            keys: args.keys,
            directories: args.directories,
            key_prefix: args.key_prefix.clone(),
            value_bytes: args.value_size,
            batch_size: (args.workload == Workload::Batch).then_some(args.batch_size),
            get_percent: (args.workload == Workload::Mixed).then_some(args.mix),
            duration_s,
            requests: tally.requests,
            operations: tally.operations,
            errors: tally.errors,
            first_error: tally.first_error.clone(),
            requests_per_s: tally.requests as f64 / duration_s,
            operations_per_s: tally.operations as f64 / duration_s,
            latency_us: Latency {
                mean: latency.mean(),
                p50: latency.value_at_quantile(0.5),
                p90: latency.value_at_quantile(0.9),
                p99: latency.value_at_quantile(0.99),
                p999: latency.value_at_quantile(0.999),
                max: latency.max(),
            },
            load_cpu_s: outcome.used.own_cpu_seconds,
            servers: servers(outcome),
            figures: outcome.figures.iter().copied().collect(),
        }
    }

    /// One JSON object on one line.
    pub(super) fn to_json(&self) -> String {
        serde_json::to_string(self).expect("numbers and strings are JSON")
    }

    /// Lines of a name and a value.
    pub(super) fn to_table(&self) -> String {
        let mut table = String::new();
        let mut line = |name: &str, value: String| {
            writeln!(table, "{name:<12} {value}").expect("writing to memory doesn't fail");
        };
        line(
            "target",
            format!("{} on {}", name_of(&self.target), self.endpoints.join(", ")),
        );
        line("workload", self.workload_text());
        line(
            "keys",
            format!("{} in {} directories", self.keys, self.directories),
        );
        line("clients", self.clients_text());
        line(
            "operations",
            format!("{:.0}/s ({})", self.operations_per_s, self.operations),
        );
        if self.batch_size.is_some() {
            line(
                "requests",
                format!("{:.0}/s ({})", self.requests_per_s, self.requests),
            );
        }
        let latency = &self.latency_us;
        line(
            "latency",
            format!(
                "p50 {} p90 {} p99 {} p99.9 {} max {} ms",
                milliseconds(latency.p50),
                milliseconds(latency.p90),
                milliseconds(latency.p99),
                milliseconds(latency.p999),
                milliseconds(latency.max),
            ),
        );
        line("errors", self.errors.to_string());
        if let Some(error) = &self.first_error {
            line("first error", error.clone());
        }
        line(
            "load CPU",
            format!("{:.2} cores", self.load_cpu_s / self.duration_s),
        );
        if let Some(servers) = &self.servers {
            let cores = servers.cpu_s / self.duration_s;
            let each = servers.cpu_us_per_operation;
            line(
                "server CPU",
                format!("{cores:.2} cores, {each:.1} us an operation"),
            );
            let mebibytes = servers.rss_bytes_max as f64 / f64::from(1 << 20);
            line(
                "server RSS",
                format!("{mebibytes:.0} MiB at most in one process"),
            );
        }
        for (name, value) in &self.figures {
            line(name, format!("{value:.1}"));
        }
        table
    }

    fn workload_text(&self) -> String {
        let name = name_of(&self.workload);
        let detail = match (self.batch_size, self.get_percent) {
            (Some(size), _) => format!(" of {size}"),
            (None, Some(percent)) => format!(", {percent} % gets"),
            (None, None) => String::new(),
        };
        format!(
            "{name}{detail}, {} byte values, {} s",
            self.value_bytes, self.duration_s
        )
    }

    fn clients_text(&self) -> String {
        let multiplexed = match self.target {
            Target::Caucus | Target::EtcdJson | Target::Zookeeper => "one request each at a time",
            Target::EtcdGrpc => "multiplexed",
        };
        let (connections, threads) = (self.connections, self.threads);
        format!(
            "{} on {connections} connections ({multiplexed}), {threads} load threads",
            self.clients
        )
    }
}

fn servers(outcome: &Outcome) -> Option<Servers> {
    let processes = outcome.used.servers.iter();
    let processes: Vec<_> = processes
        .map(|usage| Process {
            pid: usage.pid,
            cpu_s: usage.cpu_seconds,
            rss_bytes_max: usage.rss_bytes_max,
        })
        .collect();
    let rss_bytes_max = processes
        .iter()
        .map(|process| process.rss_bytes_max)
        .max()?;
    let cpu_s: f64 = processes.iter().map(|process| process.cpu_s).sum();
    let operations = outcome.tally.operations.max(1) as f64;
    Some(Servers {
        cpu_s,
        cpu_us_per_operation: cpu_s * 1e6 / operations,
        rss_bytes_max,
        others_cpu_s: outcome.used.other_cpu_seconds(),
        processes,
    })
}

/// The name that the command line has for it.
fn name_of(value: &impl clap::ValueEnum) -> String {
    value
        .to_possible_value()
        .map_or_else(String::new, |value| value.get_name().to_owned())
}

fn milliseconds(microseconds: u64) -> String {
    format!("{:.2}", microseconds as f64 / 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::process::{Reading, Usage};
    use crate::bench::tally::Tally;
    use clap::Parser;
    use std::time::Duration;

    #[derive(Parser)]
    struct CommandLine {
        #[command(flatten)]
        args: Args,
    }

    fn report(options: &str) -> Report {
        let line = CommandLine::parse_from(options.split_ascii_whitespace());
        let args = line.args.validate().expect("good options");
        let mut tally = Tally::new();
        for request in 1..=100 {
            tally.record_success(10, Duration::from_micros(request * 10));
        }
        let usage = |pid| Usage {
            pid,
            cpu_seconds: 0.5,
            rss_bytes: 1 << 19,
            rss_bytes_max: 1 << 20,
        };
        let servers = args.pids.iter().map(|&pid| usage(pid)).collect();
        let used = Reading {
            servers,
            own_cpu_seconds: 1.0,
            machine_cpu_seconds: 2.5,
        };
        let figures = vec![("rss_bytes_a_watcher", 4096.0)];
        let outcome = Outcome {
            tally,
            used,
            figures,
        };
        Report::new(&args, &outcome)
    }

    #[test]
    fn rates_and_costs_are_per_second_and_operation() {
        let report = report("bench batch --endpoints a,b --duration 2s --pids 1,2 --batch-size 10");
        let json: serde_json::Value = serde_json::from_str(&report.to_json()).expect("JSON");
        assert_eq!(json["figures"]["rss_bytes_a_watcher"], 4096.0);
        assert_eq!(json["operations_per_s"], 500.0);
        assert_eq!(json["requests_per_s"], 50.0);
        assert_eq!(json["latency_us"]["p50"], 500);
        assert_eq!(json["servers"]["cpu_us_per_operation"], 1000.0);
        assert_eq!(json["servers"]["others_cpu_s"], 0.5);
        assert_eq!(json["batch_size"], 10);
    }

    #[test]
    fn the_table_says_what_was_measured() {
        let table = report("bench get --endpoints a --target etcd-grpc").to_table();
        assert!(
            table.contains("256 on 4 connections (multiplexed)"),
            "{table}"
        );
        assert!(!table.contains("server CPU"), "{table}");
    }
}
