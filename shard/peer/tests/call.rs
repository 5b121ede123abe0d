//! Calls: one limit for all that they take.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use caucus_peer::{CallError, Hello, Net, PROTOCOL_VERSION, Peers, PeersOptions, Service, Socket};
use futures::future::BoxFuture;
use tokio::io::DuplexStream;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};

/// A peer that takes its time to be connected to, and then never answers.
struct Slow {
    connect: Duration,
    /// The other ends: a closed one would be another error.
    ends: mpsc::UnboundedSender<DuplexStream>,
}

impl Net for Slow {
    fn connect(&self, _addr: String) -> BoxFuture<'static, io::Result<Box<dyn Socket>>> {
        let (connect, ends) = (self.connect, self.ends.clone());
        Box::pin(async move {
            sleep(connect).await;
            let (here, there) = tokio::io::duplex(1 << 16);
            ends.send(there).map_err(io::Error::other)?;
            Ok(Box::new(here) as Box<dyn Socket>)
        })
    }
}

fn peers(connect: Duration) -> (Arc<Peers>, mpsc::UnboundedReceiver<DuplexStream>) {
    let (ends, kept) = mpsc::unbounded_channel();
    let hello = Hello {
        protocol_version: PROTOCOL_VERSION,
        cluster_name: "test".to_owned(),
        node: 1,
        ..Hello::default()
    };
    let options = PeersOptions {
        connect_timeout: Duration::from_secs(60),
        ..PeersOptions::default()
    };
    (
        Peers::new(Arc::new(Slow { connect, ends }), hello, options),
        kept,
    )
}

#[tokio::test]
async fn connecting_and_waiting_share_one_limit() {
    let limit = Duration::from_millis(1600);
    let (peers, mut ends) = peers(limit * 3 / 4);
    let began = Instant::now();
    let answer = peers
        .peer("slow:1")
        .call(Service::Placement, Bytes::from_static(b"?"), limit)
        .await;
    let took = began.elapsed();
    let addr = "slow:1".to_owned();
    assert_eq!(answer, Err(CallError::Timeout { addr }));
    assert!(ends.try_recv().is_ok(), "it was connected");
    // With a limit for each it would be 1.75 times the limit.
    assert!((limit..limit * 3 / 2).contains(&took), "{took:?}");
    peers.close().await;
}

#[tokio::test]
async fn a_connection_that_takes_too_long_is_no_sent_request() {
    let limit = Duration::from_millis(50);
    let (peers, mut ends) = peers(Duration::from_secs(60));
    let answer = peers
        .peer("slow:1")
        .call(Service::Placement, Bytes::from_static(b"?"), limit)
        .await;
    assert!(answer.is_err_and(|error| error.is_unsent()));
    assert!(ends.try_recv().is_err());
    peers.close().await;
}
