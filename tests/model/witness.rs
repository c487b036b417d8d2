//! The rescue paths. A search in which none of them was taken proved nothing,
//! so each theme names those it must have seen.
//!
//! A witness is a state in which the rescue is the next thing to do.

use crate::action::Duty;
use crate::decide::{ClaimVerdict, Verdict};
use crate::named::witnesses;
use crate::protocol::{Effect, Protocol};
use crate::state::{Phase, Run, State, StepState, Ticket, WORKERS};

witnesses! { Protocol:
    /// Every step succeeded.
    Succeeded, "the workflow succeeds", |p, s| p.steps().all(|step| s.step(step).state == StepState::Succeeded);
    /// A superseded worker's completion is refused.
    StaleRefused, "a stale completion is refused", |p, s| completing(p, s, Verdict::Stale);
    /// A completion that was committed without its worker knowing.
    ResultRecognised, "an unknown commit turns out to be one's own", |p, s| completing(p, s, Verdict::Mine);
    /// A claim that was committed without its worker knowing.
    ClaimRecognised, "an unknown claim turns out to be one's own", |p, s| {
        claiming(p, s, |verdict| matches!(verdict, ClaimVerdict::Mine(_)))
    };
    /// A ticket that is no longer good.
    TicketForgotten, "a ticket is forgotten", |p, s| claiming(p, s, |verdict| verdict == ClaimVerdict::Forget);
    /// A worker lost the compare-and-set of its completion.
    CompletionReloads, "a completion loses the compare-and-set", |_, s| {
        (0..WORKERS).any(|w| matches!(s.workers[w].phase, Phase::Completing { run, .. } if run.version != s.db.run.version))
    };
    /// A worker lost the compare-and-set of its claim.
    ClaimReloads, "a claim loses the compare-and-set", |_, s| {
        (0..WORKERS).any(|w| matches!(s.workers[w].phase, Phase::Claiming { run, .. } if run.version != s.db.run.version))
    };
    /// Two branches complete at the same moment.
    BranchesMeet, "two branches meet in the compare-and-set", |_, s| {
        let fresh = |phase| match phase {
            Phase::Completing { claim, run, .. } if run.version == s.db.run.version => Some(claim.step),
            _ => None,
        };
        matches!((fresh(s.workers[0].phase), fresh(s.workers[1].phase)), (Some(a), Some(b)) if a != b)
    };
    /// The background lost its compare-and-set.
    DeskReloads, "the background loses the compare-and-set", |_, s| {
        s.desk.is_some_and(|desk| desk.run.version != s.db.run.version)
    };
    /// A step comes back after a crash.
    ReapedToQueued, "a step is reaped and queued again", |p, s| reaping(p, s, StepState::Queued);
    /// A step used up its crashes.
    ReapedToDead, "a step is reaped to death", |p, s| reaping(p, s, StepState::Dead);
    /// A step is reaped while its effect may be under way.
    ReapedToUnknown, "a step with an intent is reaped", |p, s| reaping(p, s, StepState::Unknown);
    /// A step is reaped though its session lives.
    ReapedOverdue, "a step of a live session is reaped", |_, s| match s.desk.map(|desk| desk.duty) {
        Some(Duty::Reap(step)) => s.step(step).lease.is_some_and(|lease| s.is_open(lease.session)),
        _ => false,
    };
    /// A worker executes on after its session was closed and its step taken.
    ZombieWorks, "a zombie works on", |_, s| {
        s.workers.iter().any(|w| matches!(w.phase, Phase::Executing { claim } if !s.is_worked_on(claim.step)))
    };
    /// A queued step that Redis does not know.
    Reconciled, "the reconciler has to push", |p, s| {
        p.steps().any(|step| {
            let ticket = Ticket { step, epoch: s.step(step).epoch };
            s.step(step).state == StepState::Queued && !s.redis.knows(ticket)
                && s.workers.iter().all(|w| matches!(w.phase, Phase::Idle | Phase::Down))
        })
    };
    /// Two workers hold the same ticket.
    TicketTwice, "two workers hold the same ticket", |_, s| match (s.workers[0].phase, s.workers[1].phase) {
        (Phase::Claiming { ticket: a, .. }, Phase::Claiming { ticket: b, .. }) => a == b,
        _ => false,
    };
    /// A cancel meets a running step.
    CancelWhileRunning, "a running step is cancelled", |p, s| {
        cancels_now(s) && p.steps().any(|step| s.step(step).state == StepState::Running && !s.step(step).intent)
    };
    /// A cancel leaves a step whose outcome is open.
    CancelWaits, "a cancelled workflow waits for an outcome", |p, s| {
        s.db.run.cancelling && s.step(p.last()).intent
    };
    /// A step waits for its next attempt.
    Retried, "a step waits for its next attempt", |p, s| p.steps().any(|step| s.step(step).state == StepState::Scheduled);
    /// A dead letter, from attempts or crashes.
    Dead, "a step is dead", |p, s| p.steps().any(|step| s.step(step).state == StepState::Dead);
    /// A dead step is replayed and succeeds in the end.
    ReplayedToSuccess, "a replayed workflow succeeds", |p, s| {
        s.left.replays < p.bounds.replays && p.steps().all(|step| s.step(step).state == StepState::Succeeded)
    };
    /// A dead step is discarded.
    Discarded, "a discarded step fails its workflow", |p, s| {
        s.left.replays < p.bounds.replays && p.steps().any(|step| s.step(step).state == StepState::Failed)
    };
    /// A sender gave up, and the effect comes later.
    EffectUnderWay, "a request outlives its sender's patience", |_, s| s.wire != 0;
    /// A worker that was reaped can still send.
    ZombieMaySend, "a reaped worker may still send", |p, s| {
        s.step(p.last()).state == StepState::Unknown
            && (0..WORKERS).any(|w| matches!(s.workers[w].phase, Phase::Armed { .. }) && s.window & (1 << w) != 0)
    };
    /// A worker woke up too late to send.
    TooLate, "a worker does not send after its window", |_, s| {
        (0..WORKERS).any(|w| matches!(s.workers[w].phase, Phase::Armed { .. }) && s.window & (1 << w) == 0)
    };
    /// An intent that was committed without its worker knowing.
    IntentRecognised, "an unknown intent turns out to be one's own", |p, s| {
        s.workers.iter().any(|w| match w.phase {
            Phase::Arming { claim, run } => fresh(s, &run) && p.fence(&run, claim) && s.step(claim.step).intent,
            _ => false,
        })
    };
    /// The resolver finds the effect.
    ResolverFinds, "the resolver finds the effect", |_, s| resolving(s) && s.effects > 0;
    /// The resolver finds that nothing went out, and the step is queued again.
    ResolverExcludes, "the resolver excludes the effect", |_, s| resolving(s) && s.effects == 0;
    /// A person has to say.
    InDoubt, "a person has to say", |p, s| s.step(p.last()).state == StepState::InDoubt;
    /// A keyed request was repeated, and the platform knew it.
    KeyRepeated, "a keyed request is repeated", |p, s| {
        p.effect == Effect::Keyed && s.effects == 1
            && s.workers.iter().any(|w| matches!(w.phase, Phase::Executing { claim } if claim.step == p.last()))
    };
    /// After a restore the same epoch was claimed twice.
    EpochCameBack, "an epoch comes back", |p, s| {
        s.workers.iter().any(|w| match w.phase {
            Phase::Completing { claim, run, .. } => {
                let step = s.step(claim.step);
                fresh(s, &run) && step.state == StepState::Running && step.epoch == claim.epoch
                    && step.lease.is_some_and(|lease| lease.nonce != claim.nonce) && p.bounds.restores > 0
            }
            _ => false,
        })
    };
}

fn fresh(s: &State, copy: &Run) -> bool {
    copy.version == s.db.run.version
}

fn completing(p: &Protocol, s: &State, wanted: Verdict) -> bool {
    s.workers.iter().any(|worker| match worker.phase {
        Phase::Completing { claim, run, .. } => {
            fresh(s, &run) && p.verdict(&run, &s.db.results[usize::from(claim.step)], claim) == wanted
        }
        _ => false,
    })
}

fn claiming(p: &Protocol, s: &State, wanted: impl Fn(ClaimVerdict) -> bool) -> bool {
    (0..WORKERS).any(|w| match s.workers[w].phase {
        Phase::Claiming { ticket, nonce, run } => {
            fresh(s, &run) && wanted(p.claim(&run, ticket, nonce, s.session_of(w)))
        }
        _ => false,
    })
}

fn reaping(p: &Protocol, s: &State, wanted: StepState) -> bool {
    match s.desk {
        Some(desk) if fresh(s, &desk.run) => match desk.duty {
            Duty::Reap(step) => p.reap(&desk.run, step).steps[usize::from(step)].state == wanted,
            _ => false,
        },
        _ => false,
    }
}

fn cancels_now(s: &State) -> bool {
    s.desk.is_some_and(|desk| desk.duty == Duty::Cancel && fresh(s, &desk.run))
}

fn resolving(s: &State) -> bool {
    s.desk.is_some_and(|desk| matches!(desk.duty, Duty::Resolve(_)) && fresh(s, &desk.run))
}
