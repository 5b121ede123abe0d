//! Limits of what one request may carry. All in bytes unless named otherwise.

/// A key.
pub const KEY_BYTES_MAX: usize = 4 << 10;
/// A value: what a put of etcd's API can carry within [`REQUEST_BYTES_MAX`].
pub const VALUE_BYTES_MAX: usize = REQUEST_BYTES_MAX - 8;
/// A content type.
pub const CONTENT_TYPE_BYTES_MAX: usize = 256;
/// The whole of one request, as in etcd.
pub const REQUEST_BYTES_MAX: usize = 3 << 19;
/// Operations of one `/v1/batch`.
pub const BATCH_OPERATIONS_MAX: usize = 1024;
/// Keys of one page of a listing.
pub const PAGE_KEYS_MAX: usize = 10_000;
/// Keys of a page if the caller names no limit.
pub const PAGE_KEYS_DEFAULT: usize = 1_000;
/// Keys and values of one page.
pub const PAGE_BYTES_MAX: usize = 4 << 20;
/// Revisions in one `If-Match`.
pub const CONDITION_REVISIONS_MAX: usize = 64;
/// Keys that one operation of a transaction may touch.
pub const TXN_KEYS_MAX: usize = 100_000;
/// Operations and compares of a transaction, nested ones included.
pub const TXN_OPERATIONS_MAX: usize = 1024;
/// How deep transactions may lie in one another.
pub const TXN_DEPTH_MAX: usize = 16;
/// How long a lease may live without a sign of life, in seconds; as in etcd.
pub const LEASE_TTL_S_MAX: u64 = 9_000_000_000;
/// The content type of a value that is a number.
pub const NUMBER_TYPE: &str = "application/vnd.caucus.integer";
