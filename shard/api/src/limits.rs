//! Limits of what one request may carry. All in bytes unless named otherwise.

/// A key.
pub const KEY_BYTES_MAX: usize = 4 << 10;
/// A value.
pub const VALUE_BYTES_MAX: usize = 1 << 20;
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
