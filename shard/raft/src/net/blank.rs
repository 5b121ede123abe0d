//! Whether a group has begun: what a first member asks the others before it begins with an empty log.
//!
//! A first member with nothing stored is new, or it has lost its disk. If it has, it may have acknowledged entries
//! and given votes that it doesn't know of any more; it must not vote, as a majority with it could lack what was
//! committed. It can't tell by itself. So it asks the others who of them is blank: has no entry but the one that
//! names the first members.
//!
//! Of `n` members a majority has `q = n/2 + 1`. Anything that was committed is in the logs of `q - 1` others at least,
//! so if `n - q + 1` of the `n - 1` others are blank, nothing was committed. Who isn't answered by so many waits: the
//! group forms when they are there, or it is there and doesn't take a member with another disk.
//!
//! What this doesn't see: a disk that is lost while a group of five or more begins, in the moment between two answers.

use std::time::Duration;

use bytes::Bytes;
use caucus_peer::{Peers, Service};
use futures::future::join_all;
use prost::Message;

use crate::wire::{BlankAnswer, To};

/// How many others of `members` have to be blank, so that a member with nothing stored may begin.
fn needed(members: usize) -> usize {
    let quorum = members / 2 + 1;
    (members - quorum + 1).min(members - 1)
}

/// Whether the others of a group's first members say that nothing was committed. `others`: their replicas and peer
/// addresses; who doesn't answer within `limit` says nothing.
pub(crate) async fn nothing_committed(
    peers: &Peers,
    group: u32,
    others: &[(u64, String)],
    limit: Duration,
) -> bool {
    let asked = others.iter().map(async |(replica, addr)| {
        let to = To {
            group,
            replica: *replica,
        };
        let body = Bytes::from(to.encode_to_vec());
        let answer = peers.peer(addr).call(Service::RaftBlank, body, limit).await;
        matches!(answer.map(BlankAnswer::decode), Ok(Ok(answer)) if answer.is_blank)
    });
    let answers = join_all(asked).await;
    let blank = answers.into_iter().filter(|is_blank| *is_blank).count();
    blank >= needed(others.len() + 1)
}

#[cfg(test)]
mod tests {
    use super::needed;

    /// Whatever majority committed something: it has a member among those that would have to be blank.
    #[test]
    fn a_majority_is_never_missed() {
        for members in 2..=9 {
            let quorum = members / 2 + 1;
            let others = members - 1;
            // One of the majority is who asks.
            assert!(quorum - 1 + needed(members) > others, "{members} members");
            assert!(needed(members) <= others);
        }
        assert_eq!([1, 2, 3, 4, 5, 7].map(needed), [0, 1, 2, 2, 3, 4]);
    }
}
