//! One contract, both engines.

mod bench;
mod cases;
mod prefix;

use bench::Bench;

/// Make each case a test of each engine.
macro_rules! contract {
    ($($case:ident),* $(,)?) => {
        mod memory {
            $(#[test] fn $case() { super::cases::$case(super::Bench::memory()); })*
        }
        mod rocks {
            $(#[test] fn $case() { super::cases::$case(super::Bench::rocks()); })*
        }
    };
}

contract!(
    reads_see_writes_on_return,
    a_batch_applies_in_order,
    spaces_are_apart,
    appended_batches_are_one,
    delete_range_is_half_open,
    multi_get_keeps_the_order,
    scans_go_both_ways,
    scans_seek_within_bounds,
    scans_and_snapshots_see_no_later_write,
    a_snapshot_outlives_the_engine_handle,
    syncs_call_back_in_order,
    a_callback_may_use_the_engine,
    a_crash_keeps_what_was_synced,
    keys_and_values_may_be_any_bytes,
);
