//! The accepting side.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::{Frame, Handler, Hello, Link, Listener, PROTOCOL_VERSION, Service};

/// A refused caller has this long to read why.
const REFUSED_LINGER: Duration = Duration::from_secs(1);

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
    mut listener: impl Listener,
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
            accepted = listener.accept() => accepted,
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
        let link = Link::start(stream, take, || ());
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
    if link.is_refused() {
        return true;
    }
    if link.hello().is_some() {
        handler.frame(link, frame);
        return true;
    }
    if frame.service != Service::Hello as u8 {
        tracing::warn!("a peer link began without a hello");
        return false;
    }
    let theirs = match Hello::decode(frame.body) {
        Ok(theirs) => theirs,
        Err(error) => {
            tracing::warn!(%error, "a peer sent a hello that cannot be read");
            return false;
        }
    };
    let ours = Hello {
        protocol_version: PROTOCOL_VERSION,
        cluster_name: cluster_name.to_owned(),
        node: 0,
        cluster_id: handler.cluster_id(),
    };
    let refusal = ours.refusal(&theirs);
    if let Some(reason) = &refusal {
        tracing::warn!(node = theirs.node, reason, "a peer is refused");
        refuse(link, &ours);
    }
    link.greet(theirs, refusal.is_some())
}

/// Says who we are. The link stays open until that has been written.
fn refuse(link: &Arc<Link>, ours: &Hello) {
    let hello = Bytes::from(ours.encode_to_vec());
    let link = link.clone();
    if link.send_now(Frame::new(Service::Hello, 0, hello)).is_ok() {
        tokio::spawn(async move {
            tokio::time::sleep(REFUSED_LINGER).await;
            link.close();
        });
    }
}
