//! The accepting side.

use std::sync::Arc;

use prost::Message;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::net::accept;
use crate::{Frame, Handler, Hello, Link, PROTOCOL_VERSION, Service};

/// Settings of the accepting side.
#[derive(Debug, Clone)]
pub struct ServerOptions {
    /// Only links of this cluster are taken.
    pub cluster_name: String,
    /// More links than this wait to be accepted.
    pub links_max: usize,
}

/// Accepts links until `shutdown`, hands their frames to `handler`, and returns when the last link
/// has ended.
pub async fn serve(
    listener: TcpListener,
    options: ServerOptions,
    handler: Arc<dyn Handler>,
    shutdown: CancellationToken,
) {
    let permits = Arc::new(Semaphore::new(options.links_max));
    let tasks = tokio_util::task::TaskTracker::new();
    loop {
        let Ok(permit) = permits.clone().acquire_owned().await else {
            break;
        };
        let accepted = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = accept(&listener) => accepted,
        };
        let (stream, from) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Usually: out of file descriptors. Others are being closed meanwhile.
                tracing::warn!(%error, "cannot accept a peer link");
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                continue;
            }
        };
        let handler = handler.clone();
        let cluster_name = options.cluster_name.clone();
        let take =
            move |link: &Arc<Link>, frame| on_frame(&cluster_name, handler.as_ref(), link, frame);
        let link = Link::start(Box::new(stream), take, || ());
        let shutdown = shutdown.clone();
        tasks.spawn(async move {
            tokio::select! {
                () = link.gone() => tracing::debug!(%from, "a peer link ended"),
                () = shutdown.cancelled() => link.close(),
            }
            drop(permit);
        });
    }
    tasks.close();
    tasks.wait().await;
}

fn on_frame(cluster_name: &str, handler: &dyn Handler, link: &Arc<Link>, frame: Frame) -> bool {
    if link.hello().is_some() {
        handler.frame(link, frame);
        return true;
    }
    if frame.service != Service::Hello as u8 {
        tracing::warn!("a peer link began without a hello");
        return false;
    }
    match Hello::decode(frame.body) {
        Ok(hello) if hello.protocol_version != PROTOCOL_VERSION => {
            tracing::warn!(
                theirs = hello.protocol_version,
                ours = PROTOCOL_VERSION,
                "a peer speaks another protocol version"
            );
            false
        }
        Ok(hello) if hello.cluster_name != cluster_name => {
            tracing::warn!(
                theirs = hello.cluster_name,
                ours = cluster_name,
                "a peer belongs to another cluster"
            );
            false
        }
        Ok(hello) => link.greet(hello),
        Err(error) => {
            tracing::warn!(%error, "a peer sent a hello that cannot be read");
            false
        }
    }
}
