//! Every state × every event, as one table. A line is an event; a column is
//! the state it meets; a cell is the new state, or the refusal:
//!
//! `stale` overtaken · `alive` not dead · `over` the workflow is over ·
//! `none` no such step · `=` accepted, and this step stays as it is.

use galley_core::decide::{Event, Refusal, Token};
use galley_core::ids::{Nonce, SessionId, StepIndex};
use galley_core::plan::Plan;
use galley_core::report::Failure;
use galley_core::retry::RetryPolicy;
use galley_core::run::{Lease, Run, StepState};

use crate::laws;
use crate::shapes::{LEASE, ONE_TRY, TWO_TRIES, accepted, claim, fail, happen, plan_with, succeed};

const TABLE: &str = "
event                           | blocked queued  running   scheduled expanded  succeeded skipped failed cancelled dead
accepted                        | =       =       =         =         =         =         =       =      =         =
accepted, all over              | .       .       .         .         .         over      over    over   over      .
claim                           | stale   running stale     stale     stale     stale     stale   stale  stale     stale
claim, older epoch              | stale   stale   stale     stale     stale     stale     stale   stale  stale     stale
claim, newer epoch              | stale   stale   stale     stale     stale     stale     stale   stale  stale     stale
claim, no such step             | none    none    none      none      none      none      none    none   none      none
succeeded                       | stale   stale   succeeded stale     stale     stale     stale   stale  stale     stale
succeeded, older epoch          | stale   stale   stale     stale     stale     stale     stale   stale  stale     stale
succeeded, newer epoch          | stale   stale   stale     stale     stale     stale     stale   stale  stale     stale
succeeded, other nonce          | stale   stale   stale     stale     stale     stale     stale   stale  stale     stale
succeeded, no such step         | none    none    none      none      none      none      none    none   none      none
transient                       | stale   stale   scheduled stale     stale     stale     stale   stale  stale     stale
transient, last try             | stale   stale   dead      stale     stale     stale     stale   stale  stale     stale
transient, last try, optional   | stale   stale   failed    stale     stale     stale     stale   stale  stale     .
transient, older epoch          | stale   stale   stale     stale     stale     stale     stale   stale  stale     stale
transient, other nonce          | stale   stale   stale     stale     stale     stale     stale   stale  stale     stale
throttled                       | stale   stale   scheduled stale     stale     stale     stale   stale  stale     stale
throttled, last try             | stale   stale   scheduled stale     stale     stale     stale   stale  stale     stale
throttled, older epoch          | stale   stale   stale     stale     stale     stale     stale   stale  stale     stale
throttled, other nonce          | stale   stale   stale     stale     stale     stale     stale   stale  stale     stale
unfunded                        | stale   stale   waiting_budget stale stale    stale     stale   stale  stale     stale
unfunded, last try              | stale   stale   waiting_budget stale stale    stale     stale   stale  stale     stale
unfunded, older epoch           | stale   stale   stale     stale     stale     stale     stale   stale  stale     stale
permanent                       | stale   stale   dead      stale     stale     stale     stale   stale  stale     stale
permanent, optional             | stale   stale   failed    stale     stale     stale     stale   stale  stale     .
permanent, older epoch          | stale   stale   stale     stale     stale     stale     stale   stale  stale     stale
permanent, other nonce          | stale   stale   stale     stale     stale     stale     stale   stale  stale     stale
permanent, no such step         | none    none    none      none      none      none      none    none   none      none
given back                      | stale   stale   queued    stale     stale     stale     stale   stale  stale     stale
given back, last try            | stale   stale   queued    stale     stale     stale     stale   stale  stale     stale
given back, older epoch         | stale   stale   stale     stale     stale     stale     stale   stale  stale     stale
given back, newer epoch         | stale   stale   stale     stale     stale     stale     stale   stale  stale     stale
given back, other nonce         | stale   stale   stale     stale     stale     stale     stale   stale  stale     stale
lease lost                      | stale   stale   queued    stale     stale     stale     stale   stale  stale     stale
lease lost, last try            | stale   stale   dead      stale     stale     stale     stale   stale  stale     stale
lease lost, last try, optional  | stale   stale   failed    stale     stale     stale     stale   stale  stale     .
lease lost, other session       | stale   stale   stale     stale     stale     stale     stale   stale  stale     stale
lease lost, no such step        | none    none    none      none      none      none      none    none   none      none
overdue                         | stale   stale   scheduled stale     stale     stale     stale   stale  stale     stale
overdue, last try               | stale   stale   dead      stale     stale     stale     stale   stale  stale     stale
overdue, last try, optional     | stale   stale   failed    stale     stale     stale     stale   stale  stale     .
overdue, older epoch            | stale   stale   stale     stale     stale     stale     stale   stale  stale     stale
overdue, other nonce            | stale   stale   stale     stale     stale     stale     stale   stale  stale     stale
due                             | stale   stale   stale     queued    stale     stale     stale   stale  stale     stale
due, older epoch                | stale   stale   stale     stale     stale     stale     stale   stale  stale     stale
due, newer epoch                | stale   stale   stale     stale     stale     stale     stale   stale  stale     stale
due, no such step               | none    none    none      none      none      none      none    none   none      none
funded                          | stale   stale   stale     stale     stale     stale     stale   stale  stale     stale
cancel                          | cancelled cancelled cancelled cancelled cancelled =     =       =      =         cancelled
cancel, all over                | .       .       .         .         .         over      over    over   over      .
replay                          | alive   alive   alive     alive     alive     alive     alive   alive  alive     queued
replay, edited                  | alive   alive   alive     alive     alive     alive     alive   alive  alive     queued
replay, no such step            | none    none    none      none      none      none      none    none   none      none
discard                         | alive   alive   alive     alive     alive     alive     alive   alive  alive     failed
discard, no such step           | none    none    none      none      none      none      none    none   none      none
";

/// The states of steps that neither wait for a person nor send a post: those
/// have a table of their own (`posts.rs`).
const ORDINARY: usize = 10;

/// A step in a state, with the rest of its run.
struct Subject {
    plan: Plan,
    run: Run,
    step: StepIndex,
}

/// Brings a step into a state by events, beside a step that stays queued (so
/// that the workflow is not over), or alone (`over`).
fn subject(state: StepState, retry: &RetryPolicy, optional: bool, over: bool) -> Subject {
    let mark = if optional { "?" } else { "" };
    let shape = match state {
        // A need that fails for good, or not at all.
        StepState::Blocked | StepState::Cancelled => format!("a s{mark}<a"),
        StepState::Expanded => format!("s{mark}*2"),
        StepState::Skipped => format!("s{mark}!"),
        _ => format!("s{mark}"),
    };
    let plan = plan_with(&if over { shape } else { format!("{shape} beside") }, retry);
    let mut run = accepted(&plan);
    let step = run.find_step(&plan, "s").unwrap();
    match state {
        StepState::Blocked | StepState::Queued | StepState::Expanded | StepState::Skipped => {}
        StepState::Running => {
            claim(&plan, &mut run, step);
        }
        StepState::Scheduled => {
            fail(&plan, &mut run, step, Failure::Throttled { retry_after_ms: 1 });
        }
        StepState::Succeeded => {
            succeed(&plan, &mut run, step);
        }
        StepState::Dead => {
            fail(&plan, &mut run, step, Failure::Permanent);
        }
        StepState::Failed => {
            fail(&plan, &mut run, step, Failure::Permanent);
            if !optional {
                happen(&plan, &mut run, Event::Discard { step }).unwrap();
            }
        }
        StepState::Cancelled => {
            fail(&plan, &mut run, 0, Failure::Permanent);
            happen(&plan, &mut run, Event::Discard { step: 0 }).unwrap();
        }
        other => panic!("{other:?} is in the table of posts"),
    }
    assert_eq!(run.step(step).unwrap().state, state, "the subject is not what the column says");
    laws::of_state(&plan, &run).unwrap();
    Subject { plan, run, step }
}

/// The event a line of the table names, aimed at the subject.
fn event(words: &[&str], subject: &Subject) -> Event {
    let says = |word| words.contains(&word);
    let found = subject.run.step(subject.step).unwrap();
    let step = if says("no such step") { subject.run.steps.len() as StepIndex } else { subject.step };
    let epoch = if says("older epoch") {
        found.epoch.wrapping_sub(1)
    } else {
        found.epoch + u32::from(says("newer epoch"))
    };
    let nonce = if says("other nonce") { Nonce(LEASE.nonce.0 + 1) } else { LEASE.nonce };
    let session = if says("other session") { SessionId(LEASE.session.0 + 1) } else { LEASE.session };
    let token = Token { step, epoch, nonce };
    match words[0] {
        "accepted" => Event::Accepted,
        "claim" => Event::Claim { step, epoch, lease: Lease { nonce: Nonce(99), session } },
        "succeeded" => Event::Succeeded { token },
        "transient" => Event::Failed { token, failure: Failure::Transient },
        "throttled" => Event::Failed { token, failure: Failure::Throttled { retry_after_ms: 1 } },
        "unfunded" => Event::Failed { token, failure: Failure::Unfunded { needed_micros: 1 } },
        "funded" => Event::Funded { step, epoch },
        "permanent" => Event::Failed { token, failure: Failure::Permanent },
        "given back" => Event::GivenBack { token },
        "lease lost" => Event::LeaseLost { step, session },
        "overdue" => Event::Overdue { token },
        "due" => Event::Due { step, epoch },
        "cancel" => Event::Cancel,
        "replay" => Event::Replay { step, edited: says("edited") },
        "discard" => Event::Discard { step },
        other => panic!("the table names an unknown event: {other}"),
    }
}

/// What happened, as a cell of the table says it.
fn outcome(subject: &mut Subject, event: &Event) -> Result<String, String> {
    let before = subject.run.clone();
    let was = before.step(subject.step).unwrap();
    match happen(&subject.plan, &mut subject.run, event.clone()) {
        Ok(effects) => {
            laws::of_change(&subject.plan, &before, event, &subject.run, &effects)?;
            laws::of_state(&subject.plan, &subject.run)?;
            let now = subject.run.step(subject.step).unwrap();
            Ok(if now == was { "=".into() } else { now.state.word().into() })
        }
        Err(refusal) => {
            if subject.run != before || subject.run.encode() != before.encode() {
                return Err("refused, and changed the run all the same".into());
            }
            Ok(match refusal {
                Refusal::Stale { state, epoch } if (state, epoch) == (was.state, was.epoch) => "stale".into(),
                Refusal::NotDead(state) if state == was.state => "alive".into(),
                Refusal::AlreadyOver => "over".into(),
                Refusal::NoSuchStep => "none".into(),
                other => return Err(format!("the refusal names another state: {other:?}")),
            })
        }
    }
}

#[test]
fn every_state_answers_every_event_as_the_table_says() {
    let mut lines = TABLE.trim().lines();
    let columns: Vec<StepState> = lines
        .next()
        .and_then(|head| head.split_once('|'))
        .unwrap()
        .1
        .split_whitespace()
        .map(|word| StepState::ALL.into_iter().find(|s| s.word() == word).unwrap())
        .collect();
    assert_eq!(columns, StepState::ALL[..ORDINARY], "one column per ordinary state");

    let mut wrong = Vec::new();
    for line in lines {
        let (name, cells) = line.split_once('|').unwrap();
        let words: Vec<&str> = name.split(',').map(str::trim).collect();
        let cells: Vec<&str> = cells.split_whitespace().collect();
        assert_eq!(cells.len(), columns.len(), "{line}");
        let says = |word| words.contains(&word);
        let retry = if says("last try") { &ONE_TRY } else { &TWO_TRIES };
        for (&state, &expected) in columns.iter().zip(&cells) {
            if expected == "." {
                // Such a step cannot be: an optional one is never dead, an
                // open one is never in a workflow that is over.
                continue;
            }
            let mut subject = subject(state, retry, says("optional"), says("all over"));
            let event = event(&words, &subject);
            match outcome(&mut subject, &event) {
                Ok(got) if got == expected => {}
                Ok(got) => {
                    wrong.push(format!("{} meets `{}`: {got}, not {expected}", state.word(), name.trim()));
                }
                Err(law) => wrong.push(format!("{} meets `{}`: {law}", state.word(), name.trim())),
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// A new event without a line in the table does not compile here.
#[test]
fn the_table_has_a_line_for_every_event() {
    let names: Vec<_> =
        TABLE.trim().lines().skip(1).map(|l| l.split([',', '|']).next().unwrap().trim()).collect();
    for state in &StepState::ALL[..ORDINARY] {
        let subject = subject(*state, &TWO_TRIES, false, false);
        for name in &names {
            let named = match event(&[name], &subject) {
                Event::Accepted => "accepted",
                Event::Claim { .. } => "claim",
                Event::Succeeded { .. } => "succeeded",
                Event::Failed { failure: Failure::Transient, .. } => "transient",
                Event::Failed { failure: Failure::Throttled { .. }, .. } => "throttled",
                Event::Failed { failure: Failure::Unfunded { .. }, .. } => "unfunded",
                Event::Failed { failure: Failure::Permanent, .. } => "permanent",
                Event::GivenBack { .. } => "given back",
                Event::LeaseLost { .. } => "lease lost",
                Event::Overdue { .. } => "overdue",
                Event::Due { .. } => "due",
                Event::Funded { .. } => "funded",
                Event::Cancel => "cancel",
                Event::Replay { .. } => "replay",
                Event::Discard { .. } => "discard",
                other => panic!("{other:?} is in the table of posts"),
            };
            assert_eq!(named, *name);
        }
    }
}
