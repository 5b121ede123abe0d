//! The script tells servers that agree from servers that don't.

use caucus_etcd::etcdserverpb::PutRequest;
use caucus_etcd::etcdserverpb::kv_client::KvClient;
use caucus_etcd::script;

use caucus_etcd::real::Etcd;

const SEEDS: u64 = 4;

#[tokio::test]
async fn two_etcds_agree() {
    let mut transcripts = Vec::new();
    for seed in 0..SEEDS {
        let (Some(one), Some(other)) = (Etcd::start().await, Etcd::start().await) else {
            return;
        };
        // The other's revisions begin elsewhere.
        let mut client = KvClient::new(other.channel());
        for _ in 0..3 {
            client.put(put("elsewhere")).await.expect("a put");
        }
        let gone = caucus_etcd::etcdserverpb::DeleteRangeRequest {
            key: "elsewhere".into(),
            ..Default::default()
        };
        client.delete_range(gone).await.expect("a deletion");
        let one = script::run(one.channel(), seed).await;
        let other = script::run(other.channel(), seed).await;
        if let Some(difference) = script::compare(&one, &other) {
            panic!("{difference}");
        }
        transcripts.push(one);
    }
    covers_much(&transcripts);
}

/// A script whose steps mostly fail would prove little.
fn covers_much(transcripts: &[script::Transcript]) {
    let entries = || {
        transcripts
            .iter()
            .flat_map(|transcript| &transcript.entries)
    };
    let answers = || entries().map(|entry| &entry.answer);
    let good = answers().filter(|answer| answer.starts_with('{')).count();
    let steps = entries().count();
    assert!(good * 3 > steps * 2, "{good} good answers");
    let seen = answers().filter(|answer| answer.contains("kvs"));
    assert!(seen.count() * 6 > steps, "hardly any reads find something");
    for part in [
        "prev_kv",
        "prev_kvs",
        "response_txn",
        "\"more\":true",
        "succeeded",
        "has been compacted",
        "future revision",
        "key is not provided",
        "key not found",
        "value is provided",
        "lease is provided",
        "lease not found",
        "duplicate key",
        "too many operations",
    ] {
        assert!(answers().any(|answer| answer.contains(part)), "{part}");
    }
    let strange = answers().find(|answer| answer.contains("of no step"));
    assert_eq!(strange, None);
}

#[tokio::test]
async fn a_key_too_many_is_found() {
    let (Some(one), Some(other)) = (Etcd::start().await, Etcd::start().await) else {
        return;
    };
    let mut client = KvClient::new(other.channel());
    client.put(put("extra")).await.expect("a put");
    let one = script::run(one.channel(), 1).await;
    let other = script::run(other.channel(), 1).await;
    let difference = script::compare(&one, &other).expect("a difference");
    assert!(difference.to_string().contains("step"), "{difference}");
    println!("{difference}");
}

fn put(key: &'static str) -> PutRequest {
    PutRequest {
        key: key.into(),
        ..PutRequest::default()
    }
}
