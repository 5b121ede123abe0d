//! CPU time and memory of the servers, from `/proc`.

use std::fs;
use std::io;

use super::Error;

/// `/proc` counts CPU time in these; it is 100 on every Linux that Rust's standard library runs on.
const TICKS_PER_SECOND: f64 = 100.0;

/// Usage of one process up to now.
#[derive(Debug, Clone, Copy)]
pub(super) struct Usage {
    /// The process.
    pub(super) pid: u32,
    /// User and system time since it started.
    pub(super) cpu_seconds: f64,
    /// Resident memory now.
    pub(super) rss_bytes: u64,
    /// Highest resident memory since it started.
    pub(super) rss_bytes_max: u64,
}

/// All that is read at one moment, or the difference of two such moments.
#[derive(Debug, Default)]
pub(super) struct Reading {
    /// The server processes, in the order in which they were named.
    pub(super) servers: Vec<Usage>,
    /// CPU seconds of this process, the load generator.
    pub(super) own_cpu_seconds: f64,
    /// CPU seconds of everything on this machine.
    pub(super) machine_cpu_seconds: f64,
}

impl Reading {
    /// Reads everything now.
    pub(super) fn take(pids: &[u32]) -> Result<Self, Error> {
        let read = |&pid| read_one(pid).map_err(|cause| Error::Process { pid, cause });
        let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
        Ok(Reading {
            servers: pids.iter().map(read).collect::<Result<_, _>>()?,
            own_cpu_seconds: read_one(std::process::id()).map_or(0.0, |usage| usage.cpu_seconds),
            machine_cpu_seconds: parse_machine_cpu_seconds(&stat).unwrap_or(0.0),
        })
    }

    /// What was used between an earlier reading and this one; peaks stay what they are.
    pub(super) fn since(&self, before: &Reading) -> Self {
        let servers = self.servers.iter().zip(&before.servers);
        let used = |(after, before): (&Usage, &Usage)| Usage {
            cpu_seconds: after.cpu_seconds - before.cpu_seconds,
            ..*after
        };
        Reading {
            servers: servers.map(used).collect(),
            own_cpu_seconds: self.own_cpu_seconds - before.own_cpu_seconds,
            machine_cpu_seconds: self.machine_cpu_seconds - before.machine_cpu_seconds,
        }
    }

    /// CPU seconds of whatever else ran: builds, other services.
    pub(super) fn other_cpu_seconds(&self) -> f64 {
        let servers: f64 = self.servers.iter().map(|usage| usage.cpu_seconds).sum();
        // Ticks are counted in different places; the rounding must not look like a negative load.
        (self.machine_cpu_seconds - servers - self.own_cpu_seconds).max(0.0)
    }
}

fn read_one(pid: u32) -> io::Result<Usage> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let cpu_seconds = parse_cpu_seconds(&stat).ok_or(io::ErrorKind::InvalidData)?;
    // A kernel thread or zombie has no memory, and no such line.
    Ok(Usage {
        pid,
        cpu_seconds,
        rss_bytes: parse_kibibytes(&status, "VmRSS:").unwrap_or(0),
        rss_bytes_max: parse_kibibytes(&status, "VmHWM:").unwrap_or(0),
    })
}

/// Fields 14 and 15 of `stat`, counted behind the name: it may hold blanks and parentheses.
fn parse_cpu_seconds(stat: &str) -> Option<f64> {
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut fields = fields.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some((user + system) as f64 / TICKS_PER_SECOND)
}

/// The sum of the first line, without the two kinds of idling; guests are in the user time already.
fn parse_machine_cpu_seconds(stat: &str) -> Option<f64> {
    let fields = stat
        .lines()
        .next()?
        .strip_prefix("cpu ")?
        .split_ascii_whitespace();
    let ticks: Vec<u64> = fields.map(str::parse).collect::<Result<_, _>>().ok()?;
    let [user, nice, system, _idle, _iowait, irq, softirq, steal, ..] = ticks[..] else {
        return None;
    };
    Some((user + nice + system + irq + softirq + steal) as f64 / TICKS_PER_SECOND)
}

fn parse_kibibytes(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    let kibibytes: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_found_behind_any_name() {
        let stat = "42 (a b) c) S 1 42 42 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 9 0 1 2 3";
        assert_eq!(parse_cpu_seconds(stat), Some(3.0));
        assert_eq!(parse_cpu_seconds("42 (short) S 1"), None);
    }

    #[test]
    fn the_machine_is_busy_when_it_does_not_idle() {
        let stat = "cpu  100 0 50 1000 900 10 20 20 7 0\ncpu0 1 2 3\n";
        assert_eq!(parse_machine_cpu_seconds(stat), Some(2.0));
        assert_eq!(parse_machine_cpu_seconds("cpu  1 2\n"), None);
    }

    #[test]
    fn memory_is_told_by_its_name() {
        let status = "Name:\tx\nVmHWM:\t    2048 kB\nVmRSS:\t    1024 kB\n";
        assert_eq!(parse_kibibytes(status, "VmHWM:"), Some(2 * 1024 * 1024));
        assert_eq!(parse_kibibytes(status, "VmRSS:"), Some(1024 * 1024));
        assert_eq!(parse_kibibytes("Name:\tkthread\n", "VmRSS:"), None);
    }
}
