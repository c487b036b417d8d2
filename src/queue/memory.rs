//! The twin: the same behaviour without a server, for tests of whoever uses a
//! queue. It never leaves the process, and time is the process' own.
//!
//! It has no scripts to lose and no garbage to find, but it can be emptied
//! ([`MemoryQueue::wipe`]) as Redis can, so that users test that too.

mod agent;

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use galley_core::ids::{AgentType, WorkflowKey};
use galley_core::ticket::Ticket;
use tokio::sync::broadcast;

use self::agent::AgentQueue;
use crate::dispatch::{
    Build, Controls, DispatchQueue, LARGEST_POP, Popped, QueueDepth, QueueError, Unbuilt, Wake,
};
use crate::wire;

/// Wake-ups a slow listener may have waiting before it is told to resync.
const BACKLOG: usize = 1_024;

/// The dispatch queue in memory.
#[derive(Debug)]
pub struct MemoryQueue {
    state: Mutex<State>,
    wakes: broadcast::Sender<Wake>,
}

#[derive(Debug, Default)]
struct State {
    agents: HashMap<AgentType, AgentQueue>,
    /// Tokens given to rebuilds so far.
    builds: u64,
}

impl State {
    fn agent(&mut self, agent: &AgentType) -> &mut AgentQueue {
        self.agents.entry(agent.clone()).or_default()
    }
}

impl Default for MemoryQueue {
    fn default() -> Self {
        Self { state: Mutex::default(), wakes: broadcast::channel(BACKLOG).0 }
    }
}

impl MemoryQueue {
    /// An empty queue: no agent is built.
    pub fn new() -> Self {
        Self::default()
    }

    /// Loses everything, as `FLUSHALL` does. Listeners keep listening.
    pub fn wipe(&self) {
        self.lock().agents.clear();
    }

    /// No code of ours panics while it holds the lock half-changed; a poisoned
    /// one is as good as Redis after a crash: hints.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, tickets: &[(AgentType, Ticket)], began: bool) -> u64 {
        let mut new = 0;
        for (agent, of_agent) in wire::by_agent(tickets) {
            let added = self.lock().agent(agent).push(of_agent, began);
            if added > 0 {
                self.wake(agent);
            }
            new += added;
        }
        new
    }

    fn wake(&self, agent: &AgentType) {
        // Nobody listens: nobody needs to hear it.
        let _ = self.wakes.send(Wake::Work(agent.clone()));
    }
}

#[async_trait]
impl DispatchQueue for MemoryQueue {
    async fn push(&self, tickets: &[(AgentType, Ticket)]) -> Result<u64, QueueError> {
        Ok(self.add(tickets, false))
    }

    async fn pop(
        &self,
        agent: &AgentType,
        max: usize,
        claim_deadline: Duration,
        unbuilt: Unbuilt,
    ) -> Result<Popped, QueueError> {
        let due = Instant::now() + claim_deadline;
        Ok(self.lock().agent(agent).pop(max.min(LARGEST_POP), due, unbuilt))
    }

    async fn claimed(
        &self,
        tickets: &[(AgentType, Ticket)],
        run_deadline: Duration,
    ) -> Result<Vec<Ticket>, QueueError> {
        let due = Instant::now() + run_deadline;
        let mut fresh = Vec::new();
        for (agent, of_agent) in wire::by_agent(tickets) {
            fresh.extend(self.lock().agent(agent).claimed(of_agent, due));
        }
        Ok(fresh)
    }

    async fn settle(
        &self,
        done: &[(AgentType, Ticket)],
        next: &[(AgentType, Ticket)],
    ) -> Result<u64, QueueError> {
        for (agent, of_agent) in wire::by_agent(done) {
            if self.lock().agent(agent).done(of_agent) {
                self.wake(agent);
            }
        }
        Ok(self.add(next, true))
    }

    async fn give_back(&self, agent: &AgentType, tickets: &[Ticket]) -> Result<(), QueueError> {
        if self.lock().agent(agent).give_back(tickets) > 0 {
            self.wake(agent);
        }
        Ok(())
    }

    async fn expire(&self, agent: &AgentType, max: usize) -> Result<u64, QueueError> {
        let moved = self.lock().agent(agent).expire(Instant::now(), max);
        if moved > 0 {
            self.wake(agent);
        }
        Ok(moved)
    }

    async fn in_flight(&self, agent: &AgentType, from: usize, max: usize) -> Result<Vec<Ticket>, QueueError> {
        Ok(self.lock().agent(agent).in_flight(from, max))
    }

    async fn mirror(&self, controls: &Controls) -> Result<(), QueueError> {
        for (agent, control) in &controls.agents {
            if self.lock().agent(agent).mirror(*control, &controls.weights) {
                self.wake(agent);
            }
        }
        Ok(())
    }

    async fn begin_build(&self, agents: &[AgentType]) -> Result<Build, QueueError> {
        let mut state = self.lock();
        let mut tokens = Vec::with_capacity(agents.len());
        for agent in agents {
            let fresh = state.builds + 1;
            let token = state.agent(agent).begin_build(fresh);
            state.builds = state.builds.max(token);
            tokens.push((agent.clone(), token.to_string()));
        }
        Ok(Build { tokens })
    }

    async fn mark_built(&self, build: &Build) -> Result<Vec<AgentType>, QueueError> {
        let mut lost = Vec::new();
        for (agent, token) in &build.tokens {
            if self.lock().agent(agent).mark_built(token) {
                self.wake(agent);
            } else {
                lost.push(agent.clone());
            }
        }
        Ok(lost)
    }

    async fn depths(&self, agents: &[AgentType]) -> Result<Vec<QueueDepth>, QueueError> {
        let mut state = self.lock();
        Ok(agents.iter().map(|agent| state.agent(agent).depth(agent.clone())).collect())
    }

    fn wakes(&self, agents: &[AgentType]) -> BoxStream<'static, Wake> {
        let agents = agents.to_vec();
        let wanted = move |wake: &Wake| match wake {
            Wake::Work(agent) => agents.contains(agent),
            Wake::Cancelled(_) | Wake::Resync => true,
        };
        let heard = stream::unfold(self.wakes.subscribe(), |mut listener| async {
            match listener.recv().await {
                Ok(wake) => Some((wake, listener)),
                Err(broadcast::error::RecvError::Lagged(_)) => Some((Wake::Resync, listener)),
                Err(broadcast::error::RecvError::Closed) => None,
            }
        })
        .filter(move |wake| std::future::ready(wanted(wake)));
        stream::iter([Wake::Resync]).chain(heard).boxed()
    }

    async fn announce_cancel(&self, workflows: &[WorkflowKey]) -> Result<(), QueueError> {
        for workflow in workflows {
            let _ = self.wakes.send(Wake::Cancelled(*workflow));
        }
        Ok(())
    }

    async fn ping(&self) -> Result<(), QueueError> {
        Ok(())
    }
}
