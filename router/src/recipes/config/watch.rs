//! What is published below a path, as it is published.

use std::collections::BTreeMap;

use caucus_api::shard::Record;
use caucus_ring::Revision;
use tokio::time::Instant;

use super::path::Path;
use super::stored::Meta;
use crate::Router;
use crate::recipes::Changes;

/// What a publication did to a path.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Change {
    /// Its value since then; `None`: it was removed.
    pub record: Option<Record>,
    /// The version; `None` where somebody has written the key without publishing.
    pub meta: Option<Meta>,
}

/// The publications that change a value, or any below a path.
pub struct Watch {
    namespace: String,
    changes: Changes,
}

impl Watch {
    /// Begins after a revision.
    pub async fn open(
        router: &Router,
        path: &Path,
        after: Revision,
        deadline: Instant,
    ) -> Result<Watch, crate::Error> {
        let from = Revision(after.0 + 1);
        Ok(Watch {
            namespace: path.namespace().to_owned(),
            changes: Changes::open(router, path.span(), from, deadline).await?,
        })
    }

    /// What was published next, in the order of the paths. Can be cancelled without loss.
    pub async fn next(&mut self) -> Result<(BTreeMap<Path, Change>, Revision), crate::Error> {
        let (revision, events) = self.changes.next().await?;
        let mut changes: BTreeMap<Path, Change> = BTreeMap::new();
        for event in events {
            let Some((path, is_newest)) = Path::of_key(&self.namespace, &event.key) else {
                continue;
            };
            let change = changes.entry(path).or_default();
            match is_newest {
                true => change.meta = event.record.as_ref().and_then(Meta::read),
                false => change.record = event.record.clone(),
            }
        }
        Ok((changes, revision))
    }
}
