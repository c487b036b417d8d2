//! When each action is possible: publishers, time, people and the faults.
//!
//! [`Publishing::moves`] are what a healthy system does by itself, in any order;
//! [`Publishing::faults`] are what may go wrong, or be asked for, within bounds.
//! Nothing here changes a state; see `next.rs`.

use super::action::{Action, Change, Duty, PostNo};
use super::decide::Write;
use super::shortcut::Shortcut;
use super::state::{Answer, Outgoing, PUBLISHERS, Phase, Publisher, Seen, State, StepState, Verdict};
use super::{Capability, Publishing};
use crate::action::Reply;

const IDLE: Publisher = Publisher { phase: Phase::Idle, window: false };

impl Publishing {
    /// What a healthy system does next.
    pub(crate) fn moves(&self, s: &State, out: &mut Vec<Action>) {
        for publisher in 0..PUBLISHERS as u8 {
            self.publisher_moves(s, publisher, out);
        }
        for post in self.posts() {
            let row = s.post(post);
            if row.wire > 0 {
                out.extend([Action::LateEffect { post }, Action::RequestVanishes { post }]);
            }
            match row.step {
                StepState::Running if !s.is_worked_on(post) => out.push(Action::Reap { post }),
                StepState::Scheduled => out.push(Action::Due { post }),
                StepState::WaitingBudget if Self::is_funded(s, post) => out.push(Action::Fund { post }),
                StepState::Unknown if !s.may_still_go_out(post) || self.takes(Shortcut::AbsentTooEarly) => {
                    out.push(Action::RestOver { post });
                }
                StepState::InDoubt => {
                    let there = row.effects > 0;
                    out.push(Action::Settle { post, there });
                    if !there {
                        out.push(Action::GiveUp { post });
                    }
                }
                _ => {}
            }
        }
        // Nothing is begun so late that it could go out on the next day.
        if s.left.days > 0 && !self.posts().any(|post| s.may_still_go_out(post)) {
            out.push(Action::DayTurns);
        }
        for (desk, open) in (0..).zip(&s.desks) {
            if let Some(open) = open {
                let duty = open.duty;
                out.push(if self.decision_stands(s, open) {
                    Action::Decide { desk, duty }
                } else {
                    Action::Conflict { desk, duty }
                });
            }
        }
    }

    fn publisher_moves(&self, s: &State, publisher: u8, out: &mut Vec<Action>) {
        let me = &s.publishers[usize::from(publisher)];
        match me.phase {
            Phase::Down => out.push(Action::Restart { publisher }),
            Phase::Idle => {
                // Of two idle publishers the first takes it: they are alike.
                if publisher == 0 || s.publishers[0] != IDLE {
                    let queued = self.posts().filter(|&post| s.post(post).step == StepState::Queued);
                    out.extend(queued.map(|post| Action::Claim { publisher, post }));
                }
            }
            Phase::Claimed { .. } => out.push(Action::Judge { publisher }),
            Phase::Judged { post, claim, seen } => {
                out.push(self.judged_move(s, publisher, (post, claim), seen));
            }
            Phase::Taken { post, claim, seen } => out.push(match self.intent_may(s, post, claim, seen) {
                Write::Goes | Write::DayFull => Action::Intend { publisher, reply: Reply::Ok },
                Write::NoMoney => Action::Unfunded { publisher },
                Write::Overtaken => Action::Again { publisher },
                Write::Stale => Action::Drop { publisher },
            }),
            Phase::Armed { .. } if me.window => out.push(Action::Post { publisher }),
            Phase::Armed { .. } => {
                out.push(Action::TooLate { publisher });
                if self.takes(Shortcut::SendsAfterNotAfter) {
                    out.push(Action::Post { publisher });
                }
            }
            Phase::Sent { post, claim, .. } => out.push(if Self::fence(s, post, claim) {
                Action::Conclude { publisher, reply: Reply::Ok }
            } else {
                Action::Drop { publisher }
            }),
        }
    }

    /// Looking and recognising write nothing: nobody fences them.
    fn judged_move(&self, s: &State, publisher: u8, (post, claim): (PostNo, u8), seen: Seen) -> Action {
        let row = s.post(post);
        match seen.verdict {
            Verdict::Mine => Action::Recognise { publisher },
            Verdict::Look => Action::Look { publisher },
            Verdict::Intend { .. } => match self.intent_may(s, post, claim, seen) {
                Write::Goes if self.takes(Shortcut::QuotaOutsideIntent) => Action::Take { publisher },
                Write::Goes => Action::Intend { publisher, reply: Reply::Ok },
                Write::DayFull => Action::NextDay { publisher },
                Write::NoMoney => Action::Unfunded { publisher },
                Write::Overtaken => Action::Again { publisher },
                Write::Stale => Action::Drop { publisher },
            },
            _ if !Self::fence(s, post, claim) => Action::Drop { publisher },
            Verdict::Forbidden => Action::Forbid { publisher },
            Verdict::Hold if row.version != seen.version => Action::Again { publisher },
            Verdict::Hold => Action::Hold { publisher },
            Verdict::Repeat if self.repeat_may(row) => Action::Repeat { publisher, reply: Reply::Ok },
            Verdict::Repeat | Verdict::Ask => Action::Doubt { publisher },
        }
    }

    /// What may go wrong, or be asked for, next.
    pub(crate) fn faults(&self, s: &State, out: &mut Vec<Action>) {
        let left = &s.left;
        for publisher in 0..PUBLISHERS as u8 {
            self.publisher_faults(s, publisher, out);
        }
        for post in self.posts() {
            let row = s.post(post);
            if left.stops > 0 && row.step == StepState::Running && s.is_worked_on(post) {
                out.push(Action::Reap { post });
            }
            if left.forgets > 0 && self.may_be_forgotten(s, post) {
                out.push(Action::KeyForgotten { post });
            }
            if left.cancels > 0 && !row.cancelled && !row.step.is_final() {
                out.push(Action::Cancel { post });
            }
            self.people(s, post, out);
        }
        if left.policies > 0 {
            out.push(Action::SetPolicy { to: if s.policy.asks { Change::Loose } else { Change::Asks } });
            if s.policy.allows {
                out.push(Action::SetPolicy { to: Change::Forbids });
            }
        }
        if left.raises > 0 {
            out.push(Action::Raise);
        }
        if left.limits > 0 {
            out.push(Action::SetPolicy { to: Change::Raise });
            if s.policy.limit > 0 {
                out.push(Action::SetPolicy { to: Change::Lower });
            }
        }
    }

    /// The platform keeps the key for longer than the transaction that repeats
    /// allows for sending.
    fn may_be_forgotten(&self, s: &State, post: PostNo) -> bool {
        let row = s.post(post);
        self.capability == Capability::Idempotent
            && row.key
            && matches!(row.publication.state, Outgoing::Intent | Outgoing::Unknown)
            && (!s.may_still_go_out(post) || self.takes(Shortcut::KeyWindowToItsEnd))
    }

    fn people(&self, s: &State, post: PostNo, out: &mut Vec<Action>) {
        let Some(desk) = s.desks.iter().position(Option::is_none) else { return };
        let (desk, left, row) = (desk as u8, &s.left, s.post(post));
        let mut look = |budget: u8, duty: Duty| {
            // The same from both desks is the same.
            let already = s.desks.iter().flatten().any(|open| open.duty == duty);
            if budget > 0 && !already {
                out.push(Action::LookAt { desk, duty });
            }
        };
        if row.question.answer == Answer::Pending {
            look(left.approvals, Duty::Approve(post));
            look(left.expiries, Duty::Expire(post));
        }
        if Self::is_changeable(row) {
            look(left.rejections, Duty::Reject(post));
            look(left.edits, Duty::Edit(post));
            look(left.edits, Duty::EditAndApprove(post));
        }
    }

    fn publisher_faults(&self, s: &State, publisher: u8, out: &mut Vec<Action>) {
        let left = &s.left;
        let me = &s.publishers[usize::from(publisher)];
        if left.crashes > 0 && me.phase.work().is_some() {
            out.push(Action::Crash { publisher });
        }
        if left.sleeps > 0 && me.window {
            out.push(Action::WindowPasses { publisher });
        }
        if left.lost_replies > 0 {
            let mut moves = Vec::new();
            self.publisher_moves(s, publisher, &mut moves);
            for action in moves {
                for reply in [Reply::LostCommitted, Reply::LostRolledBack] {
                    match action {
                        Action::Intend { .. } => out.push(Action::Intend { publisher, reply }),
                        Action::Repeat { .. } => out.push(Action::Repeat { publisher, reply }),
                        Action::Conclude { .. } => out.push(Action::Conclude { publisher, reply }),
                        _ => {}
                    }
                }
            }
        }
        match me.phase {
            Phase::Armed { .. } if me.window => {
                if left.failures > 0 {
                    out.extend([Action::Refused { publisher }, Action::NotSent { publisher }]);
                }
                if left.lost_answers > 0 {
                    out.extend([Action::ReplyLost { publisher }, Action::GivesUp { publisher }]);
                }
            }
            Phase::Judged { seen: Seen { verdict: Verdict::Look, .. }, .. } if left.failures > 0 => {
                out.push(Action::LookFails { publisher });
            }
            _ => {}
        }
    }
}
