//! Connections: accepted under a limit, with timeouts, and ended in good order.

use std::convert::Infallible;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::{Request, Version};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use metrics::gauge;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::front::Front;
use super::gathering::Gathering;
use crate::Router;
use crate::etcd::{EtcdOptions, NodeFacts};
use crate::metrics::HTTP_CONNECTIONS;

/// Gives what `/metrics` answers.
pub type MetricsText = Arc<dyn Fn() -> String + Send + Sync>;

/// What only the node knows that serves.
#[derive(Clone)]
pub struct Here {
    /// Its metrics.
    pub metrics_text: MetricsText,
    /// Itself.
    pub node: Arc<dyn NodeFacts>,
}

/// Settings of the client port.
#[derive(Debug, Clone)]
pub struct HttpOptions {
    /// More connections than this wait to be accepted.
    pub connections_max: usize,
    /// A connection that takes longer for the head of a request is closed, an idle one too.
    pub header_read_timeout: Duration,
    /// A body that takes longer to arrive is refused.
    pub body_timeout: Duration,
    /// Streams of one HTTP/2 connection.
    pub streams_max: u32,
    /// Requests that are under way at shutdown have this long to end.
    pub shutdown_grace: Duration,
    /// Of etcd's API.
    pub etcd: EtcdOptions,
}

impl Default for HttpOptions {
    fn default() -> Self {
        HttpOptions {
            connections_max: 10_000,
            header_read_timeout: Duration::from_secs(75),
            body_timeout: Duration::from_secs(30),
            streams_max: 1024,
            shutdown_grace: Duration::from_secs(10),
            etcd: EtcdOptions::default(),
        }
    }
}

/// Serves until `shutdown`; returns when the last connection has ended.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    options: HttpOptions,
    here: Here,
    shutdown: CancellationToken,
) {
    let front = Front::new(
        router,
        here,
        options.body_timeout,
        options.etcd,
        shutdown.clone(),
    );
    let builder = Arc::new(builder(&options));
    let options = Arc::new(options);
    let permits = Arc::new(Semaphore::new(options.connections_max));
    let tasks = TaskTracker::new();
    let open = gauge!(HTTP_CONNECTIONS);
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = accept(&listener, &permits) => accepted,
        };
        let (stream, permit) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Usually: out of file descriptors. Others are being closed meanwhile.
                tracing::warn!(%error, "cannot accept a client connection");
                sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        open.increment(1.0);
        let (front, builder, options) = (front.clone(), builder.clone(), options.clone());
        let open = open.clone();
        // A token of its own: asking the shared one at every wake-up would meet all other
        // connections at its lock.
        let shutdown = shutdown.child_token();
        tasks.spawn(async move {
            serve_connection(stream, front, &builder, &options, shutdown).await;
            open.decrement(1.0);
            drop(permit);
        });
    }
    drop(listener);
    tasks.close();
    tasks.wait().await;
}

fn builder(options: &HttpOptions) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(options.header_read_timeout);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(options.streams_max)
        .keep_alive_interval(options.header_read_timeout);
    builder
}

/// A permit first, so that the limit holds before anything is spent on a connection.
async fn accept(
    listener: &TcpListener,
    permits: &Arc<Semaphore>,
) -> io::Result<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let permit = permits.clone().acquire_owned().await;
    let permit = permit.map_err(|_| io::Error::other("the server is closed"))?;
    let (stream, _) = listener.accept().await?;
    stream.set_nodelay(true)?;
    Ok((stream, permit))
}

async fn serve_connection(
    stream: TcpStream,
    front: Arc<Front>,
    builder: &Builder<TokioExecutor>,
    options: &HttpOptions,
    shutdown: CancellationToken,
) {
    let begun = Arc::new(AtomicBool::new(false));
    let shares = Arc::new(AtomicBool::new(false));
    let service = {
        let (begun, shares) = (begun.clone(), shares.clone());
        service_fn(move |request: Request<Incoming>| {
            if !begun.load(Ordering::Relaxed) {
                begun.store(true, Ordering::Relaxed);
                shares.store(request.version() == Version::HTTP_2, Ordering::Relaxed);
            }
            let front = front.clone();
            async move { Ok::<_, Infallible>(front.answer(request).await) }
        })
    };
    let stream = TokioIo::new(Gathering::new(stream, shares));
    let mut connection = pin!(builder.serve_connection(stream, service));
    // The first bytes decide between HTTP/1.1 and HTTP/2; until then no timeout of theirs runs.
    let first = tokio::select! {
        biased;
        ended = connection.as_mut() => return ended_with(ended),
        () = shutdown.cancelled() => None,
        () = sleep(options.header_read_timeout) => Some(begun.load(Ordering::Relaxed)),
    };
    match first {
        Some(false) => return,
        Some(true) => {
            tokio::select! {
                biased;
                ended = connection.as_mut() => return ended_with(ended),
                () = shutdown.cancelled() => {}
            }
        }
        None => {}
    }
    connection.as_mut().graceful_shutdown();
    if timeout(options.shutdown_grace, connection).await.is_err() {
        tracing::debug!("a client connection was cut at shutdown");
    }
}

fn ended_with(ended: Result<(), Box<dyn std::error::Error + Send + Sync>>) {
    if let Err(error) = ended {
        tracing::debug!(%error, "a client connection ended");
    }
}
