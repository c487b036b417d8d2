//! Workflows in one line, so that a test shows the shape it is about.
//!
//! Steps are separated by blanks: `a b?<a c*2<a d<b,c` is a diamond whose
//! branch `b` is optional and whose branch `c` expands into two children.
//!
//! | mark | meaning |
//! |---|---|
//! | `<a,b` | needs `a` and `b` (none without it) |
//! | `?` | optional |
//! | `^` | sends a post out |
//! | `*0`…`*3` | forEach over so many elements of its first need's result, or of the workflow input |
//! | `*4` `*n` `*x` | forEach that cannot expand: too many, not a list, nothing there |
//! | `+` `!` | `when` true, `when` false |
//! | `~` | `when` its first need left a result |
//! | `#` | `when` that cannot be evaluated |
//! | `%` `&` | `when` about each element of `*`: true for all but the first, cannot be evaluated |

use std::sync::LazyLock;

use galley_core::decide::{Effect, Event, Facts, Refusal, Token, decide};
use galley_core::definition::{Definition, ForEach, StepDefinition};
use galley_core::ids::{AgentType, Nonce, SessionId, StepIndex};
use galley_core::plan::Plan;
use galley_core::publish::PUBLISHER;
use galley_core::report::Failure;
use galley_core::retry::RetryPolicy;
use galley_core::run::{Lease, Run};
use serde_json::{Value, json};

/// Most elements of a `*` step.
pub(crate) const MAX_ITEMS: u16 = 3;

/// The condition of `%`: the first element of every list is `p`.
pub(crate) const BUT_THE_FIRST: &str = "item != 'p'";

/// Two tries, two crashes: small enough to explore, large enough to differ.
pub(crate) const TWO_TRIES: RetryPolicy = RetryPolicy {
    max_attempts: 2,
    max_crashes: 2,
    backoff_ms: 100,
    max_backoff_ms: 1_000,
    timeout_ms: 1_000,
};

/// The first failure and the first crash are the last.
pub(crate) const ONE_TRY: RetryPolicy = RetryPolicy { max_attempts: 1, max_crashes: 1, ..TWO_TRIES };

/// The sequence number every decision in these tests is made under.
pub(crate) const SEQ: u64 = 42;

/// How long an unknown post rests here, at least.
pub(crate) const REST_MS: u64 = 18_000;

/// How far away the slot of a postponed post is here.
pub(crate) const SLOT_MS: u64 = 3_600_000;

/// The workflow input and the result of every step: lists of every length.
pub(crate) static LISTS: LazyLock<Value> = LazyLock::new(
    || json!({ "lists": { "0": [], "1": ["p"], "2": ["p", "q"], "3": ["p", "q", "r"], "4": [1, 2, 3, 4], "n": 5 } }),
);

/// The definition of a one-line shape.
pub(crate) fn definition(text: &str) -> Definition {
    Definition {
        name: "shape".into(),
        description: String::new(),
        input_schema: None,
        steps: text.split_whitespace().map(step).collect(),
    }
}

/// The plan of a one-line shape, retried as [`TWO_TRIES`].
pub(crate) fn plan(text: &str) -> Plan {
    plan_with(text, &TWO_TRIES)
}

/// The plan of a one-line shape with a retry policy.
pub(crate) fn plan_with(text: &str, retry: &RetryPolicy) -> Plan {
    Plan::compile(definition(text), |_| Some(retry.clone())).unwrap_or_else(|p| panic!("{text}: {p:?}"))
}

fn step(text: &str) -> StepDefinition {
    let (head, needs) = text.split_once('<').unwrap_or((text, ""));
    let needs: Vec<String> = needs.split(',').filter(|n| !n.is_empty()).map(String::from).collect();
    let name_ends = head.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(head.len());
    let (name, mut marks) = head.split_at(name_ends);
    let mut step = StepDefinition {
        name: name.into(),
        agent: AgentType::new("worker").unwrap(),
        needs: Some(needs.clone()),
        input: Value::Null,
        for_each: None,
        when: None,
        optional: false,
        retry: None,
    };
    while let Some(mark) = marks.chars().next() {
        marks = &marks[1..];
        match mark {
            '?' => step.optional = true,
            '^' => step.agent = AgentType::new(PUBLISHER).unwrap(),
            '+' => step.when = Some("true".into()),
            '!' => step.when = Some("false".into()),
            '~' => step.when = Some(format!("results.{} != null", needs[0])),
            '%' => step.when = Some(BUT_THE_FIRST.into()),
            '&' => step.when = Some("item.nobody == 1".into()),
            '#' => step.when = Some("results.nobody.score > 1".into()),
            '*' => {
                let (list, rest) = marks.split_at(1);
                marks = rest;
                step.for_each = Some(ForEach {
                    step: needs.first().cloned(),
                    path: format!("/lists/{list}"),
                    max: Some(MAX_ITEMS),
                });
            }
            other => panic!("{text}: unknown mark {other}"),
        }
    }
    step
}

/// Decides under the facts of these tests.
pub(crate) fn happen(plan: &Plan, run: &mut Run, event: Event) -> Result<Vec<Effect>, Refusal> {
    let result = |_: StepIndex| Some(LISTS.clone());
    decide(
        plan,
        run,
        event,
        &Facts { seq: SEQ, jitter: 0.5, rest_ms: 20_000, brief: &LISTS, result: &result, unreadable: None },
    )
}

/// A run that was just accepted.
pub(crate) fn accepted(plan: &Plan) -> Run {
    let mut run = Run::new(plan, 5);
    happen(plan, &mut run, Event::Accepted).unwrap();
    run
}

/// The lease every scripted claim takes.
pub(crate) const LEASE: Lease = Lease { nonce: Nonce(7), session: SessionId(1) };

/// Claims a queued step with [`LEASE`] and returns the attempt's token.
pub(crate) fn claim(plan: &Plan, run: &mut Run, step: StepIndex) -> Token {
    let epoch = run.step(step).unwrap().epoch;
    happen(plan, run, Event::Claim { step, epoch, lease: LEASE }).unwrap();
    Token { step, epoch: epoch + 1, nonce: LEASE.nonce }
}

/// Runs a queued step to its success.
pub(crate) fn succeed(plan: &Plan, run: &mut Run, step: StepIndex) -> Vec<Effect> {
    let token = claim(plan, run, step);
    happen(plan, run, Event::Succeeded { token }).unwrap()
}

/// Runs a queued step to a failure.
pub(crate) fn fail(plan: &Plan, run: &mut Run, step: StepIndex, failure: Failure) -> Vec<Effect> {
    let token = claim(plan, run, step);
    happen(plan, run, Event::Failed { token, failure }).unwrap()
}
