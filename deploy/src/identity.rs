//! Whose data directory this is.
//!
//! The file `IDENTITY` names the cluster, the node and the storage; it is made at the first start and
//! checked at every later one, so that a node never runs on data of another cluster, of another node or
//! of a newer format. The file `LOCK` is locked while a process uses the directory.
//!
//! Invariant: a storage id names one uninterrupted history of data. Who loses the data draws a new one:
//! that is why the memory engine gets a new identity at every start, and why a store without its
//! identity isn't opened.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::config::{Checked, Engine};

/// The version of everything below the data directory that this build writes, and the newest that it reads.
const FORMAT: u32 = 1;
const IDENTITY: &str = "IDENTITY";
const LOCK: &str = "LOCK";
const STORE: &str = "store";

/// Why a data directory can't be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// It belongs to another cluster.
    #[error("data directory {dir} belongs to cluster `{found}`, not `{expected}`")]
    OtherCluster {
        /// The directory.
        dir: PathBuf,
        /// Who it belongs to.
        found: String,
        /// Who wants it.
        expected: String,
    },
    /// It belongs to another node.
    #[error("data directory {dir} belongs to node {found}, not {expected}")]
    OtherNode {
        /// The directory.
        dir: PathBuf,
        /// Who it belongs to.
        found: u32,
        /// Who wants it.
        expected: u32,
    },
    /// It was made with another engine.
    #[error("data directory {0} was made with another storage.engine")]
    OtherEngine(PathBuf),
    /// A newer release wrote it.
    #[error("data directory {dir} has format {found}; this release reads up to {FORMAT}")]
    NewerFormat {
        /// The directory.
        dir: PathBuf,
        /// What it says.
        found: u32,
    },
    /// Another process uses it.
    #[error("data directory {0} is in use by another process")]
    InUse(PathBuf),
    /// There is data, but nothing says whose.
    #[error("data directory {0} holds data but no file IDENTITY")]
    Missing(PathBuf),
    /// The identity can't be read.
    #[error("{path}: {message}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        message: String,
    },
    /// The system refused.
    #[error("data directory {dir}: {cause}")]
    System {
        /// The directory.
        dir: PathBuf,
        /// What it said.
        cause: io::Error,
    },
}

impl Error {
    /// Whether the operator has to change something before another start can succeed.
    pub(crate) fn is_setup(&self) -> bool {
        match self {
            Error::OtherCluster { .. }
            | Error::OtherNode { .. }
            | Error::OtherEngine(_)
            | Error::NewerFormat { .. }
            | Error::InUse(_)
            | Error::Missing(_)
            | Error::Damaged { .. } => true,
            // Others may pass: a disk that is full, a file system that isn't there yet.
            Error::System { cause, .. } => matches!(
                cause.kind(),
                io::ErrorKind::PermissionDenied
                    | io::ErrorKind::NotADirectory
                    | io::ErrorKind::AlreadyExists
                    | io::ErrorKind::ReadOnlyFilesystem
            ),
        }
    }
}

/// The content of `IDENTITY`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Identity {
    format: u32,
    engine: Engine,
    cluster_name: String,
    /// Hexadecimal; none until the node has registered.
    cluster_id: Option<String>,
    /// None until the cluster assigned it.
    node: Option<NonZeroU32>,
    /// Sixteen random bytes, hexadecimal.
    storage_id: String,
}

/// A data directory that this process holds.
#[derive(Debug)]
pub(crate) struct DataDir {
    path: PathBuf,
    identity: Identity,
    /// Released by the system when the process ends, however it ends.
    _lock: File,
}

impl DataDir {
    /// Locks the directory and reads its identity, or gives it one.
    pub(crate) fn open(config: &Checked) -> Result<DataDir, Error> {
        let path = config.node.data_dir.clone();
        let system = |cause| Error::System {
            dir: path.clone(),
            cause,
        };
        fs::create_dir_all(&path).map_err(system)?;
        let lock = lock(&path)?;
        let identity = match read(&path)? {
            Some(found)
                if found.engine == Engine::RocksDb || config.storage.engine != found.engine =>
            {
                check(&path, found, config)?
            }
            Some(_) | None => create(&path, config)?,
        };
        Ok(DataDir {
            path,
            identity,
            _lock: lock,
        })
    }

    /// Where the storage engine keeps its files.
    pub(crate) fn store(&self) -> PathBuf {
        self.path.join(STORE)
    }

    /// Sixteen bytes, drawn once for each directory.
    pub(crate) fn storage_id(&self) -> Vec<u8> {
        from_hex(&self.identity.storage_id).expect("checked when it was read")
    }

    /// The node's number, if it is known.
    pub(crate) fn node(&self) -> Option<NonZeroU32> {
        self.identity.node
    }

    /// The cluster's id, if it is known.
    pub(crate) fn cluster_id(&self) -> Option<Vec<u8>> {
        self.identity.cluster_id.as_deref().and_then(from_hex)
    }

    /// Keeps what the cluster answered to the registration; an error if something else is kept already.
    pub(crate) fn remember(&mut self, node: NonZeroU32, cluster_id: &[u8]) -> Result<(), Error> {
        let cluster_id = to_hex(cluster_id);
        if let Some(found) = self.identity.node.filter(|found| *found != node) {
            return Err(Error::OtherNode {
                dir: self.path.clone(),
                found: found.get(),
                expected: node.get(),
            });
        }
        let known = self.identity.cluster_id.as_ref();
        if let Some(found) = known.filter(|found| **found != cluster_id) {
            return Err(Error::OtherCluster {
                dir: self.path.clone(),
                found: found.clone(),
                expected: cluster_id,
            });
        }
        let next = Identity {
            node: Some(node),
            cluster_id: Some(cluster_id),
            ..self.identity.clone()
        };
        if next != self.identity {
            write(&self.path, &next)?;
            self.identity = next;
        }
        Ok(())
    }
}

fn lock(dir: &Path) -> Result<File, Error> {
    let system = |cause| Error::System {
        dir: dir.to_owned(),
        cause,
    };
    let mut options = OpenOptions::new();
    let file = options
        .create(true)
        .truncate(false)
        .write(true)
        .open(dir.join(LOCK));
    let file = file.map_err(system)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::InUse(dir.to_owned())),
        Err(TryLockError::Error(cause)) => Err(system(cause)),
    }
}

fn read(dir: &Path) -> Result<Option<Identity>, Error> {
    /// What every format has.
    #[derive(Deserialize)]
    struct Format {
        format: u32,
    }

    let path = dir.join(IDENTITY);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(cause) => {
            return Err(Error::System {
                dir: dir.to_owned(),
                cause,
            });
        }
    };
    let damaged = |message: String| Error::Damaged {
        path: path.clone(),
        message,
    };
    let Format { format } =
        serde_json::from_str(&text).map_err(|error| damaged(error.to_string()))?;
    if format > FORMAT {
        return Err(Error::NewerFormat {
            dir: dir.to_owned(),
            found: format,
        });
    }
    let identity: Identity =
        serde_json::from_str(&text).map_err(|error| damaged(error.to_string()))?;
    match from_hex(&identity.storage_id) {
        Some(id) if id.len() == 16 => Ok(Some(identity)),
        _ => Err(damaged(
            "storage_id is not 16 bytes in hexadecimal".to_owned(),
        )),
    }
}

fn check(dir: &Path, mut found: Identity, config: &Checked) -> Result<Identity, Error> {
    if found.cluster_name != config.cluster.name {
        return Err(Error::OtherCluster {
            dir: dir.to_owned(),
            found: found.cluster_name,
            expected: config.cluster.name.clone(),
        });
    }
    if found.engine != config.storage.engine {
        return Err(Error::OtherEngine(dir.to_owned()));
    }
    match (found.node, config.node_id()) {
        (Some(found), Some(expected)) if found != expected => Err(Error::OtherNode {
            dir: dir.to_owned(),
            found: found.get(),
            expected: expected.get(),
        }),
        (None, Some(node)) => {
            found.node = Some(node);
            write(dir, &found)?;
            Ok(found)
        }
        (Some(_), _) | (None, None) => Ok(found),
    }
}

fn create(dir: &Path, config: &Checked) -> Result<Identity, Error> {
    if dir.join(STORE).exists() {
        return Err(Error::Missing(dir.to_owned()));
    }
    let identity = Identity {
        format: FORMAT,
        engine: config.storage.engine,
        cluster_name: config.cluster.name.clone(),
        cluster_id: None,
        node: config.node_id(),
        storage_id: draw().map_err(|cause| Error::System {
            dir: dir.to_owned(),
            cause,
        })?,
    };
    write(dir, &identity)?;
    Ok(identity)
}

/// Leaves the old file or the new one, whenever the machine stops.
fn write(dir: &Path, identity: &Identity) -> Result<(), Error> {
    let attempt = || -> io::Result<()> {
        let temporary = dir.join("IDENTITY.new");
        let mut file = File::create(&temporary)?;
        let text = serde_json::to_string_pretty(identity)?;
        writeln!(file, "{text}")?;
        file.sync_all()?;
        fs::rename(&temporary, dir.join(IDENTITY))?;
        File::open(dir)?.sync_all()
    };
    attempt().map_err(|cause| Error::System {
        dir: dir.to_owned(),
        cause,
    })
}

fn draw() -> io::Result<String> {
    let mut bytes = [0; 16];
    let drawn = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
    // The kernel gives requests of up to 256 bytes in one piece.
    match drawn == bytes.len() {
        true => Ok(to_hex(&bytes)),
        false => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.is_ascii() {
        return None;
    }
    let pairs = (0..text.len()).step_by(2);
    pairs
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok())
        .collect()
}

#[cfg(test)]
#[path = "identity_tests.rs"]
mod tests;
