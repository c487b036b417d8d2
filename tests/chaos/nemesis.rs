//! The one who breaks things. The whole plan is drawn from the seed before
//! anything happens, so that a run of a given length is sure to break enough
//! of everything.

use std::sync::Arc;
use std::time::Duration;

use galley_preview::{FaultKind, FaultTarget, SetFault};
use nix::sys::signal::Signal;
use rand::RngExt as _;
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::fleet::{Fleet, Member, Role};
use crate::outside;
use crate::proxy::{Way, Weather};
use crate::servers::Servers;
use crate::world::World;

mod points;

/// How long a worker that was stopped before its call is left alone when it
/// goes on: long enough to make the call.
const BACK_ON_ITS_FEET: Duration = Duration::from_secs(1);

macro_rules! faults {
    ($($(#[$doc:meta])* $Fault:ident = $word:literal * $count:literal,)*) => {
        /// A kind of fault.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Fault {
            $($(#[$doc])* $Fault,)*
        }

        impl Fault {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$Fault,)*];

            /// What `--faults` calls it.
            pub const fn word(self) -> &'static str {
                match self { $(Self::$Fault => $word,)* }
            }

            /// How many of it three minutes see.
            const fn count(self) -> u32 {
                match self { $(Self::$Fault => $count,)* }
            }
        }
    };
}

faults! {
    /// SIGKILL of a process of the fleet.
    Kill = "kill" * 66,
    /// SIGSTOP of one, and SIGCONT a while later.
    Stop = "stop" * 16,
    /// FLUSHALL.
    Flush = "flush" * 8,
    /// Redis is killed and comes back empty.
    RedisRestart = "redis-restart" * 6,
    /// CLIENT KILL of every connection to Redis.
    RedisClientKill = "redis-client-kill" * 6,
    /// SCRIPT FLUSH.
    ScriptFlush = "script-flush" * 4,
    /// Redis hangs.
    RedisHang = "redis-hang" * 4,
    /// PostgreSQL is stopped at once and recovers.
    PostgresCrash = "postgres-crash" * 7,
    /// pg_terminate_backend of some connections.
    Terminate = "terminate" * 8,
    /// A backend hangs.
    BackendHang = "backend-hang" * 5,
    /// Somebody locks a table.
    RogueLock = "rogue-lock" * 5,
    /// A process' connections are slow.
    Delay = "delay" * 8,
    /// A process' connections are cut.
    Cut = "cut" * 10,
    /// A connection is cut in the middle of a message.
    CutAtByte = "cut-at-byte" * 10,
    /// A process hears nothing and is not heard.
    HalfOpen = "half-open" * 6,
    /// A process hears nothing, or is not heard.
    OneWay = "one-way" * 8,
    /// The reply of a COMMIT is lost.
    LostCommit = "lost-commit" * 60,
    /// A process is killed, and its next incarnation dies between two pieces
    /// of I/O.
    DieAtPoint = "die-at-point" * 30,
    /// A worker is stopped after its intent and before its call, for longer
    /// than a resolver rests.
    StopBeforeCall = "stop-before-call" * 14,
    /// SIGKILL of the worker outside.
    KillOutside = "kill-outside" * 8,
    /// SIGKILL of a gateway.
    KillGateway = "kill-gateway" * 6,
    /// The worker outside is stopped, or its network is cut or silent.
    DisturbOutside = "disturb-outside" * 16,
    /// The platform fails, hangs, loses replies.
    Platform = "platform" * 200,
}

impl Fault {
    /// The fault of this name.
    pub fn named(word: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|fault| fault.word() == word)
    }
}

/// One fault of the plan.
#[derive(Clone, Copy, Debug)]
struct Planned {
    at: Duration,
    fault: Fault,
    seed: u64,
}

/// Draws the plan for so many minutes.
fn plan(random: &mut StdRng, minutes: f64, faults: &[Fault]) -> Vec<Planned> {
    let mut all: Vec<Fault> = Vec::new();
    for fault in faults {
        let count = (f64::from(fault.count()) * minutes / 3.0).ceil();
        // Small and positive.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        all.extend(std::iter::repeat_n(*fault, count as usize));
    }
    all.shuffle(random);
    let share = minutes * 60.0 / all.len().max(1) as f64;
    let planned = all.into_iter().enumerate().map(|(place, fault)| {
        // What takes its time begins early enough to be seen to its end.
        let share = if fault == Fault::StopBeforeCall { share * 0.6 } else { share };
        Planned {
            at: Duration::from_secs_f64(share * (place as f64 + random.random::<f64>())),
            fault,
            seed: random.random(),
        }
    });
    let mut planned: Vec<_> = planned.collect();
    planned.sort_by_key(|planned| planned.at);
    planned
}

/// What the nemesis may touch.
#[derive(Clone, Debug)]
pub struct Nemesis {
    /// The world.
    pub world: Arc<World>,
    /// The fleet.
    pub fleet: Arc<Fleet>,
    /// The servers.
    pub servers: Arc<Servers>,
    /// Fires when the plan is over.
    pub over: CancellationToken,
}

impl Nemesis {
    /// Breaks things for so long; returns when the last one is whole again.
    pub async fn rage(&self, minutes: f64, faults: &[Fault], stop: CancellationToken) {
        let mut random = self.world.random(1);
        let began = tokio::time::Instant::now();
        let mut under_way = JoinSet::new();
        for planned in plan(&mut random, minutes, faults) {
            tokio::select! {
                () = tokio::time::sleep_until(began + planned.at) => {}
                () = stop.cancelled() => break,
            }
            let nemesis = self.clone();
            under_way.spawn(async move {
                if let Err(error) = nemesis.act(planned).await {
                    // The other faults see to it that some of this fail.
                    tracing::debug!(%error, fault = planned.fault.word(), "a fault could not be injected");
                }
            });
            while under_way.try_join_next().is_some() {}
        }
        // Those that wait for their moment would wait for nothing.
        self.over.cancel();
        while under_way.join_next().await.is_some() {}
    }

    async fn act(&self, planned: Planned) -> anyhow::Result<()> {
        use rand::SeedableRng as _;
        let mut random = StdRng::seed_from_u64(planned.seed);
        let mut ms = |from: u64, to: u64| Duration::from_millis(random.random_range(from..to));
        match planned.fault {
            Fault::Kill => {
                let role = match ms(0, 10).as_millis() {
                    0 => Role::Api,
                    1 | 2 => Role::Scheduler,
                    _ => Role::Worker,
                };
                if self.one_of(role, planned.seed).signal(Signal::SIGKILL) {
                    self.world.fault(&format!("kill {}", role.word()));
                }
                return Ok(());
            }
            Fault::Stop => {
                let member = self.any(planned.seed);
                // Shorter than a resolver's rest: a worker that is stopped
                // between its last check and the first byte may still send when
                // it goes on, which no client of a blind platform can prevent.
                let time = ms(500, 4_200);
                if member.signal(Signal::SIGSTOP) {
                    self.world.fault(&format!("stop {}", member.role.word()));
                    tokio::time::sleep(time).await;
                    member.signal(Signal::SIGCONT);
                }
                return Ok(());
            }
            Fault::Flush => self.servers.redis(&["FLUSHALL"]).await?,
            Fault::RedisRestart => self.servers.restart_redis(ms(50, 800)).await?,
            Fault::RedisClientKill => {
                self.servers.redis(&["CLIENT", "KILL", "TYPE", "NORMAL", "SKIPME", "YES"]).await?;
                self.servers.redis(&["CLIENT", "KILL", "TYPE", "PUBSUB"]).await?;
            }
            Fault::ScriptFlush => self.servers.redis(&["SCRIPT", "FLUSH"]).await?,
            Fault::RedisHang => self.servers.hang_redis(ms(500, 3_000)).await?,
            Fault::PostgresCrash => self.servers.crash_postgres(ms(0, 700)).await?,
            Fault::Terminate => {
                if self.servers.terminate_backends(4).await? == 0 {
                    return Ok(());
                }
            }
            Fault::BackendHang => {
                if !self.servers.hang_backend(ms(500, 3_000)).await? {
                    return Ok(());
                }
            }
            Fault::RogueLock => {
                let tables = ["runs", "results", "posts", "publications", "sessions"];
                let table = tables[usize::try_from(planned.seed % 5).unwrap_or_default()];
                self.servers.rogue_lock(table, ms(300, 1_500)).await?;
            }
            Fault::Delay => {
                let member = self.any(planned.seed);
                let delay = Weather { delay: ms(5, 120), ..Weather::default() };
                return self.under(&member, planned, delay, ms(500, 3_000)).await;
            }
            Fault::Cut => {
                let member = self.any(planned.seed);
                if planned.seed.is_multiple_of(3) { member.queue.cut() } else { member.database.cut() }
            }
            Fault::CutAtByte => {
                let member = self.any(planned.seed);
                let way = if planned.seed.is_multiple_of(2) { Way::ToServer } else { Way::ToClient };
                let bytes = ms(1, 2_000).as_millis() as u64;
                let proxy = if planned.seed.is_multiple_of(5) { &member.queue } else { &member.database };
                proxy.cut_after(way, bytes);
                return Ok(());
            }
            Fault::HalfOpen => {
                let member = self.any(planned.seed);
                let silent =
                    Weather { swallow_to_server: true, swallow_to_client: true, ..Weather::default() };
                return self.under(&member, planned, silent, ms(500, 5_000)).await;
            }
            Fault::OneWay => {
                let member = self.any(planned.seed);
                let deaf = planned.seed.is_multiple_of(2);
                let silent =
                    Weather { swallow_to_server: !deaf, swallow_to_client: deaf, ..Weather::default() };
                return self.under(&member, planned, silent, ms(500, 5_000)).await;
            }
            Fault::LostCommit => return self.lose_commit(planned.seed).await,
            Fault::DieAtPoint => {
                let member = self.any(planned.seed);
                let plan = points::deadly(member.role, &mut random);
                return self.kill_planned(&member, plan);
            }
            Fault::StopBeforeCall => return self.stop_before_call(planned.seed, &mut random).await,
            Fault::KillOutside => {
                outside::kill(self, Role::Outside, planned.seed);
                return Ok(());
            }
            Fault::KillGateway => {
                outside::kill(self, Role::Gateway, planned.seed);
                return Ok(());
            }
            Fault::DisturbOutside => {
                let member = self.one_of(Role::Outside, planned.seed);
                outside::disturb(self, &member, planned.seed, &mut random).await;
                return Ok(());
            }
            Fault::Platform => return self.platform(&mut random),
        }
        self.world.fault(planned.fault.word());
        Ok(())
    }

    /// Weather on one of a member's proxies, for a while.
    async fn under(
        &self,
        member: &Member,
        planned: Planned,
        weather: Weather,
        time: Duration,
    ) -> anyhow::Result<()> {
        let proxy = if planned.seed.is_multiple_of(3) { &member.queue } else { &member.database };
        self.world.fault(planned.fault.word());
        proxy.weather(weather);
        tokio::time::sleep(time).await;
        proxy.weather(Weather::default());
        Ok(())
    }

    /// Loses the reply of somebody's next COMMIT, or of every worker's next one
    /// after a post went out: then one of them records what it sent. Counted by
    /// the proxy when a reply was really lost.
    async fn lose_commit(&self, seed: u64) -> anyhow::Result<()> {
        if seed.is_multiple_of(2) {
            self.any(seed).database.lose_commits(1);
            return Ok(());
        }
        let mut posts = self.world.platform.posts();
        posts.mark_unchanged();
        tokio::select! {
            posted = posts.changed() => posted?,
            () = self.wait(Duration::from_secs(5)) => return Ok(()),
        }
        for worker in self.fleet.of(Role::Worker) {
            worker.database.lose_commits(1);
        }
        Ok(())
    }

    /// Kills a process; its next incarnation follows a plan.
    fn kill_planned(&self, member: &Member, plan: String) -> anyhow::Result<()> {
        member.plan(plan);
        if member.signal(Signal::SIGKILL) {
            self.world.fault(&format!("kill {}", member.role.word()));
            self.world.fault("die-at-point");
        }
        Ok(())
    }

    /// A worker that stops by itself between its intent and its call, and goes
    /// on when others have looked for the post already.
    async fn stop_before_call(&self, seed: u64, random: &mut StdRng) -> anyhow::Result<()> {
        let member = self.one_of(Role::Worker, seed);
        member.plan(points::before_the_call(random));
        if member.signal(Signal::SIGKILL) {
            self.world.fault("kill worker");
        }
        let time = Duration::from_millis(random.random_range(11_000..14_000));
        // Until its turn to publish comes.
        for _ in 0..600 {
            self.wait(Duration::from_millis(25)).await;
            if self.over.is_cancelled() {
                break;
            }
            let Some((pid, true)) = member.stopped() else { continue };
            self.world.fault(Fault::StopBeforeCall.word());
            // Killed before it goes on, it would send nothing.
            member.spare(true);
            self.wait(time).await;
            if member.stopped() == Some((pid, true)) {
                member.signal(Signal::SIGCONT);
                self.wait(BACK_ON_ITS_FEET).await;
            }
            member.spare(false);
            break;
        }
        Ok(())
    }

    /// Waits, but not beyond the plan's end.
    async fn wait(&self, time: Duration) {
        tokio::select! {
            () = tokio::time::sleep(time) => {}
            () = self.over.cancelled() => {}
        }
    }

    fn platform(&self, random: &mut StdRng) -> anyhow::Result<()> {
        let targets = [
            (FaultTarget::Verifiable, 4),
            (FaultTarget::Blind, 3),
            (FaultTarget::Idempotent, 3),
            (FaultTarget::Lookup, 1),
        ];
        let target = drawn(random, &targets);
        // Whoever looks too early finds nothing, and is wrong.
        let late = if target == FaultTarget::Verifiable { 9 } else { 2 };
        let kinds = [
            (FaultKind::LateEffect, late),
            (FaultKind::LoseReply, 4),
            (FaultKind::HangAfter, 2),
            (FaultKind::Hang, 5),
            (FaultKind::Fail, 2),
            (FaultKind::Refuse, 1),
            (FaultKind::Throttle, 1),
            (FaultKind::Late, 1),
            (FaultKind::OkWithError, 1),
        ];
        let kind = drawn(random, &kinds);
        // A look has no effect that could be late.
        if target == FaultTarget::Lookup && kind == FaultKind::LateEffect {
            return Ok(());
        }
        // What is unknown in the last moments only makes the rest longer.
        if self.world.stop.is_cancelled() {
            return Ok(());
        }
        // One at a time: some posts meet no fault.
        let waits =
            |fault: &galley_preview::Fault| fault.endpoint == Some(target) && fault.remaining != Some(0);
        if self.world.platform.faults().iter().any(waits) {
            return Ok(());
        }
        let mut fault = SetFault::new(kind).times(1);
        // Shorter than a platform takes to settle: one that is later still is
        // beyond what anybody promises. An effect is late enough for somebody
        // who looks too early to find nothing.
        let delay = match kind {
            FaultKind::Late => Some(500..4_000),
            FaultKind::LateEffect => Some(2_500..4_900),
            _ => None,
        };
        if let Some(delay) = delay {
            fault = fault.delay(Duration::from_millis(random.random_range(delay)));
        }
        self.world.platform.set_fault(fault.endpoint(target))?;
        Ok(())
    }

    fn any(&self, seed: u64) -> Arc<Member> {
        // Without an API nobody asks for anything: the fewest are its turn.
        let role = match (seed >> 20) % 12 {
            0 => Role::Api,
            1 | 2 => Role::Scheduler,
            _ => Role::Worker,
        };
        self.one_of(role, seed)
    }

    pub(crate) fn one_of(&self, role: Role, seed: u64) -> Arc<Member> {
        let all = self.fleet.of(role);
        let mut members = all.clone();
        members.retain(|member| !member.is_spared());
        // All of them spared: better one of these than none.
        let members = if members.is_empty() { all } else { members };
        let place = usize::try_from((seed >> 8) % members.len() as u64).unwrap_or_default();
        Arc::clone(members[place])
    }
}

/// One of these, as often as its weight says.
fn drawn<T: Copy>(random: &mut StdRng, weighted: &[(T, u32)]) -> T {
    let sum: u32 = weighted.iter().map(|(_, weight)| weight).sum();
    let mut at = random.random_range(0..sum);
    for (one, weight) in weighted {
        if at < *weight {
            return *one;
        }
        at -= weight;
    }
    weighted[0].0
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;

    use super::*;

    #[test]
    fn three_minutes_break_enough_of_everything() {
        let plan = plan(&mut StdRng::seed_from_u64(1), 3.0, Fault::ALL);
        let count = |fault| plan.iter().filter(|planned| planned.fault == fault).count();
        assert!(plan.len() >= 200);
        assert!(count(Fault::Kill) >= 60);
        assert!(count(Fault::Flush) + count(Fault::RedisRestart) >= 10);
        assert!(count(Fault::PostgresCrash) >= 5);
        assert!(count(Fault::LostCommit) >= 20);
        assert!(plan.is_sorted_by_key(|planned| planned.at));
        assert!(plan.iter().all(|planned| planned.at < Duration::from_secs(181)));
    }

    #[test]
    fn a_seed_draws_one_plan() {
        let draw = |seed| {
            let plan = plan(&mut StdRng::seed_from_u64(seed), 1.0, Fault::ALL);
            plan.iter().map(|planned| (planned.at, planned.fault, planned.seed)).collect::<Vec<_>>()
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
    }

    #[test]
    fn names_are_names() {
        for fault in Fault::ALL {
            assert_eq!(Fault::named(fault.word()), Some(*fault));
        }
    }
}
