//! What a data directory refuses, and what it keeps.

use super::*;
use crate::config::Layers;

fn config(dir: &Path, assignments: &[&str]) -> Checked {
    let mut layers = Layers::reference()
        .set("node.data_dir", dir.to_str().unwrap(), "test")
        .unwrap()
        .assignment("node.id=1")
        .unwrap();
    for assignment in assignments {
        layers = layers.assignment(assignment).unwrap();
    }
    layers.check().unwrap()
}

const JOINING: [&str; 3] = ["node.id=0", "node.roles=shard", "cluster.seeds=h:1"];

fn seven() -> NonZeroU32 {
    NonZeroU32::new(7).unwrap()
}

#[test]
fn a_second_start_finds_the_same_identity() {
    let dir = tempfile::tempdir().unwrap();
    let first = DataDir::open(&config(dir.path(), &[])).unwrap().identity;
    let second = DataDir::open(&config(dir.path(), &[])).unwrap();
    assert_eq!(first, second.identity);
    assert_eq!(second.storage_id().len(), 16);
    assert_eq!(second.node().map(NonZeroU32::get), Some(1));
    assert_eq!(second.cluster_id(), None);
}

#[test]
fn an_assigned_number_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let mut joined = DataDir::open(&config(dir.path(), &JOINING)).unwrap();
    assert_eq!(joined.node(), None);
    joined.remember(seven(), &[1, 255]).unwrap();
    drop(joined);
    let mut again = DataDir::open(&config(dir.path(), &JOINING)).unwrap();
    assert_eq!(again.node(), Some(seven()));
    assert_eq!(again.cluster_id(), Some(vec![1, 255]));
    again.remember(seven(), &[1, 255]).unwrap();
    let other = again.remember(seven(), &[2]);
    assert!(matches!(other, Err(Error::OtherCluster { .. })));
    let other = again.remember(NonZeroU32::MIN, &[1, 255]);
    assert!(matches!(other, Err(Error::OtherNode { .. })));
}

#[test]
fn one_process_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let held = DataDir::open(&config(dir.path(), &[])).unwrap();
    let second = DataDir::open(&config(dir.path(), &[]));
    assert!(matches!(second, Err(Error::InUse(_))));
    drop(held);
    DataDir::open(&config(dir.path(), &[])).unwrap();
}

#[test]
fn strangers_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    drop(DataDir::open(&config(dir.path(), &[])).unwrap());
    let refused = |assignments: &[&str]| {
        let error = DataDir::open(&config(dir.path(), assignments)).unwrap_err();
        assert!(error.is_setup());
        assert!(!error.to_string().contains('\n'));
        error
    };
    let error = refused(&["cluster.name=other"]);
    assert!(matches!(error, Error::OtherCluster { .. }), "{error}");
    let error = refused(&["node.id=2", "node.roles=shard"]);
    assert!(matches!(error, Error::OtherNode { .. }), "{error}");
    let error = refused(&["storage.engine=memory"]);
    assert!(matches!(error, Error::OtherEngine(_)), "{error}");

    let identity = dir.path().join(IDENTITY);
    fs::write(&identity, "{\"format\": 2, \"layout\": \"unheard of\"}").unwrap();
    assert!(matches!(refused(&[]), Error::NewerFormat { found: 2, .. }));
    fs::write(&identity, "{\"format\": 1").unwrap();
    assert!(matches!(refused(&[]), Error::Damaged { .. }));
    fs::remove_file(&identity).unwrap();
    fs::create_dir(dir.path().join(STORE)).unwrap();
    assert!(matches!(refused(&[]), Error::Missing(_)));
}

#[test]
fn memory_has_a_new_identity_at_every_start() {
    let dir = tempfile::tempdir().unwrap();
    let memory = config(dir.path(), &["storage.engine=memory"]);
    let first = DataDir::open(&memory).unwrap().storage_id();
    let second = DataDir::open(&memory).unwrap().storage_id();
    assert_ne!(first, second);
}

#[test]
fn the_file_is_pinned() {
    let identity = Identity {
        format: 1,
        engine: Engine::RocksDb,
        cluster_name: "c".to_owned(),
        cluster_id: Some("00ff".to_owned()),
        node: Some(seven()),
        storage_id: "00112233445566778899aabbccddeeff".to_owned(),
    };
    assert_eq!(
        serde_json::to_string(&identity).unwrap(),
        "{\"format\":1,\"engine\":\"rocksdb\",\"cluster_name\":\"c\",\"cluster_id\":\"00ff\",\
         \"node\":7,\"storage_id\":\"00112233445566778899aabbccddeeff\"}"
    );
}
