//! What `/metrics` says, in Prometheus' text format.

use std::collections::{BTreeMap, BTreeSet};

use crate::http::Client;

/// One number.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// With the suffixes of a histogram.
    pub name: String,
    /// By name.
    pub labels: BTreeMap<String, String>,
    /// The number.
    pub value: f64,
}

/// All numbers of a node at one time.
#[derive(Debug, Clone, Default)]
pub struct Scrape {
    /// Kind by family, of those that are described.
    pub kinds: BTreeMap<String, String>,
    /// Families with a text for people.
    pub helped: BTreeSet<String>,
    /// The numbers.
    pub samples: Vec<Sample>,
}

impl Scrape {
    /// Asks a node; panics if the answer has not that format.
    pub fn of(client: &mut Client) -> Scrape {
        let answer = client.request("GET", "/metrics", &[], b"");
        let answer = answer.expect("the node answers");
        assert_eq!(answer.status, 200, "{}", answer.text());
        let mut scrape = Scrape::default();
        for line in answer.text().lines().filter(|line| !line.is_empty()) {
            scrape.take(line);
        }
        scrape
    }

    fn take(&mut self, line: &str) {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').expect("name and kind");
            self.kinds.insert(name.to_owned(), kind.to_owned());
        } else if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, _) = rest.split_once(' ').expect("name and text");
            self.helped.insert(name.to_owned());
        } else {
            let sample = sample(line).unwrap_or_else(|| panic!("not a sample: {line}"));
            self.samples.push(sample);
        }
    }

    /// The samples of a name that have all these labels.
    pub fn find<'a>(
        &'a self,
        name: &'a str,
        labels: &'a [(&'a str, &'a str)],
    ) -> impl Iterator<Item = &'a Sample> {
        let has = |sample: &Sample| {
            let mut labels = labels.iter();
            labels.all(|(name, value)| sample.labels.get(*name).is_some_and(|found| found == value))
        };
        let samples = self.samples.iter();
        samples.filter(move |sample| sample.name == name && has(sample))
    }

    /// The sum of them.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.find(name, labels).map(|sample| sample.value).sum()
    }
}

/// Label values here have no escapes, commas or braces but `{key}`; what has them is no sample.
fn sample(line: &str) -> Option<Sample> {
    let (series, value) = line.rsplit_once(' ')?;
    let (name, labels) = match series.split_once('{') {
        Some((name, labels)) => (name, labels.strip_suffix('}')?),
        None => (series, ""),
    };
    let pairs = labels.split(',').filter(|pair| !pair.is_empty());
    let pair = |pair: &str| {
        let (name, value) = pair.split_once('=')?;
        let value = value.strip_prefix('"')?.strip_suffix('"')?;
        Some((name.to_owned(), value.to_owned()))
    };
    Some(Sample {
        name: name.to_owned(),
        labels: pairs.map(pair).collect::<Option<_>>()?,
        value: value.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_read() {
        let found = sample("a_total{route=\"/v1/kv/{key}\",code=\"200\"} 3").unwrap();
        assert_eq!((found.name.as_str(), found.value), ("a_total", 3.0));
        assert_eq!(found.labels["route"], "/v1/kv/{key}");
        assert_eq!(sample("b 1e-3").unwrap().value, 0.001);
        assert_eq!(sample("c{x} 1"), None);
    }
}
