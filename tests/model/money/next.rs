//! What each action does. Nothing here asks whether an action is possible; that
//! is `possible.rs`. What the provider truly billed, no shortcut can hide.

use super::Money;
use super::action::{Action, CallNo};
use super::shortcut::Shortcut;
use super::state::{Phase, Row, State, StepState};
use crate::action::Reply;

impl Money {
    /// The state after an action that was possible.
    pub(crate) fn next(&self, before: &State, action: Action) -> State {
        let mut s = *before;
        match action {
            Action::LateAnswer { call, cost } => {
                let row = s.call_mut(self.key(call));
                row.wire = false;
                row.billed += cost;
            }
            Action::RequestVanishes { call } => s.call_mut(self.key(call)).wire = false,
            Action::Reap { step } => {
                if s.is_worked_on(step) {
                    s.left.stops -= 1;
                }
                let row = s.step_mut(step);
                row.claim = 0;
                row.state = self.again(row.drawn);
            }
            Action::ChargeLost { call } => {
                let cost = self.takes(Shortcut::LostIsDropped).then_some(0);
                self.book(&mut s, call, cost);
            }
            Action::Fund { step } => s.step_mut(step).state = StepState::Queued,
            Action::Raise => {
                s.left.raises -= 1;
                s.limit += 1;
                self.wake(&mut s);
            }
            Action::DayTurns => {
                s.left.days -= 1;
                s.day += 1;
                self.wake(&mut s);
            }
            Action::Cancel { step } => {
                s.left.cancels -= 1;
                let row = s.step_mut(step);
                row.cancelled = true;
                row.claim = 0;
                row.state = StepState::Cancelled;
            }
            Action::Claim { worker, step } => {
                let row = s.step_mut(step);
                row.state = StepState::Running;
                row.drawn += 1;
                row.claim = row.drawn;
                let call = CallNo { step, claim: row.claim, call: 0 };
                s.workers[usize::from(worker)] = Phase::Asks(call);
            }
            Action::Check { worker }
            | Action::Reserve { worker, .. }
            | Action::Refuse { worker }
            | Action::Wait { worker }
            | Action::Drop { worker }
            | Action::Answer { worker, .. }
            | Action::AnswerLost { worker, .. }
            | Action::GivesUp { worker }
            | Action::Settle { worker, .. }
            | Action::Repair { worker }
            | Action::Conclude { worker }
            | Action::Crash { worker }
            | Action::Restart { worker } => {
                let me = usize::from(worker);
                s.workers[me] = self.worker_next(&mut s, me, action);
            }
        }
        s
    }

    fn worker_next(&self, s: &mut State, me: usize, action: Action) -> Phase {
        let phase = s.workers[me];
        match (action, phase) {
            (Action::Crash { .. }, _) => {
                s.left.crashes -= 1;
                Phase::Down
            }
            (Action::Restart { .. } | Action::Drop { .. }, _) => Phase::Idle,
            (Action::Check { .. }, Phase::Asks(call)) => Phase::Checked(call),
            (Action::Refuse { .. }, Phase::Asks(call)) => Phase::Refused(call),
            (Action::Reserve { reply, .. }, Phase::Asks(call) | Phase::Checked(call)) => {
                if commits(s, reply) {
                    self.reserve(s, call);
                }
                match reply {
                    Reply::Ok => Phase::Funded(call),
                    // Repeated; one's own row is a yes.
                    _ => phase,
                }
            }
            // It is no attempt; a claim that left no row is as if it never was.
            (Action::Wait { .. }, Phase::Refused(call)) => {
                let row = s.step_mut(call.step);
                row.state = StepState::WaitingBudget;
                row.claim = 0;
                if call.call == 0 {
                    row.drawn -= 1;
                }
                Phase::Idle
            }
            (Action::Answer { cost, .. }, Phase::Funded(call) | Phase::Asks(call)) => {
                self.bills(s, call, cost);
                Phase::Answered(call, Some(cost))
            }
            (Action::AnswerLost { cost, .. }, Phase::Funded(call)) => {
                s.left.lost_answers -= 1;
                self.bills(s, call, cost);
                Phase::Answered(call, None)
            }
            (Action::GivesUp { .. }, Phase::Funded(call)) => {
                s.left.lost_answers -= 1;
                s.call_mut(self.key(call)).wire = true;
                Phase::Answered(call, None)
            }
            (Action::Settle { reply, .. }, Phase::Answered(call, bill)) => {
                if commits(s, reply) {
                    let cost = if self.takes(Shortcut::UnknownIsFree) { bill.or(Some(0)) } else { bill };
                    self.book(s, call, cost);
                }
                match reply {
                    Reply::Ok => Phase::Settled(call, bill.is_some_and(|cost| cost > 0)),
                    _ => phase,
                }
            }
            (Action::Repair { .. }, Phase::Settled(call, _)) => {
                Phase::Asks(CallNo { call: call.call + 1, ..call })
            }
            (Action::Conclude { .. }, Phase::Settled(call, answered)) => {
                let row = s.step_mut(call.step);
                row.claim = 0;
                row.state = if answered { StepState::Succeeded } else { self.again(row.drawn) };
                Phase::Idle
            }
            _ => phase,
        }
    }

    /// What a step without a result becomes.
    fn again(&self, drawn: u8) -> StepState {
        if drawn >= self.max_attempts { StepState::Dead } else { StepState::Queued }
    }

    /// Only with the shortcut: those who wait now are woken, nobody later.
    fn wake(&self, s: &mut State) {
        if self.takes(Shortcut::WokenByRoom) && s.room() >= self.bound {
            for step in &mut s.steps {
                if step.state == StepState::WaitingBudget {
                    step.state = StepState::Queued;
                }
            }
        }
    }

    /// The row that a call is known by.
    pub(crate) fn key(&self, call: CallNo) -> CallNo {
        if self.takes(Shortcut::KeyWithoutClaim) { CallNo { claim: 1, ..call } } else { call }
    }

    /// What is reserved for a call.
    pub(crate) fn reserves(&self) -> i8 {
        if self.takes(Shortcut::BoundIsAGuess) { 1 } else { self.bound }
    }

    /// The transaction of a reservation, when it goes.
    fn reserve(&self, s: &mut State, call: CallNo) {
        if !s.holds(call) {
            s.unheld = true;
        }
        let (day, micros) = (s.day, self.reserves());
        let row = s.call_mut(self.key(call));
        if row.row != Row::Absent {
            return;
        }
        row.row = Row::Reserved(micros);
        row.day = day;
        s.counters[usize::from(day)].reserved += micros;
    }

    /// What a call came to; `None`: its bound. A row moves once, but for a bill
    /// that replaces an estimate.
    fn book(&self, s: &mut State, call: CallNo, cost: Option<i8>) {
        let today = usize::from(s.day);
        let row = s.call_mut(self.key(call));
        let (freed, charged) = match row.row {
            Row::Reserved(bound) => (bound, 0),
            Row::Estimated(_) if cost.is_some() && self.takes(Shortcut::LateBillAdds) => (0, 0),
            Row::Estimated(charged) if cost.is_some() => (0, charged),
            Row::Absent if self.takes(Shortcut::ReserveAfterCall) => {
                row.day = today as u8;
                (0, 0)
            }
            Row::Settled(_) if self.takes(Shortcut::SettledTwice) => (0, 0),
            Row::Absent | Row::Settled(_) | Row::Estimated(_) => return,
        };
        let cost_or_bound = cost.unwrap_or(freed);
        row.row = if cost.is_some() { Row::Settled(cost_or_bound) } else { Row::Estimated(cost_or_bound) };
        let day = if self.takes(Shortcut::SettledToday) { today } else { usize::from(row.day) };
        let counter = &mut s.counters[day];
        counter.reserved -= freed;
        counter.spent += cost_or_bound - charged;
        self.wake(s);
    }

    /// The provider bills, whatever anybody wrote down.
    fn bills(&self, s: &mut State, call: CallNo, cost: i8) {
        let today = s.day;
        let row = s.call_mut(self.key(call));
        if row.row == Row::Absent {
            row.day = today;
        }
        row.billed += cost;
    }
}

fn commits(s: &mut State, reply: Reply) -> bool {
    if reply != Reply::Ok {
        s.left.lost_replies -= 1;
    }
    reply != Reply::LostRolledBack
}
