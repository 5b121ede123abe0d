//! Keys and values as lines.

use bytes::Bytes;
use hyper::Method;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::encoded;
use super::lines::{self, Page};
use crate::endpoints::{Ask, Cluster, Endpoints};
use crate::fatal::Fatal;
use crate::output::print_bytes;

/// Keys asked for at a time.
const PAGE_KEYS: u64 = 1000;

/// Options of `caucus kv export`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Keys that begin so.
    #[arg(long, default_value = "")]
    prefix: String,

    #[command(flatten)]
    cluster: Cluster,
}

/// Prints one line a key, in the order of keys.
pub(super) async fn run(args: Args) -> Result<(), Fatal> {
    let endpoints = args.cluster.connect()?;
    let mut pages = Pages::new(format!("/v1/kv?prefix={}", encoded(&args.prefix)), None);
    let mut count = 0;
    while let Some(body) = pages.next(&endpoints).await? {
        let page: Page<'_> = serde_json::from_slice(&body).map_err(not_a_listing)?;
        let text: String = page.items.iter().map(lines::to_line).collect();
        print_bytes(text.as_bytes())?;
        count += page.items.len();
    }
    eprintln!("exported {count} keys");
    Ok(())
}

/// A listing, page by page.
#[derive(Debug)]
pub(super) struct Pages {
    base: String,
    left: Option<u64>,
    next: Next,
}

#[derive(Debug)]
enum Next {
    First,
    At(String),
    End,
}

/// What says where a page ends. Items and prefixes count alike.
#[derive(Deserialize)]
struct Head {
    items: Vec<IgnoredAny>,
    #[serde(default)]
    prefixes: Vec<IgnoredAny>,
    #[serde(default)]
    cursor: Option<String>,
}

impl Pages {
    /// `base` is path and query without `limit` and `cursor`.
    pub(super) fn new(base: String, limit: Option<u64>) -> Pages {
        let next = match limit {
            Some(0) => Next::End,
            Some(_) | None => Next::First,
        };
        Pages {
            base,
            left: limit,
            next,
        }
    }

    /// One more page, none at the end.
    pub(super) async fn next(&mut self, endpoints: &Endpoints) -> Result<Option<Bytes>, Fatal> {
        let limit = self.left.map_or(PAGE_KEYS, |left| left.min(PAGE_KEYS));
        let path = match &self.next {
            Next::First => format!("{}&limit={limit}", self.base),
            Next::At(cursor) => format!("{}&limit={limit}&cursor={}", self.base, encoded(cursor)),
            Next::End => return Ok(None),
        };
        let body = endpoints.send(&Ask::new(Method::GET, path)).await?;
        let page: Head = serde_json::from_slice(&body).map_err(not_a_listing)?;
        let length = (page.items.len() + page.prefixes.len()) as u64;
        self.left = self.left.map(|left| left.saturating_sub(length));
        self.next = match page.cursor {
            Some(cursor) if self.left != Some(0) => Next::At(cursor),
            Some(_) | None => Next::End,
        };
        Ok(Some(body))
    }
}

fn not_a_listing(error: serde_json::Error) -> Fatal {
    Fatal::failed(format!("the answer is no listing: {error}"))
}
