//! Workers that are no process of ours: written in any language, they speak to a
//! gateway, which does here for them what `galley-worker` does in its own
//! process. It is the same protocol: a session, claims, reports, each fenced by
//! epoch and nonce.
//!
//! Whoever speaks for such a worker keeps nothing of it. What a gateway would
//! have to remember is in the session's row: when it was last heard of, and
//! what was handed to it. A lease whose reply never arrived is held by a session
//! that lives; it is found there, and goes back uncounted.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use galley_core::agent::AgentSpec;
use galley_core::decide::{Token, allowed_co_runners};
use galley_core::ids::{AgentType, Epoch, Nonce, SessionId, WorkflowKey, WorkspaceId};
use galley_core::run::Run;
use galley_core::ticket::Ticket;
use galley_probe::{Rescue, seen};
use galley_store::{HandedRow, SessionOpen, StoreError};
use serde::{Deserialize, Serialize};

use crate::claim::Claimed;
use crate::complete::{Outcome, Report};
use crate::engine::Engine;
use crate::error::EngineError;
use crate::fleet::Reading;

/// A claim, as short as it can be written down: all that a report about it, or
/// a call that costs something, has to say.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Lease {
    /// The workspace.
    #[serde(rename = "w")]
    workspace: WorkspaceId,
    /// The ticket, as a queue keeps it.
    #[serde(rename = "t")]
    member: String,
    /// The agent type.
    #[serde(rename = "a")]
    pub agent: AgentType,
    /// The step's name.
    #[serde(rename = "n")]
    step_name: String,
    /// The epoch of the claim.
    #[serde(rename = "e")]
    epoch: Epoch,
    /// The claim's nonce.
    #[serde(rename = "c")]
    nonce: Nonce,
    /// The session that holds it.
    #[serde(rename = "s")]
    pub session: SessionId,
    /// Which attempt it is.
    #[serde(rename = "i")]
    attempt: u16,
    /// Longest run of the attempt, milliseconds.
    #[serde(rename = "m")]
    timeout_ms: u64,
}

impl Lease {
    /// Writes a claim down.
    pub fn of(claim: &Claimed) -> Self {
        Self {
            workspace: claim.ticket.workspace,
            member: claim.ticket.member(),
            agent: claim.agent.clone(),
            step_name: claim.step_name.clone(),
            epoch: claim.token.epoch,
            nonce: claim.token.nonce,
            session: claim.session,
            attempt: claim.attempt,
            timeout_ms: u64::try_from(claim.timeout.as_millis()).unwrap_or(u64::MAX),
        }
    }

    /// The claim again, without its input; `None`: it was never one.
    pub fn claim(&self) -> Option<Claimed> {
        let ticket = Ticket::from_member(self.workspace, &self.member).ok()?;
        let token = Token { step: ticket.step, epoch: self.epoch, nonce: self.nonce };
        Some(Claimed {
            effect_key: galley_core::hash::effect_key(ticket.key(), &self.step_name, ""),
            ticket,
            agent: self.agent.clone(),
            token,
            session: self.session,
            step_name: self.step_name.clone(),
            attempt: self.attempt,
            timeout: Duration::from_millis(self.timeout_ms),
            input: std::sync::Arc::default(),
            inbox: std::sync::Arc::default(),
            traceparent: None,
        })
    }
}

/// What a worker outside was told when it was heard of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// Its session is open; those of its leases that nobody waits for any more.
    Stop(Vec<Lease>),
    /// Its session is over, and its steps are somebody else's.
    Over,
}

/// How many steps a worker has room for, and what it runs.
#[derive(Clone, Debug)]
pub struct Room<'a> {
    /// Steps it runs at once.
    pub concurrency: usize,
    /// What it runs.
    pub holding: &'a [Lease],
}

impl Room<'_> {
    /// Splits tickets into those that may start beside what runs, and the rest.
    /// As in a worker of ours: a step that was part of crashes runs with few
    /// others, its last try alone. One that has to wait is not passed by.
    fn split(&self, tickets: Vec<Ticket>) -> (Vec<Ticket>, Vec<Ticket>) {
        let most = |crashes: u16| allowed_co_runners(self.concurrency, crashes);
        let held = self.holding.iter().filter_map(|lease| Some(lease.claim()?.ticket.crashes));
        let mut cap = held.map(most).min().unwrap_or(self.concurrency).min(self.concurrency);
        let mut now = Vec::with_capacity(tickets.len());
        let mut tickets = tickets.into_iter();
        let mut rest = Vec::new();
        for ticket in tickets.by_ref() {
            let with_it = cap.min(most(ticket.crashes));
            if self.holding.len() + now.len() + 1 > with_it {
                rest.push(ticket);
                break;
            }
            cap = with_it;
            now.push(ticket);
        }
        rest.extend(tickets);
        (now, rest)
    }
}

/// What a look into a queue gave.
#[derive(Debug, Default)]
pub struct Leased {
    /// Claims, not handed out yet.
    pub claims: Vec<Claimed>,
    /// Whether there is more in the queue that could start now.
    pub more: bool,
    /// Whether a step waits until this worker runs fewer others.
    pub crowded: bool,
}

impl Engine {
    /// Opens the session of a worker outside, and tells the fleet what it
    /// offers.
    ///
    /// # Errors
    /// Postgres is away.
    pub async fn open_outside(
        &self,
        specs: &[AgentSpec],
        open: SessionOpen,
    ) -> Result<SessionId, EngineError> {
        self.store().register_agents(specs).await?;
        // Known here from now on, whatever was read before.
        self.fleet().fresh().await?;
        let session = self.store().open_session(open).await?;
        metrics::counter!("galley_sessions_opened_total").increment(1);
        Ok(session)
    }

    /// An agent type as it is registered, as read at most two seconds ago.
    ///
    /// # Errors
    /// Postgres is away.
    pub async fn registered(&self, agent: &AgentType) -> Result<Option<AgentSpec>, EngineError> {
        let spec = |reading: &Reading| reading.agents.get(agent).map(|row| row.spec.clone());
        match spec(&*self.fleet().reading().await?) {
            Some(spec) => Ok(Some(spec)),
            // Another process registered it a moment ago.
            None => Ok(spec(&*self.fleet().fresh().await?)),
        }
    }

    /// A worker outside was heard of, and says what it runs: its session is
    /// renewed, and what was handed to it and never arrived goes back.
    ///
    /// # Errors
    /// Postgres is away: repeat.
    pub async fn hear_outside(&self, session: SessionId, holding: &[Lease]) -> Result<Heard, EngineError> {
        let running = u32::try_from(holding.len()).unwrap_or(u32::MAX);
        let Some(handed) = self.store().renew_outside(session, running).await? else {
            return Ok(Heard::Over);
        };
        self.look_after(session, holding, handed).await?;
        Ok(Heard::Stop(self.not_in_force(holding).await?))
    }

    /// Forgets what arrived; gives back what did not for so long that it is not
    /// on its way any more.
    async fn look_after(
        &self,
        session: SessionId,
        holding: &[Lease],
        handed: Vec<HandedRow>,
    ) -> Result<(), EngineError> {
        if handed.is_empty() {
            return Ok(());
        }
        let held: HashSet<&Lease> = holding.iter().collect();
        let late = i64::try_from(self.config().session_ttl.as_millis()).unwrap_or(i64::MAX);
        let (mut over, mut lost) = (Vec::new(), Vec::new());
        for row in handed {
            // What cannot be read helps nobody.
            let lease = serde_json::from_str::<Lease>(&row.lease).ok();
            match lease {
                Some(lease) if !held.contains(&lease) => {
                    if row.age_ms > late {
                        lost.extend(lease.claim());
                        over.push(row.entry);
                    }
                }
                _ => over.push(row.entry),
            }
        }
        self.give_back_lost(session, &lost).await?;
        if !over.is_empty() {
            self.store().acknowledge(session, over).await?;
        }
        Ok(())
    }

    /// Gives back what never arrived; how many were still in force.
    async fn give_back_lost(&self, session: SessionId, lost: &[Claimed]) -> Result<usize, EngineError> {
        if lost.is_empty() {
            return Ok(0);
        }
        let reports: Vec<Report> =
            lost.iter().map(|claim| Report::of(claim, 0, Outcome::GivenBack)).collect();
        // Reported long ago, or taken: then it is refused, and that is all.
        let back = self.complete(&reports).await?;
        let back = back.iter().filter(|recorded| **recorded == crate::Recorded::Yes).count();
        if back > 0 {
            seen(Rescue::LeaseNeverArrived);
            metrics::counter!("galley_leases_lost_total").increment(back as u64);
            tracing::info!(%session, back, "{back} steps were leased to a worker that never heard so; they are back");
        }
        Ok(back)
    }

    /// Those of the leases that are not in force: cancelled, overtaken, or
    /// reported.
    async fn not_in_force(&self, leases: &[Lease]) -> Result<Vec<Lease>, StoreError> {
        if leases.is_empty() {
            return Ok(Vec::new());
        }
        let claims: Vec<(WorkflowKey, Token, &Lease)> = leases
            .iter()
            .filter_map(|lease| lease.claim().map(|claim| (claim.key(), claim.token, lease)))
            .collect();
        let mut keys: Vec<WorkflowKey> = claims.iter().map(|(key, ..)| *key).collect();
        keys.sort_unstable();
        keys.dedup();
        let rows = self.store().load_runs(&keys).await?;
        // One that cannot be read is an operator's business, not the worker's.
        let runs: HashMap<_, _> = rows.iter().map(|row| (row.key, Run::decode(&row.run).ok())).collect();
        let in_force = |key: &WorkflowKey, token: Token| match runs.get(key) {
            Some(Some(run)) => run.is_held_by(token),
            Some(None) => true,
            None => false,
        };
        let over = claims.into_iter().filter(|(key, token, _)| !in_force(key, *token));
        Ok(over.map(|(.., lease)| lease.clone()).collect())
    }

    /// Claims up to `most` steps of an agent for a worker outside that was just
    /// heard of. Only what can start now beside what it runs.
    ///
    /// # Errors
    /// Redis is away, or what repeating cannot cure.
    pub async fn lease_outside(
        &self,
        session: SessionId,
        agent: &AgentType,
        room: &Room<'_>,
        most: usize,
    ) -> Result<Leased, EngineError> {
        let popped = self.pop(agent, most).await?;
        let full = popped.tickets.len() >= most;
        let (now, rest) = room.split(popped.tickets);
        let crowded = !rest.is_empty();
        if crowded && let Err(error) = self.queue().give_back(agent, &rest).await {
            tracing::debug!(%error, "could not give tickets back; they expire");
        }
        let more = full && popped.ready_left > 0;
        if now.is_empty() {
            return Ok(Leased { claims: Vec::new(), more, crowded });
        }
        let tickets = now.into_iter().map(|ticket| (agent.clone(), ticket)).collect();
        let claims = self.claim(&self.session_outside(session), tickets).await?;
        Ok(Leased { claims, more, crowded })
    }

    /// Writes down that these claims are about to be handed out; `false`: the
    /// session is over, and they must not be.
    ///
    /// # Errors
    /// Postgres is away.
    pub async fn hand_out(&self, session: SessionId, claims: &[Claimed]) -> Result<bool, EngineError> {
        let leases = claims
            .iter()
            .map(|claim| serde_json::to_string(&Lease::of(claim)))
            .collect::<Result<_, _>>()
            .map_err(|error| EngineError::Internal(format!("a lease does not serialize: {error}")))?;
        Ok(self.store().hand_out(session, leases).await?)
    }

    /// Closes the session of a worker outside, which reported or gave back all
    /// that it knows of. What was handed to it beyond that is on its way to
    /// nobody: it goes back first, for a step of a closed session is a crash.
    /// Answers how many went back.
    ///
    /// # Errors
    /// Postgres is away: the reaper closes it.
    pub async fn close_outside(&self, session: SessionId) -> Result<usize, EngineError> {
        let mut back = 0;
        while let Some(handed) = self.store().renew_outside(session, 0).await? {
            let lease = |row: &HandedRow| serde_json::from_str::<Lease>(&row.lease).ok();
            let lost: Vec<Claimed> = handed.iter().filter_map(|row| lease(row)?.claim()).collect();
            back += self.give_back_lost(session, &lost).await?;
            let seen = handed.into_iter().map(|row| row.entry).collect();
            // Once more if a call of its that still waited was handed steps
            // just now.
            if self.store().close_outside(session, seen).await? {
                break;
            }
        }
        Ok(back)
    }
}

#[cfg(test)]
mod tests {
    use galley_core::decide::ALONE;
    use galley_core::ids::WorkflowId;
    use uuid::Uuid;

    use super::*;

    fn ticket(step: u16, crashes: u16) -> Ticket {
        let workspace = WorkspaceId(Uuid::from_u128(1));
        Ticket { workspace, workflow: WorkflowId(Uuid::from_u128(2)), step, epoch: 3, crashes, priority: 5 }
    }

    fn lease(step: u16, crashes: u16) -> Lease {
        Lease {
            workspace: WorkspaceId(Uuid::from_u128(1)),
            member: ticket(step, crashes).member(),
            agent: AgentType::new("a").unwrap(),
            step_name: "a".into(),
            epoch: 4,
            nonce: Nonce(u64::MAX),
            session: SessionId(7),
            attempt: 1,
            timeout_ms: 1_000,
        }
    }

    #[test]
    fn a_lease_reads_back_as_its_claim() {
        let lease = lease(9, 2);
        let read: Lease = serde_json::from_str(&serde_json::to_string(&lease).unwrap()).unwrap();
        let claim = read.claim().unwrap();
        assert_eq!(Lease::of(&claim), lease);
        assert_eq!((claim.token.epoch, claim.token.nonce, claim.ticket.epoch), (4, Nonce(u64::MAX), 3));
        assert!(Lease { member: "x".into(), ..lease }.claim().is_none());
    }

    #[test]
    fn suspects_run_with_few_others_and_their_last_try_alone() {
        let split = |concurrency, holding: &[Lease], tickets: Vec<Ticket>| {
            let (now, rest) = Room { concurrency, holding }.split(tickets);
            let steps = |tickets: Vec<Ticket>| tickets.iter().map(|ticket| ticket.step).collect::<Vec<_>>();
            (steps(now), steps(rest))
        };
        let innocent = || (0..4).map(|step| ticket(step, 0)).collect::<Vec<_>>();
        assert_eq!(split(4, &[], innocent()), (vec![0, 1, 2, 3], vec![]));
        assert_eq!(split(4, &[lease(9, 0)], innocent()), (vec![0, 1, 2], vec![3]));
        // One crash: half of the room while it is here, whoever came first.
        assert_eq!(split(4, &[lease(9, 1)], innocent()), (vec![0], vec![1, 2, 3]));
        assert_eq!(split(4, &[], vec![ticket(9, 1), ticket(0, 0), ticket(1, 0)]), (vec![9, 0], vec![1]));
        // The last try waits until nothing else runs, and nothing passes it.
        assert_eq!(split(4, &[], vec![ticket(9, ALONE), ticket(0, 0)]), (vec![9], vec![0]));
        assert_eq!(split(4, &[lease(8, 0)], vec![ticket(9, ALONE), ticket(0, 0)]), (vec![], vec![9, 0]));
        assert_eq!(split(4, &[lease(9, ALONE)], innocent()), (vec![], vec![0, 1, 2, 3]));
    }
}
