//! What each action does: the shells, Redis, the platform and the faults, around
//! the decisions of `decide.rs`.
//!
//! Nothing here asks whether an action is possible; that is `possible.rs`.

use crate::action::{Action, Duty, Outcome, Reply};
use crate::decide::{ClaimVerdict, Finding, holds};
use crate::protocol::{Effect, Protocol};
use crate::shortcut::Shortcut;
use crate::state::{
    Broken, Claim, Desk, Phase, Publication, RESOLVER, Redis, Results, Run, State, StepState, Ticket,
};

impl Protocol {
    /// The state after an action that was possible.
    pub(crate) fn next(&self, before: &State, action: Action) -> State {
        let mut s = *before;
        match action {
            Action::Flush => {
                s.redis = Redis::default();
                s.left.flushes -= 1;
            }
            Action::Duplicate { ticket } => {
                s.redis.ready.add(ticket);
                s.left.duplicates -= 1;
            }
            Action::TicketReturns { ticket } => {
                if s.workers.iter().any(|worker| worker.phase.holds(ticket)) {
                    s.left.early_returns -= 1;
                }
                s.redis.in_flight.remove(ticket);
                s.redis.ready.add(ticket);
            }
            Action::Reconcile { step } => {
                let epoch = s.step(step).epoch;
                s.redis.push(Ticket { step, epoch });
            }
            Action::CloseSession { session } => {
                if s.is_renewed(session) {
                    s.left.expiries -= 1;
                }
                s.db.open &= !(1 << session);
            }
            Action::DeskLoad { duty } => {
                if let Duty::Reap(step) = duty
                    && s.is_worked_on(step)
                    && s.step(step).lease.is_some_and(|lease| s.is_open(lease.session))
                {
                    s.left.expiries -= 1;
                }
                s.desk = Some(Desk { duty, run: s.db.run });
            }
            Action::DeskReload => s.desk = None,
            Action::DeskWrite { duty, push_lost } => self.desk_write(&mut s, duty, push_lost),
            Action::DeskInDoubt { step } => {
                let mut run = s.db.run;
                run.steps[usize::from(step)].state = StepState::InDoubt;
                s.desk = None;
                self.write(&mut s, run);
            }
            Action::Due { step } => self.background(&mut s, |run| self.due(run, step)),
            Action::Replay { step } => {
                s.left.replays -= 1;
                self.background(&mut s, |run| self.replay(run, step));
            }
            Action::Discard { step } => {
                s.left.replays -= 1;
                self.background(&mut s, |run| self.discard(run, step));
            }
            Action::PersonResolves { step } => self.settle_publish(&mut s, step),
            Action::Backup => s.backup = Some(s.db),
            Action::Restore => self.restore(&mut s),
            Action::RelayMark { step } => {
                s.db.marked |= 1 << step;
                s.relay = Some(Ticket { step, epoch: s.step(step).epoch });
            }
            Action::RelayPush => {
                if let Some(ticket) = s.relay.take() {
                    s.redis.push(ticket);
                }
            }
            Action::RelayCrash => {
                s.relay = None;
                s.left.crashes -= 1;
            }
            Action::LateEffect { worker } => {
                s.wire &= !(1 << worker);
                s.effects = (s.effects + 1).min(2);
            }
            Action::RequestVanishes { worker } => s.wire &= !(1 << worker),
            Action::WindowPasses { worker } => s.window &= !(1 << worker),
            Action::Pop { worker, .. }
            | Action::LoadToClaim { worker }
            | Action::Claim { worker, .. }
            | Action::Forget { worker }
            | Action::RecogniseClaim { worker }
            | Action::Reload { worker }
            | Action::Finish { worker, .. }
            | Action::LoadToArm { worker }
            | Action::Arm { worker, .. }
            | Action::Post { worker }
            | Action::PostRefused { worker }
            | Action::PostTimesOut { worker }
            | Action::TooLate { worker }
            | Action::LoadToComplete { worker }
            | Action::Complete { worker, .. }
            | Action::DropStale { worker }
            | Action::RecogniseResult { worker }
            | Action::AfterCommit { worker, .. }
            | Action::Crash { worker }
            | Action::Restart { worker }
            | Action::NoticeLostSession { worker } => {
                let me = usize::from(worker);
                let phase = s.workers[me].phase;
                s.workers[me].phase = self.worker_next(&mut s, worker, phase, action);
            }
        }
        if action != Action::Restore {
            self.audit(before, &mut s);
        }
        s
    }

    fn worker_next(&self, s: &mut State, worker: u8, phase: Phase, action: Action) -> Phase {
        let me = usize::from(worker);
        match (phase, action) {
            (_, Action::Pop { ticket, .. }) => {
                s.redis.ready.remove(ticket);
                s.redis.in_flight.add(ticket);
                Phase::Popped { ticket, nonce: 0 }
            }
            (Phase::Popped { ticket, nonce }, Action::LoadToClaim { .. }) => {
                Phase::Claiming { ticket, nonce, run: s.db.run }
            }
            (Phase::Claiming { ticket, nonce, run }, Action::Claim { reply, .. }) => {
                let nonce = if nonce == 0 {
                    s.drawn[usize::from(ticket.step)] += 1;
                    s.drawn[usize::from(ticket.step)]
                } else {
                    nonce
                };
                let ClaimVerdict::Start(run, claim) = self.claim(&run, ticket, nonce, s.session_of(me))
                else {
                    return phase;
                };
                if self.commits(s, reply) {
                    self.write(s, run);
                }
                match reply {
                    Reply::Ok => Phase::Executing { claim },
                    _ => Phase::Popped { ticket, nonce },
                }
            }
            (Phase::Claiming { ticket, nonce, run }, Action::RecogniseClaim { .. }) => {
                match self.claim(&run, ticket, nonce, s.session_of(me)) {
                    ClaimVerdict::Mine(claim) => Phase::Executing { claim },
                    _ => phase,
                }
            }
            (Phase::Claiming { ticket, .. }, Action::Forget { .. }) => {
                s.redis.in_flight.remove(ticket);
                Phase::Idle
            }
            (Phase::Claiming { ticket, nonce, .. }, Action::Reload { .. }) => {
                Phase::Claiming { ticket, nonce, run: s.db.run }
            }
            (Phase::Arming { claim, .. }, Action::Reload { .. })
            | (Phase::Executing { claim }, Action::LoadToArm { .. }) => {
                Phase::Arming { claim, run: s.db.run }
            }
            (Phase::Completing { claim, outcome, .. }, Action::Reload { .. })
            | (Phase::Finished { claim, outcome }, Action::LoadToComplete { .. }) => {
                Phase::Completing { claim, outcome, run: s.db.run }
            }
            (Phase::Executing { claim }, Action::Finish { outcome, .. }) => {
                if outcome != Outcome::Ok {
                    s.left.failures -= 1;
                }
                if self.takes(Shortcut::AckBeforeCommit) && outcome == Outcome::Ok {
                    s.redis.in_flight.remove(claim.ticket());
                    s.acknowledged |= 1 << claim.step;
                }
                Phase::Finished { claim, outcome }
            }
            (Phase::Arming { claim, run }, Action::Arm { reply, .. }) => {
                self.arm(s, worker, claim, &run, reply)
            }
            (Phase::Executing { claim }, Action::Post { .. }) => {
                self.effect_happens(s, claim.step);
                Phase::Finished { claim, outcome: Outcome::Ok }
            }
            (Phase::Executing { claim }, Action::PostTimesOut { .. }) => {
                // With the key the platform recognises the repetition, so that
                // "it may have happened" is an ordinary transient failure.
                s.left.slow_posts -= 1;
                self.effect_happens(s, claim.step);
                Phase::Finished { claim, outcome: Outcome::Transient }
            }
            (Phase::Armed { claim }, Action::Post { .. }) => {
                s.window &= !(1 << worker);
                self.effect_happens(s, claim.step);
                Phase::Finished { claim, outcome: Outcome::Ok }
            }
            (Phase::Armed { claim }, Action::PostRefused { .. }) => {
                s.window &= !(1 << worker);
                s.left.failures -= 1;
                Phase::Finished { claim, outcome: Outcome::NotSent }
            }
            (Phase::Armed { claim }, Action::PostTimesOut { .. }) => {
                s.left.slow_posts -= 1;
                s.wire |= 1 << worker;
                Phase::Finished { claim, outcome: Outcome::Unknown }
            }
            (Phase::Armed { claim }, Action::TooLate { .. }) => {
                Phase::Finished { claim, outcome: Outcome::NotSent }
            }
            (Phase::Completing { claim, outcome, run }, Action::Complete { reply, .. }) => {
                self.completion(s, claim, outcome, &run, reply)
            }
            (Phase::Completing { claim, outcome, .. }, Action::RecogniseResult { .. }) => {
                Phase::Committed { claim, succeeded: outcome == Outcome::Ok, child: None }
            }
            (Phase::Completing { claim, .. } | Phase::Arming { claim, .. }, Action::DropStale { .. }) => {
                s.redis.in_flight.remove(claim.ticket());
                Phase::Idle
            }
            (Phase::Committed { claim, succeeded, child }, Action::AfterCommit { push_lost, .. }) => {
                s.redis.in_flight.remove(claim.ticket());
                if succeeded {
                    s.acknowledged |= 1 << claim.step;
                }
                match child {
                    _ if push_lost => s.left.lost_pushes -= 1,
                    Some(ticket) => self.push(s, ticket),
                    None => {}
                }
                Phase::Idle
            }
            (_, Action::Crash { .. }) => {
                s.left.crashes -= 1;
                Phase::Down
            }
            (_, Action::Restart { .. } | Action::NoticeLostSession { .. }) => {
                s.workers[me].incarnation += 1;
                s.db.open |= 1 << s.session_of(me);
                Phase::Idle
            }
            _ => phase,
        }
    }

    /// TX1. The claim may find its own intent, from an unknown commit.
    fn arm(&self, s: &mut State, worker: u8, claim: Claim, run: &Run, reply: Reply) -> Phase {
        let mut next = *run;
        let step = &mut next.steps[usize::from(claim.step)];
        if step.intent {
            return Phase::Armed { claim };
        }
        step.intent = true;
        if !matches!(s.db.publication, Publication::Absent | Publication::NotSent) {
            // 0 rows: somebody's intent exists. Not sent, and not by guessing.
            return Phase::Finished { claim, outcome: Outcome::Unknown };
        }
        if self.commits(s, reply) {
            self.truth(s, claim);
            self.write(s, next);
            s.db.publication = Publication::Intent;
            s.window |= 1 << worker;
        }
        match reply {
            Reply::Ok => Phase::Armed { claim },
            _ => Phase::Executing { claim },
        }
    }

    /// The completion's transaction: the run and the result row together.
    fn completion(&self, s: &mut State, claim: Claim, outcome: Outcome, run: &Run, reply: Reply) -> Phase {
        let next = self.complete(run, claim, outcome);
        if self.commits(s, reply) {
            self.truth(s, claim);
            if outcome == Outcome::Ok {
                append(&mut s.db.results[usize::from(claim.step)], claim.epoch, claim.nonce);
            }
            if self.effect_of(claim.step) == Effect::Intent {
                match outcome {
                    Outcome::Ok => s.db.publication = Publication::Published,
                    Outcome::NotSent => s.db.publication = Publication::NotSent,
                    _ => {}
                }
            }
            self.write(s, next);
        }
        match reply {
            Reply::Ok => {
                let child = self.newly_queued(run, &next);
                Phase::Committed { claim, succeeded: outcome == Outcome::Ok, child }
            }
            _ if self.takes(Shortcut::UnknownCommitIsFailure) => {
                let guess = if self.effect_of(claim.step) == Effect::Intent {
                    Outcome::NotSent
                } else {
                    Outcome::Transient
                };
                Phase::Finished { claim, outcome: guess }
            }
            _ => Phase::Finished { claim, outcome },
        }
    }

    fn newly_queued(&self, before: &Run, after: &Run) -> Option<Ticket> {
        self.steps()
            .find(|&step| {
                let (old, new) = (&before.steps[usize::from(step)], &after.steps[usize::from(step)]);
                new.state == StepState::Queued && (old.state != StepState::Queued || old.epoch != new.epoch)
            })
            .map(|step| Ticket { step, epoch: after.steps[usize::from(step)].epoch })
    }

    fn commits(&self, s: &mut State, reply: Reply) -> bool {
        if reply != Reply::Ok {
            s.left.lost_replies -= 1;
        }
        reply != Reply::LostRolledBack
    }

    /// A worker's write lands: was the step really its own?
    fn truth(&self, s: &mut State, claim: Claim) {
        if !holds(&s.db.run, claim) {
            s.breaks(Broken::StaleWrite);
        }
    }

    /// Replaces the row. Copies of the one before can never be written again,
    /// whatever they say: they become equal, which keeps the search small.
    fn write(&self, s: &mut State, mut run: Run) {
        run.version = s.db.run.version + 1;
        s.db.run = run;
        let copies_matter =
            self.takes(Shortcut::NoVersionCompare) || self.takes(Shortcut::LoadOutlivesRestore);
        if copies_matter {
            return;
        }
        for worker in &mut s.workers {
            if let Some(copy) = worker.phase.loaded() {
                *copy = copy.outdated();
            }
        }
        if let Some(desk) = &mut s.desk {
            desk.run = desk.run.outdated();
        }
    }

    /// Load, decide, write and push in one go.
    fn background(&self, s: &mut State, decide: impl Fn(&Run) -> Run) {
        let before = s.db.run;
        self.write(s, decide(&before));
        if let Some(ticket) = self.newly_queued(&before, &s.db.run) {
            self.push(s, ticket);
        }
    }

    fn push(&self, s: &mut State, ticket: Ticket) {
        // An outbox does not push at once: its relay does.
        if self.takes(Shortcut::MarkBeforePush) {
            s.db.marked &= !(1 << ticket.step);
        } else {
            s.redis.push(ticket);
        }
    }

    fn desk_write(&self, s: &mut State, duty: Duty, push_lost: bool) {
        let Some(desk) = s.desk.take() else { return };
        let redis = s.redis;
        match duty {
            Duty::Reap(step) => self.background(s, |_| self.reap(&desk.run, step)),
            Duty::Cancel => {
                s.left.cancels -= 1;
                self.background(s, |_| self.cancel(&desk.run));
            }
            Duty::Resolve(step) => self.settle_publish(s, step),
        }
        if push_lost {
            s.left.lost_pushes -= 1;
            s.redis = redis;
        }
    }

    /// The resolver or a person looked: what the platform says is recorded.
    fn settle_publish(&self, s: &mut State, step: u8) {
        let finding = if s.effects > 0 { Finding::Published } else { Finding::NotSent };
        if finding == Finding::Published {
            let epoch = s.step(step).epoch;
            append(&mut s.db.results[usize::from(step)], epoch, RESOLVER);
            s.db.publication = Publication::Published;
        } else {
            s.db.publication = Publication::NotSent;
        }
        self.background(s, |run| self.resolve(run, step, finding));
    }

    fn effect_happens(&self, s: &mut State, step: u8) {
        let known = self.effect_of(step) == Effect::Keyed && !self.takes(Shortcut::KeyPerAttempt);
        s.effects = if known { 1 } else { (s.effects + 1).min(2) };
    }

    /// Postgres is at an older point, every connection is gone, and with it
    /// every transaction that had loaded the run. Redis, the platform and the
    /// memory of the workers stay as they are.
    fn restore(&self, s: &mut State) {
        let Some(backup) = s.backup.take() else { return };
        s.db = backup;
        s.left.restores -= 1;
        // What was acknowledged after the backup is the restore's loss, not ours.
        for step in self.steps() {
            if s.step(step).state != StepState::Succeeded {
                s.acknowledged &= !(1 << step);
            }
        }
        if self.takes(Shortcut::LoadOutlivesRestore) {
            return;
        }
        s.desk = None;
        for worker in &mut s.workers {
            worker.phase = match worker.phase {
                Phase::Claiming { ticket, nonce, .. } => Phase::Popped { ticket, nonce },
                Phase::Arming { claim, .. } => Phase::Executing { claim },
                Phase::Completing { claim, outcome, .. } => Phase::Finished { claim, outcome },
                Phase::Committed { claim, child, .. } => Phase::Committed { claim, succeeded: false, child },
                other => other,
            };
        }
    }

    /// What no transition but a restore may do.
    fn audit(&self, before: &State, after: &mut State) {
        if before.db.run.version == after.db.run.version {
            return;
        }
        for step in self.steps() {
            let (old, new) = (*before.step(step), *after.step(step));
            let broken = if old.state.is_final() && new.state != old.state {
                Broken::FinalChanged
            } else if new.epoch < old.epoch {
                Broken::EpochDecreased
            } else if new.state == StepState::Running
                && old.state != StepState::Running
                && !self.needs_met(&before.db.run, step)
            {
                Broken::ClaimBeforeParents
            } else {
                continue;
            };
            after.breaks(broken);
        }
    }
}

fn append(results: &mut Results, epoch: u8, nonce: u8) {
    *results = Results { rows: (results.rows + 1).min(2), epoch, nonce };
}
