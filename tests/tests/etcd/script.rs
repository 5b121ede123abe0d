//! The same generated operations against etcd and Caucus: every answer is compared.

use caucus_etcd::etcdserverpb::kv_client::KvClient;
use caucus_etcd::etcdserverpb::{DeleteRangeRequest, RangeRequest};
use caucus_etcd::script;
use caucus_tests::{Cluster, Options};
use tonic::transport::Channel;

use crate::{channel, node, real_etcd, run};

const SEEDS: std::ops::Range<u64> = 0..12;

#[test]
fn no_answer_differs_from_etcds() {
    let cluster = Cluster::start(Options::nodes(3));
    for seed in SEEDS {
        let Some(etcd) = real_etcd() else { return };
        run(async {
            let theirs = script::run(channel(etcd.address()), seed).await;
            // Another node for each script: they are all the same store.
            let other = u32::try_from(seed % 3).expect("a small number") + 1;
            let ours = node(&cluster, other);
            clear(ours.clone()).await;
            let ours = script::run(ours, seed).await;
            if let Some(difference) = script::compare(&theirs, &ours) {
                panic!("{difference}");
            }
        });
    }
}

/// Every script begins with an empty store.
async fn clear(channel: Channel) {
    let mut client = KvClient::new(channel);
    let all = DeleteRangeRequest {
        key: vec![0].into(),
        range_end: vec![0].into(),
        ..DeleteRangeRequest::default()
    };
    client.delete_range(all).await.expect("a deletion");
    let rest = RangeRequest {
        key: vec![0].into(),
        range_end: vec![0].into(),
        count_only: true,
        ..RangeRequest::default()
    };
    let rest = client.range(rest).await.expect("a count").into_inner();
    assert_eq!(rest.count, 0);
}
