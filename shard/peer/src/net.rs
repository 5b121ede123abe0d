//! Where sockets come from: the operating system, or a simulated network.

use std::io;
use std::net::{IpAddr, SocketAddr};

use futures::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket, TcpStream, lookup_host};

/// A connected byte stream.
pub trait Socket: AsyncRead + AsyncWrite + Send + Unpin + 'static {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Socket for T {}

/// Makes connections. Passed in, so that a simulation can take its place.
pub trait Net: Send + Sync + 'static {
    /// Connects to `addr` (`host:port`).
    fn connect(&self, addr: String) -> BoxFuture<'static, io::Result<Box<dyn Socket>>>;
}

/// TCP of the operating system.
#[derive(Debug, Clone, Default)]
pub struct TcpNet {
    /// Outgoing sockets are bound to this address (a free port), so that a firewall rule can tell
    /// the nodes of one machine apart.
    pub bind: Option<IpAddr>,
}

impl TcpNet {
    async fn dial(bind: Option<IpAddr>, addr: String) -> io::Result<TcpStream> {
        let mut last = io::Error::new(
            io::ErrorKind::NotFound,
            format!("`{addr}` resolves to no address"),
        );
        for target in lookup_host(&addr).await? {
            let socket = match target {
                SocketAddr::V4(_) => TcpSocket::new_v4()?,
                SocketAddr::V6(_) => TcpSocket::new_v6()?,
            };
            if let Some(ip) = bind.filter(|ip| ip.is_ipv4() == target.is_ipv4()) {
                socket.bind(SocketAddr::new(ip, 0))?;
            }
            match socket.connect(target).await {
                Ok(stream) => {
                    stream.set_nodelay(true)?;
                    return Ok(stream);
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

impl Net for TcpNet {
    fn connect(&self, addr: String) -> BoxFuture<'static, io::Result<Box<dyn Socket>>> {
        let bind = self.bind;
        Box::pin(async move {
            let stream = TcpNet::dial(bind, addr).await?;
            Ok(Box::new(stream) as Box<dyn Socket>)
        })
    }
}

/// Takes connections. Passed in, so that a simulation can take its place.
pub trait Listener: Send + 'static {
    /// The next connection, and whose it is, for the log.
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(Box<dyn Socket>, String)>>;
}

impl Listener for TcpListener {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(Box<dyn Socket>, String)>> {
        Box::pin(async move {
            let (stream, from) = TcpListener::accept(self).await?;
            stream.set_nodelay(true)?;
            Ok((Box::new(stream) as Box<dyn Socket>, from.to_string()))
        })
    }
}

impl Listener for Box<dyn Listener> {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(Box<dyn Socket>, String)>> {
        (**self).accept()
    }
}
