//! Who led, and that nobody else did: Raft's election safety, looked at while a run goes on.

use std::collections::BTreeMap;

use crate::wire::HostId;
use crate::world::World;

/// Between two looks, in ms: who leads does so for longer.
const LOOK_EVERY: u64 = 20;

/// The leaders that were seen.
#[derive(Debug, Default)]
pub(crate) struct Leaders {
    /// By group and term: the replica.
    seen: BTreeMap<(u32, u64), u64>,
    /// Of each group the last that was seen for the first time: when, and on which host.
    newest: BTreeMap<u32, (u64, HostId)>,
    next: u64,
}

impl Leaders {
    /// The leader of a group that was elected last, and when it was seen first, in ms.
    pub(crate) fn newest(&self, group: u32) -> Option<(u64, HostId)> {
        self.newest.get(&group).copied()
    }

    /// Looks at all replicas; what can't be.
    pub(crate) fn look(&mut self, world: &World) -> Vec<String> {
        if world.now < self.next {
            return Vec::new();
        }
        self.next = world.now + LOOK_EVERY;
        let mut wrong = Vec::new();
        for host in world.nodes() {
            let Some(alive) = world.hosts[host].alive() else {
                continue;
            };
            for (group, replica) in alive.replicas.stored() {
                let running = alive.replicas.group(group, replica);
                let Some(leadership) = running.map(|running| running.leadership()) else {
                    continue;
                };
                if leadership.here {
                    if !self.seen.contains_key(&(group, leadership.term)) {
                        self.newest.insert(group, (world.now, host));
                    }
                    wrong.extend(self.note(group, leadership.term, replica));
                }
            }
        }
        wrong
    }

    fn note(&mut self, group: u32, term: u64, replica: u64) -> Option<String> {
        let first = *self.seen.entry((group, term)).or_insert(replica);
        (first != replica).then(|| {
            format!("group {group}: replicas {first} and {replica} both led in term {term}")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_term_has_one_leader() {
        let mut leaders = Leaders::default();
        let notes = [(1, 1, 7), (1, 1, 7), (2, 1, 8), (1, 2, 8), (1, 3, 7)];
        for (group, term, replica) in notes {
            assert_eq!(leaders.note(group, term, replica), None);
        }
        let wrong = leaders.note(1, 2, 7).expect("another one led in that term");
        assert!(
            wrong.contains("replicas 8 and 7 both led in term 2"),
            "{wrong}"
        );
    }
}
