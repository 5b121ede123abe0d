//! What etcd says when it refuses a request. Clients compare these texts, so they are exact.

use tonic::{Code, Status};

/// An error of etcd's vocabulary; its text is what clients match on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Error {
    // KV
    /// A key is empty.
    #[error("etcdserver: key is not provided")]
    EmptyKey,
    /// A put keeps the value or lease of a key that isn't there, or an operation of a transaction is empty.
    #[error("etcdserver: key not found")]
    KeyNotFound,
    /// A put that keeps the old value brings one.
    #[error("etcdserver: value is provided")]
    ValueProvided,
    /// A put that keeps the old lease brings one.
    #[error("etcdserver: lease is provided")]
    LeaseProvided,
    /// A transaction is too long.
    #[error("etcdserver: too many operations in txn request")]
    TooManyOps,
    /// A transaction would write a key twice.
    #[error("etcdserver: duplicate key given in txn request")]
    DuplicateKey,
    /// An order or target of sorting that isn't defined (since etcd 3.5).
    #[error("etcdserver: invalid sort option")]
    InvalidSortOption,
    /// The revision asked for is gone.
    #[error("etcdserver: mvcc: required revision has been compacted")]
    Compacted,
    /// The revision asked for isn't reached yet.
    #[error("etcdserver: mvcc: required revision is a future revision")]
    FutureRevision,
    /// The quota is used up.
    #[error("etcdserver: mvcc: database space exceeded")]
    NoSpace,

    // Lease
    /// There is no such lease.
    #[error("etcdserver: requested lease not found")]
    LeaseNotFound,
    /// The id is taken.
    #[error("etcdserver: lease already exists")]
    LeaseExists,
    /// The time to live is over the limit.
    #[error("etcdserver: too large lease TTL")]
    LeaseTtlTooLarge,

    // Lock and election
    /// The lease of who waited for a lock is gone (since etcd 3.5: 3.4 says the lock is held).
    #[error("mutex: session is expired")]
    SessionExpired,
    /// A leader gives up or proclaims without saying who it is.
    #[error("\"leader\" field must be provided")]
    LeaderNotProvided,
    /// There is no leader to name.
    #[error("election: no leader")]
    ElectionNoLeader,
    /// Who proclaims doesn't lead, or leads no more.
    #[error("election: not leader")]
    ElectionNotLeader,

    // Watch
    /// The watch was cancelled by the server.
    #[error("etcdserver: watch canceled")]
    WatchCanceled,

    // Cluster
    /// The member's id is taken.
    #[error("etcdserver: member ID already exist")]
    MemberExists,
    /// Another member has this address.
    #[error("etcdserver: Peer URLs already exists")]
    PeerUrlExists,
    /// The change would leave too few members that run.
    #[error("etcdserver: re-configuration failed due to not enough started members")]
    MemberNotEnoughStarted,
    /// An address isn't one, or there is none.
    #[error("etcdserver: given member URLs are invalid")]
    MemberBadUrls,
    /// There is no such member.
    #[error("etcdserver: member not found")]
    MemberNotFound,
    /// Only learners are promoted.
    #[error("etcdserver: can only promote a learner member")]
    MemberNotLearner,
    /// The learner is behind.
    #[error("etcdserver: can only promote a learner member which is in sync with leader")]
    LearnerNotReady,
    /// The cluster has as many learners as it may.
    #[error("etcdserver: too many learner members in cluster")]
    TooManyLearners,
    /// The request is for another cluster.
    #[error("etcdserver: cluster ID mismatch")]
    ClusterIdMismatch,

    // Maintenance
    /// Leadership can't go to this member.
    #[error("etcdserver: bad leader transferee")]
    BadLeaderTransferee,
    /// The version of a downgrade can't be read.
    #[error("etcdserver: wrong downgrade target version format")]
    WrongDowngradeVersionFormat,
    /// The version of a downgrade isn't one below.
    #[error("etcdserver: invalid downgrade target version")]
    InvalidDowngradeTargetVersion,
    /// A downgrade is under way.
    #[error("etcdserver: cluster has a downgrade job in progress")]
    DowngradeInProcess,
    /// No downgrade is under way.
    #[error("etcdserver: no inflight downgrade job")]
    NoInflightDowngrade,

    // Any call
    /// The request is larger than the server takes.
    #[error("etcdserver: request is too large")]
    RequestTooLarge,
    /// The server has too much to do.
    #[error("etcdserver: too many requests")]
    TooManyRequests,
    /// Nobody leads, and the client doesn't want to wait.
    #[error("etcdserver: no leader")]
    NoLeader,
    /// Another member leads.
    #[error("etcdserver: not leader")]
    NotLeader,
    /// The leader changed while the request waited.
    #[error("etcdserver: leader changed")]
    LeaderChanged,
    /// Not all members of the cluster can do this.
    #[error("etcdserver: not capable")]
    NotCapable,
    /// The server is about to end.
    #[error("etcdserver: server stopped")]
    Stopped,
    /// No answer in time; the request may have been executed.
    #[error("etcdserver: request timed out")]
    Timeout,
    /// No answer in time, as a leader failed.
    #[error("etcdserver: request timed out, possibly due to previous leader failure")]
    TimeoutDueToLeaderFail,
    /// No answer in time, as a connection was lost.
    #[error("etcdserver: request timed out, possibly due to connection lost")]
    TimeoutDueToConnectionLost,
    /// The member didn't catch up in time.
    #[error("etcdserver: request timed out, waiting for the applied index took too long")]
    TimeoutWaitAppliedIndex,
    /// Too many members are away.
    #[error("etcdserver: unhealthy cluster")]
    Unhealthy,
    /// Members have different contents.
    #[error("etcdserver: corrupt cluster")]
    Corrupt,
    /// A learner doesn't answer this.
    #[error("etcdserver: rpc not supported for learner")]
    NotSupportedForLearner,
}

impl Error {
    /// The code that goes with the text over gRPC.
    pub fn code(self) -> Code {
        match self {
            Self::EmptyKey
            | Self::KeyNotFound
            | Self::ValueProvided
            | Self::LeaseProvided
            | Self::TooManyOps
            | Self::DuplicateKey
            | Self::InvalidSortOption
            | Self::MemberBadUrls
            | Self::WrongDowngradeVersionFormat
            | Self::InvalidDowngradeTargetVersion
            | Self::RequestTooLarge => Code::InvalidArgument,
            Self::Compacted | Self::FutureRevision | Self::LeaseTtlTooLarge => Code::OutOfRange,
            Self::NoSpace | Self::TooManyRequests => Code::ResourceExhausted,
            Self::LeaseNotFound | Self::MemberNotFound => Code::NotFound,
            Self::LeaseExists
            | Self::MemberExists
            | Self::PeerUrlExists
            | Self::MemberNotEnoughStarted
            | Self::MemberNotLearner
            | Self::LearnerNotReady
            | Self::TooManyLearners
            | Self::ClusterIdMismatch
            | Self::BadLeaderTransferee
            | Self::DowngradeInProcess
            | Self::NoInflightDowngrade
            | Self::NotLeader
            | Self::NotCapable
            | Self::NotSupportedForLearner => Code::FailedPrecondition,
            Self::NoLeader
            | Self::LeaderChanged
            | Self::Stopped
            | Self::Timeout
            | Self::TimeoutDueToLeaderFail
            | Self::TimeoutDueToConnectionLost
            | Self::TimeoutWaitAppliedIndex
            | Self::Unhealthy => Code::Unavailable,
            Self::WatchCanceled => Code::Cancelled,
            Self::Corrupt => Code::DataLoss,
            Self::SessionExpired
            | Self::LeaderNotProvided
            | Self::ElectionNoLeader
            | Self::ElectionNotLeader => Code::Unknown,
        }
    }

    /// The error as etcd's locks and elections say it: they ask the other services as a client does, and
    /// of what those refuse the text is left, not the code.
    pub fn relayed(self) -> Status {
        Status::unknown(self.to_string())
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        Self::new(error.code(), error.to_string())
    }
}

/// Why a watch isn't made. It's said in the answer to its creation, not as the status of the stream,
/// which goes on: `created` and `canceled` are set, the id is [`NO_WATCH`].
///
/// A watch from a compacted revision isn't among these: it is made, and its next answer has `canceled`,
/// `compact_revision` and no reason. Nor is one that the client cancels: no reason either.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum CancelReason {
    /// The range ends where it starts, or before.
    #[error("mvcc: watcher range is empty")]
    EmptyRange,
    /// Another watch of the stream has this id. One that was cancelled has it no more.
    #[error("mvcc: duplicate watch ID provided on the WatchStream")]
    DuplicateId,
}

/// The id of no watch: in answers to a progress request, and where a watch isn't made.
pub const NO_WATCH: i64 = -1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_code_reach_the_status() {
        let status = Status::from(Error::Compacted);
        assert_eq!(status.code(), Code::OutOfRange);
        let text = "etcdserver: mvcc: required revision has been compacted";
        assert_eq!(status.message(), text);
    }
}
