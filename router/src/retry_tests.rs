use super::*;

fn broken() -> Stumble {
    Stumble::Call(CallError::Broken { addr: "a".into() })
}

fn unreachable() -> Stumble {
    Stumble::Call(CallError::Unreachable {
        addr: "a".into(),
        reason: "refused".into(),
    })
}

fn unavailable(unknown: bool) -> Stumble {
    Stumble::Failure(Failure::Unavailable {
        reason: "the oracle".to_owned(),
        unknown,
    })
}

fn not_leader(leader: Option<u32>) -> Stumble {
    Stumble::Failure(Failure::NotLeader { leader })
}

/// The first decision of a fresh request with plenty of time.
fn first(stumble: Stumble) -> Step {
    let now = Instant::now();
    Retry::new(true, 1).step(stumble, now, now + Duration::from_secs(5))
}

#[tokio::test]
async fn the_first_stumble_decides_so() {
    assert_eq!(first(not_leader(Some(3))), Step::Redirect(Some(NodeId(3))));
    assert_eq!(first(not_leader(None)), Step::Redirect(None));
    assert_eq!(first(unreachable()), Step::Redirect(None));
    assert_eq!(first(broken()), Step::Redirect(None));
    assert_eq!(first(Stumble::NoAnswer), Step::Redirect(None));
    let no_replica = Stumble::Failure(Failure::NoReplica);
    assert_eq!(first(no_replica), Step::Redirect(None));

    let moved = Stumble::Failure(Failure::Moved { epoch: 7 });
    assert!(matches!(first(moved), Step::Refresh(Epoch(7), _)));
    assert!(matches!(first(Stumble::NoGroup), Step::Refresh(..)));
    let rules = Stumble::Failure(Failure::Rules);
    assert!(matches!(first(rules), Step::Refresh(..)));

    for stumble in [
        Stumble::Failure(Failure::Busy("a queue".to_owned())),
        Stumble::Failure(Failure::Internal("stopped".to_owned())),
        Stumble::Call(CallError::Busy { addr: "a".into() }),
        unavailable(false),
    ] {
        assert!(
            matches!(first(stumble.clone()), Step::Pause(_)),
            "{stumble:?}"
        );
    }
}

#[tokio::test]
async fn final_failures_end_at_once_with_a_known_outcome() {
    for (failure, reason) in [
        (Failure::NoSpace, Reason::NoSpace),
        (Failure::Expired, Reason::Expired),
        (Failure::FutureRevision, Reason::FutureRevision),
        (
            Failure::Compacted { revision: 7 },
            Reason::Compacted { revision: 7 },
        ),
        (Failure::Conflict, Reason::Conflict),
        (
            Failure::Invalid("x".to_owned()),
            Reason::Invalid("x".to_owned()),
        ),
        (Failure::Deadline { unknown: false }, Reason::Deadline),
    ] {
        let outcome = Outcome::NotApplied;
        let expected = Step::GiveUp(Error { reason, outcome });
        assert_eq!(first(Stumble::Failure(failure)), expected);
    }
}

/// The outcome of a write after these stumbles, the last of them at the deadline.
fn outcome(is_write: bool, stumbles: &[Stumble]) -> (Reason, Outcome) {
    let now = Instant::now();
    let mut retry = Retry::new(is_write, 1);
    let (last, before) = stumbles.split_last().expect("some");
    for stumble in before {
        let step = retry.step(stumble.clone(), now, now + Duration::from_secs(5));
        assert!(!matches!(step, Step::GiveUp(_)), "{stumble:?}");
    }
    // A redirect at the deadline is taken, and its attempt ends without an answer.
    match retry.step(last.clone(), now, now) {
        Step::GiveUp(error) => (error.reason, error.outcome),
        step => panic!("{step:?}"),
    }
}

#[tokio::test]
async fn an_attempt_that_may_have_been_received_makes_the_outcome_unknown() {
    let no_space = Stumble::Failure(Failure::NoSpace);
    for (stumbles, expected) in [
        (vec![no_space.clone()], Outcome::NotApplied),
        (vec![broken(), no_space.clone()], Outcome::Unknown),
        (vec![unreachable(), no_space.clone()], Outcome::NotApplied),
        (
            vec![not_leader(None), no_space.clone()],
            Outcome::NotApplied,
        ),
        (vec![Stumble::NoAnswer, no_space.clone()], Outcome::Unknown),
        (vec![unavailable(true), no_space.clone()], Outcome::Unknown),
        (vec![unavailable(false)], Outcome::NotApplied),
        (vec![unavailable(true)], Outcome::Unknown),
        (vec![Stumble::NoAnswer], Outcome::Unknown),
        (vec![broken(), unavailable(false)], Outcome::Unknown),
        (vec![Stumble::NoGroup], Outcome::NotApplied),
    ] {
        assert_eq!(outcome(true, &stumbles).1, expected, "{stumbles:?}");
        assert_eq!(outcome(false, &stumbles).1, Outcome::Read);
    }
}

#[tokio::test]
async fn the_reason_is_what_was_seen_of_the_group() {
    assert_eq!(outcome(true, &[Stumble::NoAnswer]).0, Reason::Deadline);
    for stumbles in [
        vec![unreachable(), Stumble::NoAnswer],
        vec![unavailable(false)],
        vec![unreachable(), unreachable()],
        vec![Stumble::NoGroup],
    ] {
        let (reason, _) = outcome(true, &stumbles);
        assert!(matches!(reason, Reason::Unavailable(_)), "{stumbles:?}");
    }
    let busy = Stumble::Failure(Failure::Busy("a queue".to_owned()));
    assert!(matches!(outcome(true, &[busy]).0, Reason::Busy(_)));
}

#[tokio::test]
async fn redirects_are_bounded_and_pauses_grow_to_a_limit() {
    let now = Instant::now();
    let deadline = now + Duration::from_secs(5);
    let mut retry = Retry::new(true, 42);
    let mut in_a_row = 0;
    let mut pauses = Vec::new();
    for _ in 0..100 {
        match retry.step(not_leader(Some(1)), now, deadline) {
            Step::Redirect(_) => in_a_row += 1,
            Step::Pause(pause) => {
                assert_eq!(in_a_row, REDIRECTS_MAX);
                in_a_row = 0;
                pauses.push(pause);
            }
            step => panic!("{step:?}"),
        }
    }
    assert!(pauses[0] >= PAUSE_MIN / 2 && pauses[0] <= PAUSE_MIN);
    let last = *pauses.last().expect("some");
    assert!(last >= PAUSE_MAX / 2 && last <= PAUSE_MAX);
    let other = Retry::new(true, 43).next_pause();
    assert_ne!(other, pauses[0], "pauses of two requests differ");
}
