//! How well a workflow's agents worked together: useful agent time on the
//! critical path ÷ wall time, and what the rest was lost to.
//!
//! Arithmetic over recorded times, in milliseconds since the workflow was
//! accepted. The critical path here is the one that was: from the step that
//! ended last back through whichever need ended last. Its steps cover the wall
//! time without a gap, so that what is useful and what is lost always add up
//! to it exactly.

use crate::ids::StepIndex;
use crate::plan::Plan;
use crate::review::later_round;

/// What a stretch of a step's time was. The order is the one in which they win
/// where two say something about the same moment.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub enum SpanKind {
    /// The attempt that succeeded, running: the only useful time.
    Run,
    /// The same, of a later round: it does over what an earlier step did.
    Rework,
    /// A failed attempt, or the time from one to the next: back-off, another
    /// queue. Of an attempt whose worker died, everything until that was
    /// noticed.
    Retry,
    /// Until a person answered: an approval, a go, a dead letter, a post in
    /// doubt.
    People,
    /// Until the post's time came.
    Slot,
    /// Until a budget had room for its next call or post.
    Money,
    /// It runs and is not over; since when is on no record.
    Open,
    /// It could have run, and nobody ran it.
    Queue,
}

impl SpanKind {
    /// Every kind.
    pub const ALL: [Self; 8] = [
        Self::Run,
        Self::Rework,
        Self::Retry,
        Self::People,
        Self::Slot,
        Self::Money,
        Self::Open,
        Self::Queue,
    ];
}

/// A stretch of a step's time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Span {
    /// What it was.
    pub kind: SpanKind,
    /// Its begin, milliseconds since accept.
    pub from_ms: u64,
    /// Its end.
    pub to_ms: u64,
}

impl Span {
    /// Its length, milliseconds.
    pub fn ms(&self) -> u64 {
        self.to_ms.saturating_sub(self.from_ms)
    }
}

/// An attempt that ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AttemptTimes {
    /// When it began; `None` where nobody measured it (its worker died).
    pub from_ms: Option<u64>,
    /// When its end was recorded.
    pub to_ms: u64,
    /// Whether its result is the step's.
    pub succeeded: bool,
}

/// Where a step stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Standing {
    /// It changes no more.
    Over,
    /// A worker holds it.
    Running,
    /// Neither.
    Waiting,
}

/// What is on record of a step.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StepTimes {
    /// Positions of the steps it waited for.
    pub needs: Vec<usize>,
    /// Its attempts, oldest first.
    pub attempts: Vec<AttemptTimes>,
    /// Until what it was held up: [`SpanKind::People`], [`SpanKind::Slot`] or
    /// [`SpanKind::Money`].
    pub waits: Vec<Span>,
    /// Where it stands.
    pub standing: Standing,
    /// Whether it does over what an earlier step did.
    pub rework: bool,
}

/// A step's place on the critical path.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PathStep {
    /// Its position.
    pub step: usize,
    /// When it could begin: the end of the step before it on the path.
    pub from_ms: u64,
    /// When it was over.
    pub to_ms: u64,
    /// Useful agent time in between.
    pub useful_ms: u64,
}

/// How well the agents of a finished workflow worked together.
#[derive(Clone, PartialEq, Debug)]
pub struct Collaboration {
    /// `useful_ms` ÷ `wall_ms`, 0 to 1.
    pub efficiency: f64,
    /// From accept to the end.
    pub wall_ms: u64,
    /// Useful agent time on the critical path.
    pub useful_ms: u64,
    /// What the rest was lost to, largest first, without zeros. Together with
    /// `useful_ms` exactly `wall_ms`.
    pub losses: Vec<(SpanKind, u64)>,
    /// The steps that the end waited for, in order.
    pub critical_path: Vec<PathStep>,
}

/// What each step's time was, from when it could begin to when it was over, or
/// to `now_ms`. Empty for a step that still waits for others.
pub fn timeline(steps: &[StepTimes], now_ms: u64) -> Vec<Vec<Span>> {
    let times = times(steps, now_ms);
    steps.iter().zip(times).map(|(step, times)| spans(step, times)).collect()
}

/// How well the agents worked together, in a workflow that took `wall_ms` and
/// is over; `None` if it took no time.
pub fn collaboration(steps: &[StepTimes], wall_ms: u64) -> Option<Collaboration> {
    if wall_ms == 0 {
        return None;
    }
    let times = times(steps, wall_ms);
    let mut lost = [0_u64; SpanKind::ALL.len()];
    let (mut useful_ms, mut ended_ms) = (0, 0);
    let mut critical_path = Vec::new();
    for step in path(steps, &times) {
        let (from_ms, to_ms) = times[step].unwrap_or_default();
        ended_ms = to_ms;
        let mut useful = 0;
        for span in spans(&steps[step], times[step]) {
            match span.kind {
                SpanKind::Run => useful += span.ms(),
                kind => lost[kind as usize] += span.ms(),
            }
        }
        useful_ms += useful;
        // A join or a skipped step takes no time.
        if to_ms > from_ms {
            critical_path.push(PathStep { step, from_ms, to_ms, useful_ms: useful });
        }
    }
    // After the last end on record nothing of it ran.
    lost[SpanKind::Queue as usize] += wall_ms - ended_ms;
    let mut losses: Vec<_> = SpanKind::ALL.into_iter().zip(lost).filter(|(_, ms)| *ms > 0).collect();
    losses.sort_by_key(|(_, ms)| std::cmp::Reverse(*ms));
    let efficiency = useful_ms as f64 / wall_ms as f64;
    Some(Collaboration { efficiency, wall_ms, useful_ms, losses, critical_path })
}

/// Which steps of a definition are later rounds: named like an earlier step of
/// the same agent with a number from 2 on (`content_2` after
/// `content`), and waiting for it, directly or through others. Two steps of one
/// agent are no rework as such: a name says what a step is meant to do over.
pub fn later_rounds(plan: &Plan) -> Vec<bool> {
    let steps = &plan.steps;
    let first = |index: usize| {
        let position = |name: &str| steps.iter().position(|step| step.name == name);
        let (base, _) = later_round(&steps[index].name, |name| position(name).is_some())?;
        position(base).filter(|first| steps[*first].agent == steps[index].agent)
    };
    (0..steps.len())
        .map(|index| {
            let Some(first) = first(index) else { return false };
            let mut seen = vec![false; steps.len()];
            let mut open: Vec<StepIndex> = steps[index].needs.clone();
            while let Some(need) = open.pop() {
                let need = usize::from(need);
                if need == first {
                    return true;
                }
                if !std::mem::replace(&mut seen[need], true) {
                    open.extend(&steps[need].needs);
                }
            }
            false
        })
        .collect()
}

/// When each step could begin and when it was over (or `now_ms`); `None` while
/// it waits for others.
fn times(steps: &[StepTimes], now_ms: u64) -> Vec<Option<(u64, u64)>> {
    let mut known: Vec<Option<(u64, u64)>> = vec![None; steps.len()];
    let mut missing: Vec<usize> = steps.iter().map(|step| step.needs.len()).collect();
    let mut dependents = vec![Vec::new(); steps.len()];
    for (index, step) in steps.iter().enumerate() {
        for need in &step.needs {
            dependents[*need].push(index);
        }
    }
    let mut ready: Vec<usize> = (0..steps.len()).filter(|index| missing[*index] == 0).collect();
    while let Some(index) = ready.pop() {
        let step = &steps[index];
        let ends = step.needs.iter().filter_map(|need| known[*need].map(|(_, end)| end));
        let from = ends.max().unwrap_or(0);
        let over = step.standing == Standing::Over;
        let last = step.attempts.iter().map(|attempt| attempt.to_ms);
        let last = last.chain(step.waits.iter().map(|wait| wait.to_ms)).max().unwrap_or(from);
        // Recorded times are of one clock, but nothing here relies on it.
        let to = if over { last } else { now_ms }.min(now_ms).max(from);
        known[index] = Some((from, to));
        if over {
            for dependent in &dependents[index] {
                missing[*dependent] -= 1;
                if missing[*dependent] == 0 {
                    ready.push(*dependent);
                }
            }
        }
    }
    known
}

/// The steps that the last end waited for, first one first.
fn path(steps: &[StepTimes], times: &[Option<(u64, u64)>]) -> Vec<usize> {
    // The first of those that end at the same time: an index decides, so that
    // the same history always reads the same.
    let last = |among: &mut dyn Iterator<Item = usize>| {
        among.filter(|index| times[*index].is_some()).reduce(|first, other| {
            let end = |index: usize| times[index].map(|(_, end)| end);
            if end(other) > end(first) { other } else { first }
        })
    };
    let mut path = Vec::new();
    let mut next = last(&mut (0..steps.len()));
    while let Some(step) = next {
        path.push(step);
        next = last(&mut steps[step].needs.iter().copied());
    }
    path.reverse();
    path
}

/// A step's time, stretch by stretch, without a gap.
fn spans(step: &StepTimes, times: Option<(u64, u64)>) -> Vec<Span> {
    let Some((from, to)) = times else { return Vec::new() };
    let mut said: Vec<Span> = step.waits.clone();
    let mut before = from;
    let mut first_failure = None;
    for attempt in &step.attempts {
        let start = attempt.from_ms.unwrap_or(before).min(attempt.to_ms);
        let kind = match (attempt.succeeded, step.rework) {
            (true, false) => SpanKind::Run,
            (true, true) => SpanKind::Rework,
            (false, _) => {
                first_failure.get_or_insert(start);
                SpanKind::Retry
            }
        };
        // Where nobody measured, a wait that is on record says more.
        if attempt.from_ms.is_some() {
            said.push(Span { kind, from_ms: start, to_ms: attempt.to_ms });
        }
        before = attempt.to_ms;
    }
    if let Some(first_failure) = first_failure {
        // Whatever else is not said after a failure is because of it.
        said.push(Span { kind: SpanKind::Queue, from_ms: from, to_ms: first_failure });
    }
    let unsaid = if first_failure.is_some() { SpanKind::Retry } else { SpanKind::Queue };
    if step.standing == Standing::Running {
        let since = said.iter().map(|span| span.to_ms).max().unwrap_or(from).max(from);
        said.push(Span { kind: SpanKind::Open, from_ms: since, to_ms: to });
    }

    let mut edges: Vec<u64> = said.iter().flat_map(|span| [span.from_ms, span.to_ms]).collect();
    edges.extend([from, to]);
    edges.retain(|edge| (from..=to).contains(edge));
    edges.sort_unstable();
    edges.dedup();
    let mut spans: Vec<Span> = Vec::new();
    for edge in edges.windows(2) {
        let covers = |span: &&Span| span.from_ms <= edge[0] && edge[1] <= span.to_ms;
        let kind = said.iter().filter(covers).map(|span| span.kind).min().unwrap_or(unsaid);
        match spans.last_mut() {
            Some(last) if last.kind == kind => last.to_ms = edge[1],
            _ => spans.push(Span { kind, from_ms: edge[0], to_ms: edge[1] }),
        }
    }
    spans
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::SpanKind::{Money, Open, People, Queue, Retry, Rework, Run, Slot};
    use super::*;
    use crate::retry::RetryPolicy;

    fn step(
        needs: &[usize],
        attempts: &[(Option<u64>, u64, bool)],
        waits: &[(SpanKind, u64, u64)],
    ) -> StepTimes {
        StepTimes {
            needs: needs.to_vec(),
            attempts: attempts
                .iter()
                .map(|(from_ms, to_ms, succeeded)| AttemptTimes {
                    from_ms: *from_ms,
                    to_ms: *to_ms,
                    succeeded: *succeeded,
                })
                .collect(),
            waits: waits
                .iter()
                .map(|(kind, from_ms, to_ms)| Span { kind: *kind, from_ms: *from_ms, to_ms: *to_ms })
                .collect(),
            standing: Standing::Over,
            rework: false,
        }
    }

    type Told = (SpanKind, u64, u64);

    fn told(steps: &[StepTimes], now_ms: u64) -> Vec<Vec<Told>> {
        let spans = timeline(steps, now_ms);
        spans.iter().map(|spans| spans.iter().map(|s| (s.kind, s.from_ms, s.to_ms)).collect()).collect()
    }

    #[test]
    fn a_steps_time_is_told_stretch_by_stretch() {
        let ok = (Some(10), 50, true);
        let cases: [(&str, StepTimes, Vec<Told>); 8] = [
            ("queue, run", step(&[], &[ok], &[]), vec![(Queue, 0, 10), (Run, 10, 50)]),
            (
                "a failure and what follows it",
                step(&[], &[(Some(5), 15, false), (Some(30), 50, true)], &[]),
                vec![(Queue, 0, 5), (Retry, 5, 30), (Run, 30, 50)],
            ),
            (
                "a worker that died: nobody knows since when it ran",
                step(&[], &[(None, 40, false), (Some(45), 60, true)], &[]),
                vec![(Retry, 0, 45), (Run, 45, 60)],
            ),
            (
                "a person, then a slot, then the call",
                step(&[], &[(Some(90), 95, true)], &[(People, 10, 40), (Slot, 5, 80)]),
                vec![
                    (Queue, 0, 5),
                    (Slot, 5, 10),
                    (People, 10, 40),
                    (Slot, 40, 80),
                    (Queue, 80, 90),
                    (Run, 90, 95),
                ],
            ),
            (
                "a dead letter that somebody repaired",
                step(&[], &[(Some(0), 10, false), (Some(72), 80, true)], &[(People, 10, 70)]),
                vec![(Retry, 0, 10), (People, 10, 70), (Retry, 70, 72), (Run, 72, 80)],
            ),
            (
                "in doubt, settled by a person: no run at all",
                step(&[], &[(None, 20, false), (Some(60), 60, true)], &[(People, 20, 60)]),
                vec![(Retry, 0, 20), (People, 20, 60)],
            ),
            ("skipped", step(&[], &[], &[]), vec![]),
            ("a duration longer than the step", step(&[], &[(Some(0), 50, true)], &[]), vec![(Run, 0, 50)]),
        ];
        for (what, step, expected) in cases {
            assert_eq!(told(&[step], 100)[0], expected, "{what}");
        }
        let rework = StepTimes { rework: true, ..step(&[], &[ok], &[]) };
        assert_eq!(told(&[rework], 100)[0], [(Queue, 0, 10), (Rework, 10, 50)]);
    }

    #[test]
    fn a_step_that_is_not_over_is_told_until_now() {
        let live = |standing, step: StepTimes| StepTimes { standing, ..step };
        let first = step(&[], &[(Some(0), 20, true)], &[]);
        let steps = [
            first,
            live(Standing::Waiting, step(&[0], &[], &[])),
            live(Standing::Running, step(&[0], &[(Some(25), 30, false)], &[])),
            live(Standing::Waiting, step(&[0], &[], &[(People, 40, u64::MAX)])),
            live(Standing::Waiting, step(&[1], &[], &[])),
        ];
        let told = told(&steps, 100);
        assert_eq!(told[1], [(Queue, 20, 100)]);
        assert_eq!(told[2], [(Queue, 20, 25), (Retry, 25, 30), (Open, 30, 100)]);
        assert_eq!(told[3], [(Queue, 20, 40), (People, 40, 100)]);
        assert_eq!(told[4], [], "it waits for another");
    }

    #[test]
    fn the_critical_path_is_the_one_that_was_and_losses_add_up() {
        // write → (short | long with a retry) → review → publish, approved late
        let steps = [
            step(&[], &[(Some(100), 1_100, true)], &[]),
            step(&[0], &[(Some(1_200), 1_900, true)], &[]),
            step(&[0], &[(Some(1_150), 1_250, false), (Some(1_650), 2_650, true)], &[]),
            step(&[1, 2], &[(Some(2_700), 3_000, true)], &[]),
            step(&[3], &[(Some(9_050), 9_250, true)], &[(People, 3_020, 9_020)]),
        ];
        let found = collaboration(&steps, 9_250).unwrap();
        assert_eq!(found.useful_ms, 1_000 + 1_000 + 300 + 200);
        let queued = 100 + 50 + 50 + 20 + 30;
        assert_eq!(found.losses, [(People, 6_000), (Retry, 500), (Queue, queued)]);
        assert_eq!(found.efficiency, 2_500.0 / 9_250.0);
        let path: Vec<_> =
            found.critical_path.iter().map(|at| (at.step, at.from_ms, at.to_ms, at.useful_ms)).collect();
        assert_eq!(
            path,
            [(0, 0, 1_100, 1_000), (2, 1_100, 2_650, 1_000), (3, 2_650, 3_000, 300), (4, 3_000, 9_250, 200)]
        );

        // A second round is lost time however well it went.
        let rework = StepTimes { rework: true, ..step(&[0], &[(Some(50), 80, true)], &[]) };
        let found = collaboration(&[step(&[], &[(Some(0), 50, true)], &[]), rework], 100).unwrap();
        assert_eq!((found.useful_ms, found.losses), (50, vec![(Rework, 30), (Queue, 20)]));

        assert_eq!(collaboration(&steps, 0), None);
        assert_eq!(collaboration(&[], 7).unwrap().losses, [(Queue, 7)]);
    }

    /// The parts of an expanded step wait for what it needs; it waits for them.
    #[test]
    fn an_expanded_step_is_as_slow_as_its_slowest_part() {
        let steps = [
            step(&[], &[(Some(0), 10, true)], &[]),
            step(&[3, 4], &[], &[]),
            step(&[1], &[(Some(90), 100, true)], &[]),
            step(&[0], &[(Some(10), 40, true)], &[]),
            step(&[0], &[(Some(20), 90, true)], &[]),
        ];
        let found = collaboration(&steps, 100).unwrap();
        assert_eq!((found.useful_ms, found.losses), (90, vec![(Queue, 10)]));
        assert_eq!(found.critical_path.iter().map(|at| at.step).collect::<Vec<_>>(), [0, 4, 2]);
    }

    #[test]
    fn a_later_round_is_named_so_and_waits_for_the_first() {
        let definition = json!({ "name": "x", "steps": [
            { "name": "content", "agent": "content_creator" },
            { "name": "review", "agent": "reviewer" },
            { "name": "content_2", "agent": "content_creator" },
            { "name": "review_2", "agent": "reviewer" },
            { "name": "content_1", "agent": "content_creator" },
            { "name": "more", "agent": "content_creator" },
            { "name": "review_3", "agent": "content_creator" },
            { "name": "content_4", "agent": "content_creator", "needs": [] },
        ]});
        let definition = serde_json::from_value(definition).unwrap();
        let plan = Plan::compile(definition, |_| Some(RetryPolicy::default())).unwrap();
        assert_eq!(later_rounds(&plan), [false, false, true, true, false, false, false, false]);
    }

    fn any_step(index: usize) -> impl Strategy<Value = StepTimes> {
        let time = || prop_oneof![4 => 0_u64..2_000, 1 => any::<u64>()];
        let attempt = (prop::option::of(time()), time(), any::<bool>())
            .prop_map(|(from_ms, to_ms, succeeded)| AttemptTimes { from_ms, to_ms, succeeded });
        let wait = (prop::sample::select(vec![People, Slot, Money]), time(), time())
            .prop_map(|(kind, from_ms, to_ms)| Span { kind, from_ms, to_ms });
        let standing =
            prop::sample::select(vec![Standing::Over, Standing::Over, Standing::Running, Standing::Waiting]);
        (
            prop::collection::vec(0..index.max(1), 0..=index.min(3)),
            prop::collection::vec(attempt, 0..4),
            prop::collection::vec(wait, 0..3),
            standing,
            any::<bool>(),
        )
            .prop_map(|(needs, attempts, waits, standing, rework)| StepTimes {
                needs,
                attempts,
                waits,
                standing,
                rework,
            })
    }

    proptest! {
        /// Whatever is on record, true or not.
        #[test]
        fn what_is_useful_and_what_is_lost_are_exactly_the_wall_time(
            steps in (0_usize..7).prop_flat_map(|count| (0..count).map(any_step).collect::<Vec<_>>()),
            wall_ms in 0_u64..4_000,
        ) {
            for spans in timeline(&steps, wall_ms) {
                for pair in spans.windows(2) {
                    prop_assert_eq!(pair[0].to_ms, pair[1].from_ms, "no gap");
                }
                for span in &spans {
                    prop_assert!(span.from_ms < span.to_ms && span.to_ms <= wall_ms);
                }
            }
            let Some(found) = collaboration(&steps, wall_ms) else {
                prop_assert_eq!(wall_ms, 0);
                return Ok(());
            };
            let lost: u64 = found.losses.iter().map(|(_, ms)| ms).sum();
            prop_assert_eq!(found.useful_ms + lost, wall_ms);
            prop_assert!((0.0..=1.0).contains(&found.efficiency));
            prop_assert!(found.losses.iter().all(|(kind, ms)| *kind != Run && *ms > 0));
            let path: u64 = found.critical_path.iter().map(|at| at.to_ms - at.from_ms).sum();
            prop_assert!(path <= wall_ms);
        }
    }
}
