//! Which request a client sends next.

use super::args::{Args, Workload};
use super::keyspace::{Keyspace, Listing, Pair, Random};

/// One request of one client.
#[derive(Debug)]
pub(super) enum Request<'a> {
    /// Write one key.
    Put(Pair<'a>),
    /// Read one key.
    Get(Pair<'a>),
    /// Write many keys, each on its own.
    Batch(Vec<Pair<'a>>),
    /// Write the keys if all of them exist, read them otherwise: at once.
    Txn(Vec<Pair<'a>>),
    /// Read all keys of a prefix.
    List(Listing<'a>),
    /// Take the lock with this number, which nobody else wants, and give it back.
    Lock(usize),
    /// Publish these values together, to the topic with this number.
    Publish(usize, Vec<Pair<'a>>),
}

impl Request<'_> {
    /// What throughput counts: keys, but a transaction is one and so is a listing.
    pub(super) fn operations(&self) -> u64 {
        match self {
            Request::Put(_)
            | Request::Get(_)
            | Request::Txn(_)
            | Request::List(_)
            | Request::Lock(_) => 1,
            Request::Batch(pairs) | Request::Publish(_, pairs) => pairs.len() as u64,
        }
    }
}

/// The endless sequence of one client's requests.
#[derive(Debug)]
pub(super) struct Requests<'a> {
    keyspace: &'a Keyspace,
    random: Random,
    workload: Workload,
    mix: usize,
    batch_size: usize,
    client: usize,
    topics: usize,
}

impl<'a> Requests<'a> {
    /// The sequence of the client with this number; each has its own.
    pub(super) fn new(args: &Args, keyspace: &'a Keyspace, client: usize) -> Self {
        Requests {
            keyspace,
            random: Random::new(1 + client as u64),
            workload: args.workload,
            mix: usize::from(args.mix),
            batch_size: args.batch_size,
            client,
            topics: args.topics,
        }
    }

    /// Draws the next one.
    pub(super) fn draw(&mut self) -> Request<'a> {
        match self.workload {
            Workload::Put => Request::Put(self.pair()),
            Workload::Get => Request::Get(self.pair()),
            Workload::Mixed if self.random.below(100) < self.mix => Request::Get(self.pair()),
            Workload::Mixed => Request::Put(self.pair()),
            Workload::Batch => Request::Batch((0..self.batch_size).map(|_| self.pair()).collect()),
            Workload::Txn => Request::Txn(vec![self.pair()]),
            Workload::Txn2 => Request::Txn(self.keyspace.any_two(&mut self.random).into()),
            Workload::List => Request::List(self.keyspace.listing()),
            Workload::Lock => Request::Lock(self.client),
            Workload::Publish => {
                let values = (0..self.batch_size).map(|_| self.pair()).collect();
                Request::Publish(self.client % self.topics, values)
            }
            Workload::Watchers | Workload::Waiters | Workload::Leases => {
                unreachable!("they aren't made of single requests")
            }
        }
    }

    fn pair(&mut self) -> Pair<'a> {
        self.keyspace.any_pair(&mut self.random)
    }
}
