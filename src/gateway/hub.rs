//! Wakes whoever waits for steps: one connection to Redis per gateway, however
//! many wait. All of it is a hint.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::StreamExt as _;
use futures::future::{BoxFuture, select_all};
use galley_core::ids::AgentType;
use galley_engine::Engine;
use galley_engine::queue::Wake;
use tokio::sync::Notify;
use tokio_util::sync::{CancellationToken, DropGuard};

/// The waiting of one gateway. Listens until it is dropped.
#[derive(Debug)]
pub(crate) struct Hub {
    known: Arc<Known>,
    _listening: DropGuard,
}

/// The agents that somebody waits for.
#[derive(Debug, Default)]
struct Known {
    agents: Mutex<HashMap<AgentType, Arc<Notify>>>,
    /// There is one more to listen for.
    grown: Notify,
}

impl Hub {
    pub(crate) fn start(engine: Engine) -> Self {
        let (known, stop) = (Arc::<Known>::default(), CancellationToken::new());
        let listening = listen(Arc::clone(&known), engine);
        tokio::spawn(stop.clone().run_until_cancelled_owned(listening));
        Self { known, _listening: stop.drop_guard() }
    }

    /// Becomes ready when one of these agents may have something. Made before
    /// the queue is looked at, it misses nothing.
    pub(crate) fn woken(&self, agents: &[AgentType]) -> BoxFuture<'static, ()> {
        let each: Vec<_> =
            agents.iter().map(|agent| Box::pin(self.known.of(agent).notified_owned())).collect();
        Box::pin(async move {
            select_all(each).await;
        })
    }

    /// There is more for an agent than one waiter could take: the next one.
    pub(crate) fn pass_on(&self, agent: &AgentType) {
        self.known.of(agent).notify_one();
    }
}

impl Known {
    fn agents(&self) -> MutexGuard<'_, HashMap<AgentType, Arc<Notify>>> {
        self.agents.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn of(&self, agent: &AgentType) -> Arc<Notify> {
        let mut agents = self.agents();
        if let Some(known) = agents.get(agent) {
            return Arc::clone(known);
        }
        self.grown.notify_one();
        Arc::clone(agents.entry(agent.clone()).or_default())
    }

    fn tell(&self, wake: &Wake) {
        match wake {
            Wake::Work(agent) => self.of(agent).notify_one(),
            Wake::Resync => self.agents().values().for_each(|notify| notify.notify_waiters()),
            // A worker outside is told when it is next heard of.
            Wake::Cancelled(_) => {}
        }
    }
}

async fn listen(known: Arc<Known>, engine: Engine) {
    loop {
        let agents: Vec<AgentType> = known.agents().keys().cloned().collect();
        if agents.is_empty() {
            known.grown.notified().await;
            continue;
        }
        let mut wakes = engine.queue().wakes(&agents);
        loop {
            tokio::select! {
                wake = wakes.next() => match wake {
                    Some(wake) => known.tell(&wake),
                    None => return,
                },
                () = known.grown.notified() => break,
            }
        }
    }
}
