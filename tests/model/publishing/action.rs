//! What can happen to posts, by name: counterexamples read as a list of these.

use std::fmt;

use crate::action::Reply;

/// One of the posts.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PostNo(pub u8);

impl fmt::Debug for PostNo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "p{}", self.0)
    }
}

/// What a person or the scheduler does to a post: looks, and later writes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Duty {
    /// A person says yes to the bytes they look at.
    Approve(PostNo),
    /// A person says no.
    Reject(PostNo),
    /// A person writes other bytes.
    Edit(PostNo),
    /// A person writes other bytes and says yes to them.
    EditAndApprove(PostNo),
    /// The scheduler ends a question that nobody answered in time.
    Expire(PostNo),
}

/// A new policy.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Change {
    /// Every post needs an approval.
    Asks,
    /// Posts go out by themselves.
    Loose,
    /// The platform is not allowed any more.
    Forbids,
    /// One place of the day fewer.
    Lower,
    /// One place of the day more.
    Raise,
}

/// One atomic event. Numbers are publishers (0, 1) and desks (0, 1).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[allow(missing_docs, reason = "the fields are publishers, posts, desks and what they do")]
pub enum Action {
    /// queued → running, under a claim of its own.
    Claim { publisher: u8, post: PostNo },
    /// Reads the post, the policy, the approval and the publication, and judges.
    Judge { publisher: u8 },
    /// The policy forbids the post: a dead letter.
    Forbid { publisher: u8 },
    /// A person is asked; the post unchanged since it was judged.
    Hold { publisher: u8 },
    /// TX1: run, post, policy, approval, a place in every limit, publication.
    Intend { publisher: u8, reply: Reply },
    /// Some limit has no place left: rolled back, and moved to the next day.
    NextDay { publisher: u8 },
    /// No budget has room for it: rolled back, and it waits for money.
    Unfunded { publisher: u8 },
    /// Something changed since it was judged: rolled back, judged again.
    Again { publisher: u8 },
    /// The fence refuses: the step is somebody else's.
    Drop { publisher: u8 },
    /// An intent of unknown commit turns out to be one's own.
    Recognise { publisher: u8 },
    /// An unknown post is sent once more with its key.
    Repeat { publisher: u8, reply: Reply },
    /// The platform is asked, and tells.
    Look { publisher: u8 },
    /// The platform is asked, and does not answer.
    LookFails { publisher: u8 },
    /// Nobody but a person can find out.
    Doubt { publisher: u8 },
    /// The request reaches the platform, which acts and answers.
    Post { publisher: u8 },
    /// The platform refuses for good: nothing went out.
    Refused { publisher: u8 },
    /// The request definitely did not leave.
    NotSent { publisher: u8 },
    /// The platform acts; its answer is lost.
    ReplyLost { publisher: u8 },
    /// Nobody waits for the answer any more; the request is on the wire.
    GivesUp { publisher: u8 },
    /// `not_after` has passed on the publisher's monotonic clock: not sent.
    TooLate { publisher: u8 },
    /// TX2: what became of it.
    Conclude { publisher: u8, reply: Reply },
    /// The process dies, with all it knew.
    Crash { publisher: u8 },
    /// A new process in its place.
    Restart { publisher: u8 },
    /// `not_after` plus the timeout pass for a publisher's intent.
    WindowPasses { publisher: u8 },
    /// A request that nobody waits for takes effect after all.
    LateEffect { post: PostNo },
    /// A request that nobody waits for never arrives.
    RequestVanishes { post: PostNo },
    /// The platform forgets the key of a post.
    KeyForgotten { post: PostNo },
    /// The session of the claim is dead: its step is taken back.
    Reap { post: PostNo },
    /// A step that waits for money goes on: there is room for it.
    Fund { post: PostNo },
    /// The budget is raised by one.
    Raise,
    /// A scheduled step is due.
    Due { post: PostNo },
    /// An unknown post has rested: somebody may look.
    RestOver { post: PostNo },
    /// Midnight.
    DayTurns,
    /// Somebody looks at a post before they do something about it.
    LookAt { desk: u8, duty: Duty },
    /// They do it: compare-and-set on what they saw.
    Decide { desk: u8, duty: Duty },
    /// The compare-and-set finds something else: nothing is changed.
    Conflict { desk: u8, duty: Duty },
    /// A person looked at the platform and says whether the post is there.
    Settle { post: PostNo, there: bool },
    /// A person saw that it is not there and gives it up.
    GiveUp { post: PostNo },
    /// Somebody cancels the post's workflow.
    Cancel { post: PostNo },
    /// Somebody changes the policy.
    SetPolicy { to: Change },
    /// Only with [`super::Shortcut::QuotaOutsideIntent`]: places taken alone.
    Take { publisher: u8 },
}
