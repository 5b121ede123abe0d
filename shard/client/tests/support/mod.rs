//! A node whose other side is the test: frames come in through a channel, answers are sent by hand.

// Each test binary uses a part of it.
#![allow(dead_code, unreachable_pub)]

use std::sync::Arc;
use std::time::Duration;

use caucus_peer::{Frame, Handler, Hello, Link, Peers, PeersOptions, ServerOptions, TcpNet, serve};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub const CLUSTER: &str = "test";

pub struct Server {
    pub addr: String,
    pub frames: mpsc::UnboundedReceiver<(Arc<Link>, Frame)>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

struct Tap(mpsc::UnboundedSender<(Arc<Link>, Frame)>);

impl Handler for Tap {
    fn frame(&self, link: &Arc<Link>, frame: Frame) {
        let _ = self.0.send((link.clone(), frame));
    }
}

impl Server {
    pub async fn start() -> Server {
        let (tap, frames) = mpsc::unbounded_channel();
        Server::with(Arc::new(Tap(tap)), frames).await
    }

    async fn with(
        handler: Arc<dyn Handler>,
        frames: mpsc::UnboundedReceiver<(Arc<Link>, Frame)>,
    ) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap().to_string();
        let stop = CancellationToken::new();
        let options = ServerOptions {
            cluster_name: CLUSTER.to_owned(),
            links_max: 16,
        };
        let task = tokio::spawn(serve(listener, options, handler, stop.clone()));
        Server {
            addr,
            frames,
            stop,
            task,
        }
    }

    pub async fn next(&mut self) -> (Arc<Link>, Frame) {
        let next = tokio::time::timeout(Duration::from_secs(10), self.frames.recv());
        next.await.expect("a frame in time").expect("a frame")
    }

    /// Closes the listener and every link.
    pub async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap();
    }
}

pub fn peers() -> Arc<Peers> {
    let hello = Hello {
        protocol_version: caucus_peer::PROTOCOL_VERSION,
        cluster_name: CLUSTER.to_owned(),
        node: 0,
        ..Hello::default()
    };
    let net = Arc::new(TcpNet::default());
    Peers::new(net, hello, PeersOptions::default())
}
