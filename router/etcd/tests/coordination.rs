//! Leases, locks and elections: what is refused, as the checks say it and as etcd does, over gRPC and
//! through its gateway.

use caucus_etcd::etcdserverpb as pb;
use caucus_etcd::real::Etcd;
use caucus_etcd::v3electionpb as election;
use caucus_etcd::v3lockpb as lock;
use caucus_etcd::{Error, check};
use election::LeaderKey;
use election::election_client::ElectionClient;
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use lock::lock_client::LockClient;
use pb::kv_client::KvClient;
use pb::lease_client::LeaseClient;
use serde::Serialize;
use serde_json::{Value, json};
use tonic::{Code, Status};

/// A lease that is there, and one that isn't.
const LEASE: i64 = 7;
const NO_LEASE: i64 = 99;

enum Call {
    Grant(pb::LeaseGrantRequest),
    Revoke(pb::LeaseRevokeRequest),
    TimeToLive(pb::LeaseTimeToLiveRequest),
    Lock(lock::LockRequest),
    Unlock(lock::UnlockRequest),
    Campaign(election::CampaignRequest),
    Proclaim(election::ProclaimRequest),
    Leader(election::LeaderRequest),
    Resign(election::ResignRequest),
}

use Call::{Campaign, Grant, Leader, Lock, Proclaim, Resign, Revoke, TimeToLive, Unlock};

/// Who finds what is wrong.
enum Found {
    /// Nothing is.
    Fine,
    /// The check, as the message alone tells.
    Checked(Error),
    /// Who keeps the keys.
    Kept(Error),
}

use Found::{Checked, Fine, Kept};

fn grant(id: i64, ttl: i64) -> Call {
    Grant(pb::LeaseGrantRequest { ttl, id })
}

fn revoke(id: i64) -> Call {
    Revoke(pb::LeaseRevokeRequest { id })
}

fn time_to_live(id: i64) -> Call {
    TimeToLive(pb::LeaseTimeToLiveRequest { id, keys: true })
}

fn lock(name: &'static str, lease: i64) -> Call {
    let name = name.into();
    Lock(lock::LockRequest { name, lease })
}

fn unlock(key: &'static str) -> Call {
    Unlock(lock::UnlockRequest { key: key.into() })
}

fn campaign(name: &'static str, lease: i64) -> Call {
    Campaign(election::CampaignRequest {
        name: name.into(),
        lease,
        value: "v".into(),
    })
}

fn leader(key: &'static str, rev: i64, lease: i64) -> Option<LeaderKey> {
    Some(LeaderKey {
        name: "e".into(),
        key: key.into(),
        rev,
        lease,
    })
}

fn proclaim(leader: Option<LeaderKey>) -> Call {
    let value = "w".into();
    Proclaim(election::ProclaimRequest { leader, value })
}

fn resign(leader: Option<LeaderKey>) -> Call {
    Resign(election::ResignRequest { leader })
}

fn leader_of(name: &'static str) -> Call {
    Leader(election::LeaderRequest { name: name.into() })
}

/// In this order. Each is asked twice, over gRPC and through the gateway.
fn leases() -> Vec<(&'static str, Call, Found)> {
    let max = check::MAX_LEASE_TTL_S;
    let too_large = || Checked(Error::LeaseTtlTooLarge);
    vec![
        ("no time to live", grant(0, 0), Fine),
        ("less than none", grant(0, -1), Fine),
        ("the longest", grant(0, max), Fine),
        ("longer", grant(0, max + 1), too_large()),
        (
            "the id is taken",
            grant(LEASE, 60),
            Kept(Error::LeaseExists),
        ),
        (
            "the time is checked first",
            grant(LEASE, max + 1),
            too_large(),
        ),
        ("revoke none", revoke(0), Kept(Error::LeaseNotFound)),
        (
            "revoke another",
            revoke(NO_LEASE),
            Kept(Error::LeaseNotFound),
        ),
        ("time to live of none", time_to_live(0), Fine),
        ("of another", time_to_live(NO_LEASE), Fine),
    ]
}

fn locks() -> Vec<(&'static str, Call, Found)> {
    vec![
        ("a name", lock("l", LEASE), Fine),
        ("no name", lock("", LEASE), Fine),
        (
            "no such lease",
            lock("m", NO_LEASE),
            Kept(Error::LeaseNotFound),
        ),
        (
            "a lease below zero",
            lock("m", -1),
            Kept(Error::LeaseNotFound),
        ),
        ("not a lock", unlock("none"), Fine),
        ("no key", unlock(""), Checked(Error::EmptyKey)),
        ("a lock", unlock("l/7"), Fine),
    ]
}

fn elections() -> Vec<(&'static str, Call, Found)> {
    let not_leader = || Kept(Error::ElectionNotLeader);
    let none = || Checked(Error::LeaderNotProvided);
    vec![
        (
            "nobody leads",
            leader_of("e"),
            Kept(Error::ElectionNoLeader),
        ),
        ("a candidate", campaign("e", LEASE), Fine),
        (
            "no such lease",
            campaign("f", NO_LEASE),
            Kept(Error::LeaseNotFound),
        ),
        ("somebody leads", leader_of("e"), Fine),
        ("no leader", proclaim(None), none()),
        (
            "no key",
            proclaim(leader("", 1, LEASE)),
            Checked(Error::EmptyKey),
        ),
        ("another key", proclaim(leader("e/8", 1, 8)), not_leader()),
        (
            "another revision",
            proclaim(leader("e/7", 1, LEASE)),
            not_leader(),
        ),
        ("no leader to resign", resign(None), none()),
        (
            "none with a key",
            resign(leader("", 1, LEASE)),
            Checked(Error::EmptyKey),
        ),
        ("resign from another key", resign(leader("e/8", 1, 8)), Fine),
        (
            "from another revision",
            resign(leader("e/7", 1, LEASE)),
            Fine,
        ),
        ("that changed nothing", leader_of("e"), Fine),
    ]
}

fn cases() -> Vec<(&'static str, Call, Found)> {
    let tables = [leases(), locks(), elections()];
    tables.into_iter().flatten().collect()
}

impl Call {
    fn check(&self) -> Result<(), Error> {
        match self {
            Grant(request) => check::lease_grant(request),
            Unlock(request) => check::unlock(request),
            Proclaim(request) => check::proclaim(request),
            Resign(request) => check::resign(request),
            Revoke(_) | TimeToLive(_) | Lock(_) | Campaign(_) | Leader(_) => Ok(()),
        }
    }

    /// Locks and elections pass on the texts of others without their codes.
    fn status(&self, error: Error) -> Status {
        match self {
            Grant(_) | Revoke(_) | TimeToLive(_) => error.into(),
            _ => error.relayed(),
        }
    }

    async fn over_grpc(&self, etcd: &Etcd) -> Result<(), Status> {
        let mut leases = LeaseClient::new(etcd.channel());
        let mut locks = LockClient::new(etcd.channel());
        let mut elections = ElectionClient::new(etcd.channel());
        match self {
            Grant(request) => leases.lease_grant(*request).await.map(drop),
            Revoke(request) => leases.lease_revoke(*request).await.map(drop),
            TimeToLive(request) => leases.lease_time_to_live(*request).await.map(drop),
            Lock(request) => locks.lock(request.clone()).await.map(drop),
            Unlock(request) => locks.unlock(request.clone()).await.map(drop),
            Campaign(request) => elections.campaign(request.clone()).await.map(drop),
            Proclaim(request) => elections.proclaim(request.clone()).await.map(drop),
            Leader(request) => elections.leader(request.clone()).await.map(drop),
            Resign(request) => elections.resign(request.clone()).await.map(drop),
        }
    }

    async fn through_gateway(&self, etcd: &Etcd) -> (u16, Value) {
        match self {
            Grant(request) => post(etcd, "lease/grant", request).await,
            Revoke(request) => post(etcd, "lease/revoke", request).await,
            TimeToLive(request) => post(etcd, "lease/timetolive", request).await,
            Lock(request) => post(etcd, "lock/lock", request).await,
            Unlock(request) => post(etcd, "lock/unlock", request).await,
            Campaign(request) => post(etcd, "election/campaign", request).await,
            Proclaim(request) => post(etcd, "election/proclaim", request).await,
            Leader(request) => post(etcd, "election/leader", request).await,
            Resign(request) => post(etcd, "election/resign", request).await,
        }
    }
}

async fn post(etcd: &Etcd, path: &str, request: &impl Serialize) -> (u16, Value) {
    let text = serde_json::to_string(request).expect("JSON");
    let request = http::Request::post(format!("http://{}/v3/{path}", etcd.address()));
    let request = request
        .body(Full::<bytes::Bytes>::from(text))
        .expect("a request");
    let client = Client::builder(TokioExecutor::new()).build_http();
    let answer = client.request(request).await.expect("an answer");
    let status = answer.status().as_u16();
    let body = answer.collect().await.expect("a body").to_bytes();
    (status, serde_json::from_slice(&body).expect("JSON"))
}

fn http_status(code: Code) -> u16 {
    match code {
        Code::NotFound => 404,
        Code::FailedPrecondition => 412,
        Code::OutOfRange => 400,
        Code::Unknown => 500,
        other => panic!("{other} isn't expected of these"),
    }
}

#[test]
fn the_checks_know() {
    for (what, call, found) in cases() {
        let expected = match found {
            Fine | Kept(_) => Ok(()),
            Checked(error) => Err(error),
        };
        assert_eq!(call.check(), expected, "{what}");
    }
}

#[tokio::test]
async fn etcd_says_the_same() {
    let Some(etcd) = Etcd::start().await else {
        return;
    };
    let made = grant(LEASE, 60).over_grpc(&etcd).await;
    made.expect("a lease");
    for (what, call, found) in cases() {
        let said = call.over_grpc(&etcd).await;
        let (status, body) = call.through_gateway(&etcd).await;
        let expected = match found {
            Fine => None,
            Kept(error) | Checked(error) => Some(call.status(error)),
        };
        let Some(expected) = expected else {
            said.unwrap_or_else(|error| panic!("{what}: {error}"));
            assert_eq!(status, 200, "{what}");
            assert!(body["error"].is_null(), "{what}");
            continue;
        };
        let said = said.expect_err(what);
        let (code, text) = (expected.code(), expected.message());
        assert_eq!((said.code(), said.message()), (code, text), "{what}");
        assert_eq!(status, http_status(code), "{what}");
        let written = json!({"error": text, "message": text, "code": i32::from(code)});
        assert_eq!(body, written, "{what}");
    }
}

/// What is said where nothing is refused.
#[tokio::test]
async fn etcd_answers_so() {
    let Some(etcd) = Etcd::start().await else {
        return;
    };
    let mut leases = LeaseClient::new(etcd.channel());
    for (asked, granted) in [(0, 2), (-1, 2), (1, 2), (60, 60)] {
        let request = pb::LeaseGrantRequest { ttl: asked, id: 0 };
        let answer = leases.lease_grant(request).await.expect("a lease");
        assert_eq!(answer.get_ref().ttl, granted, "{asked}");
        assert!(granted > 2 || granted == check::MIN_LEASE_TTL_S);
    }
    for id in [LEASE, -LEASE] {
        let request = pb::LeaseGrantRequest { ttl: 60, id };
        let answer = leases.lease_grant(request).await.expect("a lease");
        assert_eq!(answer.get_ref().id, id);
    }
    let request = pb::LeaseTimeToLiveRequest {
        id: NO_LEASE,
        keys: true,
    };
    let answer = leases.lease_time_to_live(request).await.expect("an answer");
    let answer = answer.into_inner();
    assert_eq!(
        (answer.id, answer.ttl, answer.granted_ttl),
        (NO_LEASE, -1, 0)
    );

    let requests = [NO_LEASE, LEASE, 0].map(|id| pb::LeaseKeepAliveRequest { id });
    let answers = leases
        .lease_keep_alive(futures::stream::iter(requests))
        .await;
    let mut answers = answers.expect("answers").into_inner();
    // No error, and the stream ends with the requests.
    for expected in [(NO_LEASE, 0), (LEASE, 60), (0, 0)] {
        let answer = answers
            .message()
            .await
            .expect("an answer")
            .expect("one more");
        assert_eq!((answer.id, answer.ttl), expected);
    }
    assert_eq!(answers.message().await.expect("an end"), None);
}

/// The key of a holder or a candidate is the name, a slash, and the lease in hexadecimal with its sign.
#[tokio::test]
async fn etcd_names_keys_so() {
    let Some(etcd) = Etcd::start().await else {
        return;
    };
    let mut leases = LeaseClient::new(etcd.channel());
    let mut locks = LockClient::new(etcd.channel());
    let mut elections = ElectionClient::new(etcd.channel());
    for (id, key) in [(0x1f, "/1f"), (-0x22, "/-22")] {
        let request = pb::LeaseGrantRequest { ttl: 60, id };
        leases.lease_grant(request).await.expect("a lease");
        // Who holds a lock gets it again.
        for _ in 0..2 {
            let name = format!("l{id}");
            let request = lock::LockRequest {
                name: name.clone().into(),
                lease: id,
            };
            let answer = locks.lock(request).await.expect("a lock").into_inner();
            assert_eq!(answer.key, format!("{name}{key}"));
        }
        // Who leads does so still, with another value.
        let mut revisions = Vec::new();
        for value in ["a", "b"] {
            let name = format!("e{id}");
            let request = election::CampaignRequest {
                name: name.clone().into(),
                lease: id,
                value: value.into(),
            };
            let answer = elections.campaign(request).await.expect("leadership");
            let leader = answer.into_inner().leader.expect("a leader");
            assert_eq!(
                (leader.key, leader.lease),
                (format!("{name}{key}").into(), id)
            );
            assert_eq!(leader.name, name);
            revisions.push(leader.rev);
            let request = election::LeaderRequest { name: name.into() };
            let answer = elections.leader(request).await.expect("a leader");
            let kv = answer.into_inner().kv.expect("a value");
            assert_eq!((kv.value, kv.create_revision), (value.into(), leader.rev));
        }
        assert_eq!(revisions[0], revisions[1]);
    }
    // Who brings no lease is given one.
    let request = lock::LockRequest {
        name: "l".into(),
        lease: 0,
    };
    let answer = locks.lock(request).await.expect("a lock").into_inner();
    let id = std::str::from_utf8(&answer.key[2..]).expect("text");
    let id = i64::from_str_radix(id, 16).expect("a lease");
    let request = pb::LeaseTimeToLiveRequest { id, keys: true };
    let answer = leases.lease_time_to_live(request).await.expect("an answer");
    assert_eq!(answer.get_ref().granted_ttl, check::SESSION_TTL_S);
    assert_eq!(answer.get_ref().keys, [answer_key(&answer)]);

    fn answer_key(answer: &tonic::Response<pb::LeaseTimeToLiveResponse>) -> bytes::Bytes {
        format!("l/{:x}", answer.get_ref().id).into()
    }
}

async fn leased(etcd: &Etcd, ids: &[i64]) {
    for &id in ids {
        let made = grant(id, 60).over_grpc(etcd).await;
        made.expect("a lease");
    }
}

/// What etcd 3.4 does with who waits for a lock when its lease goes: it is told that it holds the lock,
/// though its key is gone and others hold it. 3.5 has [`Error::SessionExpired`] for it.
#[tokio::test]
async fn etcd_lets_the_dead_hold_locks() {
    let Some(etcd) = Etcd::start().await else {
        return;
    };
    leased(&etcd, &[1, 2, 3]).await;
    let mut kv = KvClient::new(etcd.channel());
    let held = lock("l", 1).over_grpc(&etcd).await;
    held.expect("the lock");
    let waits = |id| {
        let mut locks = LockClient::new(etcd.channel());
        let name = "l".into();
        let request = lock::LockRequest { name, lease: id };
        tokio::spawn(async move { locks.lock(request).await })
    };
    let mut waiting = Vec::new();
    for id in [2, 3] {
        waiting.push(waits(id));
        let key = pb::RangeRequest {
            key: format!("l/{id}").into(),
            ..pb::RangeRequest::default()
        };
        while kv.range(key.clone()).await.expect("a read").get_ref().count == 0 {
            tokio::task::yield_now().await;
        }
    }
    for call in [revoke(2), unlock("l/1")] {
        call.over_grpc(&etcd).await.expect("an answer");
    }
    for waits in waiting {
        let held = waits.await.expect("a task");
        held.expect("the lock, both of them");
    }
    let call = pb::RangeRequest {
        key: "l/2".into(),
        ..pb::RangeRequest::default()
    };
    let read = kv.range(call).await.expect("a read");
    assert_eq!(read.get_ref().count, 0);
}

/// A proclamation writes with the lease it names, whatever the key had.
#[tokio::test]
async fn etcd_proclaims_with_any_lease() {
    let Some(etcd) = Etcd::start().await else {
        return;
    };
    leased(&etcd, &[1, 2]).await;
    let mut elections = ElectionClient::new(etcd.channel());
    let request = election::CampaignRequest {
        name: "e".into(),
        lease: 1,
        value: "v".into(),
    };
    let answer = elections.campaign(request).await.expect("leadership");
    let leader = answer.into_inner().leader.expect("a leader");
    let with = |lease| {
        proclaim(Some(LeaderKey {
            lease,
            ..leader.clone()
        }))
    };
    let none = with(NO_LEASE).over_grpc(&etcd).await;
    let none = none.expect_err("no lease");
    let relayed = Error::LeaseNotFound.relayed();
    assert_eq!(
        (none.code(), none.message()),
        (relayed.code(), relayed.message())
    );
    for lease in [2, 1, 0] {
        with(lease).over_grpc(&etcd).await.expect("proclaimed");
        let request = election::LeaderRequest { name: "e".into() };
        let answer = elections.leader(request).await.expect("a leader");
        let now = answer.into_inner().kv.expect("a value").lease;
        assert!(now == lease || (lease == 0 && now > 2), "{lease} {now}");
    }
    // Of no lease, the key is the leader's still.
    let resigned = resign(Some(LeaderKey {
        lease: NO_LEASE,
        ..leader.clone()
    }));
    resigned.over_grpc(&etcd).await.expect("resigned");
    let gone = leader_of("e").over_grpc(&etcd).await.expect_err("a leader");
    assert_eq!(gone.message(), Error::ElectionNoLeader.to_string());
}
