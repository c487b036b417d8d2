//! The operations. What they act on is a number that is turned into one of what
//! is there at that moment, so that any part of a sequence is a sequence.

use proptest::collection::vec;
use proptest::prelude::*;

/// Any of what is there.
pub(crate) type Pick = u16;

/// One call; those with a list move as many things as the list is long.
#[derive(Clone, Debug)]
pub(crate) enum Op {
    /// Clients submit workflows of these shapes, all at once.
    Submit(Vec<Pick>),
    /// A client repeats a submit, or uses its key for something else.
    SubmitAgain { which: Pick, same: bool },
    /// A worker pops; what it popped late is its own for no time at all.
    Pop { engine: Pick, max: u8, late: bool },
    /// A worker claims tickets it popped, new ones or old ones.
    Claim { engine: Pick, worker: Pick, tickets: Vec<Pick> },
    /// Workers report attempts, current ones or overtaken ones.
    Report { engine: Pick, attempts: Vec<(Pick, How)> },
    /// A worker gives tickets back that it popped.
    GiveBack(Vec<Pick>),
    /// A worker dies; another takes its place.
    Kill(Pick),
    /// A reaper's round.
    Reap(Pick),
    /// A scheduler's round of what is due.
    Due(Pick),
    /// An operator cancels a workflow.
    Cancel { engine: Pick, which: Pick },
    /// An operator repairs a step, dead or not.
    Repair { engine: Pick, which: Pick, how: Fix },
    /// Redis is emptied.
    Flush,
    /// So many of the next writes to Redis are lost without a word.
    Lose(u8),
    /// Tickets whose time is over are ready again.
    Expire,
    /// What is in flight for nothing is forgotten.
    Sweep(Pick),
    /// A walk over all live runs.
    Reconcile(Pick),
    /// What a scheduler does about a queue that lost its memory.
    Rebuild(Pick),
    /// A process starts anew: it remembers nothing.
    Restart(Pick),
}

impl Op {
    /// The same without one member of its batch; `None` when there is no such
    /// member.
    pub(crate) fn without(&self, member: usize) -> Option<Self> {
        let mut fewer = self.clone();
        let members = match &mut fewer {
            Self::Submit(picks) | Self::Claim { tickets: picks, .. } | Self::GiveBack(picks) => {
                leave_out(picks, member)
            }
            Self::Report { attempts, .. } => leave_out(attempts, member),
            _ => return None,
        };
        members.then_some(fewer)
    }
}

/// Whether there was such a member. The last one stays: without it the whole
/// operation can be left out.
fn leave_out<T>(members: &mut Vec<T>, member: usize) -> bool {
    let there = member < members.len() && members.len() > 1;
    if there {
        members.remove(member);
    }
    there
}

/// How an attempt ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    /// With an output.
    Well,
    /// With an error that is worth another try.
    Badly,
    /// With a 429.
    Throttled,
    /// With an error that is not.
    ForGood,
    /// Before it began.
    Unstarted,
}

/// What an operator does about a dead step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fix {
    /// Again.
    Retry,
    /// Again, with another input.
    Edited,
    /// Never again.
    Discard,
}

fn how() -> impl Strategy<Value = How> {
    prop_oneof![
        12 => Just(How::Well),
        3 => Just(How::Badly),
        1 => Just(How::Throttled),
        2 => Just(How::ForGood),
        1 => Just(How::Unstarted),
    ]
}

/// Any operation; those that move work on are the most.
pub(crate) fn op() -> impl Strategy<Value = Op> {
    let pick = any::<Pick>;
    let fix = prop_oneof![3 => Just(Fix::Retry), 1 => Just(Fix::Edited), 1 => Just(Fix::Discard)];
    prop_oneof![
        8 => vec(pick(), 1..24).prop_map(Op::Submit),
        2 => (pick(), any::<bool>()).prop_map(|(which, same)| Op::SubmitAgain { which, same }),
        14 => (pick(), 1_u8..24, any::<bool>()).prop_map(|(engine, max, late)| Op::Pop { engine, max, late }),
        20 => (pick(), pick(), vec(pick(), 1..24))
            .prop_map(|(engine, worker, tickets)| Op::Claim { engine, worker, tickets }),
        22 => (pick(), vec((pick(), how()), 1..24)).prop_map(|(engine, attempts)| Op::Report { engine, attempts }),
        2 => vec(pick(), 1..8).prop_map(Op::GiveBack),
        5 => pick().prop_map(Op::Kill),
        6 => pick().prop_map(Op::Reap),
        5 => pick().prop_map(Op::Due),
        2 => (pick(), pick()).prop_map(|(engine, which)| Op::Cancel { engine, which }),
        6 => (pick(), pick(), fix).prop_map(|(engine, which, how)| Op::Repair { engine, which, how }),
        1 => Just(Op::Flush),
        2 => (1_u8..4).prop_map(Op::Lose),
        3 => Just(Op::Expire),
        2 => pick().prop_map(Op::Sweep),
        3 => pick().prop_map(Op::Reconcile),
        2 => pick().prop_map(Op::Rebuild),
        2 => pick().prop_map(Op::Restart),
    ]
}
