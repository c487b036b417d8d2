//! Rows written by earlier releases stay readable for ever.
//!
//! `samples/NAME.hex` is what was stored, `samples/NAME.txt` what it means.
//! Neither is ever changed: a new format adds samples beside them.
//! `UPDATE_SAMPLES=1` writes those that are missing, and only those.

#![allow(clippy::disallowed_methods, reason = "the samples are files; the core itself does no I/O")]

use std::path::PathBuf;

use galley_core::decide::{Event, Token};
use galley_core::ids::{Nonce, SessionId};
use galley_core::report::Failure;
use galley_core::run::{BadRun, Lease, Run, StepState};
use proptest::prelude::*;

use crate::shapes::{LEASE, accepted, claim, fail, happen, plan, succeed};

fn place(name: &str, extension: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/samples")).join(format!("{name}.{extension}"))
}

/// Every kind of row that format 1 can hold.
fn rows_of_format_1() -> Vec<(&'static str, Run)> {
    let chain = plan("a b<a c<b");
    let fresh = Run::new(&chain, 5);
    let mut leased = accepted(&chain);
    leased.priority = 0;
    let lease = Lease { nonce: Nonce(u64::MAX), session: SessionId(i64::MAX) };
    happen(&chain, &mut leased, Event::Claim { step: 0, epoch: 1, lease }).unwrap();
    let mut scheduled = accepted(&chain);
    fail(&chain, &mut scheduled, 0, Failure::Transient);
    let mut cancelled = leased.clone();
    happen(&chain, &mut cancelled, Event::Cancel).unwrap();

    let mixed = plan("a b?*2<a c!<a d<b,c");
    let mut expanded = accepted(&mixed);
    succeed(&mixed, &mut expanded, 0);
    fail(&mixed, &mut expanded, 4, Failure::Permanent);

    let mut dead = accepted(&chain);
    claim(&chain, &mut dead, 0);
    happen(&chain, &mut dead, Event::LeaseLost { step: 0, session: SessionId(1) }).unwrap();
    fail(&chain, &mut dead, 0, Failure::Permanent);
    let mut edited = dead.clone();
    happen(&chain, &mut edited, Event::Replay { step: 0, edited: true }).unwrap();

    vec![
        ("format1_chain_fresh", fresh),
        ("format1_leased", leased),
        ("format1_scheduled", scheduled),
        ("format1_cancelled", cancelled),
        ("format1_expanded", expanded),
        ("format1_dead", dead),
        ("format1_edited", edited),
    ]
}

/// Every kind of row that needs format 2: steps that wait for a person or whose
/// post may be out.
fn rows_of_format_2() -> Vec<(&'static str, Run)> {
    let chain = plan("a b<a");
    let token = |run: &Run| Token { step: 0, epoch: run.steps[0].epoch, nonce: LEASE.nonce };
    let mut running = accepted(&chain);
    claim(&chain, &mut running, 0);
    let after = |run: &Run, event: Event| {
        let mut run = run.clone();
        happen(&chain, &mut run, event).unwrap();
        run
    };
    let waiting = after(&running, Event::Held { token: token(&running) });
    let approved = after(&waiting, Event::Approved { step: 0 });
    let sending = after(&running, Event::Intent { token: token(&running) });
    let unknown = after(&sending, Event::Unsure { token: token(&sending) });
    let looking = after(&unknown, Event::Due { step: 0, epoch: unknown.steps[0].epoch });
    let in_doubt = after(&sending, Event::Doubted { token: token(&sending) });
    let unfunded = Failure::Unfunded { needed_micros: 1 };
    let waiting_budget = after(&running, Event::Failed { token: token(&running), failure: unfunded });
    vec![
        ("format2_waiting_budget", waiting_budget),
        ("format2_waiting", waiting),
        ("format2_approved", approved),
        ("format2_sending", sending),
        ("format2_unknown", unknown),
        ("format2_looking", looking),
        ("format2_in_doubt", in_doubt),
    ]
}

/// Runs whose steps have said something: format 3.
fn rows_of_format_3() -> Vec<(&'static str, Run)> {
    let said = |mut run: Run| {
        run.said = 300;
        run
    };
    let plain = rows_of_format_1().into_iter().find(|(name, _)| *name == "format1_leased");
    let marked = rows_of_format_2().into_iter().find(|(name, _)| *name == "format2_sending");
    vec![("format3_plain", said(plain.unwrap().1)), ("format3_marked", said(marked.unwrap().1))]
}

fn rows() -> Vec<(&'static str, Run)> {
    rows_of_format_1().into_iter().chain(rows_of_format_2()).chain(rows_of_format_3()).collect()
}

/// What a run means; a mark that is not set is as good as none.
fn meaning(run: &Run) -> String {
    let text = format!("{run:#?}\n");
    let unset = ["intent: false,", "go: false,", "said: 0,"];
    text.lines().filter(|line| !unset.contains(&line.trim())).flat_map(|line| [line, "\n"]).collect()
}

#[test]
fn every_state_is_in_a_sample() {
    let rows = rows();
    for state in StepState::ALL {
        assert!(
            rows.iter().any(|(_, run)| run.count(state) > 0),
            "no sample has a step that is {}",
            state.word()
        );
    }
}

#[test]
fn old_rows_stay_readable() {
    for (name, run) in rows() {
        let (stored, meant) = (place(name, "hex"), place(name, "txt"));
        if std::env::var_os("UPDATE_SAMPLES").is_some() && !stored.exists() {
            std::fs::write(&stored, hex::encode(run.encode()) + "\n").unwrap();
            std::fs::write(&meant, meaning(&run)).unwrap();
        }
        let bytes = hex::decode(std::fs::read_to_string(stored).unwrap().trim()).unwrap();
        let read = Run::decode(&bytes).unwrap();
        assert_eq!(meaning(&read), std::fs::read_to_string(meant).unwrap(), "{name}");
        // As long as all formats are written.
        assert_eq!(read.encode(), bytes, "{name}");
        assert_eq!(read, run, "{name}");
    }
}

#[test]
fn what_is_no_run_is_refused_with_a_reason() {
    let plan = plan("a b*2<a c<b");
    let mut run = accepted(&plan);
    succeed(&plan, &mut run, 0);
    let good = run.encode();
    assert_eq!(Run::decode(&[]), Err(BadRun::Bytes("empty".into())));
    assert_eq!(Run::decode(&[4, 0, 0]), Err(BadRun::Format(4)));
    for length in 1..good.len() {
        assert!(matches!(Run::decode(&good[..length]), Err(BadRun::Bytes(_))), "cut at {length}");
    }
    let longer = [good.as_slice(), &[0]].concat();
    assert!(matches!(Run::decode(&longer), Err(BadRun::Bytes(_))), "one byte too many");
}

#[test]
fn a_broken_invariant_is_named_with_its_step() {
    let plan = plan("a b*2<a c<b");
    let mut good = accepted(&plan);
    succeed(&plan, &mut good, 0);
    let lease = Some(Lease { nonce: Nonce(1), session: SessionId(1) });
    type Break = fn(&mut Run);
    let table: [(usize, &str, Break); 7] = [
        (2, "running if and only if leased", |run| run.steps[2].state = StepState::Running),
        (3, "running if and only if leased", |run| {
            run.steps[3].lease = Some(Lease { nonce: Nonce(1), session: SessionId(1) });
        }),
        (1, "a definition step stands at its own position", |run| run.steps[1].plan = 2),
        (3, "a child stands behind the step it was expanded from", |run| run.steps[3].plan = 3),
        (4, "a child was expanded from a definition step", |run| run.steps[4].plan = 3),
        (3, "a child is not expanded again", |run| run.steps[3].state = StepState::Expanded),
        (5, "a definition step stands before every child", |run| {
            let mut late = run.steps[2].clone();
            late.plan = 5;
            run.steps.push(late);
        }),
    ];
    for (step, rule, break_it) in table {
        let mut run = good.clone();
        break_it(&mut run);
        assert_eq!(Run::decode(&run.encode()), Err(BadRun::Invariant { step, rule }));
    }
    let mut running = good.clone();
    running.steps[2].state = StepState::Running;
    running.steps[2].lease = lease;
    assert_eq!(Run::decode(&running.encode()), Ok(running));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn garbage_never_panics_and_what_is_read_is_kept(mut bytes in prop::collection::vec(any::<u8>(), 0..200), format in 0_u8..5) {
        if format > 0 && let Some(first) = bytes.first_mut() {
            *first = format;
        }
        if let Ok(run) = Run::decode(&bytes) {
            prop_assert_eq!(Run::decode(&run.encode()), Ok(run));
        }
    }

    #[test]
    fn one_wrong_byte_never_panics(which in any::<prop::sample::Index>(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let rows = rows();
        let mut bytes = rows[which.index(rows.len())].1.encode();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if let Ok(run) = Run::decode(&bytes) {
            prop_assert_eq!(run.check(), Ok(()));
        }
    }
}
