//! Debian's Python client of etcd, `python3-etcd3`, against Caucus.

use std::process::Command;

use caucus_tests::{Cluster, Options, say_skipped};

const PYTHON: &str = "/usr/bin/python3";

/// What its users do with keys and transactions.
const PROGRAM: &str = r#"
import sys, etcd3, grpc
host, port = sys.argv[1].split(":")
c = etcd3.client(host=host, port=int(port))
t = c.transactions
c.put("/py/a/b", "one")
c.put("/py/c/d", b"\xff\x00")
assert c.get("/py/a/b")[0] == b"one"
got = {meta.key: value for value, meta in c.get_prefix("/py/")}
assert got == {b"/py/a/b": b"one", b"/py/c/d": b"\xff\x00"}, got
newest_first = c.get_prefix("/py/", sort_order="descend", sort_target="mod")
assert [meta.key for _, meta in newest_first] == [b"/py/c/d", b"/py/a/b"]
succeeded, answers = c.transaction(
    compare=[t.value("/py/a/b") == "one", t.version("/py/c/d") > 0, t.create("/py/none") == 0],
    success=[t.put("/py/a/b", "two"), t.delete("/py/c/d"), t.get("/py/a/b")],
    failure=[t.get("/py/a/b")])
assert succeeded and answers[2][0][0] == b"two", answers
assert c.get("/py/c/d")[0] is None
assert c.replace("/py/a/b", "two", "three") and not c.replace("/py/a/b", "two", "four")
assert c.put_if_not_exists("/py/n", "x") and not c.put_if_not_exists("/py/n", "y")
assert c.delete("/py/n") and not c.delete("/py/n")
assert c.delete_prefix("/py/").deleted == 1
assert len(list(c.members)) == 3 and c.status().leader is not None
try:
    c.compact(1 << 50)
    raise SystemExit("a future revision was compacted")
except grpc.RpcError as error:
    assert error.code() == grpc.StatusCode.OUT_OF_RANGE
"#;

#[test]
fn pythons_client_finds_nothing_amiss() {
    let has = Command::new(PYTHON).args(["-c", "import etcd3"]).output();
    if !has.is_ok_and(|done| done.status.success()) {
        return say_skipped("there is no python3-etcd3");
    }
    let cluster = Cluster::start(Options::nodes(3));
    let address = cluster.address(2);
    let done = Command::new(PYTHON)
        .args(["-c", PROGRAM, &address])
        .output();
    let done = done.expect("it starts");
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{said}");
}
