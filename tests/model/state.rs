//! What exists: the database, Redis, two worker processes, the background desk
//! and the outside world. Small `Copy` types, because millions are kept.
//!
//! Nothing here decides; see `decide.rs`.

use crate::action::{Duty, Outcome};

/// Room for a fan-in: two parents and a child.
pub(crate) const MAX_STEPS: usize = 3;
/// Two of a kind are enough for every race the protocol names.
pub(crate) const WORKERS: usize = 2;
/// Epochs are below this; the bounds of every theme keep them there.
const EPOCHS: u8 = 20;
/// Sessions one worker slot may open: bounded by crashes and expiries.
const INCARNATIONS: u8 = 4;
/// The nonce on a result that the resolver or a person wrote.
pub(crate) const RESOLVER: u8 = 0;

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum StepState {
    Blocked,
    Queued,
    Running,
    Scheduled,
    Unknown,
    InDoubt,
    Dead,
    Succeeded,
    Failed,
    Cancelled,
}

impl StepState {
    pub(crate) fn is_final(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled)
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Lease {
    pub(crate) session: u8,
    pub(crate) nonce: u8,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Step {
    pub(crate) state: StepState,
    pub(crate) epoch: u8,
    pub(crate) attempts: u8,
    pub(crate) crashes: u8,
    pub(crate) lease: Option<Lease>,
    /// An effect may be under way: cancel and reap must see this.
    pub(crate) intent: bool,
}

/// The narrow row.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Run {
    pub(crate) version: u8,
    pub(crate) cancelling: bool,
    pub(crate) steps: [Step; MAX_STEPS],
}

impl Run {
    /// Stands for every copy whose version is no longer the row's: its write
    /// will be refused whatever it says, so all such copies are one state.
    pub(crate) fn outdated(self) -> Self {
        let nothing =
            Step { state: StepState::Blocked, epoch: 0, attempts: 0, crashes: 0, lease: None, intent: false };
        Self { version: 0, cancelling: false, steps: [nothing; MAX_STEPS] }
    }
}

/// The result rows of one step: how many, and what the last one carries.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct Results {
    pub(crate) rows: u8,
    pub(crate) epoch: u8,
    pub(crate) nonce: u8,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Publication {
    Absent,
    Intent,
    NotSent,
    Published,
}

/// What Postgres holds, and what a restore brings back.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Db {
    pub(crate) run: Run,
    pub(crate) results: [Results; MAX_STEPS],
    /// Bit set of open sessions.
    pub(crate) open: u8,
    /// Of the one step with an effect guarded by an intent.
    pub(crate) publication: Publication,
    /// Only for [`crate::Shortcut::MarkBeforePush`]: steps the outbox calls pushed.
    pub(crate) marked: u8,
}

/// The session of a worker slot's n-th life.
pub(crate) fn session(worker: usize, incarnation: u8) -> u8 {
    assert!(incarnation < INCARNATIONS, "the bounds let a worker live more than {INCARNATIONS} times");
    worker as u8 * INCARNATIONS + incarnation
}

/// A reference in Redis: this step, queued at this epoch.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ticket {
    pub(crate) step: u8,
    pub(crate) epoch: u8,
}

impl std::fmt::Debug for Ticket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "s{}@{}", self.step, self.epoch)
    }
}

/// A set of tickets.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Tickets(u64);

impl Tickets {
    fn bit(ticket: Ticket) -> u64 {
        assert!(ticket.epoch < EPOCHS, "the bounds let an epoch reach {EPOCHS}");
        1 << (u32::from(ticket.step) * u32::from(EPOCHS) + u32::from(ticket.epoch))
    }

    pub(crate) fn has(self, ticket: Ticket) -> bool {
        self.0 & Self::bit(ticket) != 0
    }

    pub(crate) fn add(&mut self, ticket: Ticket) {
        self.0 |= Self::bit(ticket);
    }

    pub(crate) fn remove(&mut self, ticket: Ticket) {
        self.0 &= !Self::bit(ticket);
    }

    pub(crate) fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(crate) fn iter(self) -> impl Iterator<Item = Ticket> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            let bit = (rest != 0).then(|| rest.trailing_zeros() as u8)?;
            rest &= rest - 1;
            Some(Ticket { step: bit / EPOCHS, epoch: bit % EPOCHS })
        })
    }
}

impl std::fmt::Debug for Tickets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct Redis {
    pub(crate) ready: Tickets,
    pub(crate) in_flight: Tickets,
}

impl Redis {
    pub(crate) fn knows(&self, ticket: Ticket) -> bool {
        self.ready.has(ticket) || self.in_flight.has(ticket)
    }

    /// A member already ready or in flight for that epoch is ignored.
    pub(crate) fn push(&mut self, ticket: Ticket) {
        if !self.knows(ticket) {
            self.ready.add(ticket);
        }
    }
}

/// The fencing token of one execution.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Claim {
    pub(crate) step: u8,
    pub(crate) epoch: u8,
    pub(crate) nonce: u8,
}

impl Claim {
    /// The ticket it was claimed with.
    pub(crate) fn ticket(self) -> Ticket {
        Ticket { step: self.step, epoch: self.epoch.saturating_sub(1) }
    }
}

/// Where a worker process is. Whatever is in here is lost when it crashes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Phase {
    Down,
    Idle,
    /// Holds a ticket. `nonce` is 0 until a claim was tried with one; after an
    /// unknown commit the same nonce is tried again.
    Popped {
        ticket: Ticket,
        nonce: u8,
    },
    /// Has loaded the run for its claim.
    Claiming {
        ticket: Ticket,
        nonce: u8,
        run: Run,
    },
    Executing {
        claim: Claim,
    },
    /// Has loaded the run for its intent (TX1).
    Arming {
        claim: Claim,
        run: Run,
    },
    /// The intent is committed; the POST may go out while the window is open.
    Armed {
        claim: Claim,
    },
    /// The attempt is over, or the outcome of its commit is unknown.
    Finished {
        claim: Claim,
        outcome: Outcome,
    },
    /// Has loaded the run for its completion.
    Completing {
        claim: Claim,
        outcome: Outcome,
        run: Run,
    },
    /// Knows that its completion is durable; ack and push are still to do.
    Committed {
        claim: Claim,
        succeeded: bool,
        child: Option<Ticket>,
    },
}

impl Phase {
    /// What this worker believes it executes.
    pub(crate) fn claim(self) -> Option<Claim> {
        match self {
            Self::Executing { claim }
            | Self::Arming { claim, .. }
            | Self::Armed { claim }
            | Self::Finished { claim, .. }
            | Self::Completing { claim, .. } => Some(claim),
            Self::Down
            | Self::Idle
            | Self::Popped { .. }
            | Self::Claiming { .. }
            | Self::Committed { .. } => None,
        }
    }

    /// Whether this worker still means to do something about the ticket.
    pub(crate) fn holds(self, ticket: Ticket) -> bool {
        match self {
            Self::Popped { ticket: mine, .. } | Self::Claiming { ticket: mine, .. } => mine == ticket,
            Self::Committed { claim, .. } => claim.ticket() == ticket,
            other => other.claim().is_some_and(|claim| claim.ticket() == ticket),
        }
    }

    /// The copy of the run it has loaded.
    pub(crate) fn loaded(&mut self) -> Option<&mut Run> {
        match self {
            Self::Claiming { run, .. } | Self::Arming { run, .. } | Self::Completing { run, .. } => Some(run),
            _ => None,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Worker {
    pub(crate) phase: Phase,
    pub(crate) incarnation: u8,
}

/// A background duty between its load and its write.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Desk {
    pub(crate) duty: Duty,
    pub(crate) run: Run,
}

/// A promise that a transition broke.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Broken {
    FinalChanged,
    EpochDecreased,
    StaleWrite,
    ClaimBeforeParents,
}

/// How many more faults and operator commands may come.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct Budget {
    pub(crate) crashes: u8,
    pub(crate) expiries: u8,
    pub(crate) lost_replies: u8,
    pub(crate) flushes: u8,
    pub(crate) duplicates: u8,
    pub(crate) lost_pushes: u8,
    pub(crate) early_returns: u8,
    pub(crate) failures: u8,
    pub(crate) slow_posts: u8,
    pub(crate) cancels: u8,
    pub(crate) replays: u8,
    pub(crate) restores: u8,
}

/// Everything at one moment.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct State {
    pub(crate) db: Db,
    pub(crate) backup: Option<Db>,
    pub(crate) redis: Redis,
    pub(crate) workers: [Worker; WORKERS],
    pub(crate) desk: Option<Desk>,
    /// Only for [`crate::Shortcut::MarkBeforePush`]: what the outbox relay is about to push.
    pub(crate) relay: Option<Ticket>,
    /// Nonces drawn so far, per step. No restore brings one back.
    pub(crate) drawn: [u8; MAX_STEPS],
    /// What the platform has done for the effect key of the effectful step.
    pub(crate) effects: u8,
    /// Workers whose `not_after` has not passed.
    pub(crate) window: u8,
    /// Workers with a request on the wire whose reply they gave up on.
    pub(crate) wire: u8,
    /// Steps whose completion was acknowledged.
    pub(crate) acknowledged: u8,
    /// Bit set of [`Broken`].
    pub(crate) broken: u8,
    pub(crate) left: Budget,
}

impl State {
    pub(crate) fn breaks(&mut self, promise: Broken) {
        self.broken |= 1 << promise as u8;
    }

    pub(crate) fn has_broken(&self, promise: Broken) -> bool {
        self.broken & (1 << promise as u8) != 0
    }

    pub(crate) fn step(&self, step: u8) -> &Step {
        &self.db.run.steps[usize::from(step)]
    }

    /// Whether some live worker executes exactly what the row says is running.
    pub(crate) fn is_worked_on(&self, step: u8) -> bool {
        let row = self.step(step);
        self.workers.iter().any(|worker| match worker.phase {
            // An unknown commit: it will come back and find the claim its own.
            Phase::Popped { ticket, nonce } | Phase::Claiming { ticket, nonce, .. } => {
                ticket.step == step && nonce != 0 && row.lease.is_some_and(|lease| lease.nonce == nonce)
            }
            phase => phase.claim().is_some_and(|claim| {
                claim.step == step
                    && row.lease.is_some_and(|lease| lease.nonce == claim.nonce && row.epoch == claim.epoch)
            }),
        })
    }

    pub(crate) fn is_open(&self, session: u8) -> bool {
        self.db.open & (1 << session) != 0
    }

    /// The session a live worker believes it has.
    pub(crate) fn session_of(&self, worker: usize) -> u8 {
        session(worker, self.workers[worker].incarnation)
    }

    /// Whether a live worker renews this session.
    pub(crate) fn is_renewed(&self, candidate: u8) -> bool {
        (0..WORKERS)
            .any(|worker| self.workers[worker].phase != Phase::Down && self.session_of(worker) == candidate)
    }
}
