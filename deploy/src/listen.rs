//! Taking the node's two ports.

use std::io;
use std::net::SocketAddr;

use tokio::net::TcpListener;

/// A port that can't be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// Somebody listens there already.
    #[error("{field}: {address} is in use by another process")]
    InUse {
        /// The field of the configuration that names it.
        field: &'static str,
        /// The address.
        address: SocketAddr,
    },
    /// The system refused.
    #[error("{field}: cannot listen on {address}: {cause}")]
    System {
        /// The field of the configuration that names it.
        field: &'static str,
        /// The address.
        address: SocketAddr,
        /// What it said.
        cause: io::Error,
    },
}

/// Listens on the address that `field` of the configuration gives.
pub(crate) async fn listen(field: &'static str, address: SocketAddr) -> Result<TcpListener, Error> {
    match TcpListener::bind(address).await {
        Ok(listener) => Ok(listener),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            Err(Error::InUse { field, address })
        }
        Err(cause) => Err(Error::System {
            field,
            address,
            cause,
        }),
    }
}
