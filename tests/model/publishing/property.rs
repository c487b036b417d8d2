//! What must hold in every state, whatever happened: the promises about posts.

use stateright::Property;

use super::Publishing;
use super::paying::{posts_are_paid, within_budget};
use super::state::{Broken, Outgoing, Phase, State, StepState};

macro_rules! never {
    ($name:literal, $broken:ident) => {
        Property::always($name, |_: &Publishing, s: &State| !s.has_broken(Broken::$broken))
    };
}

/// All promises. Each is also the name under which a counterexample is found.
pub(crate) fn promises() -> Vec<Property<Publishing>> {
    vec![
        Property::always("at most one effect per effect key", |p: &Publishing, s: &State| {
            p.posts().all(|post| s.post(post).effects <= 1)
        }),
        Property::always("a post that is out is known to be, or that it may be", effect_is_owned),
        Property::always("an open intent is waited for", intent_is_waited_for),
        never!("nothing goes out unapproved", Unapproved),
        never!("nothing goes out that was withdrawn or edited away", Withdrawn),
        never!("nothing is begun after a cancel", AfterCancel),
        never!("nothing is begun against the policy", Forbidden),
        never!("no place is taken beyond the limit", OverLimit),
        never!("a post goes out on the day of its place", WrongDay),
        Property::always("every place is accounted for", places_are_accounted_for),
        Property::always("what posts cost stays within the budget", within_budget),
        Property::always("what is out is paid for, and what may be is reserved", posts_are_paid),
        never!("an answer stays as it was given", AnswerChanged),
        never!("a final state never changes", FinalChanged),
        Property::always("nothing is stuck", |p: &Publishing, s: &State| {
            let mut moves = Vec::new();
            p.moves(s, &mut moves);
            !moves.is_empty() || p.is_settled(s)
        }),
        // Every path of the model ends, so that this says: whatever happens, in
        // the end every post is final or waits for something that has a name.
        Property::eventually("every post settles", |p: &Publishing, s: &State| p.is_settled(s)),
    ]
}

fn effect_is_owned(p: &Publishing, s: &State) -> bool {
    p.posts().all(|post| {
        let row = s.post(post);
        let waits = matches!(
            row.step,
            StepState::Running | StepState::Queued | StepState::Unknown | StepState::InDoubt
        );
        row.effects == 0 || row.step == StepState::Succeeded || (row.intent && waits)
    })
}

/// The flag in the run and the publication row say the same, and whoever waits
/// for the outcome can be seen to.
fn intent_is_waited_for(p: &Publishing, s: &State) -> bool {
    p.posts().all(|post| {
        let row = s.post(post);
        let open = matches!(row.publication.state, Outgoing::Intent | Outgoing::Unknown | Outgoing::InDoubt);
        let waits = matches!(
            row.step,
            StepState::Running | StepState::Queued | StepState::Unknown | StepState::InDoubt
        );
        row.intent == open && (!open || waits)
    })
}

/// The counters are exactly what may be out or is out, and what somebody just
/// took for an intent they are about to write.
fn places_are_accounted_for(p: &Publishing, s: &State) -> bool {
    (0..s.used.len() as u8).all(|day| {
        let at_hand = |account: Option<usize>| {
            let taken = s.publishers.iter().filter(|one| match one.phase {
                Phase::Taken { post, .. } => {
                    s.day == day && account.is_none_or(|account| p.account(post) == account)
                }
                _ => false,
            });
            taken.count() as u8
        };
        let everywhere = p.posts().all(|post| {
            let account = p.account(post);
            let (_, held) = p.occupied(s, day, post);
            s.used_by[account][usize::from(day)] == held + at_hand(Some(account))
        });
        let (held, _) = p.occupied(s, day, super::PostNo(0));
        everywhere && s.used[usize::from(day)] == held + at_hand(None)
    })
}
