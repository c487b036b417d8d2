//! `docs/states.md`: what `decide` really does, found by exploring and written
//! down, so that the picture cannot lie. `UPDATE_DOCS=1` writes it anew.

#![allow(clippy::disallowed_methods, reason = "the page is a file; the core itself does no I/O")]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use galley_core::decide::{Effect, Event};
use galley_core::ids::StepIndex;
use galley_core::run::{StepState, WorkflowState};

use crate::explorer::{Step, explore};
use crate::shapes::{ONE_TRY, plan, plan_with};
use crate::words::{WORDS, word};
use crate::world::Budget;

/// Shapes that together show every way a step can move.
const SHAPES: [&str; 8] =
    ["a b<a", "a? b<a", "a b*0<a c<b", "a b*2<a c<b", "a b?*1<a", "a b!<a c~<b", "a b#<a", "a b?#<a c*4<b"];

/// The same for steps that wait for a person or send a post.
const POSTS: [&str; 3] = ["a", "a^", "a?^"];

#[derive(Default)]
struct Found {
    /// (from, to) → what causes it.
    steps: BTreeMap<(Option<StepState>, StepState), BTreeSet<String>>,
    /// (from, cause, to) → what follows for the step.
    follows: BTreeMap<(Option<StepState>, String, StepState), BTreeSet<String>>,
    workflows: BTreeMap<(&'static str, &'static str), BTreeSet<&'static str>>,
    /// Every event that was ever accepted.
    accepted: BTreeSet<&'static str>,
}

/// Why a step moves that the event is not about: what became final there is
/// what it waited for.
fn by_itself(from: Option<StepState>, to: StepState) -> &'static str {
    match (from, to) {
        (None, _) => "one per element",
        (Some(StepState::Blocked), StepState::Queued) => "needs met",
        (Some(StepState::Blocked), StepState::Expanded) => "needs met, forEach",
        (Some(StepState::Blocked), StepState::Succeeded) => "needs met, forEach over nothing",
        (Some(StepState::Blocked), StepState::Skipped) => "needs met, when is false",
        (Some(StepState::Blocked), StepState::Dead | StepState::Failed) => {
            "when or forEach cannot be evaluated"
        }
        (Some(StepState::Blocked), StepState::Cancelled) => "a need failed for good",
        (Some(StepState::Expanded), StepState::Succeeded) => "all children are final",
        (Some(StepState::Expanded), StepState::Failed) => "all children are final, one failed",
        other => panic!("{other:?} needs words"),
    }
}

fn follow(effect: &Effect) -> (Option<StepIndex>, String) {
    match effect {
        Effect::Enqueue { step, .. } => (Some(*step), "ticket".into()),
        Effect::Wait { step, .. } => (Some(*step), "timer set".into()),
        Effect::StopWaiting { step } => (Some(*step), "timer removed".into()),
        Effect::WaitForMoney { step, .. } => (Some(*step), "waits for money".into()),
        Effect::MoneyWaitOver { step } => (Some(*step), "waits for money no more".into()),
        Effect::Died { step, why } => (Some(*step), format!("dead letter ({})", why.word())),
        Effect::LetterClosed { step, how } => (Some(*step), format!("letter closed ({})", how.word())),
        Effect::Interrupt { step } => (Some(*step), "worker told to stop".into()),
        Effect::Finished(_) => (None, String::new()),
    }
}

impl Found {
    fn see(&mut self, plan: &galley_core::plan::Plan, step: &Step<'_>) {
        for (index, now) in step.after.steps.iter().enumerate() {
            let was = step.before.steps.get(index).map(|s| s.state);
            let mine = step.event.step() == Some(index as StepIndex);
            if was == Some(now.state) && !mine {
                continue;
            }
            let optional = plan.steps[usize::from(now.plan)].optional && now.state == StepState::Failed;
            let intent = step.before.steps.get(index).is_some_and(|s| s.intent);
            let mut cause = match was {
                Some(_) if mine || *step.event == Event::Cancel => word(step.event),
                _ => by_itself(was, now.state),
            }
            .to_owned();
            if optional {
                cause.push_str(" (optional)");
            }
            if intent && matches!(was, Some(StepState::Queued | StepState::Running)) {
                cause.push_str(" (intent)");
            }
            self.steps.entry((was, now.state)).or_default().insert(cause.clone());
            let follows = self.follows.entry((was, cause, now.state)).or_default();
            for (of, what) in step.effects.iter().map(follow) {
                if of == Some(index as StepIndex) {
                    follows.insert(what);
                }
            }
        }
        let (was, now) = (step.before.state(plan), step.after.state(plan));
        if was != now {
            self.workflows.entry((was.word(), now.word())).or_default().insert(word(step.event));
        }
    }
}

impl Found {
    fn explore(&mut self, shape: &str, budgets: &[Budget]) {
        for plan in [plan(shape), plan_with(shape, &ONE_TRY)] {
            for budget in budgets {
                let seen = explore(&plan, *budget, |step| self.see(&plan, step));
                self.accepted.extend(seen.accepted.keys());
            }
        }
    }
}

/// Everything that was found, by exploring worlds of one kind of trouble each.
fn found() -> Found {
    let mut found = Found::default();
    let nothing = Budget::NOTHING;
    for shape in SHAPES {
        found.explore(
            shape,
            &[
                Budget { mortals: 1, ..nothing },
                Budget { give_backs: 1, throttles: 1, ..nothing },
                Budget { unfundeds: 1, cancels: 1, ..nothing },
                Budget { overdues: 2, ..nothing },
                Budget { transients: 2, cancels: 1, ..nothing },
                Budget { permanents: 1, replays: 1, cancels: 1, ..nothing },
            ],
        );
    }
    for shape in POSTS {
        found.explore(
            shape,
            &[
                Budget { holds: 1, cancels: 1, withdraws: 1, amends: 1, ..nothing },
                Budget { postpones: 1, cancels: 1, withdraws: 1, amends: 1, ..nothing },
                Budget { permanents: 1, withdraws: 1, amends: 1, ..nothing },
                Budget { mortals: 1, unsures: 1, cancels: 1, ..nothing },
                Budget { give_backs: 1, overdues: 1, doubts: 1, cancels: 1, ..nothing },
                Budget { transients: 2, throttles: 1, doubts: 1, ..nothing },
                Budget { unfundeds: 1, cancels: 1, withdraws: 1, amends: 1, ..nothing },
            ],
        );
    }
    found
}

fn page(found: &Found) -> String {
    let mut page = String::from(
        "# Step and workflow states\n\n\
         Generated from `decide` by exploring it; do not edit. `UPDATE_DOCS=1 cargo test -p galley-core` writes it anew,\n\
         and the ordinary test run compares it.\n\n\
         `(intent)`: the step's post may be out there. `(optional)`: the workflow goes on without the step.\n\n\
         ## Steps\n\n```mermaid\nstateDiagram-v2\n    [*] --> blocked\n",
    );
    for ((from, to), causes) in &found.steps {
        let from = from.map_or("[*]", StepState::word);
        let causes: Vec<_> = causes.iter().map(String::as_str).collect();
        if from != to.word() {
            let _ = writeln!(page, "    {from} --> {} : {}", to.word(), causes.join(", "));
        }
    }
    for state in StepState::ALL.into_iter().filter(|s| s.is_final()) {
        let _ = writeln!(page, "    {} --> [*]", state.word());
    }
    page.push_str("```\n\n| from | what happens | to | what follows |\n|---|---|---|---|\n");
    for ((from, cause, to), follows) in &found.follows {
        let follows: Vec<_> = follows.iter().map(String::as_str).collect();
        let _ = writeln!(
            page,
            "| {} | {cause} | {} | {} |",
            from.map_or("–", StepState::word),
            to.word(),
            follows.join(", ")
        );
    }
    page.push_str(
        "\nEverything else is refused and leaves the run as it was. An optional step that would\n\
         die is `failed` instead. Accepting a workflow looks at every step as if its needs had just become final.\n\n\
         ## Workflows\n\nA workflow's state follows from its steps: an event moves it that moved the last of them. A success can\n\
         end a failed workflow (another branch was discarded before), a failure a succeeded one (the step was optional).\n\n```mermaid\nstateDiagram-v2\n    [*] --> running\n",
    );
    for ((from, to), causes) in &found.workflows {
        let causes: Vec<_> = causes.iter().copied().collect();
        let _ = writeln!(page, "    {from} --> {to} : {}", causes.join(", "));
    }
    for state in WorkflowState::ALL.into_iter().filter(|s| s.is_final()) {
        let _ = writeln!(page, "    {} --> [*]", state.word());
    }
    page.push_str("```\n");
    page
}

#[test]
fn the_page_about_states_tells_what_decide_does() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/states.md");
    let found = found();
    let every: BTreeSet<_> = WORDS.into_iter().collect();
    assert_eq!(found.accepted, every, "every event is shown, and every event that is shown has its word");
    let page = page(&found);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path, &page).unwrap();
    }
    let written = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        written == page,
        "docs/states.md is out of date: run UPDATE_DOCS=1 cargo test -p galley-core\n{page}"
    );
}
