//! Where the planted bugs of the fence live, and those that need a memory.
//!
//! The fence itself is in `core`, which stays a pure function that no test can
//! change. So these bugs forge what the fence sees: an event that carries the
//! token of whoever holds the step passes exactly as it would if the fence did
//! not compare tokens. In the product every function here returns what it was
//! given.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use galley_core::decide::{Effect, Event, Token};
use galley_core::run::{Lease, Run, StepState};
use galley_probe::{ARMED, Bug, planted};

/// The event as a broken fence would judge it.
pub(crate) fn unfenced(run: &mut Run, mut event: Event) -> Event {
    if !ARMED {
        return event;
    }
    if matches!(event, Event::Cancel) && planted(Bug::CancelIgnoresIntent) {
        run.steps.iter_mut().for_each(|step| step.intent = false);
    }
    let Some(token) = token_of(&mut event) else { return event };
    let Some(step) = run.steps.get_mut(usize::from(token.step)) else { return event };
    if planted(Bug::IdOnlyGuard) && step.lease.is_none() {
        step.state = StepState::Running;
        step.lease = Some(Lease { nonce: token.nonce, session: galley_core::ids::SessionId(0) });
    }
    let Some(lease) = step.lease else { return event };
    if planted(Bug::DropEpoch) || planted(Bug::IdOnlyGuard) {
        (token.epoch, token.nonce) = (step.epoch, lease.nonce);
    } else if planted(Bug::DropNonce) && token.epoch == step.epoch {
        token.nonce = lease.nonce;
    }
    event
}

fn token_of(event: &mut Event) -> Option<&mut Token> {
    match event {
        Event::Succeeded { token }
        | Event::Failed { token, .. }
        | Event::GivenBack { token }
        | Event::Held { token }
        | Event::Postponed { token, .. }
        | Event::Intent { token }
        | Event::Repeated { token }
        | Event::Unsure { token }
        | Event::Doubted { token } => Some(token),
        _ => None,
    }
}

/// A reaped step begins again at epoch 0.
pub(crate) fn reset_epoch(run: &mut Run, event: &Event, effects: &mut [Effect]) {
    if !planted(Bug::EpochReset) {
        return;
    }
    let Event::LeaseLost { step: lost, .. } = event else { return };
    for effect in effects {
        if let Effect::Enqueue { step, epoch, .. } = effect
            && step == lost
        {
            *epoch = 0;
            run.steps[usize::from(*lost)].epoch = 0;
        }
    }
}

/// The claims that sent, or send, before their intent is written.
static SENT_FIRST: Mutex<Option<HashSet<u64>>> = Mutex::new(None);

/// Whether the claim of this nonce is to send before its intent is written:
/// yes, the first time it asks.
pub(crate) fn sends_first(nonce: u64) -> bool {
    planted(Bug::IntentAfterSend)
        && SENT_FIRST.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_default().insert(nonce)
}

/// Whether it did.
pub(crate) fn sent_first(nonce: u64) -> bool {
    planted(Bug::IntentAfterSend)
        && SENT_FIRST
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .as_ref()
            .is_some_and(|sent| sent.contains(&nonce))
}
