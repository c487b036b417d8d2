//! What each action does: publishers, desks, time, the platform and the faults,
//! around the decisions of `decide.rs`.
//!
//! Nothing here asks whether an action is possible; that is `possible.rs`. What
//! the outside world knows, and no shortcut can hide, is written down here.

use super::action::{Action, Change, Duty, PostNo};
use super::decide::{judged, post_of, told};
use super::shortcut::Shortcut;
use super::state::{
    Answer, Broken, Desk, Outcome, Outgoing, Phase, Publication, Question, Seen, State, StepState, Verdict,
};
use super::{Capability, Publishing};
use crate::action::Reply;

impl Publishing {
    /// The state after an action that was possible.
    pub(crate) fn next(&self, before: &State, action: Action) -> State {
        let mut s = *before;
        match action {
            Action::LateEffect { post } => {
                s.post_mut(post).wire -= 1;
                self.effect_happens(&mut s, post);
            }
            Action::RequestVanishes { post } => s.post_mut(post).wire -= 1,
            Action::KeyForgotten { post } => {
                s.left.forgets -= 1;
                s.post_mut(post).key = false;
            }
            Action::Reap { post } => {
                if s.is_worked_on(post) {
                    s.left.stops -= 1;
                }
                Self::reap(s.post_mut(post));
                self.worker_lost(&mut s, post);
            }
            Action::Due { post } | Action::RestOver { post } => s.post_mut(post).step = StepState::Queued,
            Action::Fund { post } => s.post_mut(post).step = StepState::Queued,
            Action::Raise => {
                s.left.raises -= 1;
                s.purse.budget += 1;
            }
            Action::DayTurns => {
                s.day += 1;
                s.left.days -= 1;
                for post in &mut s.posts {
                    if post.step == StepState::WaitsForDay {
                        post.step = StepState::Scheduled;
                    }
                }
            }
            Action::LookAt { desk, duty } => {
                match duty {
                    Duty::Approve(_) => s.left.approvals -= 1,
                    Duty::Reject(_) => s.left.rejections -= 1,
                    Duty::Edit(_) | Duty::EditAndApprove(_) => s.left.edits -= 1,
                    Duty::Expire(_) => s.left.expiries -= 1,
                }
                let row = s.post(post_of(duty));
                let (version, question) = (row.version, row.question);
                s.desks[usize::from(desk)] = Some(Desk { duty, version, question });
            }
            Action::Decide { desk, .. } => {
                if let Some(desk) = s.desks[usize::from(desk)].take() {
                    self.decision(&mut s, &desk);
                }
            }
            Action::Conflict { desk, .. } => s.desks[usize::from(desk)] = None,
            Action::Settle { post, there } => self.settle(&mut s, post, Some(there)),
            Action::GiveUp { post } => self.settle(&mut s, post, None),
            Action::Cancel { post } => {
                s.left.cancels -= 1;
                self.cancel(s.post_mut(post));
            }
            Action::SetPolicy { to } => {
                match to {
                    Change::Lower | Change::Raise => s.left.limits -= 1,
                    Change::Asks | Change::Loose | Change::Forbids => s.left.policies -= 1,
                }
                self.set_policy(&mut s, to);
            }
            Action::WindowPasses { publisher } => {
                s.left.sleeps -= 1;
                s.publishers[usize::from(publisher)].window = false;
            }
            Action::Claim { publisher, post } => {
                let row = s.post_mut(post);
                row.step = StepState::Running;
                row.drawn += 1;
                row.attempts += 1;
                row.claim = row.drawn;
                let claim = row.claim;
                s.publishers[usize::from(publisher)].phase = Phase::Claimed { post, claim };
            }
            Action::Judge { publisher }
            | Action::Forbid { publisher }
            | Action::Hold { publisher }
            | Action::Intend { publisher, .. }
            | Action::NextDay { publisher }
            | Action::Unfunded { publisher }
            | Action::Again { publisher }
            | Action::Drop { publisher }
            | Action::Recognise { publisher }
            | Action::Repeat { publisher, .. }
            | Action::Look { publisher }
            | Action::LookFails { publisher }
            | Action::Doubt { publisher }
            | Action::Post { publisher }
            | Action::Refused { publisher }
            | Action::NotSent { publisher }
            | Action::ReplyLost { publisher }
            | Action::GivesUp { publisher }
            | Action::TooLate { publisher }
            | Action::Conclude { publisher, .. }
            | Action::Crash { publisher }
            | Action::Restart { publisher }
            | Action::Take { publisher } => {
                let me = usize::from(publisher);
                let phase = self.publisher_next(&mut s, me, action);
                s.publishers[me].phase = phase;
                // Whoever cannot send under its intent any more has no window.
                if matches!(phase, Phase::Idle | Phase::Down | Phase::Sent { .. }) {
                    s.publishers[me].window = false;
                }
            }
        }
        audit(before, &mut s);
        s
    }

    fn publisher_next(&self, s: &mut State, me: usize, action: Action) -> Phase {
        let phase = s.publishers[me].phase;
        match (action, phase) {
            (Action::Crash { .. }, _) => {
                s.left.crashes -= 1;
                Phase::Down
            }
            (Action::Restart { .. } | Action::Drop { .. }, _) => {
                self.give_back_taken(s, phase);
                Phase::Idle
            }
            (Action::Judge { .. }, Phase::Claimed { post, claim }) => {
                Phase::Judged { post, claim, seen: self.judge(s, post, claim) }
            }
            (Action::Post { .. }, Phase::Armed { post, claim, .. }) => {
                self.effect_happens(s, post);
                Phase::Sent { post, claim, outcome: Outcome::Published }
            }
            (Action::ReplyLost { .. }, Phase::Armed { post, claim, .. }) => {
                s.left.lost_answers -= 1;
                self.effect_happens(s, post);
                Phase::Sent { post, claim, outcome: Outcome::Unknown }
            }
            (Action::GivesUp { .. }, Phase::Armed { post, claim, .. }) => {
                s.left.lost_answers -= 1;
                s.post_mut(post).wire += 1;
                Phase::Sent { post, claim, outcome: Outcome::Unknown }
            }
            (Action::Refused { .. }, Phase::Armed { post, claim, doubtful }) => {
                s.left.failures -= 1;
                Phase::Sent { post, claim, outcome: self.told(Outcome::Refused, doubtful) }
            }
            (Action::NotSent { .. }, Phase::Armed { post, claim, doubtful }) => {
                s.left.failures -= 1;
                Phase::Sent { post, claim, outcome: self.told(Outcome::NotSent, doubtful) }
            }
            (Action::TooLate { .. }, Phase::Armed { post, claim, doubtful }) => {
                Phase::Sent { post, claim, outcome: self.told(Outcome::NotSent, doubtful) }
            }
            (Action::Conclude { reply, .. }, Phase::Sent { post, claim, outcome }) => {
                if self.commits(s, reply) {
                    self.conclude(s, post, outcome);
                }
                match reply {
                    Reply::Ok => Phase::Idle,
                    _ => Phase::Sent { post, claim, outcome },
                }
            }
            _ => match judged(phase) {
                Some((post, claim, seen)) => self.judged_next(s, me, action, (post, claim), seen),
                None => phase,
            },
        }
    }

    fn judged_next(
        &self,
        s: &mut State,
        me: usize,
        action: Action,
        (post, claim): (PostNo, u8),
        seen: Seen,
    ) -> Phase {
        let phase = s.publishers[me].phase;
        match action {
            Action::Again { .. } => {
                self.give_back_taken(s, phase);
                Phase::Claimed { post, claim }
            }
            Action::Forbid { .. } => {
                let row = s.post_mut(post);
                row.step = StepState::Dead;
                row.claim = 0;
                Phase::Idle
            }
            Action::Hold { .. } => {
                let row = s.post_mut(post);
                row.question = Question { answer: Answer::Pending, content: row.content };
                row.held = true;
                Self::hold(row);
                Phase::Idle
            }
            Action::NextDay { .. } => {
                if self.takes(Shortcut::QuotaInParts) && s.used[usize::from(s.day)] < seen.limit {
                    s.used[usize::from(s.day)] += 1;
                }
                let row = s.post_mut(post);
                row.attempts = row.attempts.saturating_sub(1);
                row.version += 1;
                row.claim = 0;
                row.step = StepState::WaitsForDay;
                Phase::Idle
            }
            Action::Unfunded { .. } => {
                self.give_back_taken(s, phase);
                self.wait_for_money(s, post, seen.content);
                Phase::Idle
            }
            Action::Take { .. } => {
                self.take_place(s, post);
                Phase::Taken { post, claim, seen }
            }
            Action::Intend { reply, .. } => {
                if self.commits(s, reply) {
                    if !matches!(phase, Phase::Taken { .. }) {
                        self.take_place(s, post);
                    }
                    self.intend(s, post, claim, seen);
                    s.publishers[me].window = true;
                }
                match reply {
                    Reply::Ok => Phase::Armed { post, claim, doubtful: false },
                    _ => Phase::Claimed { post, claim },
                }
            }
            Action::Recognise { .. } => {
                if self.takes(Shortcut::RecognisedStartsOver) {
                    s.publishers[me].window = true;
                }
                Phase::Armed { post, claim, doubtful: s.post(post).publication.repeated }
            }
            Action::Repeat { reply, .. } => {
                if self.commits(s, reply) {
                    if s.post(post).cancelled {
                        s.breaks(Broken::AfterCancel);
                    }
                    let publication = &mut s.post_mut(post).publication;
                    publication.state = Outgoing::Intent;
                    publication.claim = claim;
                    publication.repeated = true;
                    s.publishers[me].window = true;
                }
                match reply {
                    Reply::Ok => {
                        let doubtful = !self.takes(Shortcut::AbsentSentAtOnce);
                        Phase::Armed { post, claim, doubtful }
                    }
                    _ => Phase::Claimed { post, claim },
                }
            }
            Action::Look { .. } => {
                let there = s.post(post).effects > 0;
                if !there && self.takes(Shortcut::AbsentSentAtOnce) {
                    return Phase::Judged { post, claim, seen: Seen { verdict: Verdict::Repeat, ..seen } };
                }
                let outcome = if there { Outcome::Published } else { Outcome::NotSent };
                Phase::Sent { post, claim, outcome }
            }
            Action::LookFails { .. } => {
                s.left.failures -= 1;
                Phase::Sent { post, claim, outcome: Outcome::Unknown }
            }
            Action::Doubt { .. } => {
                let row = s.post_mut(post);
                row.publication.state = Outgoing::InDoubt;
                row.step = StepState::InDoubt;
                row.claim = 0;
                self.settle_bill(s, post);
                Phase::Idle
            }
            _ => phase,
        }
    }

    fn told(&self, outcome: Outcome, doubtful: bool) -> Outcome {
        told(outcome, doubtful && !self.takes(Shortcut::RefusalOfRepeatCounts))
    }

    /// Without the shortcut nothing is ever taken outside an intent.
    fn give_back_taken(&self, s: &mut State, phase: Phase) {
        if let Phase::Taken { post, .. } = phase {
            let day = usize::from(s.day);
            s.used[day] -= 1;
            s.used_by[self.account(post)][day] -= 1;
        }
    }

    /// TX1 commits. What it really stood on is known here.
    fn intend(&self, s: &mut State, post: PostNo, claim: u8, seen: Seen) {
        let (policy, day) = (s.policy, s.day);
        let row = s.post_mut(post);
        row.intent = true;
        let asked = policy.asks || row.held;
        let cancelled = row.cancelled;
        row.publication = Publication {
            state: Outgoing::Intent,
            claim,
            content: if self.takes(Shortcut::ApprovalNotBound) { row.content } else { seen.content },
            repeated: false,
            day,
            holds: true,
            asked,
        };
        // What is known not to be out begins anew.
        row.key = true;
        let content = row.publication.content;
        self.reserve(s, post, content);
        if !policy.allows {
            s.breaks(Broken::Forbidden);
        }
        if cancelled {
            s.breaks(Broken::AfterCancel);
        }
        let (workspace, account) = self.occupied(s, day, post);
        if workspace > policy.limit || account > self.account_limit {
            s.breaks(Broken::OverLimit);
        }
    }

    /// Posts that may be out or are out by a place of that day: in the
    /// workspace, and in the account of a post.
    pub(crate) fn occupied(&self, s: &State, day: u8, of: PostNo) -> (u8, u8) {
        let (mut workspace, mut account) = (0, 0);
        for post in self.posts() {
            let publication = s.post(post).publication;
            let counts = matches!(
                publication.state,
                Outgoing::Intent | Outgoing::Unknown | Outgoing::InDoubt | Outgoing::Published
            );
            if counts && publication.day == day {
                workspace += 1;
                account += u8::from(self.account(post) == self.account(of));
            }
        }
        (workspace, account)
    }

    /// The platform acts. What should never have come is known here.
    fn effect_happens(&self, s: &mut State, post: PostNo) {
        let day = s.day;
        let row = s.post_mut(post);
        let repeatable = self.capability == Capability::Idempotent;
        if repeatable && row.effects > 0 && row.key {
            return;
        }
        row.effects = (row.effects + 1).min(2);
        self.platform_takes(s, post);
        let row = s.post_mut(post);
        let publication = row.publication;
        let approved = row.approved & (1 << publication.content) != 0;
        let withdrawn = row.step.is_final() || publication.content != row.content;
        if publication.asked && !approved {
            s.breaks(Broken::Unapproved);
        }
        if withdrawn {
            s.breaks(Broken::Withdrawn);
        }
        // A repetition cannot know when the call before it was heard.
        if publication.day != day && !(repeatable && publication.repeated) {
            s.breaks(Broken::WrongDay);
        }
    }

    fn commits(&self, s: &mut State, reply: Reply) -> bool {
        if reply != Reply::Ok {
            s.left.lost_replies -= 1;
        }
        reply != Reply::LostRolledBack
    }
}

/// What no transition may do.
fn audit(before: &State, after: &mut State) {
    for (old, new) in before.posts.iter().zip(after.posts) {
        if old.step.is_final() && new.step != old.step {
            after.breaks(Broken::FinalChanged);
        }
        let answered = matches!(old.question.answer, Answer::Approved | Answer::Rejected | Answer::Expired);
        let again = matches!(new.question.answer, Answer::None | Answer::Pending);
        let same_bytes = old.question.content == new.question.content;
        if answered && !again && same_bytes && new.question.answer != old.question.answer {
            after.breaks(Broken::AnswerChanged);
        }
    }
}
