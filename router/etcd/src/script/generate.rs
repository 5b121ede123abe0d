//! Makes the steps of a script from a seed.

use bytes::Bytes;

use super::normal::revision_of;
use super::{STEPS, Step};
use crate::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use crate::etcdserverpb::request_op::Request;
use crate::etcdserverpb::{
    CompactionRequest, Compare, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
};

/// Flat names, and names in directories: some begin others, and one is the last of all but has no end.
const KEYS: [&[u8]; 16] = [
    b"k",
    b"k1",
    b"k2",
    b"k10",
    b"foo",
    b"foobar",
    b"a",
    b"a\0",
    b"/a/b/c",
    b"/a/b/d",
    b"/a/b/c/e",
    b"/a/c/f",
    b"/b/a/1",
    b"/b/a/2",
    b"/registry/pods/default/x",
    b"\xff\xff",
];

/// What keys may begin with: whole segments, parts of one, everything.
const PREFIXES: [&[u8]; 11] = [
    b"k",
    b"foo",
    b"/",
    b"/a/",
    b"/a/b",
    b"/a/b/",
    b"/a/b/c",
    b"/b/a/",
    b"/registry/pods/",
    b"nothing",
    b"\xff",
];

/// Few, so that values repeat.
const VALUES: [&[u8]; 5] = [b"", b"one", b"three", b"two", b"\x00\xfe"];

/// No server gets there.
const FUTURE: i64 = 1 << 50;

/// No script makes a lease.
const NO_LEASE: i64 = 77;

/// How deep transactions are nested.
const DEPTH: usize = 2;

/// How often history is cut, in steps.
const COMPACTION: u64 = 40;

pub(super) fn steps(seed: u64) -> Vec<Step> {
    let mut make = Generator {
        state: seed,
        step: 0,
    };
    let mut steps = Vec::with_capacity(STEPS);
    for step in 0..STEPS {
        make.step = step;
        steps.push(make.step());
    }
    steps
}

/// SplitMix64: the script of a seed stays the same whatever a library does.
struct Generator {
    state: u64,
    step: usize,
}

impl Generator {
    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// True in one of so many cases.
    fn one_in(&mut self, cases: u64) -> bool {
        self.below(cases) == 0
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        let at = self.below(from.len() as u64);
        from[usize::try_from(at).unwrap_or_default()]
    }

    fn key(&mut self) -> Bytes {
        Bytes::from_static(self.pick(&KEYS))
    }

    /// The revision of a step before this one, most often of a late one.
    fn revision(&mut self) -> i64 {
        let back = if self.one_in(5) { 200 } else { 25 };
        let back = usize::try_from(self.below(back)).unwrap_or_default();
        revision_of(self.step.saturating_sub(back + 1))
    }

    fn step(&mut self) -> Step {
        if self.one_in(COMPACTION) {
            return Step::Compact(self.compact());
        }
        if self.one_in(20) {
            return self.bad();
        }
        match self.below(20) {
            0..6 => Step::Put(self.put()),
            6..8 => Step::DeleteRange(self.delete_range()),
            8..13 => Step::Txn(self.outer_txn()),
            _ => Step::Range(self.range()),
        }
    }

    /// A key and where the range ends that begins there.
    fn span(&mut self) -> (Bytes, Bytes) {
        let key = self.key();
        match self.below(10) {
            0..3 => (key, Bytes::new()),
            3..6 => {
                let prefix = self.pick(&PREFIXES);
                (Bytes::from_static(prefix), end_of_prefix(prefix))
            }
            6 => (key, Bytes::from_static(b"\0")),
            7 => (Bytes::from_static(b"\0"), Bytes::from_static(b"\0")),
            // Either way round, and with nothing between.
            _ => (key, self.key()),
        }
    }

    fn range(&mut self) -> RangeRequest {
        let (key, range_end) = self.span();
        let mut request = RangeRequest {
            key,
            range_end,
            ..RangeRequest::default()
        };
        if self.one_in(2) {
            request.limit = self.pick(&[1, 2, 3, 5, 100, -1]);
        }
        if self.one_in(3) {
            request.revision = self.revision();
        } else if self.one_in(30) {
            request.revision = -1;
        }
        if self.one_in(2) {
            request.sort_order = self.pick(&[0, 1, 2]);
            request.sort_target = self.pick(&[0, 1, 2, 3, 4]);
        }
        request.keys_only = self.one_in(5);
        request.count_only = self.one_in(8);
        if self.one_in(4) {
            let revision = self.revision();
            match self.below(4) {
                0 => request.min_mod_revision = revision,
                1 => request.max_mod_revision = revision,
                2 => request.min_create_revision = revision,
                _ => request.max_create_revision = revision,
            }
            if self.one_in(4) {
                request.min_mod_revision = self.revision();
                request.max_create_revision = self.revision();
            }
        }
        request
    }

    fn put(&mut self) -> PutRequest {
        let mut request = PutRequest {
            key: self.key(),
            prev_kv: self.one_in(3),
            ignore_value: self.one_in(8),
            ignore_lease: self.one_in(8),
            ..PutRequest::default()
        };
        if !request.ignore_value {
            request.value = Bytes::from_static(self.pick(&VALUES));
        }
        if self.one_in(40) {
            request.lease = NO_LEASE;
        }
        request
    }

    /// Of wide ranges fewer, or little would stay to read.
    fn delete_range(&mut self) -> DeleteRangeRequest {
        let (key, range_end) = match self.one_in(3) {
            true => self.span(),
            false => (self.key(), Bytes::new()),
        };
        DeleteRangeRequest {
            key,
            range_end,
            prev_kv: self.one_in(2),
        }
    }

    fn compact(&mut self) -> CompactionRequest {
        let revision = match self.below(8) {
            0 => FUTURE,
            1 => -1,
            _ => self.revision(),
        };
        CompactionRequest {
            revision,
            physical: self.one_in(2),
        }
    }

    /// A deletion to the end of all keys isn't seen to collide with a put. If the put keeps what was
    /// deleted, etcd 3.4 ends of it: such puts keep nothing.
    fn outer_txn(&mut self) -> TxnRequest {
        let mut txn = self.txn(DEPTH);
        if deletes_to_the_end(&txn) {
            keep_nothing(&mut txn);
        }
        txn
    }

    fn txn(&mut self, depth: usize) -> TxnRequest {
        let compares = self.below(3);
        TxnRequest {
            compare: (0..compares).map(|_| self.compare()).collect(),
            success: self.operations(depth),
            failure: self.operations(depth),
        }
    }

    fn operations(&mut self, depth: usize) -> Vec<RequestOp> {
        let count = self.below(4);
        let operation = |_| {
            let request = match self.below(12) {
                0..4 => Request::RequestPut(self.put()),
                4..6 => Request::RequestDeleteRange(self.delete_range()),
                6..8 if depth > 0 => Request::RequestTxn(self.txn(depth - 1)),
                _ => Request::RequestRange(self.range()),
            };
            RequestOp {
                request: Some(request),
            }
        };
        (0..count).map(operation).collect()
    }

    fn compare(&mut self) -> Compare {
        let targets = [
            CompareTarget::Version,
            CompareTarget::Create,
            CompareTarget::Mod,
            CompareTarget::Value,
            CompareTarget::Lease,
        ];
        let results = [
            CompareResult::Equal,
            CompareResult::Greater,
            CompareResult::Less,
            CompareResult::NotEqual,
        ];
        let (key, range_end) = match self.one_in(3) {
            true => self.span(),
            false => (self.key(), Bytes::new()),
        };
        let target = self.pick(&targets);
        // What isn't there counts as zero, and so does a value for another target.
        let given = match self.one_in(12) {
            true => self.pick(&targets),
            false => target,
        };
        Compare {
            result: self.pick(&results).into(),
            target: target.into(),
            key,
            range_end,
            target_union: (!self.one_in(12)).then(|| self.compared(given)),
        }
    }

    fn compared(&mut self, target: CompareTarget) -> TargetUnion {
        let revision = if self.one_in(3) { 0 } else { self.revision() };
        match target {
            CompareTarget::Version => TargetUnion::Version(self.pick(&[0, 1, 2, 3])),
            CompareTarget::Create => TargetUnion::CreateRevision(revision),
            CompareTarget::Mod => TargetUnion::ModRevision(revision),
            CompareTarget::Value => TargetUnion::Value(Bytes::from_static(self.pick(&VALUES))),
            CompareTarget::Lease => TargetUnion::Lease(self.pick(&[0, NO_LEASE])),
        }
    }

    /// What no server takes. Sorting by what isn't defined is left out: etcd 3.4 ends of it.
    fn bad(&mut self) -> Step {
        let mut put = self.put();
        let mut range = self.range();
        let mut txn = self.outer_txn();
        match self.below(10) {
            0 => put.key.clear(),
            1 => {
                put.ignore_value = true;
                put.value = "v".into();
            }
            2 => {
                put.ignore_lease = true;
                put.lease = NO_LEASE;
            }
            3 => put.lease = NO_LEASE,
            4 => {
                range.key.clear();
                return Step::Range(range);
            }
            5 => {
                range.revision = FUTURE;
                return Step::Range(range);
            }
            6 => return Step::DeleteRange(DeleteRangeRequest::default()),
            7 => {
                txn.success.push(RequestOp::default());
                return Step::Txn(txn);
            }
            8 => {
                txn.compare.push(Compare::default());
                return Step::Txn(txn);
            }
            _ => {
                let read = Request::RequestRange(range);
                let read = RequestOp {
                    request: Some(read),
                };
                txn.failure = vec![read; 129];
                return Step::Txn(txn);
            }
        }
        Step::Put(put)
    }
}

fn deletes_to_the_end(txn: &TxnRequest) -> bool {
    let mut operations = txn.success.iter().chain(&txn.failure);
    operations.any(|operation| match &operation.request {
        Some(Request::RequestDeleteRange(request)) => request.range_end == "\0",
        Some(Request::RequestTxn(nested)) => deletes_to_the_end(nested),
        _ => false,
    })
}

fn keep_nothing(txn: &mut TxnRequest) {
    for operation in txn.success.iter_mut().chain(&mut txn.failure) {
        match &mut operation.request {
            Some(Request::RequestPut(request)) => {
                request.ignore_value = false;
                request.ignore_lease = false;
            }
            Some(Request::RequestTxn(nested)) => keep_nothing(nested),
            _ => {}
        }
    }
}

/// The first key behind those that begin so; one zero byte, all keys, if there is none.
fn end_of_prefix(prefix: &[u8]) -> Bytes {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return end.into();
        }
    }
    Bytes::from_static(b"\0")
}
