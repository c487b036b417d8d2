//! What exists: the policy, the counters of the day, the posts with their step,
//! question and publication, two publishers, two desks, and the platform.
//!
//! Nothing here decides.

use super::action::{Duty, PostNo};
use super::paying::Purse;

/// Two posts are enough to compete for one place.
pub(crate) const POSTS: usize = 2;
/// Two of a kind are enough for every race.
pub(crate) const PUBLISHERS: usize = 2;
/// Today and tomorrow.
pub(crate) const DAYS: usize = 2;
/// The first revision's bytes.
pub(crate) const FIRST: u8 = 1;

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum StepState {
    Queued,
    Running,
    Scheduled,
    /// Its slot is tomorrow.
    WaitsForDay,
    /// No budget has room for it.
    WaitingBudget,
    WaitingApproval,
    Unknown,
    InDoubt,
    Dead,
    Succeeded,
    Failed,
    /// Rejected or expired.
    Skipped,
    Cancelled,
}

impl StepState {
    pub(crate) fn is_final(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Skipped | Self::Cancelled)
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Answer {
    /// Never asked, or void.
    None,
    Pending,
    Approved,
    Rejected,
    Expired,
}

/// The newest question about a post.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Question {
    pub(crate) answer: Answer,
    /// The bytes it is about.
    pub(crate) content: u8,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Outgoing {
    Absent,
    Intent,
    NotSent,
    Refused,
    Unknown,
    InDoubt,
    Published,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Publication {
    pub(crate) state: Outgoing,
    /// The claim that may send it.
    pub(crate) claim: u8,
    /// The frozen bytes.
    pub(crate) content: u8,
    /// Whether it was sent more than once.
    pub(crate) repeated: bool,
    /// The day whose place it took.
    pub(crate) day: u8,
    /// Whether it holds that place.
    pub(crate) holds: bool,
    /// Truth, not a column: an approval of these bytes was required.
    pub(crate) asked: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Post {
    // -- the run
    pub(crate) step: StepState,
    /// The claim that runs it; 0: none.
    pub(crate) claim: u8,
    /// Claims so far.
    pub(crate) drawn: u8,
    pub(crate) attempts: u8,
    /// It may be out.
    pub(crate) intent: bool,
    pub(crate) cancelled: bool,
    // -- the post
    /// Rises with everything a person or a slot changes.
    pub(crate) version: u8,
    /// The newest revision's bytes.
    pub(crate) content: u8,
    /// It waited for an approval once.
    pub(crate) held: bool,
    pub(crate) question: Question,
    pub(crate) publication: Publication,
    // -- the world
    /// What the platform has done for its key.
    pub(crate) effects: u8,
    /// Requests on the wire that nobody waits for.
    pub(crate) wire: u8,
    /// The platform still knows its key.
    pub(crate) key: bool,
    /// Bit set of bytes that a person said yes to.
    pub(crate) approved: u8,
}

/// The policy.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Policy {
    pub(crate) version: u8,
    pub(crate) asks: bool,
    pub(crate) allows: bool,
    /// Places of a day.
    pub(crate) limit: u8,
}

/// What judging came to.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Verdict {
    Forbidden,
    Hold,
    /// It may go out; with an approval that is compared again.
    Intend {
        approval: bool,
    },
    /// An open intent, mine.
    Mine,
    Repeat,
    Look,
    Ask,
}

/// What was judged, and on what.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Seen {
    pub(crate) verdict: Verdict,
    pub(crate) version: u8,
    pub(crate) content: u8,
    pub(crate) policy: u8,
    pub(crate) limit: u8,
    /// Only for [`super::Shortcut::QuotaCounted`]: places taken today.
    pub(crate) counted: u8,
    /// Only for [`super::Shortcut::RoomReadBefore`]: money left today.
    pub(crate) room: u8,
}

/// How a call ended, as its publisher knows it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Outcome {
    Published,
    Refused,
    NotSent,
    Unknown,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Phase {
    Down,
    Idle,
    Claimed {
        post: PostNo,
        claim: u8,
    },
    Judged {
        post: PostNo,
        claim: u8,
        seen: Seen,
    },
    /// Only for [`super::Shortcut::QuotaOutsideIntent`].
    Taken {
        post: PostNo,
        claim: u8,
        seen: Seen,
    },
    /// May send while the window is open.
    Armed {
        post: PostNo,
        claim: u8,
        doubtful: bool,
    },
    /// The call is over.
    Sent {
        post: PostNo,
        claim: u8,
        outcome: Outcome,
    },
}

impl Phase {
    /// What this publisher believes it works on.
    pub(crate) fn work(self) -> Option<(PostNo, u8)> {
        match self {
            Self::Down | Self::Idle => None,
            Self::Claimed { post, claim }
            | Self::Judged { post, claim, .. }
            | Self::Taken { post, claim, .. }
            | Self::Armed { post, claim, .. }
            | Self::Sent { post, claim, .. } => Some((post, claim)),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Publisher {
    pub(crate) phase: Phase,
    /// The `not_after` of its intent has not passed.
    pub(crate) window: bool,
}

/// Somebody between looking and writing.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Desk {
    pub(crate) duty: Duty,
    pub(crate) version: u8,
    pub(crate) question: Question,
}

/// A promise that a transition broke.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Broken {
    OverLimit,
    Unapproved,
    Withdrawn,
    AfterCancel,
    WrongDay,
    Forbidden,
    AnswerChanged,
    FinalChanged,
}

/// How many more faults and commands may come.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Bounds {
    /// Processes killed.
    pub crashes: u8,
    /// Live publishers whose session is declared dead: they were stopped.
    pub stops: u8,
    /// Publishers that sleep past the window of their intent.
    pub sleeps: u8,
    /// Replies of COMMIT lost, committed or not.
    pub lost_replies: u8,
    /// Calls that are refused, do not leave, or find nobody who answers.
    pub failures: u8,
    /// Calls whose answer is lost or late.
    pub lost_answers: u8,
    /// Keys that the platform forgets.
    pub forgets: u8,
    /// Midnights.
    pub days: u8,
    /// Times a person says yes.
    pub approvals: u8,
    /// Edits, with or without an approval.
    pub edits: u8,
    /// Times a person says no.
    pub rejections: u8,
    /// Questions whose time runs out.
    pub expiries: u8,
    /// Workflows cancelled.
    pub cancels: u8,
    /// Changes of what the policy asks for.
    pub policies: u8,
    /// Changes of the limit.
    pub limits: u8,
    /// Raises of the budget, by one.
    pub raises: u8,
}

/// Everything at one moment.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct State {
    pub(crate) policy: Policy,
    pub(crate) day: u8,
    /// Places of a day that are taken in the workspace.
    pub(crate) used: [u8; DAYS],
    /// Places of a day that are taken per account.
    pub(crate) used_by: [[u8; DAYS]; POSTS],
    pub(crate) posts: [Post; POSTS],
    pub(crate) publishers: [Publisher; PUBLISHERS],
    pub(crate) purse: Purse,
    pub(crate) desks: [Option<Desk>; 2],
    /// Bit set of [`Broken`].
    pub(crate) broken: u16,
    pub(crate) left: Bounds,
}

impl State {
    pub(crate) fn post(&self, post: PostNo) -> &Post {
        &self.posts[usize::from(post.0)]
    }

    pub(crate) fn post_mut(&mut self, post: PostNo) -> &mut Post {
        &mut self.posts[usize::from(post.0)]
    }

    pub(crate) fn breaks(&mut self, promise: Broken) {
        self.broken |= 1 << promise as u16;
    }

    pub(crate) fn has_broken(&self, promise: Broken) -> bool {
        self.broken & (1 << promise as u16) != 0
    }

    /// Whether a live publisher works under the claim that runs the post.
    pub(crate) fn is_worked_on(&self, post: PostNo) -> bool {
        let claim = self.post(post).claim;
        claim != 0 && self.publishers.iter().any(|one| one.phase.work() == Some((post, claim)))
    }

    /// Whether a request about the post may still leave or arrive.
    pub(crate) fn may_still_go_out(&self, post: PostNo) -> bool {
        self.post(post).wire > 0 || self.window_is_open(post)
    }

    pub(crate) fn window_is_open(&self, post: PostNo) -> bool {
        self.publishers.iter().any(|one| one.window && one.phase.work().is_some_and(|(work, _)| work == post))
    }
}
