//! The contract of a dispatch queue and its words. No I/O: two
//! implementations answer it, and the same tests bind both.

use std::time::Duration;

use async_trait::async_trait;
use futures::stream::BoxStream;
use galley_core::ids::{AgentType, WorkflowKey, WorkspaceId};
use galley_core::ticket::Ticket;

/// The most tickets one pop gives, whatever was asked for: a script must not
/// hold Redis for long.
pub const LARGEST_POP: usize = 1_000;

/// The largest weight of a workspace; larger ones count as this.
pub const LARGEST_WEIGHT: u32 = 100;

/// Why a queue did not do what it was asked. Every call may be repeated: a
/// repeat after a lost reply is harmless.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QueueError {
    /// No answer: connection refused or lost, time-out, still loading.
    #[error("could not {doing}: the queue store cannot be reached ({reason})")]
    Unavailable {
        /// What was being done.
        doing: &'static str,
        /// What the client said.
        reason: String,
    },
    /// The store said no: out of memory, read-only, not permitted.
    #[error("could not {doing}: the queue store refused ({reason})")]
    Refused {
        /// What was being done.
        doing: &'static str,
        /// What the store said.
        reason: String,
    },
    /// The store answered what our scripts never answer.
    #[error("could not {doing}: the queue store answered something unexpected ({reason})")]
    Unexpected {
        /// What was being done.
        doing: &'static str,
        /// What came.
        reason: String,
    },
    /// The configured address is not one.
    #[error("the queue address cannot be used: {0}")]
    Address(String),
}

/// What to do while the agent is not built, that is, while its pause, its
/// limits and its running steps may be missing from the queue.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unbuilt {
    /// Give nothing until a rebuild is through.
    Refuse,
    /// Give all the same. Only for a caller who knows from Postgres that the
    /// agent is neither paused nor limited: then there is nothing to violate,
    /// and a rebuild costs no latency. Controls that are there still hold.
    Serve,
}

/// What a pop gave.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Popped {
    /// The tickets, now in flight. Those of one workspace stand together, in
    /// their order.
    pub tickets: Vec<Ticket>,
    /// How many are still ready for this agent. A hint: it can drift when the
    /// store evicts keys, and comes right when the queue runs empty.
    pub ready_left: u64,
    /// Whether the agent is paused (then nothing was given).
    pub paused: bool,
    /// Whether it was refused because the agent is not built.
    pub unbuilt: bool,
    /// Undecodable members found and dropped.
    pub garbage: u64,
}

/// What operators set for one agent. The default: running, unlimited.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct AgentControl {
    /// Nothing is popped while set.
    pub paused: bool,
    /// The most steps in flight for the agent, in the whole fleet.
    pub max_running: Option<u32>,
    /// The most steps in flight for the agent and one workspace.
    pub max_running_per_workspace: Option<u32>,
    /// Which change this is: an older one never replaces a newer one, whoever
    /// is slow to tell it.
    pub version: u64,
}

/// A mirror of what operators set. Complete: what is not named is default.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Controls {
    /// The agents to write, each with all of its settings.
    pub agents: Vec<(AgentType, AgentControl)>,
    /// Shares of the fair scheduler, 1 to [`LARGEST_WEIGHT`], for every agent
    /// above. A workspace that is not named has 1.
    pub weights: Vec<(WorkspaceId, u32)>,
}

/// What inspection shows of one agent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct QueueDepth {
    /// The agent.
    pub agent: AgentType,
    /// Tickets ready (a hint, see [`Popped::ready_left`]).
    pub ready: u64,
    /// Tickets in flight: popped or claimed.
    pub in_flight: u64,
    /// Workspaces with ready tickets.
    pub workspaces: u64,
    /// Whether the queue holds a pause for it.
    pub paused: bool,
    /// Whether the queue holds all a rebuild put there.
    pub built: bool,
}

/// What a sleeping worker is told. All of it is a hint.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Wake {
    /// There is something new to pop for the agent, or room for it.
    Work(AgentType),
    /// The workflow was cancelled: stop its calls.
    Cancelled(WorkflowKey),
    /// Listening begins now; whatever was said before may have been missed.
    /// Comes first, after every reconnect, and when the consumer was slow.
    /// Look once at everything.
    Resync,
}

/// A rebuild under way: hand it to [`DispatchQueue::mark_built`] when all is
/// back.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Build {
    pub(crate) tokens: Vec<(AgentType, String)>,
}

/// Where steps wait for a worker.
///
/// # After a loss
/// An agent is *built* when its controls and its running steps were put into
/// the queue and nothing was lost since: no emptied store, no restart (which
/// may bring back old data), no vanished count. A new queue is not built. The
/// rebuild is: [`begin_build`](Self::begin_build), then
/// [`mirror`](Self::mirror), [`claimed`](Self::claimed) with every running
/// step and [`push`](Self::push) with every queued one, then
/// [`mark_built`](Self::mark_built), which refuses when something was lost in
/// between. Pushes and pops of others may go on meanwhile.
#[async_trait]
pub trait DispatchQueue: Send + Sync {
    /// Makes tickets ready. One that is ready or in flight already is
    /// ignored. Returns how many were new, and wakes the workers of each
    /// agent that got one. Within a workspace: lower priority number first,
    /// then the order of pushing.
    async fn push(&self, tickets: &[(AgentType, Ticket)]) -> Result<u64, QueueError>;

    /// Takes up to `max` tickets (never more than [`LARGEST_POP`]), fairly
    /// across workspaces, as far as pause and limits allow. They are in
    /// flight until `claim_deadline` from now, on the store's clock.
    async fn pop(
        &self,
        agent: &AgentType,
        max: usize,
        claim_deadline: Duration,
        unbuilt: Unbuilt,
    ) -> Result<Popped, QueueError>;

    /// These run: they stay in flight until `run_deadline` from now, so that
    /// limits count them and a re-push is ignored. Also how a rebuild puts
    /// running steps back. Answers with those that were not in flight: their
    /// places were somebody else's meanwhile.
    async fn claimed(
        &self,
        tickets: &[(AgentType, Ticket)],
        run_deadline: Duration,
    ) -> Result<Vec<Ticket>, QueueError>;

    /// Forgets `done`, which frees limits, and pushes `next`, in one round
    /// trip. `next` goes before others of its priority: a workflow that began
    /// goes on before another begins. Returns how many of `next` were new.
    async fn settle(
        &self,
        done: &[(AgentType, Ticket)],
        next: &[(AgentType, Ticket)],
    ) -> Result<u64, QueueError>;

    /// Popped, or claimed, but will not run here: ready again, before others
    /// of its priority, in the order given.
    async fn give_back(&self, agent: &AgentType, tickets: &[Ticket]) -> Result<(), QueueError>;

    /// Up to `max` tickets whose deadline passed become ready again, before
    /// others of their priority. Returns how many.
    async fn expire(&self, agent: &AgentType, max: usize) -> Result<u64, QueueError>;

    /// Up to `max` tickets in flight, behind the first `from` by their
    /// deadlines. Places move while others work: a page may miss some.
    async fn in_flight(&self, agent: &AgentType, from: usize, max: usize) -> Result<Vec<Ticket>, QueueError>;

    /// Writes what operators set. Wakes workers when more may start now.
    async fn mirror(&self, controls: &Controls) -> Result<(), QueueError>;

    /// Begins a rebuild: counts are put right from what is really there.
    async fn begin_build(&self, agents: &[AgentType]) -> Result<Build, QueueError>;

    /// Ends a rebuild. Returns the agents for which it is void because
    /// something was lost since it began: rebuild these again.
    async fn mark_built(&self, build: &Build) -> Result<Vec<AgentType>, QueueError>;

    /// What each agent's queue holds, in the order asked.
    async fn depths(&self, agents: &[AgentType]) -> Result<Vec<QueueDepth>, QueueError>;

    /// Those of `agents` that are not built: call it often, and rebuild them.
    async fn unbuilt(&self, agents: &[AgentType]) -> Result<Vec<AgentType>, QueueError> {
        let depths = self.depths(agents).await?;
        Ok(depths.into_iter().filter(|depth| !depth.built).map(|depth| depth.agent).collect())
    }

    /// Wake-ups for a set of agents, and every cancellation. The stream never
    /// ends and never fails: it begins with [`Wake::Resync`] once it listens,
    /// and says so again after every reconnect.
    fn wakes(&self, agents: &[AgentType]) -> BoxStream<'static, Wake>;

    /// Tells all listeners that workflows were cancelled.
    async fn announce_cancel(&self, workflows: &[WorkflowKey]) -> Result<(), QueueError>;

    /// Whether the store answers.
    async fn ping(&self) -> Result<(), QueueError>;
}
