//! The decisions and the transactions they become: what a publisher judges, on
//! what its intent stands, what an outcome leads to, what people may change.
//!
//! The run is decided on as it is at the write: a lost compare-and-set only
//! makes the code decide again, which the dispatch model shows. What was *read
//! before* and is compared in the transaction is in [`Seen`] and [`Desk`].

use super::action::{Change, Duty, PostNo};
use super::shortcut::Shortcut;
use super::state::{Answer, Desk, Outcome, Outgoing, Phase, Post, Question, Seen, State, StepState, Verdict};
use super::{Capability, Publishing};

/// What a transaction finds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Write {
    Goes,
    Overtaken,
    DayFull,
    NoMoney,
    Stale,
}

impl Publishing {
    /// Whether the claim still runs the post.
    pub(crate) fn fence(s: &State, post: PostNo, claim: u8) -> bool {
        let post = s.post(post);
        post.step == StepState::Running && post.claim == claim
    }

    /// Reads everything and judges.
    pub(crate) fn judge(&self, s: &State, post: PostNo, claim: u8) -> Seen {
        let row = s.post(post);
        let verdict = match row.publication.state {
            Outgoing::Intent if row.publication.claim == claim => Verdict::Mine,
            Outgoing::Intent | Outgoing::Unknown => match self.capability {
                Capability::Idempotent if row.key || self.takes(Shortcut::KeyWindowIgnored) => {
                    Verdict::Repeat
                }
                Capability::Verifiable => Verdict::Look,
                Capability::Blind if self.takes(Shortcut::BlindRepeated) => Verdict::Repeat,
                Capability::Idempotent | Capability::Blind => Verdict::Ask,
            },
            _ if !s.policy.allows => Verdict::Forbidden,
            _ if !self.asks(s, row) => Verdict::Intend { approval: false },
            _ if self.is_approved(row) => Verdict::Intend { approval: true },
            _ => Verdict::Hold,
        };
        Seen {
            verdict,
            version: row.version,
            content: row.content,
            policy: s.policy.version,
            limit: s.policy.limit,
            counted: if self.takes(Shortcut::QuotaCounted) { s.used[usize::from(s.day)] } else { 0 },
            room: if self.takes(Shortcut::RoomReadBefore) { Self::room(s) } else { 0 },
        }
    }

    /// Whether a person has to say yes. Loosening the policy does not release
    /// what waited before.
    fn asks(&self, s: &State, row: &Post) -> bool {
        s.policy.asks || (row.held && !self.takes(Shortcut::LooseningReleases))
    }

    fn is_approved(&self, row: &Post) -> bool {
        row.question.answer == Answer::Approved
            && (row.question.content == row.content || self.takes(Shortcut::ApprovalNotBound))
    }

    /// On what TX1 stands.
    pub(crate) fn intent_may(&self, s: &State, post: PostNo, claim: u8, seen: Seen) -> Write {
        let row = s.post(post);
        if !Self::fence(s, post, claim) || row.intent || row.cancelled {
            return Write::Stale;
        }
        let policy = s.policy.version == seen.policy || self.takes(Shortcut::PolicyNotCompared);
        let approval = seen.verdict == Verdict::Intend { approval: false } || self.is_approved(row);
        let closed =
            matches!(row.publication.state, Outgoing::Absent | Outgoing::NotSent | Outgoing::Refused);
        if row.version != seen.version || !policy || !approval || !closed {
            return Write::Overtaken;
        }
        if !self.has_place(s, post, seen) {
            return Write::DayFull;
        }
        let room = if self.takes(Shortcut::RoomReadBefore) { seen.room } else { Self::room(s) };
        if self.price(row.content) <= room { Write::Goes } else { Write::NoMoney }
    }

    /// A place in every limit, or in none.
    pub(crate) fn has_place(&self, s: &State, post: PostNo, seen: Seen) -> bool {
        let day = usize::from(s.day);
        let workspace = if self.takes(Shortcut::QuotaCounted) { seen.counted } else { s.used[day] };
        workspace < seen.limit && s.used_by[self.account(post)][day] < self.account_limit
    }

    pub(crate) fn take_place(&self, s: &mut State, post: PostNo) {
        let day = usize::from(s.day);
        s.used[day] += 1;
        s.used_by[self.account(post)][day] += 1;
    }

    pub(crate) fn free_place(&self, s: &mut State, post: PostNo) {
        let publication = &mut s.post_mut(post).publication;
        if !publication.holds {
            return;
        }
        publication.holds = false;
        let day = usize::from(publication.day);
        s.used[day] -= 1;
        s.used_by[self.account(post)][day] -= 1;
    }

    /// Whether an unknown post may be sent once more with its key.
    pub(crate) fn repeat_may(&self, row: &Post) -> bool {
        let cancelled = row.cancelled
            && !self.takes(Shortcut::RepeatAfterCancel)
            && !self.takes(Shortcut::AbsentSentAtOnce);
        let forgotten = self.capability == Capability::Idempotent
            && !row.key
            && !self.takes(Shortcut::KeyWindowIgnored)
            && !self.takes(Shortcut::KeyWindowReadBefore);
        !cancelled && !forgotten
    }

    /// TX2: what became of it.
    pub(crate) fn conclude(&self, s: &mut State, post: PostNo, outcome: Outcome) {
        let max_attempts = self.max_attempts;
        let row = s.post_mut(post);
        row.claim = 0;
        match outcome {
            Outcome::Published => {
                row.publication.state = Outgoing::Published;
                row.intent = false;
                row.step = StepState::Succeeded;
            }
            Outcome::Unknown => {
                row.publication.state = Outgoing::Unknown;
                row.step = StepState::Unknown;
                if self.takes(Shortcut::UnknownFreesPlace) {
                    self.free_place(s, post);
                }
            }
            Outcome::NotSent | Outcome::Refused => {
                row.intent = false;
                let refused = outcome == Outcome::Refused;
                row.publication.state = if refused { Outgoing::Refused } else { Outgoing::NotSent };
                row.step = if row.cancelled {
                    StepState::Cancelled
                } else if refused || row.attempts >= max_attempts {
                    StepState::Dead
                } else {
                    StepState::Scheduled
                };
                if refused || !self.takes(Shortcut::NotSentKeepsPlace) {
                    self.free_place(s, post);
                }
                if !refused && self.takes(Shortcut::NotSentKeepsMoney) {
                    return;
                }
            }
        }
        self.settle_bill(s, post);
    }

    /// A person found out about a post in doubt; `None`: it is not there, and
    /// shall not be.
    pub(crate) fn settle(&self, s: &mut State, post: PostNo, there: Option<bool>) {
        let row = s.post_mut(post);
        row.intent = false;
        match there {
            Some(true) => {
                row.publication.state = Outgoing::Published;
                row.step = StepState::Succeeded;
                self.settle_bill(s, post);
                return;
            }
            Some(false) => {
                row.publication.state = Outgoing::NotSent;
                row.attempts = 0;
                row.step = if row.cancelled { StepState::Cancelled } else { StepState::Queued };
            }
            None => {
                row.publication.state = Outgoing::Refused;
                row.step = StepState::Failed;
            }
        }
        self.settle_bill(s, post);
        self.free_place(s, post);
    }

    /// running → what a dead session leaves.
    pub(crate) fn reap(row: &mut Post) {
        row.claim = 0;
        if row.intent {
            row.step = StepState::Unknown;
        } else {
            row.attempts = row.attempts.saturating_sub(1);
            row.step = StepState::Queued;
        }
    }

    /// Until a person says yes.
    pub(crate) fn hold(row: &mut Post) {
        if row.step == StepState::Running {
            row.attempts = row.attempts.saturating_sub(1);
        }
        row.claim = 0;
        row.step = StepState::WaitingApproval;
    }

    /// Everything that waits for no outcome ends.
    pub(crate) fn cancel(&self, row: &mut Post) {
        row.cancelled = true;
        if row.intent && !self.takes(Shortcut::CancelIgnoresIntent) {
            return;
        }
        row.step = StepState::Cancelled;
        row.claim = 0;
        row.intent = false;
        if row.question.answer == Answer::Pending {
            row.question.answer = Answer::None;
        }
    }

    /// Whether people may still change or withdraw the post.
    pub(crate) fn is_changeable(row: &Post) -> bool {
        !row.intent && !row.step.is_final() && row.step != StepState::Dead
    }

    /// Whether what somebody decided on what they saw may be written.
    pub(crate) fn decision_stands(&self, s: &State, desk: &Desk) -> bool {
        let row = s.post(post_of(desk.duty));
        let asked = row.question.answer == Answer::Pending
            && (row.question.content == desk.question.content || self.takes(Shortcut::ApprovalNotBound))
            && row.step == StepState::WaitingApproval;
        match desk.duty {
            Duty::Approve(_) => asked,
            Duty::Expire(_) => asked || self.takes(Shortcut::ExpiryWithoutCompare),
            Duty::Reject(_) => row.version == desk.version && Self::is_changeable(row),
            Duty::Edit(_) | Duty::EditAndApprove(_) => {
                let blind = Post { intent: row.intent && !self.takes(Shortcut::EditIgnoresIntent), ..*row };
                row.version == desk.version && Self::is_changeable(&blind)
            }
        }
    }

    /// Writes it.
    pub(crate) fn decision(&self, s: &mut State, desk: &Desk) {
        let asks = self.asks(s, s.post(post_of(desk.duty)));
        let row = s.post_mut(post_of(desk.duty));
        match desk.duty {
            Duty::Approve(_) => {
                row.question.answer = Answer::Approved;
                row.step = StepState::Queued;
                row.approved |= 1 << desk.question.content;
            }
            Duty::Expire(_) => {
                row.question.answer = Answer::Expired;
                withdraw(row);
            }
            Duty::Reject(_) => {
                row.question.answer = match row.question.answer {
                    Answer::Pending => Answer::Rejected,
                    _ => Answer::None,
                };
                withdraw(row);
            }
            Duty::Edit(_) => {
                row.version += 1;
                row.content += 1;
                if self.takes(Shortcut::ApprovalNotBound) && row.question.answer != Answer::None {
                    // The answer, given or awaited, is about the post.
                    return;
                }
                if asks {
                    row.question = Question { answer: Answer::Pending, content: row.content };
                    row.held = true;
                    Self::hold(row);
                } else {
                    row.question.answer = Answer::None;
                    self.look_again(row);
                }
            }
            Duty::EditAndApprove(_) => {
                row.version += 1;
                row.content += 1;
                row.question = Question { answer: Answer::Approved, content: row.content };
                row.held = true;
                row.approved |= 1 << row.content;
                self.look_again(row);
            }
        }
    }

    /// An edited post is judged again; who was about to send it is overtaken.
    fn look_again(&self, row: &mut Post) {
        if row.step == StepState::WaitingBudget && self.takes(Shortcut::EditLeavesWait) {
            return;
        }
        if row.step == StepState::Running {
            row.attempts = row.attempts.saturating_sub(1);
        }
        row.claim = 0;
        row.step = StepState::Queued;
    }

    /// Another policy.
    pub(crate) fn set_policy(&self, s: &mut State, to: Change) {
        s.policy.version += 1;
        match to {
            Change::Asks => s.policy.asks = true,
            Change::Loose => s.policy.asks = false,
            Change::Forbids => s.policy.allows = false,
            Change::Lower => s.policy.limit -= 1,
            Change::Raise => s.policy.limit += 1,
        }
        if to == Change::Loose && self.takes(Shortcut::LooseningReleases) {
            for row in &mut s.posts {
                if row.step == StepState::WaitingApproval {
                    row.question.answer = Answer::None;
                    row.step = StepState::Queued;
                }
            }
        }
    }

    /// A post that is final, or waits for something that has a name.
    pub(crate) fn is_settled(&self, s: &State) -> bool {
        self.posts().all(|post| match s.post(post).step {
            StepState::WaitsForDay => s.left.days == 0,
            StepState::WaitingBudget => s.left.days == 0 && Self::room(s) < self.price(s.post(post).content),
            StepState::WaitingApproval | StepState::Dead => true,
            step => step.is_final(),
        })
    }
}

/// Rejected or expired.
fn withdraw(row: &mut Post) {
    row.version += 1;
    row.step = StepState::Skipped;
    row.claim = 0;
    row.intent = false;
}

pub(crate) fn post_of(duty: Duty) -> PostNo {
    match duty {
        Duty::Approve(post)
        | Duty::Reject(post)
        | Duty::Edit(post)
        | Duty::EditAndApprove(post)
        | Duty::Expire(post) => post,
    }
}

/// What a call that did not put the post there says about it. An earlier call
/// of unknown outcome may have.
pub(crate) fn told(outcome: Outcome, doubtful: bool) -> Outcome {
    match outcome {
        Outcome::NotSent | Outcome::Refused if doubtful => Outcome::Unknown,
        other => other,
    }
}

/// Judged, or with places taken besides.
pub(crate) fn judged(phase: Phase) -> Option<(PostNo, u8, Seen)> {
    match phase {
        Phase::Judged { post, claim, seen } | Phase::Taken { post, claim, seen } => Some((post, claim, seen)),
        _ => None,
    }
}
