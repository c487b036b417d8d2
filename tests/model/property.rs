//! What must hold in every state, whatever happened: the promises.
//!
//! Nothing here may look at which shortcut is taken, except where a shortcut
//! moves the moment of a promise rather than its meaning.

use stateright::Property;

use crate::protocol::{Effect, Protocol};
use crate::state::{Broken, Phase, Publication, State, StepState};

/// All promises. Each is also the name under which a counterexample is found.
pub(crate) fn promises() -> Vec<Property<Protocol>> {
    vec![
        Property::always("exactly one result per succeeded step, the winner's", one_result),
        Property::always("a final state never changes", |_, s: &State| !s.has_broken(Broken::FinalChanged)),
        Property::always("an epoch never decreases", |_, s: &State| !s.has_broken(Broken::EpochDecreased)),
        Property::always("no stale write lands", |_, s: &State| !s.has_broken(Broken::StaleWrite)),
        Property::always("a claim follows its parents' commits", |_, s: &State| {
            !s.has_broken(Broken::ClaimBeforeParents)
        }),
        Property::always("running if and only if leased", |p: &Protocol, s: &State| {
            p.steps().all(|step| (s.step(step).state == StepState::Running) == s.step(step).lease.is_some())
        }),
        Property::always("at most one effect per effect key", |_, s: &State| s.effects <= 1),
        Property::always("an effect belongs to a step that knows it may have happened", effect_is_owned),
        Property::always("an open intent is waited for", intent_is_waited_for),
        Property::always("what was acknowledged is durable", acknowledged_is_durable),
        // A crash or an expiry may come on top of each attempt, up to its own limit.
        Property::always("attempts are bounded", |p: &Protocol, s: &State| {
            p.steps().all(|step| s.step(step).attempts < p.max_attempts + p.max_crashes)
        }),
        Property::always("nothing is stuck", nothing_is_stuck),
        // Every path of the model ends (`assert_every_path_ends`), so that this
        // says: whatever happens, in the end the workflow is final or named.
        Property::eventually("the workflow settles", |p: &Protocol, s: &State| p.is_settled(&s.db.run)),
    ]
}

fn one_result(p: &Protocol, s: &State) -> bool {
    p.steps().all(|step| {
        let results = s.db.results[usize::from(step)];
        if s.step(step).state == StepState::Succeeded {
            results.rows == 1 && results.epoch == s.step(step).epoch
        } else {
            results.rows == 0
        }
    })
}

fn effect_is_owned(p: &Protocol, s: &State) -> bool {
    let step = s.step(p.last());
    p.effect != Effect::Intent
        || s.effects == 0
        || match step.state {
            StepState::Running => step.intent,
            StepState::Unknown | StepState::InDoubt | StepState::Succeeded => true,
            _ => false,
        }
}

/// The flag in the run and the publication row say the same, and whoever waits
/// for the outcome can be seen to.
fn intent_is_waited_for(p: &Protocol, s: &State) -> bool {
    let step = s.step(p.last());
    let waits = matches!(step.state, StepState::Running | StepState::Unknown | StepState::InDoubt);
    step.intent == (s.db.publication == Publication::Intent) && (!step.intent || waits)
}

fn acknowledged_is_durable(p: &Protocol, s: &State) -> bool {
    p.steps().filter(|step| s.acknowledged & (1 << step) != 0).all(|step| {
        let at_hand = |phase: Phase| {
            matches!(phase, Phase::Finished { claim, .. } | Phase::Completing { claim, .. } if claim.step == step)
        };
        // "At hand" is what an ack before the commit hopes for.
        s.step(step).state == StepState::Succeeded || s.workers.iter().any(|worker| at_hand(worker.phase))
    })
}

/// If nothing moves by itself any more, there is nothing left to do.
fn nothing_is_stuck(p: &Protocol, s: &State) -> bool {
    let busy = s.workers.iter().any(|worker| !matches!(worker.phase, Phase::Idle | Phase::Down));
    if busy || s.desk.is_some() || !s.redis.ready.is_empty() || p.is_settled(&s.db.run) {
        return true;
    }
    let mut moves = Vec::new();
    p.moves(s, &mut moves);
    !moves.is_empty()
}
