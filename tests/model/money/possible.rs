//! When each action is possible. [`Money::moves`] are what a healthy system does
//! by itself, in any order; [`Money::faults`] are what may go wrong, or be asked
//! for, within bounds. Nothing here changes a state; see `next.rs`.

use super::Money;
use super::action::Action;
use super::shortcut::Shortcut;
use super::state::{Phase, Row, State, StepState, WORKERS};
use crate::action::Reply;

impl Money {
    /// What a healthy system does next.
    pub(crate) fn moves(&self, s: &State, out: &mut Vec<Action>) {
        for worker in 0..WORKERS as u8 {
            self.worker_moves(s, worker, out);
        }
        for step in self.steps() {
            let row = s.step(step);
            match row.state {
                StepState::Running if !s.is_worked_on(step) => out.push(Action::Reap { step }),
                StepState::WaitingBudget if s.room() >= self.bound && !self.takes(Shortcut::WokenByRoom) => {
                    out.push(Action::Fund { step });
                }
                _ => {}
            }
        }
        for (call, row) in s.calls() {
            if row.wire {
                out.extend([1, self.bound].map(|cost| Action::LateAnswer { call, cost }));
                out.push(Action::RequestVanishes { call });
            }
            if matches!(row.row, Row::Reserved(_)) && !s.holds(call) && !self.takes(Shortcut::LostIsForgotten)
            {
                out.push(Action::ChargeLost { call });
            }
        }
        if s.left.days > 0 {
            out.push(Action::DayTurns);
        }
    }

    fn worker_moves(&self, s: &State, worker: u8, out: &mut Vec<Action>) {
        match s.workers[usize::from(worker)] {
            Phase::Down => out.push(Action::Restart { worker }),
            Phase::Idle => {
                // Of two idle workers the first takes it: they are alike.
                if worker == 0 || s.workers[0] != Phase::Idle {
                    let queued = self.steps().filter(|&step| s.step(step).state == StepState::Queued);
                    out.extend(queued.map(|step| Action::Claim { worker, step }));
                }
            }
            Phase::Asks(call) => {
                if !s.holds(call) && !self.takes(Shortcut::UnfencedReserve) {
                    out.push(Action::Drop { worker });
                } else if self.takes(Shortcut::ReserveAfterCall) {
                    out.extend([1, self.bound].map(|cost| Action::Answer { worker, cost }));
                } else if s.call(self.key(call)).row == Row::Absent && s.room() < self.reserves() {
                    out.push(Action::Refuse { worker });
                } else if self.takes(Shortcut::CheckWithoutLock) {
                    out.push(Action::Check { worker });
                } else {
                    out.push(Action::Reserve { worker, reply: Reply::Ok });
                }
            }
            Phase::Checked(_) => out.push(Action::Reserve { worker, reply: Reply::Ok }),
            Phase::Refused(call) => {
                out.push(if s.holds(call) { Action::Wait { worker } } else { Action::Drop { worker } });
            }
            Phase::Funded(_) => {
                out.extend([0, 1, self.bound].map(|cost| Action::Answer { worker, cost }));
            }
            Phase::Answered(..) => out.push(Action::Settle { worker, reply: Reply::Ok }),
            Phase::Settled(call, _) if !s.holds(call) => out.push(Action::Drop { worker }),
            Phase::Settled(call, answered) => {
                if answered && call.call + 1 < self.calls {
                    out.push(Action::Repair { worker });
                }
                out.push(Action::Conclude { worker });
            }
        }
    }

    /// What may go wrong, or be asked for, next.
    pub(crate) fn faults(&self, s: &State, out: &mut Vec<Action>) {
        let left = &s.left;
        for worker in 0..WORKERS as u8 {
            let phase = s.workers[usize::from(worker)];
            if left.crashes > 0 && phase.work().is_some() {
                out.push(Action::Crash { worker });
            }
            if left.lost_answers > 0 && matches!(phase, Phase::Funded(_)) {
                out.push(Action::AnswerLost { worker, cost: self.bound });
                out.push(Action::GivesUp { worker });
            }
            if left.lost_replies > 0 {
                self.lost_replies(s, worker, out);
            }
        }
        for step in self.steps() {
            let row = s.step(step);
            if left.stops > 0 && row.state == StepState::Running && s.is_worked_on(step) {
                out.push(Action::Reap { step });
            }
            if left.cancels > 0 && !row.cancelled && !row.state.is_final() {
                out.push(Action::Cancel { step });
            }
        }
        if left.raises > 0 {
            out.push(Action::Raise);
        }
    }

    fn lost_replies(&self, s: &State, worker: u8, out: &mut Vec<Action>) {
        let mut moves = Vec::new();
        self.worker_moves(s, worker, &mut moves);
        for action in moves {
            for reply in [Reply::LostCommitted, Reply::LostRolledBack] {
                match action {
                    Action::Reserve { .. } => out.push(Action::Reserve { worker, reply }),
                    Action::Settle { .. } => out.push(Action::Settle { worker, reply }),
                    _ => {}
                }
            }
        }
    }

    /// Nothing is left to do but by a raise: every step is final or waits for
    /// money that is not there, and no reservation is left.
    pub(crate) fn is_settled(&self, s: &State) -> bool {
        let steps = self.steps().all(|step| match s.step(step).state {
            StepState::WaitingBudget => s.room() < self.bound && s.left.days == 0,
            state => state.is_final(),
        });
        steps && s.calls().all(|(_, call)| !call.wire && !matches!(call.row, Row::Reserved(_)))
    }
}
