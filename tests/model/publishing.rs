//! The publish path as a model of its own: from a queued publish step to a post
//! that is out once, with policy, approvals, daily limits, intent, platforms
//! that can tell more or less, and people.
//!
//! Why a second model: multiplied with Redis, sessions and the interleavings of
//! load and compare-and-set, which the dispatch model searches, these states
//! would be beyond any bound. So dispatch is one action here ([`Action::Claim`]:
//! a queued step is claimed by compare-and-set), the run is decided on as it is
//! at the write, and what stays apart is what the publish path *reads before and
//! compares in its transaction*: post, policy, approval, publication, key, day.
//!
//! It must never depend on another package of the workspace: it states what the
//! code has to do.
//!
//! # Protocol rule → where it is
//!
//! | rule | here |
//! |---|---|
//! | the gate: forbidden, asks, free; loosening releases nothing | `judge` |
//! | TX1 compares post, policy and approval, takes a place everywhere or nowhere | [`Action::Intend`], [`Action::Again`], [`Action::NextDay`] |
//! | an unknown commit is repeated, one's own intent recognised | [`Reply`], [`Action::Recognise`] |
//! | nothing is sent after `not_after` | [`Action::WindowPasses`], [`Action::TooLate`] |
//! | an unknown post rests longer than anybody may still send it | [`Action::RestOver`] |
//! | by capability: repeat inside the key's window, look, ask | [`Action::Repeat`], [`Action::Look`], [`Action::Doubt`] |
//! | a place is freed by *definitely not sent* alone | `conclude`, `settle` |
//! | what a post costs is reserved by its intent, settled by its outcome | `reserve`, `settle_bill`, [`Action::Unfunded`], [`Action::Fund`] |
//! | edits, rejections, expiries are compare-and-set, refused under an intent | [`Action::LookAt`], [`Action::Decide`], [`Action::Conflict`] |
//! | a cancel waits for the outcome, and nothing is begun after it | [`Action::Cancel`], `repeat_may` |

mod action;
mod decide;
mod next;
mod paying;
mod possible;
mod property;
mod shortcut;
mod state;
mod theme;
mod witness;

pub use action::{Action, Change, Duty, PostNo};
pub use shortcut::Shortcut;
pub use state::{Bounds, State};
pub use theme::{THEMES, theme};
pub use witness::Witness;

#[cfg(doc)]
use crate::action::Reply;
use crate::named::searched;
use paying::Purse;
use state::{
    Answer, FIRST, Outgoing, PUBLISHERS, Phase, Policy, Post, Publication, Publisher, Question, StepState,
};

/// What the platform can tell about a post that may be out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Capability {
    /// It keeps our key for a while.
    Idempotent,
    /// It can be looked at.
    Verifiable,
    /// Neither.
    Blind,
}

/// A configuration of the model.
#[derive(Clone, Copy, Debug)]
pub struct Publishing {
    /// What the platform can tell.
    pub capability: Capability,
    /// One post or two.
    pub posts: u8,
    /// Whether both belong to one account.
    pub one_account: bool,
    /// Whether every post needs an approval at first.
    pub asks: bool,
    /// Places of a day in the workspace, at first.
    pub limit: u8,
    /// What posts of a day may cost, at first; 0: posts cost nothing.
    pub budget: u8,
    /// Places of a day of an account.
    pub account_limit: u8,
    /// Attempts until a post that was not sent is a dead letter.
    pub max_attempts: u8,
    /// Faults and commands.
    pub bounds: Bounds,
    /// What must be seen to happen.
    pub witnesses: &'static [Witness],
    /// Deliberate mistakes.
    pub shortcuts: &'static [Shortcut],
}

impl Publishing {
    pub(crate) fn takes(&self, shortcut: Shortcut) -> bool {
        self.shortcuts.contains(&shortcut)
    }

    pub(crate) fn posts(&self) -> impl Iterator<Item = PostNo> + use<> {
        (0..self.posts).map(PostNo)
    }

    pub(crate) fn account(&self, post: PostNo) -> usize {
        if self.one_account { 0 } else { usize::from(post.0) }
    }

    /// The publish steps are queued; their posts are made.
    fn beginnings(&self) -> Vec<State> {
        vec![self.ready()]
    }

    fn ready(&self) -> State {
        let publication = Publication {
            state: Outgoing::Absent,
            claim: 0,
            content: 0,
            repeated: false,
            day: 0,
            holds: false,
            asked: false,
        };
        let post = Post {
            step: StepState::Queued,
            claim: 0,
            drawn: 0,
            attempts: 0,
            intent: false,
            cancelled: false,
            version: 1,
            content: FIRST,
            held: false,
            question: Question { answer: Answer::None, content: 0 },
            publication,
            effects: 0,
            wire: 0,
            key: true,
            approved: 0,
        };
        // A post that does not take part.
        let absent = Post { step: StepState::Cancelled, cancelled: true, ..post };
        State {
            policy: Policy { version: 1, asks: self.asks, allows: true, limit: self.limit },
            day: 0,
            used: Default::default(),
            used_by: Default::default(),
            posts: [post, if self.posts > 1 { post } else { absent }],
            publishers: [Publisher { phase: Phase::Idle, window: false }; PUBLISHERS],
            purse: Purse::new(self.budget),
            desks: [None; 2],
            broken: 0,
            left: self.bounds,
        }
    }
}

searched!(Publishing from beginnings);
