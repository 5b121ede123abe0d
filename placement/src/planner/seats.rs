//! Putting the replicas of groups on nodes.

use std::collections::BTreeSet;

use caucus_ring::NodeId;

/// A node that can take replicas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Its id.
    pub node: NodeId,
    /// Its zone. Empty: unknown, and then it counts as a zone of its own.
    pub zone: String,
}

/// Chooses the nodes of `groups` groups of `replicas` members each (fewer if there
/// are fewer nodes), preferred leader first.
///
/// In this order: nodes of a group differ; their zones differ as far as there are
/// zones; each node has as many replicas as the others; nodes share groups with
/// many others, so that the work of a dead one is spread. Then leaders are shared
/// out evenly, as far as the choice of members allows.
pub fn assign(candidates: &[Candidate], groups: usize, replicas: usize) -> Vec<Vec<NodeId>> {
    let mut nodes: Vec<&Candidate> = candidates.iter().collect();
    nodes.sort_by_key(|candidate| candidate.node);
    nodes.dedup_by_key(|candidate| candidate.node);
    if nodes.is_empty() {
        return vec![Vec::new(); groups];
    }
    let mut board = Board::new(nodes);
    let mut seats: Vec<Vec<usize>> = (0..groups).map(|_| board.members(replicas)).collect();
    lead_evenly(&mut seats, board.nodes.len());
    let names = |members: Vec<usize>| members.into_iter().map(|at| board.nodes[at].node).collect();
    seats.into_iter().map(names).collect()
}

/// What has been given out so far. Nodes by their index.
struct Board<'c> {
    nodes: Vec<&'c Candidate>,
    /// Replicas on each node.
    held: Vec<usize>,
    /// How many groups two nodes share.
    shared: Vec<Vec<usize>>,
}

impl<'c> Board<'c> {
    fn new(nodes: Vec<&'c Candidate>) -> Board<'c> {
        let count = nodes.len();
        Board {
            nodes,
            held: vec![0; count],
            shared: vec![vec![0; count]; count],
        }
    }

    fn members(&mut self, replicas: usize) -> Vec<usize> {
        let mut chosen: Vec<usize> = Vec::new();
        while chosen.len() < replicas.min(self.nodes.len()) {
            let zones: BTreeSet<&str> = chosen
                .iter()
                .map(|&at| self.nodes[at].zone.as_str())
                .collect();
            let free = (0..self.nodes.len()).filter(|at| !chosen.contains(at));
            let best = free.min_by_key(|&at| {
                let zone = self.nodes[at].zone.as_str();
                let zone_taken = !zone.is_empty() && zones.contains(zone);
                let company: usize = chosen.iter().map(|&other| self.shared[at][other]).sum();
                (zone_taken, self.held[at], company, at)
            });
            chosen.extend(best);
        }
        for &at in &chosen {
            self.held[at] += 1;
            chosen.iter().for_each(|&other| self.shared[at][other] += 1);
        }
        chosen
    }
}

/// Puts a leader first in each group: the member that leads least, and then, while
/// one node leads two groups more than another, leads are handed along a chain of
/// shared groups from the one to the other.
fn lead_evenly(seats: &mut [Vec<usize>], nodes: usize) {
    let mut leads = vec![0_usize; nodes];
    for members in seats.iter_mut() {
        let least = (0..members.len()).min_by_key(|&at| leads[members[at]]);
        if let Some(at) = least {
            members.swap(0, at);
            leads[members[0]] += 1;
        }
    }
    // Each round takes a lead from a node that has two more than the one that gets
    // it, so the sum of squares falls and this ends.
    while let Some(chain) = overload(seats, &leads) {
        for (group, to) in chain {
            let members = &mut seats[group];
            leads[members[0]] -= 1;
            leads[to] += 1;
            if let Some(at) = members.iter().position(|&member| member == to) {
                members.swap(0, at);
            }
        }
    }
}

/// A chain of (group, its new leader) from a node that leads too much to one that
/// leads at least two groups less; found breadth first, so it has no group twice.
fn overload(seats: &[Vec<usize>], leads: &[usize]) -> Option<Vec<(usize, usize)>> {
    let mut busiest: Vec<usize> = (0..leads.len()).collect();
    busiest.sort_by_key(|&node| std::cmp::Reverse(leads[node]));
    busiest
        .into_iter()
        .find_map(|from| chain_from(from, seats, leads))
}

fn chain_from(from: usize, seats: &[Vec<usize>], leads: &[usize]) -> Option<Vec<(usize, usize)>> {
    // How each node was reached: by which group, from which leader.
    let mut reached: Vec<Option<(usize, usize)>> = vec![None; leads.len()];
    let mut queue = std::collections::VecDeque::from([from]);
    while let Some(leader) = queue.pop_front() {
        if leads[leader] + 2 <= leads[from] {
            let mut chain = Vec::new();
            let mut node = leader;
            while let Some((group, before)) = reached[node].filter(|_| node != from) {
                chain.push((group, node));
                node = before;
            }
            return Some(chain);
        }
        for (group, members) in seats.iter().enumerate() {
            if members.first() != Some(&leader) {
                continue;
            }
            for &member in &members[1..] {
                if member != from && reached[member].is_none() {
                    reached[member] = Some((group, leader));
                    queue.push_back(member);
                }
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn nodes(zones: &[&str]) -> Vec<Candidate> {
        let node = |(at, zone): (usize, &&str)| Candidate {
            node: NodeId(at as u32 + 1),
            zone: (*zone).to_owned(),
        };
        zones.iter().enumerate().map(node).collect()
    }

    /// The greatest difference between two nodes.
    fn uneven(candidates: &[Candidate], held: impl Iterator<Item = NodeId>) -> usize {
        let mut counts: BTreeMap<NodeId, usize> = candidates.iter().map(|c| (c.node, 0)).collect();
        for node in held {
            *counts.entry(node).or_default() += 1;
        }
        let most = counts.values().max().copied().unwrap_or(0);
        most - counts.values().min().copied().unwrap_or(0)
    }

    fn check(candidates: &[Candidate], groups: usize, replicas: usize, uneven_max: usize) {
        let seats = assign(candidates, groups, replicas);
        let case = format!("{candidates:?} {groups} {replicas}: {seats:?}");
        let zone = |node: &NodeId| {
            candidates
                .iter()
                .find(|c| c.node == *node)
                .unwrap()
                .zone
                .clone()
        };
        let zones: BTreeSet<String> = candidates.iter().map(|c| c.zone.clone()).collect();
        for members in &seats {
            let distinct: BTreeSet<&NodeId> = members.iter().collect();
            assert_eq!(distinct.len(), replicas.min(candidates.len()), "{case}");
            let spanned: BTreeSet<String> = members.iter().map(zone).collect();
            assert!(
                zones.contains("") || spanned.len() == members.len().min(zones.len()),
                "{case}"
            );
        }
        assert!(
            uneven(candidates, seats.iter().flatten().copied()) <= uneven_max,
            "{case}"
        );
        assert!(
            uneven(candidates, seats.iter().map(|members| members[0])) <= uneven_max,
            "{case}"
        );
    }

    #[test]
    fn without_zones_nodes_differ_by_one_at_most() {
        for count in 1..=12 {
            for groups in 1..=30 {
                for replicas in [1, 2, 3, 5] {
                    check(&nodes(&vec![""; count]), groups, replicas, 1);
                }
            }
        }
    }

    #[test]
    fn zones_differ_and_nodes_are_even_where_zones_are() {
        for groups in 1..=30 {
            check(&nodes(&["a", "b", "c"]), groups, 3, 1);
            check(&nodes(&["a", "b", "c", "a", "b", "c"]), groups, 3, 1);
            check(&nodes(&["a", "b", "c", "d"]), groups, 3, 1);
            check(&nodes(&["a", "a", "b", "b"]), groups, 3, 1);
            // Zones come first: the only node of a zone is in every group.
            check(&nodes(&["a", "b", "c", "c", "c"]), groups, 3, groups);
        }
    }

    #[test]
    fn the_groups_of_a_node_are_shared_with_many() {
        let candidates = nodes(&[""; 6]);
        let seats = assign(&candidates, 12, 3);
        for candidate in &candidates {
            let mine = seats
                .iter()
                .filter(|members| members.contains(&candidate.node));
            let others: BTreeSet<&NodeId> = mine.flatten().collect();
            assert_eq!(others.len(), 6, "{seats:?}");
        }
    }

    #[test]
    fn leads_go_along_chains() {
        // 0 leads three groups; only 1 can take one from it, only 2 one from 1.
        let mut seats = vec![vec![0, 1], vec![0, 1], vec![0, 1], vec![1, 2]];
        lead_evenly(&mut seats, 3);
        let mut leads = [0; 3];
        seats.iter().for_each(|members| leads[members[0]] += 1);
        assert!(leads.iter().all(|count| *count >= 1), "{seats:?}");
    }

    #[test]
    fn nobody_to_sit() {
        assert_eq!(assign(&[], 2, 3), [vec![], vec![]]);
        assert_eq!(assign(&nodes(&["a"]), 0, 3), Vec::<Vec<NodeId>>::new());
    }
}
