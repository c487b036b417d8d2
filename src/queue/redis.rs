//! The queue on Redis (7.0 or later): one script call per agent, all calls of
//! one operation in one round trip. The scripts' structures are described at
//! the top of `scripts/prelude.lua`.
//!
//! This file cuts work into calls and reads answers; it never decides what may
//! start. A script that Redis forgot is loaded again, a key of a wrong type is
//! deleted, both within the call that met it.

mod admin;
mod rates;
mod scripts;
mod wakes;

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use ::redis::aio::{ConnectionManager, ConnectionManagerConfig};
use ::redis::{Client, Cmd, ErrorKind, RedisError, RedisResult, ServerErrorKind, Value};
use async_trait::async_trait;
use futures::stream::BoxStream;
use galley_core::ids::{AgentType, WorkflowKey};
use galley_core::ticket::Ticket;
use galley_probe::{Rescue, seen};
use tokio::time::timeout;

pub use self::admin::{flush_all, server_info, used_memory};
pub use self::rates::RedisRates;
use self::scripts::Script;
use self::wakes::Listener;
use crate::dispatch::{
    Build, Controls, DispatchQueue, LARGEST_POP, LARGEST_WEIGHT, Popped, QueueDepth, QueueError, Unbuilt,
    Wake,
};
use crate::wire;

/// Tickets per script call: bounds how long one call holds Redis, and keeps
/// the scripts' `unpack` below Lua's limit.
const CHUNK: usize = 1_000;
/// Script calls per round trip: all of them share one time-out.
const CALLS: usize = 32;
/// Workflows per cancellation message.
const CANCELS: usize = 500;
/// Sends of one call: the first, and one after each of the two repairs.
const ROUNDS: usize = 3;

/// How to reach Redis. `Debug` does not show the address: it may hold a
/// password.
#[derive(Clone)]
pub struct RedisConfig {
    /// `redis://…`, `rediss://…` (TLS, checked against the system's
    /// certificates or those of `SSL_CERT_FILE`) or `unix://…`.
    pub url: String,
    /// What all keys and channels begin with, so that deployments and tests
    /// can share a Redis.
    pub prefix: String,
    /// The longest wait for one answer, and for one attempt to connect.
    pub patience: Duration,
}

impl RedisConfig {
    /// The usual prefix and patience (2 s).
    pub fn new(url: impl Into<String>) -> Self {
        Self { url: url.into(), prefix: "galley".into(), patience: Duration::from_secs(2) }
    }

    /// With another prefix.
    #[must_use]
    pub fn with_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }
}

impl fmt::Debug for RedisConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { url: _, prefix, patience } = self;
        f.debug_struct("RedisConfig")
            .field("prefix", prefix)
            .field("patience", patience)
            .finish_non_exhaustive()
    }
}

/// The dispatch queue on Redis. Connects on first use, and again whenever the
/// connection is lost.
pub struct RedisQueue {
    client: Client,
    connection: ConnectionManager,
    prefix: String,
    patience: Duration,
}

impl fmt::Debug for RedisQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisQueue").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

/// One script call for one agent.
struct Call {
    script: Script,
    base: String,
    cmd: Cmd,
}

impl Call {
    fn arg(mut self, arg: impl ::redis::ToRedisArgs) -> Self {
        self.cmd.arg(arg);
        self
    }

    /// `workspace, n, entry…` for each workspace.
    fn groups<'a>(mut self, tickets: impl IntoIterator<Item = &'a Ticket>) -> Self {
        for (workspace, of_workspace) in wire::by_workspace(tickets) {
            self.cmd.arg(wire::workspace_text(workspace)).arg(of_workspace.len());
            for ticket in of_workspace {
                self.cmd.arg(wire::entry(ticket));
            }
        }
        self
    }
}

impl RedisQueue {
    /// A queue at this address. Needs a running tokio; does not connect yet,
    /// so that a process can start while Redis is down.
    pub fn new(config: RedisConfig) -> Result<Self, QueueError> {
        let RedisConfig { url, prefix, patience } = config;
        let address = |error: RedisError| QueueError::Address(error.to_string());
        let client = Client::open(url).map_err(address)?;
        let settings = ConnectionManagerConfig::new()
            .set_response_timeout(Some(patience))
            .set_connection_timeout(Some(patience))
            .set_number_of_retries(1)
            .set_min_delay(Duration::from_millis(20))
            .set_max_delay(Duration::from_millis(200));
        let connection =
            ConnectionManager::new_lazy_with_config(client.clone(), settings).map_err(address)?;
        Ok(Self { client, connection, prefix, patience })
    }

    /// The key that all keys of the agent begin with. The braces are the hash
    /// tag: one agent lives in one cluster slot.
    fn base(&self, agent: &AgentType) -> String {
        format!("{}:{{{agent}}}", self.prefix)
    }

    fn cancel_channel(&self) -> String {
        format!("{}:cancelled", self.prefix)
    }

    fn call(&self, script: Script, agent: &AgentType) -> Call {
        let base = self.base(agent);
        let cmd = script.call(&base);
        Call { script, base, cmd }
    }

    /// Calls over tickets, cut so that none is too long.
    fn calls(&self, script: Script, tickets: &[(AgentType, Ticket)], first: Option<u64>) -> Vec<Call> {
        let mut calls = Vec::new();
        for (agent, of_agent) in wire::by_agent(tickets) {
            for chunk in of_agent.chunks(CHUNK) {
                let mut call = self.call(script, agent);
                if let Some(first) = first {
                    call = call.arg(first);
                }
                calls.push(call.groups(chunk.iter().copied()));
            }
        }
        calls
    }

    /// Sends all calls, in one round trip unless they are very many; answers
    /// in their order.
    async fn send(&self, doing: &'static str, calls: &[Call]) -> Result<Vec<Value>, QueueError> {
        let mut answers = Vec::with_capacity(calls.len());
        for trip in calls.chunks(CALLS) {
            answers.extend(self.send_together(doing, trip).await?);
        }
        Ok(answers)
    }

    /// Sends calls in one round trip. Those that met a forgotten script or a
    /// key of a wrong type are repaired and sent again, the others are not.
    async fn send_together(&self, doing: &'static str, calls: &[Call]) -> Result<Vec<Value>, QueueError> {
        let mut answers = vec![Value::Nil; calls.len()];
        let mut pending: Vec<usize> = (0..calls.len()).collect();
        let mut repairs: Vec<Cmd> = Vec::new();
        // An error that stays, and the last one that a repair should have
        // mended.
        let (mut refused, mut unmended) = (None, None);
        for _ in 0..ROUNDS {
            let mut pipe = ::redis::pipe();
            pipe.ignore_errors();
            let repaired = repairs.len();
            for cmd in repairs.drain(..) {
                pipe.add_command(cmd);
            }
            for &place in &pending {
                pipe.add_command(calls[place].cmd.clone());
            }
            if pipe.is_empty() {
                break;
            }
            let replies = self.round_trip(doing, &pipe).await?;
            let mut again = Vec::new();
            for (place, reply) in pending.into_iter().zip(replies.into_iter().skip(repaired)) {
                match reply {
                    Ok(answer) => answers[place] = answer,
                    Err(error) => match cure(&error, &calls[place]) {
                        Some(cmds) => {
                            repairs.extend(cmds);
                            again.push(place);
                            unmended = Some(error);
                        }
                        None => refused = Some(error),
                    },
                }
            }
            pending = again;
        }
        match refused.or(unmended.filter(|_| !pending.is_empty())) {
            Some(error) => Err(failed(doing, &error)),
            None => Ok(answers),
        }
    }

    async fn round_trip(
        &self,
        doing: &'static str,
        pipe: &::redis::Pipeline,
    ) -> Result<Vec<RedisResult<Value>>, QueueError> {
        let mut connection = self.connection.clone();
        // Connecting has its own limits, one per attempt; this is the limit of
        // everything together.
        match timeout(self.patience * 3, pipe.query_async(&mut connection)).await {
            Ok(replies) => replies.map_err(|error| failed(doing, &error)),
            Err(_) => Err(QueueError::Unavailable { doing, reason: "no answer in time".into() }),
        }
    }

    async fn each(
        &self,
        doing: &'static str,
        script: Script,
        agents: &[AgentType],
    ) -> Result<Vec<Value>, QueueError> {
        let calls: Vec<Call> = agents.iter().map(|agent| self.call(script, agent)).collect();
        self.send(doing, &calls).await
    }
}

/// What makes the next attempt of a call succeed, if anything.
fn cure(error: &RedisError, call: &Call) -> Option<Vec<Cmd>> {
    match error.code()? {
        "NOSCRIPT" => {
            seen(Rescue::ScriptReloaded);
            Some(vec![call.script.load()])
        }
        "WRONGTYPE" => {
            seen(Rescue::QueueHealed);
            tracing::warn!(base = call.base, %error, "a queue key has a wrong type; deleting it");
            Some(vec![Script::Heal.load(), Script::Heal.call(&call.base)])
        }
        _ => None,
    }
}

fn failed(doing: &'static str, error: &RedisError) -> QueueError {
    let reason = error.to_string();
    let passing = |kind| {
        matches!(
            kind,
            ServerErrorKind::BusyLoading
                | ServerErrorKind::TryAgain
                | ServerErrorKind::ClusterDown
                | ServerErrorKind::MasterDown
        )
    };
    match error.kind() {
        ErrorKind::Server(kind) if !passing(kind) => QueueError::Refused { doing, reason },
        ErrorKind::Extension => QueueError::Refused { doing, reason },
        ErrorKind::Parse | ErrorKind::UnexpectedReturnType => QueueError::Unexpected { doing, reason },
        _ => QueueError::Unavailable { doing, reason },
    }
}

fn read<T: ::redis::FromRedisValue>(doing: &'static str, value: Value) -> Result<T, QueueError> {
    ::redis::from_redis_value(value)
        .map_err(|error| QueueError::Unexpected { doing, reason: error.to_string() })
}

fn sum(doing: &'static str, values: Vec<Value>) -> Result<u64, QueueError> {
    values.into_iter().map(|value| read::<u64>(doing, value)).sum()
}

fn millis(duration: Duration) -> u64 {
    // Beyond a century nobody can tell, and the sum stays an exact integer.
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX).min(100 * 365 * 86_400_000)
}

#[async_trait]
impl DispatchQueue for RedisQueue {
    async fn push(&self, tickets: &[(AgentType, Ticket)]) -> Result<u64, QueueError> {
        let doing = "push tickets";
        sum(doing, self.send(doing, &self.calls(Script::Push, tickets, Some(0))).await?)
    }

    async fn pop(
        &self,
        agent: &AgentType,
        max: usize,
        claim_deadline: Duration,
        unbuilt: Unbuilt,
    ) -> Result<Popped, QueueError> {
        let doing = "pop tickets";
        let call = self
            .call(Script::Pop, agent)
            .arg(max.min(LARGEST_POP))
            .arg(millis(claim_deadline))
            .arg(u8::from(unbuilt == Unbuilt::Refuse));
        let answer = self.send(doing, &[call]).await?.pop().unwrap_or_default();
        let mut parts: Vec<Value> = read(doing, answer)?;
        if parts.len() < 3 {
            return Err(QueueError::Unexpected { doing, reason: format!("{} parts", parts.len()) });
        }
        let rows = parts.split_off(3);
        let (how, ready_left, garbage): (String, u64, u64) = read(doing, Value::Array(parts))?;
        let (paused, unbuilt) = (how == "paused", how == "unbuilt");
        let mut popped = Popped { tickets: Vec::new(), ready_left, paused, unbuilt, garbage };
        let mut bad: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
        for row in rows {
            let mut texts = read::<Vec<Vec<u8>>>(doing, row)?.into_iter();
            let name = texts.next().unwrap_or_default();
            for entry in texts {
                match wire::read_entry(&entry) {
                    // A workspace's queue gives that workspace's tickets only.
                    Some(ticket) if entry.starts_with(&name) => popped.tickets.push(ticket),
                    _ => bad.push((name.clone(), entry)),
                }
            }
        }
        if !bad.is_empty() {
            popped.garbage += bad.len() as u64;
            let drop = bad.into_iter().fold(self.call(Script::Done, agent), |call, (name, member)| {
                call.arg(name).arg(1).arg(member)
            });
            // If this fails they expire, come again and are dropped then; the
            // good tickets must not be lost for it.
            if let Err(error) = self.send("drop garbage", &[drop]).await {
                tracing::warn!(%error, %agent, "garbage stays in flight until its deadline");
            }
        }
        if popped.garbage > 0 {
            seen(Rescue::QueueGarbage);
            tracing::warn!(%agent, garbage = popped.garbage, "dropped undecodable queue members");
        }
        Ok(popped)
    }

    async fn claimed(
        &self,
        tickets: &[(AgentType, Ticket)],
        run_deadline: Duration,
    ) -> Result<Vec<Ticket>, QueueError> {
        let doing = "keep claimed tickets in flight";
        let calls = self.calls(Script::Claimed, tickets, Some(millis(run_deadline)));
        let mut fresh = Vec::new();
        for answer in self.send(doing, &calls).await? {
            let entries: Vec<Vec<u8>> = read(doing, answer)?;
            fresh.extend(entries.iter().filter_map(|entry| wire::read_entry(entry)));
        }
        Ok(fresh)
    }

    async fn settle(
        &self,
        done: &[(AgentType, Ticket)],
        next: &[(AgentType, Ticket)],
    ) -> Result<u64, QueueError> {
        let doing = "settle tickets";
        let mut calls = self.calls(Script::Done, done, None);
        let forgotten = calls.len();
        calls.extend(self.calls(Script::Push, next, Some(1)));
        let answers = self.send(doing, &calls).await?;
        sum(doing, answers.into_iter().skip(forgotten).collect())
    }

    async fn give_back(&self, agent: &AgentType, tickets: &[Ticket]) -> Result<(), QueueError> {
        // From the last chunk to the first: each goes before the one before.
        let calls: Vec<Call> = tickets
            .chunks(CHUNK)
            .rev()
            .map(|chunk| self.call(Script::GiveBack, agent).groups(chunk))
            .collect();
        self.send("give tickets back", &calls).await.map(drop)
    }

    async fn expire(&self, agent: &AgentType, max: usize) -> Result<u64, QueueError> {
        let doing = "expire tickets";
        let call = self.call(Script::Expire, agent).arg(max.min(CHUNK));
        let answer = self.send(doing, &[call]).await?.pop().unwrap_or_default();
        let (moved, garbage): (u64, u64) = read(doing, answer)?;
        if garbage > 0 {
            tracing::warn!(%agent, garbage, "dropped undecodable entries in flight");
        }
        Ok(moved)
    }

    async fn in_flight(&self, agent: &AgentType, from: usize, max: usize) -> Result<Vec<Ticket>, QueueError> {
        let doing = "look at tickets in flight";
        if max == 0 {
            return Ok(Vec::new());
        }
        let call = self.call(Script::InFlight, agent).arg(from).arg(from + max.min(CHUNK) - 1);
        let answer = self.send(doing, &[call]).await?.pop().unwrap_or_default();
        // What cannot be read is dropped when its deadline passes.
        Ok(read::<Vec<Vec<u8>>>(doing, answer)?.iter().filter_map(|entry| wire::read_entry(entry)).collect())
    }

    async fn mirror(&self, controls: &Controls) -> Result<(), QueueError> {
        let limit = |limit: Option<u32>| limit.map(|n| n.to_string()).unwrap_or_default();
        // Of two weights of one workspace the last counts, also when it is the
        // usual one, which is not written.
        let mut weights: BTreeMap<String, u32> = controls
            .weights
            .iter()
            .map(|(workspace, weight)| (wire::workspace_text(*workspace), (*weight).clamp(1, LARGEST_WEIGHT)))
            .collect();
        weights.retain(|_, weight| *weight != 1);
        let call = |(agent, control): &(AgentType, crate::AgentControl)| {
            let call = self
                .call(Script::Mirror, agent)
                .arg(u8::from(control.paused))
                .arg(limit(control.max_running))
                .arg(limit(control.max_running_per_workspace))
                .arg(control.version);
            weights.iter().fold(call, |call, (workspace, weight)| call.arg(workspace).arg(*weight))
        };
        let calls: Vec<Call> = controls.agents.iter().map(call).collect();
        self.send("mirror controls", &calls).await.map(drop)
    }

    async fn begin_build(&self, agents: &[AgentType]) -> Result<Build, QueueError> {
        let doing = "begin a rebuild";
        let answers = self.each(doing, Script::BeginBuild, agents).await?;
        let tokens = agents
            .iter()
            .zip(answers)
            .map(|(agent, answer)| Ok((agent.clone(), read(doing, answer)?)))
            .collect::<Result<_, QueueError>>()?;
        Ok(Build { tokens })
    }

    async fn mark_built(&self, build: &Build) -> Result<Vec<AgentType>, QueueError> {
        let doing = "end a rebuild";
        let call = |(agent, token): &(AgentType, String)| self.call(Script::MarkBuilt, agent).arg(token);
        let calls: Vec<Call> = build.tokens.iter().map(call).collect();
        let answers = self.send(doing, &calls).await?;
        let mut lost = Vec::new();
        for ((agent, _), answer) in build.tokens.iter().zip(answers) {
            if !read::<bool>(doing, answer)? {
                lost.push(agent.clone());
            }
        }
        Ok(lost)
    }

    async fn depths(&self, agents: &[AgentType]) -> Result<Vec<QueueDepth>, QueueError> {
        let doing = "look at queues";
        let answers = self.each(doing, Script::Depth, agents).await?;
        let depth = |(agent, answer): (&AgentType, Value)| {
            let (ready, in_flight, workspaces, paused, built) = read(doing, answer)?;
            Ok(QueueDepth { agent: agent.clone(), ready, in_flight, workspaces, paused, built })
        };
        agents.iter().zip(answers).map(depth).collect()
    }

    fn wakes(&self, agents: &[AgentType]) -> BoxStream<'static, Wake> {
        let work = agents.iter().map(|agent| (format!("{}:wake", self.base(agent)), agent.clone())).collect();
        let (client, cancelled) = (self.client.clone(), self.cancel_channel());
        Listener { client, work, cancelled, patience: self.patience }.stream()
    }

    async fn announce_cancel(&self, workflows: &[WorkflowKey]) -> Result<(), QueueError> {
        if workflows.is_empty() {
            return Ok(());
        }
        let doing = "announce cancellations";
        let mut pipe = ::redis::pipe();
        pipe.ignore_errors();
        for chunk in workflows.chunks(CANCELS) {
            pipe.cmd("PUBLISH").arg(self.cancel_channel()).arg(wire::cancel_message(chunk));
        }
        let replies = self.round_trip(doing, &pipe).await?;
        replies.into_iter().try_for_each(|reply| reply.map(drop).map_err(|error| failed(doing, &error)))
    }

    async fn ping(&self) -> Result<(), QueueError> {
        let mut pipe = ::redis::pipe();
        pipe.ignore_errors().cmd("PING");
        let replies = self.round_trip("ping", &pipe).await?;
        replies.into_iter().try_for_each(|reply| reply.map(drop).map_err(|error| failed("ping", &error)))
    }
}
