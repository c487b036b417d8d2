//! The rescue paths of publishing. A search in which none of them was taken
//! proved nothing, so each theme names those it must have seen.

use super::decide::{Write, judged};
use super::paying::Bill;
use super::state::{Answer, Outgoing, Phase, Post, State, StepState, Verdict};
use super::{Action, Capability, Publishing};
use crate::named::witnesses;

witnesses! { Publishing:
    /// Every post is out.
    Published, "every post is published", |p, s| all(p, s, |row| row.step == StepState::Succeeded);
    /// A post is asked for, approved and sent.
    ApprovedAndOut, "an approved post is out", |p, s| {
        any(p, s, |row| row.step == StepState::Succeeded && row.publication.asked)
    };
    /// A post that was edited is out in its second revision.
    EditedAndOut, "an edited post is out", |p, s| any(p, s, |row| row.effects == 1 && row.content > 1);
    /// An edit meets an intent and is refused.
    EditRefused, "an edit meets an open intent", |p, s| conflicts(p, s, |row| row.intent);
    /// An answer comes after an edit, or after another answer.
    AnswerRefused, "an answer comes too late", |p, s| conflicts(p, s, |row| !row.intent);
    /// A publisher was about to send what is changed meanwhile.
    IntentOvertaken, "an intent is overtaken", |p, s| may(p, s, Write::Overtaken);
    /// A publisher was about to send what is taken from it meanwhile.
    IntentStale, "an intent is stale", |p, s| may(p, s, Write::Stale);
    /// A rejected post.
    Rejected, "a post is rejected", |p, s| any(p, s, |row| row.question.answer == Answer::Rejected);
    /// A post that nobody approved in time.
    Expired, "a question expires", |p, s| any(p, s, |row| row.question.answer == Answer::Expired);
    /// The policy forbids a post that is about to go out.
    ForbiddenMeanwhile, "the policy forbids a post", |p, s| any(p, s, |row| row.step == StepState::Dead && row.attempts == 1 && row.publication.state == Outgoing::Absent);
    /// A loosened policy does not release what waits.
    WaitsThoughLoose, "a post waits though the policy is loose", |p, s| {
        !s.policy.asks && any(p, s, |row| row.step == StepState::WaitingApproval)
    };
    /// The day is full.
    DayFull, "the day is full", |p, s| may(p, s, Write::DayFull);
    /// Refused by the day's limit, it goes out on the next day.
    OutNextDay, "a post goes out on the next day", |p, s| {
        s.day == 1 && all(p, s, |row| row.step == StepState::Succeeded)
            && any(p, s, |row| row.publication.day == 0) && any(p, s, |row| row.publication.day == 1)
    };
    /// A place that was given back is taken by another post.
    PlaceTakenAgain, "a freed place is taken by another post", |p, s| {
        s.policy.limit == 1 && any(p, s, |row| row.publication.state == Outgoing::NotSent && row.step == StepState::WaitsForDay)
            && any(p, s, |row| row.step == StepState::Succeeded)
    };
    /// What was definitely not sent is tried again, and goes out.
    NotSentRetried, "what was not sent goes out", |p, s| {
        any(p, s, |row| row.step == StepState::Succeeded && row.attempts == 2 && !row.publication.repeated)
    };
    /// A stopped publisher wakes up too late to send.
    TooLate, "a publisher comes too late to send", |_, s| {
        s.publishers.iter().any(|one| matches!(one.phase, Phase::Armed { .. }) && !one.window)
    };
    /// A superseded publisher may still send.
    ZombieMaySend, "a superseded publisher may still send", |p, s| {
        p.posts().any(|post| s.window_is_open(post) && !s.is_worked_on(post))
    };
    /// An intent that was committed without its publisher knowing.
    IntentRecognised, "an unknown intent turns out to be one's own", |_, s| {
        s.publishers.iter().any(|one| judged(one.phase).is_some_and(|(.., seen)| seen.verdict == Verdict::Mine))
    };
    /// A conclusion that was committed without its publisher knowing.
    ConclusionRecorded, "an unknown conclusion was recorded", |p, s| {
        s.publishers.iter().any(|one| match one.phase {
            Phase::Sent { post, claim, .. } => s.post(post).claim == 0 && s.post(post).drawn == claim && p.bounds.lost_replies > s.left.lost_replies,
            _ => false,
        })
    };
    /// Repeated with its key, and the platform knew it.
    RepeatedAndKnown, "an unknown post is repeated, known and published", |p, s| {
        p.capability == Capability::Idempotent
            && any(p, s, |row| row.step == StepState::Succeeded && row.publication.repeated && row.effects == 1)
    };
    /// The platform keeps the key no longer: a person is asked.
    KeyTooOld, "a key is too old to repeat", |p, s| any(p, s, |row| row.step == StepState::InDoubt && !row.key);
    /// A look finds the post.
    UnknownThenFound, "an unknown post is found and published", |p, s| {
        p.capability == Capability::Verifiable && any(p, s, |row| row.step == StepState::Succeeded && row.drawn == 2 && row.attempts == 2)
    };
    /// A look excludes the post; it goes out by a new intent.
    UnknownThenAbsent, "an unknown post is not there, and then goes out", |p, s| {
        p.capability == Capability::Verifiable && any(p, s, |row| row.step == StepState::Succeeded && row.drawn >= 3)
    };
    /// A person says that the post is there.
    DoubtThere, "a person finds the post", |p, s| any(p, s, |row| row.step == StepState::InDoubt && row.effects == 1);
    /// A person says that it is not there, and it goes out.
    DoubtNotThere, "a person excludes the post, and it goes out", |p, s| {
        p.capability == Capability::Blind && any(p, s, |row| row.step == StepState::Succeeded && row.attempts == 1 && row.drawn == 3)
    };
    /// A person says that it is not there, and shall not be.
    DoubtGivenUp, "a person gives a post up", |p, s| any(p, s, |row| row.step == StepState::Failed);
    /// Cancelled under an open intent: it waits for the outcome.
    CancelWaits, "a cancel waits for the outcome", |p, s| any(p, s, |row| row.cancelled && row.intent);
    /// A cancelled post turns out to be out.
    CancelledButOut, "a cancelled post was out", |p, s| any(p, s, |row| row.cancelled && row.step == StepState::Succeeded);
    /// A cancelled post turns out not to be there.
    CancelledInTime, "a cancelled post was not there", |p, s| {
        any(p, s, |row| row.step == StepState::Cancelled && row.publication.state == Outgoing::NotSent)
    };
    /// A call takes effect after its publisher gave up.
    LateEffect, "a call takes effect late", |p, s| any(p, s, |row| row.wire > 0 && row.step == StepState::Unknown);
    /// There is a place, and no money.
    Unfunded, "there is no money for a post", |p, s| may(p, s, Write::NoMoney);
    /// A post that waits for money is about to go on.
    RoomForWaiting, "there is room for a post that waits", |p, s| {
        p.posts().any(|post| s.post(post).step == StepState::WaitingBudget && Publishing::is_funded(s, post))
    };
    /// An edit made a post cheap enough.
    CheaperAndOut, "a post that was too dear is edited and out", |p, s| {
        p.posts().any(|post| s.purse.needed[usize::from(post.0)] > 1 && s.purse.taken[usize::from(post.0)] == 1)
    };
    /// Nobody raises anything.
    WaitsForEver, "a post waits for money that does not come", |p, s| {
        p.is_settled(s) && any(p, s, |row| row.step == StepState::WaitingBudget)
    };
    /// What only a person can find out is charged, and was taken.
    ChargedInDoubt, "a post in doubt is charged and was out", |p, s| {
        p.posts().any(|post| {
            matches!(s.purse.bills[usize::from(post.0)], Bill::Estimated(_)) && s.purse.taken[usize::from(post.0)] > 0
        })
    };
    /// An open intent across midnight keeps the place of its day.
    OpenAcrossMidnight, "an open intent is found on the next day", |p, s| {
        s.day == 1 && any(p, s, |row| row.intent && row.publication.day == 0)
    };
}

fn any(p: &Publishing, s: &State, seen: impl Fn(&Post) -> bool) -> bool {
    p.posts().any(|post| seen(s.post(post)))
}

fn all(p: &Publishing, s: &State, seen: impl Fn(&Post) -> bool) -> bool {
    p.posts().all(|post| seen(s.post(post)))
}

/// A publisher is about to write its intent, and finds that.
fn may(p: &Publishing, s: &State, wanted: Write) -> bool {
    s.publishers.iter().any(|one| match judged(one.phase) {
        Some((post, claim, seen)) if matches!(seen.verdict, Verdict::Intend { .. }) => {
            p.intent_may(s, post, claim, seen) == wanted
        }
        _ => false,
    })
}

/// Somebody's decision meets another state than they saw.
fn conflicts(p: &Publishing, s: &State, seen: impl Fn(&Post) -> bool) -> bool {
    let mut moves = Vec::new();
    p.moves(s, &mut moves);
    moves.iter().any(|action| match action {
        Action::Conflict { duty, .. } => seen(s.post(super::decide::post_of(*duty))),
        _ => false,
    })
}
