//! The end of a run: everything is whole again, people answer what is open,
//! and when nothing moves any more the database, the platform and the marks go
//! into the history.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
use galley_core::run::{Run, StepState};
use galley_preview::{Entry, PreviewNetwork};
use jiff::Timestamp;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection, Row as _};

use crate::bills;
use crate::chains;
use crate::fleet::{Fleet, Setup, marks};
use crate::history::{Call, Dump, Effect, Leftovers, Line, Seen};
use crate::servers::Servers;
use crate::workload;
use crate::world::{Request, World};

/// Waits until nothing moves any more; says what still does when patience is
/// over.
///
/// # Errors
/// PostgreSQL is away.
pub async fn quiet(
    world: &World,
    servers: &Servers,
    patience: Duration,
    say: &impl Fn(&str),
) -> Result<Vec<String>> {
    // Whoever still waits for money goes on now.
    workload::lift_budget(world).await;
    let began = Instant::now();
    let mut random = world.random(2_000);
    let (mut calm, mut told) = (0, 0);
    loop {
        let open = workload::answer_everything(world, &mut random).await;
        let mut connection = servers.connect().await?;
        let mut moving = moving(&mut connection).await?;
        if open > 0 {
            moving.push(format!("{open} questions and doubts are open"));
        }
        if moving.is_empty() && in_queues(world).await.is_empty() {
            calm += 1;
        } else {
            calm = 0;
        }
        let seconds = began.elapsed().as_secs();
        if seconds >= told + 5 && !moving.is_empty() {
            told = seconds;
            say(&format!("  after {seconds} s: {}", moving.join("; ")));
        }
        if calm >= 3 {
            return Ok(Vec::new());
        }
        if began.elapsed() > patience {
            moving.extend(in_queues(world).await.into_iter().map(|(agent, [ready, in_flight])| {
                format!("queue {agent}: {ready} ready, {in_flight} in flight")
            }));
            return Ok(moving);
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}

/// The runs whose steps still move by themselves, by step state.
async fn moving(connection: &mut PgConnection) -> Result<Vec<String>> {
    let mut counts: BTreeMap<&str, (u64, String)> = BTreeMap::new();
    let rows = sqlx::query("SELECT id::text, run FROM runs").fetch_all(&mut *connection).await?;
    for row in rows {
        let id: String = row.try_get(0)?;
        let bytes: Vec<u8> = row.try_get(1)?;
        let Ok(run) = Run::decode(&bytes) else {
            counts.entry("cannot be read").or_default().1 = id;
            continue;
        };
        for state in [StepState::Queued, StepState::Running, StepState::Unknown, StepState::WaitingBudget] {
            let count = run.count(state) as u64;
            if count > 0 {
                let entry = counts.entry(state.word()).or_default();
                entry.0 += count;
                entry.1 = id.clone();
            }
        }
    }
    let soon = "SELECT count(*) FROM timers WHERE due_at < galley_now() + interval '2 minutes'";
    let timers: i64 = sqlx::query(soon).fetch_one(&mut *connection).await?.try_get(0)?;
    let mut told: Vec<String> = counts
        .into_iter()
        .map(|(state, (count, example))| format!("{count} steps {state}, one of them in {example}"))
        .collect();
    if timers > 0 {
        told.push(format!("{timers} timers are due soon"));
    }
    let reserved: i64 = sqlx::query("SELECT count(*) FROM spend WHERE state = 'reserved'")
        .fetch_one(&mut *connection)
        .await?
        .try_get(0)?;
    if reserved > 0 {
        told.push(format!("{reserved} calls are reserved"));
    }
    let unsealed = chains::unsealed(connection).await?;
    if unsealed > 0 {
        told.push(format!("{unsealed} audit rows are not sealed"));
    }
    Ok(told)
}

/// What Redis still holds, by agent: ready and in flight.
async fn in_queues(world: &World) -> BTreeMap<String, [u64; 2]> {
    let mut held = BTreeMap::new();
    let Some(listed) = world.ask(&world.tenants[0], Request::get("/v1/queues")).await.done() else {
        held.insert("nobody knows".into(), [1, 1]);
        return held;
    };
    for queue in listed["items"].as_array().into_iter().flatten() {
        let count = |field: &str| queue[field].as_u64().unwrap_or(u64::MAX);
        let (ready, in_flight) = (count("ready"), count("inFlight"));
        if ready > 0 || in_flight > 0 {
            held.insert(queue["agent"].as_str().unwrap_or_default().to_owned(), [ready, in_flight]);
        }
    }
    held
}

/// Writes everything that is known in the end into the history.
///
/// # Errors
/// PostgreSQL is away.
pub async fn write_down(
    world: &World,
    fleet: &Fleet,
    servers: &Servers,
    setup: &Setup,
    began: Timestamp,
    secrets: &[String],
) -> Result<()> {
    let queues = in_queues(world).await;
    for effect in effects(&world.platform)? {
        world.record(&Line::Effect(effect));
    }
    calls(world, &setup.calls(), began)?;
    for bill in bills::read(&bills::ledger(&setup.calls())) {
        world.record(&Line::Bill(bill));
    }
    let mut connection = servers.connect().await?;
    let idle: i64 = sqlx::query(
        "SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in transaction%' AND application_name = 'galley'",
    )
    .fetch_one(&mut connection)
    .await?
    .try_get(0)?;
    for line in dumped(&mut connection).await? {
        world.record(&line);
    }
    let mut leftovers = Leftovers {
        idle_in_transaction: idle.unsigned_abs(),
        ready: queues
            .iter()
            .filter(|(_, held)| held[0] > 0)
            .map(|(agent, held)| (agent.clone(), held[0]))
            .collect(),
        in_flight: queues
            .iter()
            .filter(|(_, held)| held[1] > 0)
            .map(|(agent, held)| (agent.clone(), held[1]))
            .collect(),
        ..Leftovers::default()
    };
    leftovers.chains = chains::broken(&mut connection).await?;
    search_logs(world, &setup.logs(), secrets, &mut leftovers)?;
    search_redis(servers, secrets, &mut leftovers).await?;
    world.record(&Line::Leftovers(leftovers));
    world.record(&Line::Seen(seen(world, fleet, setup)));
    Ok(())
}

/// What was injected and walked, counted.
pub fn seen(world: &World, fleet: &Fleet, setup: &Setup) -> Seen {
    let mut faults = world.tally().faults.clone();
    for (what, count) in fleet.counts() {
        *faults.entry(format!("proxy: {what}")).or_default() += count;
    }
    Seen { faults, paths: marks(&setup.marks()) }
}

/// Makes the platform whole again, and counts what it did until then.
pub fn count_platform(world: &World) {
    let faults = world.platform.faults();
    world.platform.clear_faults();
    let mut tally = world.tally();
    for fault in faults.iter().filter(|fault| fault.hits > 0) {
        *tally.faults.entry(format!("platform: {}", fault.kind.name())).or_default() += fault.hits;
    }
}

/// The calls of agents, on the history's clock.
fn calls(world: &World, path: &Path, began: Timestamp) -> Result<()> {
    let began = u64::try_from(began.as_millisecond())?;
    for line in std::fs::read_to_string(path).unwrap_or_default().lines().filter(|line| !line.is_empty()) {
        // Cut off: its process was killed before it had begun to act.
        let Ok(mut call) = serde_json::from_str::<Call>(line) else { continue };
        call.at_ms = call.at_ms.saturating_sub(began);
        world.record(&Line::Call(call));
    }
    Ok(())
}

/// What a platform shows.
///
/// # Errors
/// Never: an endpoint is a word.
pub fn effects(platform: &PreviewNetwork) -> Result<Vec<Effect>> {
    let effect = |entry: Entry| {
        Ok(Effect {
            key: entry.key.unwrap_or_default(),
            account: entry.account,
            endpoint: serde_json::to_value(entry.endpoint)?.as_str().unwrap_or_default().to_owned(),
            text: entry.text,
            link: None,
            at: entry.at,
            cost_micros: entry.cost_micros,
        })
    };
    platform.ledger().posts.into_iter().map(effect).collect()
}

/// Every table of a dump, as of one moment.
///
/// # Errors
/// PostgreSQL is away.
pub async fn dumped(connection: &mut PgConnection) -> Result<Vec<Line>> {
    let mut snapshot = connection.begin().await?;
    snapshot.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ").await?;
    snapshot.execute("SET LOCAL TimeZone = 'UTC'").await?;
    let now: String =
        sqlx::query("SELECT to_json(galley_now())::text").fetch_one(&mut *snapshot).await?.try_get(0)?;
    let mut lines = vec![Line::Dumped(serde_json::from_str(&now)?)];
    for table in Dump::TABLES {
        let rows = format!("SELECT row_to_json(t)::text FROM {table} t");
        for row in sqlx::query(AssertSqlSafe(rows)).fetch_all(&mut *snapshot).await? {
            let row: String = row.try_get(0)?;
            lines.push(Line::Row { table: (*table).to_owned(), row: serde_json::from_str(&row)? });
        }
    }
    snapshot.rollback().await?;
    Ok(lines)
}

fn search_logs(world: &World, folder: &Path, secrets: &[String], leftovers: &mut Leftovers) -> Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        for (number, line) in String::from_utf8_lossy(&std::fs::read(&path)?).lines().enumerate() {
            search(world, &format!("{name}:{}", number + 1), line, secrets, leftovers);
        }
    }
    Ok(())
}

async fn search_redis(servers: &Servers, secrets: &[String], leftovers: &mut Leftovers) -> Result<()> {
    let mut connection = servers.connect_redis().await?;
    let keys: Vec<Vec<u8>> = redis::cmd("KEYS").arg("*").query_async(&mut connection).await?;
    for key in keys {
        let dumped: redis::Value = redis::cmd("DUMP").arg(&key).query_async(&mut connection).await?;
        let mut bytes = key.clone();
        if let redis::Value::BulkString(value) = dumped {
            bytes.extend(value);
        }
        let text = String::from_utf8_lossy(&bytes);
        if secrets.iter().any(|secret| text.contains(secret.as_str())) {
            leftovers.secrets.push(format!("redis key {}", String::from_utf8_lossy(&key)));
        }
    }
    Ok(())
}

fn search(world: &World, place: &str, text: &str, secrets: &[String], leftovers: &mut Leftovers) {
    if secrets.iter().any(|secret| text.contains(secret.as_str())) {
        leftovers.secrets.push(place.to_owned());
    }
    let found = world
        .tenants
        .iter()
        .filter(|tenant| text.contains(tenant.canary.as_str()) || text.contains(&tenant.id.to_string()));
    if found.count() > 1 {
        leftovers.crossed.push(place.to_owned());
    }
}
