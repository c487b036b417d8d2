//! When each action is possible: for the shells, Redis, the platform and time.
//!
//! [`Protocol::moves`] are what a healthy system does by itself, in any order;
//! [`Protocol::faults`] are what may go wrong or be commanded, within bounds. A
//! state with no move that is not settled is stuck: see `property.rs`. Nothing
//! here changes a state; see `next.rs`.

use crate::action::{Action, Duty, Outcome, Reply};
use crate::decide::{ClaimVerdict, Verdict};
use crate::protocol::{Effect, Protocol};
use crate::shortcut::Shortcut;
use crate::state::{Desk, Phase, Run, State, StepState, Ticket, WORKERS};

impl Protocol {
    /// What a healthy system does next.
    pub(crate) fn moves(&self, s: &State, out: &mut Vec<Action>) {
        for worker in 0..WORKERS as u8 {
            self.worker_moves(s, worker, out);
            let bit = 1 << worker;
            if s.wire & bit != 0 {
                out.extend([Action::LateEffect { worker }, Action::RequestVanishes { worker }]);
            } else if s.window & bit != 0 {
                // The resolver's wait covers `not_after` and the timeout.
                out.push(Action::WindowPasses { worker });
            }
        }
        for session in 0..u8::BITS as u8 {
            if s.is_open(session) && !s.is_renewed(session) {
                out.push(Action::CloseSession { session });
            }
        }
        for ticket in s.redis.in_flight.iter() {
            if !s.workers.iter().any(|worker| worker.phase.holds(ticket)) {
                out.push(Action::TicketReturns { ticket });
            }
        }
        match s.desk {
            None => self.duties(s, out),
            Some(desk) if outdated(s, &desk.run) => out.push(Action::DeskReload),
            Some(Desk { duty, .. }) => {
                out.push(Action::DeskWrite { duty, push_lost: false });
                if let Duty::Resolve(step) = duty {
                    out.push(Action::DeskInDoubt { step });
                }
            }
        }
        self.timers_and_people(s, out);
    }

    fn worker_moves(&self, s: &State, worker: u8, out: &mut Vec<Action>) {
        let w = &s.workers[usize::from(worker)];
        if w.phase != Phase::Down && !s.is_open(s.session_of(usize::from(worker))) {
            out.push(Action::NoticeLostSession { worker });
        }
        match w.phase {
            Phase::Down => out.push(Action::Restart { worker }),
            Phase::Idle => out.extend(s.redis.ready.iter().map(|ticket| Action::Pop { worker, ticket })),
            Phase::Popped { .. } => out.push(Action::LoadToClaim { worker }),
            Phase::Claiming { run, .. } if outdated(s, &run) => out.push(Action::Reload { worker }),
            Phase::Claiming { ticket, nonce, run } => {
                match self.claim(&run, ticket, nonce, s.session_of(usize::from(worker))) {
                    ClaimVerdict::Start(..) => out.push(Action::Claim { worker, reply: Reply::Ok }),
                    ClaimVerdict::Mine(_) => out.push(Action::RecogniseClaim { worker }),
                    ClaimVerdict::Forget => out.push(Action::Forget { worker }),
                }
            }
            Phase::Executing { claim } => out.push(match self.effect_of(claim.step) {
                Effect::None => Action::Finish { worker, outcome: Outcome::Ok },
                Effect::Keyed => Action::Post { worker },
                Effect::Intent if self.takes(Shortcut::PostWithoutIntent) => Action::Post { worker },
                Effect::Intent => Action::LoadToArm { worker },
            }),
            Phase::Arming { run, .. } if outdated(s, &run) => out.push(Action::Reload { worker }),
            Phase::Arming { claim, run } => out.push(if !self.fence(&run, claim) {
                Action::DropStale { worker }
            } else {
                Action::Arm { worker, reply: Reply::Ok }
            }),
            Phase::Armed { .. } if s.window & (1 << worker) == 0 => out.push(Action::TooLate { worker }),
            Phase::Armed { .. } => out.push(Action::Post { worker }),
            Phase::Finished { .. } => out.push(Action::LoadToComplete { worker }),
            Phase::Completing { run, .. } if outdated(s, &run) && !self.takes(Shortcut::NoVersionCompare) => {
                out.push(Action::Reload { worker });
            }
            Phase::Completing { claim, run, .. } => {
                out.push(match self.verdict(&run, &s.db.results[usize::from(claim.step)], claim) {
                    Verdict::Holds => Action::Complete { worker, reply: Reply::Ok },
                    Verdict::Mine => Action::RecogniseResult { worker },
                    Verdict::Stale => Action::DropStale { worker },
                });
            }
            Phase::Committed { .. } => out.push(Action::AfterCommit { worker, push_lost: false }),
        }
    }

    /// What the background may load the run for, without being told.
    fn duties(&self, s: &State, out: &mut Vec<Action>) {
        for step in self.steps() {
            let row = s.step(step);
            if let Some(lease) = row.lease
                // A session that is closed, or a step nobody works on any more:
                // the latter passes its maximum run time.
                && (!s.is_open(lease.session) || (s.is_renewed(lease.session) && !s.is_worked_on(step)))
            {
                out.push(Action::DeskLoad { duty: Duty::Reap(step) });
            }
            let waited = (s.window == 0 && s.wire == 0) || self.takes(Shortcut::ResolveEarly);
            if row.state == StepState::Unknown && waited {
                out.push(Action::DeskLoad { duty: Duty::Resolve(step) });
            }
        }
    }

    /// Writes nobody races with in an interesting way load and write at once: a
    /// lost compare-and-set only makes them decide again.
    fn timers_and_people(&self, s: &State, out: &mut Vec<Action>) {
        for step in self.steps() {
            let row = s.step(step);
            match row.state {
                StepState::Scheduled => out.push(Action::Due { step }),
                StepState::InDoubt => out.push(Action::PersonResolves { step }),
                StepState::Queued => {
                    let ticket = Ticket { step, epoch: row.epoch };
                    if self.takes(Shortcut::MarkBeforePush) {
                        if s.db.marked & (1 << step) == 0 && s.relay.is_none() {
                            out.push(Action::RelayMark { step });
                        }
                    } else if !self.takes(Shortcut::NoReconciler) && !s.redis.knows(ticket) {
                        out.push(Action::Reconcile { step });
                    }
                }
                _ => {}
            }
        }
        if s.relay.is_some() {
            out.push(Action::RelayPush);
        }
    }

    /// What may go wrong, or be commanded, next.
    pub(crate) fn faults(&self, s: &State, out: &mut Vec<Action>) {
        let left = &s.left;
        for worker in 0..WORKERS as u8 {
            self.worker_faults(s, worker, out);
            let session = s.session_of(usize::from(worker));
            if left.expiries > 0 && s.is_open(session) && s.is_renewed(session) {
                out.push(Action::CloseSession { session });
            }
        }
        if left.flushes > 0 && !(s.redis.ready.is_empty() && s.redis.in_flight.is_empty()) {
            out.push(Action::Flush);
        }
        if left.early_returns > 0 {
            let held = |&ticket: &Ticket| s.workers.iter().any(|worker| worker.phase.holds(ticket));
            out.extend(s.redis.in_flight.iter().filter(held).map(|ticket| Action::TicketReturns { ticket }));
        }
        for step in self.steps() {
            let row = s.step(step);
            for epoch in row.epoch.saturating_sub(1).max(1)..=row.epoch {
                let ticket = Ticket { step, epoch };
                if left.duplicates > 0 && !s.redis.ready.has(ticket) {
                    out.push(Action::Duplicate { ticket });
                }
            }
            if left.replays > 0 && row.state == StepState::Dead {
                out.extend([Action::Replay { step }, Action::Discard { step }]);
            }
            if left.expiries > 0
                && s.desk.is_none()
                && s.is_worked_on(step)
                && row.lease.is_some_and(|l| s.is_open(l.session))
            {
                // Past its maximum run time, though its session lives.
                out.push(Action::DeskLoad { duty: Duty::Reap(step) });
            }
        }
        if left.cancels > 0 && s.desk.is_none() && !self.is_settled(&s.db.run) {
            out.push(Action::DeskLoad { duty: Duty::Cancel });
        }
        if let Some(Desk { duty, run }) = s.desk
            && left.lost_pushes > 0
            && !outdated(s, &run)
        {
            out.push(Action::DeskWrite { duty, push_lost: true });
        }
        if left.restores > 0 {
            out.push(if s.backup.is_none() { Action::Backup } else { Action::Restore });
        }
        if s.relay.is_some() && left.crashes > 0 {
            out.push(Action::RelayCrash);
        }
    }

    fn worker_faults(&self, s: &State, worker: u8, out: &mut Vec<Action>) {
        let left = &s.left;
        let phase = s.workers[usize::from(worker)].phase;
        if left.crashes > 0 && !matches!(phase, Phase::Down | Phase::Idle) {
            out.push(Action::Crash { worker });
        }
        let mut moves = Vec::new();
        if left.lost_replies > 0 {
            self.worker_moves(s, worker, &mut moves);
        }
        for action in moves {
            for reply in [Reply::LostCommitted, Reply::LostRolledBack] {
                match action {
                    Action::Claim { .. } => out.push(Action::Claim { worker, reply }),
                    Action::Arm { .. } => out.push(Action::Arm { worker, reply }),
                    Action::Complete { .. } => out.push(Action::Complete { worker, reply }),
                    _ => {}
                }
            }
        }
        match phase {
            Phase::Executing { claim } => {
                let effect = self.effect_of(claim.step);
                if left.failures > 0 && effect == Effect::None {
                    for outcome in [Outcome::Transient, Outcome::Permanent] {
                        out.push(Action::Finish { worker, outcome });
                    }
                }
                if left.slow_posts > 0 && effect == Effect::Keyed {
                    out.push(Action::PostTimesOut { worker });
                }
            }
            Phase::Armed { .. } if s.window & (1 << worker) != 0 => {
                if left.failures > 0 {
                    out.push(Action::PostRefused { worker });
                }
                if left.slow_posts > 0 {
                    out.push(Action::PostTimesOut { worker });
                }
            }
            Phase::Committed { .. } if left.lost_pushes > 0 => {
                out.push(Action::AfterCommit { worker, push_lost: true });
            }
            _ => {}
        }
    }
}

fn outdated(s: &State, copy: &Run) -> bool {
    copy.version != s.db.run.version
}
