//! One whole run: set up, break, come to rest, decide.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use galley_core::publish::Capability;
use galley_preview::{PreviewNetwork, PreviewOptions, Price, SeedAccount};
use jiff::Timestamp;
use serde_json::json;
use sqlx::{Executor as _, Row as _};
use tokio_util::sync::CancellationToken;

use crate::agents::canary;
use crate::fleet::{Fleet, Role, Setup};
use crate::history::{Account, Dump, Facts, History, Line, NeededSum, Recorder, Workspace};
use crate::nemesis::{Fault, Nemesis};
use crate::outside;
use crate::prelude;
use crate::rest;
use crate::servers::Servers;
use crate::workload::{POST_MICROS, Policy, Workload, set_first_budget, set_policy};
use crate::world::{Answer, Parts, Request, Target, Tenant, World};

/// The processes of the fleet.
const SIZES: [(Role, usize); 5] =
    [(Role::Api, 2), (Role::Scheduler, 2), (Role::Worker, 4), (Role::Gateway, 2), (Role::Outside, 1)];
/// The tenants.
const TENANTS: [&str; 4] = ["alba", "bruno", "clara", "dora"];
/// How long everything may take to come to rest once all is whole.
const REST: Duration = Duration::from_secs(60);

/// Nothing new is begun in this time before the last fault, or in the last
/// tenth of a short run.
const LAST_MOMENTS: Duration = Duration::from_secs(10);

/// The logins of the fleet: each is a member of one of Galley's roles and
/// nothing more.
const LOGINS: &str = "
    CREATE ROLE chaos_api LOGIN IN ROLE galley_api;
    CREATE ROLE chaos_scheduler LOGIN IN ROLE galley_engine;
    CREATE ROLE chaos_gateway LOGIN IN ROLE galley_engine;
    CREATE ROLE chaos_worker LOGIN IN ROLE galley_publisher;";

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Order {
    /// What everything random is drawn from.
    pub seed: u64,
    /// How long faults are injected.
    pub minutes: f64,
    /// Which faults.
    pub faults: Vec<Fault>,
    /// The planted bug, if one is.
    pub planted: Option<String>,
    /// What this run is called in its history.
    pub mode: String,
    /// Where the history goes.
    pub out: PathBuf,
    /// Fault kinds without which the run does not count.
    pub needed_faults: Vec<String>,
    /// Rescue paths without which the run does not count.
    pub needed_paths: Vec<String>,
    /// How much of some faults has to have happened at least.
    pub needed_sums: Vec<NeededSum>,
}

/// What a run left.
#[derive(Debug)]
pub struct Done {
    /// Everything that was seen.
    pub history: History,
    /// What did not come to rest.
    pub moving: Vec<String>,
    /// Operations by kind: done, refused, unknown.
    pub ops: std::collections::BTreeMap<&'static str, [u64; 3]>,
    /// How often processes died.
    pub deaths: u64,
    /// How long it took, all in all.
    pub took: Duration,
    /// Where the logs are, while they are kept.
    pub folder: PathBuf,
}

/// Runs it.
///
/// # Errors
/// The harness itself failed: nothing was decided.
pub async fn run(order: &Order, say: impl Fn(&str)) -> Result<Done> {
    let clock = Instant::now();
    let folder = tempfile::Builder::new().prefix("galley-chaos-").tempdir()?.keep();
    say(&format!("seed {}, {} minutes, files in {}", order.seed, order.minutes, folder.display()));
    let servers = Arc::new(Servers::start(&folder.join("servers")).await?);
    let done = on_servers(order, &say, &folder, &servers, clock).await;
    drop(servers);
    done
}

async fn on_servers(
    order: &Order,
    say: &impl Fn(&str),
    folder: &Path,
    servers: &Arc<Servers>,
    clock: Instant,
) -> Result<Done> {
    let setup = Setup {
        folder: folder.to_path_buf(),
        jwt_secret: secret(),
        seal_key: secret(),
        planted: order.planted.clone(),
    };
    setup.run(servers, &["migrate"]).await?;
    servers.connect().await?.execute(LOGINS).await?;
    let bug = order.planted.as_deref().and_then(galley_probe::Bug::named);
    if let Some(opens) = bug.and_then(crate::planted::opens) {
        servers.connect().await?.execute(opens).await?;
    }
    // The witness of every version of every run.
    servers.connect().await?.execute(Dump::JOURNAL).await?;
    let handles: Vec<(String, &str, String)> = TENANTS
        .iter()
        .flat_map(|tenant| ENDPOINTS.map(|endpoint| (format!("{tenant}-{endpoint}"), endpoint, secret())))
        .collect();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let platform = PreviewNetwork::start(
        listener,
        PreviewOptions {
            accounts: handles
                .iter()
                .map(|(handle, _, token)| SeedAccount {
                    handle: handle.clone(),
                    display_name: handle.clone(),
                    token: token.clone(),
                })
                .collect(),
            ..PreviewOptions::default()
        },
    )?;
    platform.set_price(Price { post_micros: POST_MICROS, link_micros: None })?;
    let fleet = Arc::new(Fleet::start(&setup, servers, &SIZES).await?);
    let (began, began_at) = now(servers).await?;
    let mut world = World::new(Parts {
        seed: order.seed,
        platform,
        recorder: Recorder::create(&order.out)?,
        apis: fleet.of(Role::Api).iter().filter_map(|api| api.url.clone()).collect(),
        jwt_secret: setup.jwt_secret.clone(),
        began,
    })?;
    for name in TENANTS {
        let id = setup.run(servers, &["workspace", "create", name, "--direct"]).await?;
        world.tenants.push(Tenant {
            id: id.trim().parse().context("a workspace's id")?,
            name: name.to_owned(),
            canary: canary(name, order.seed),
            accounts: Vec::new(),
        });
    }
    outside::issue(folder, &setup.jwt_secret, world.tenants[0].id)?;
    ready(&world).await?;
    let mut secrets: Vec<String> = handles.iter().map(|(_, _, token)| token.clone()).collect();
    secrets.extend([setup.jwt_secret.clone(), setup.seal_key.clone()]);

    let mut found = Vec::new();
    for (place, name) in TENANTS.iter().enumerate() {
        for (handle, endpoint, token) in handles.iter().filter(|(handle, ..)| handle.starts_with(name)) {
            found.push((place, handle.clone(), *endpoint, token.clone()));
        }
    }
    // The first line of a history are its facts, and they name the accounts:
    // these are added before anything is recorded.
    for (place, handle, endpoint, token) in &found {
        let id = add_account(&world, servers, *place, endpoint, token).await?;
        let name = (*endpoint).to_owned();
        world.tenants[*place].accounts.push(Target { id, name, handle: handle.clone(), endpoint });
    }
    world.record(&Line::Facts(facts(order, &world, began_at, secrets.clone())));
    // Days ago, so that their zones are in force.
    servers.move_clock(-60 * 3_600).await?;
    for place in 0..world.tenants.len() {
        let config = Policy::of(place).config(0, false);
        let set = set_policy(&world, &world.tenants[place], config).await;
        anyhow::ensure!(matches!(set, Answer::Done(_)), "a first policy was not set: {set:?}");
    }

    servers.move_clock(0).await?;
    let set = set_first_budget(&world).await;
    anyhow::ensure!(matches!(set, Answer::Done(_)), "the first budget was not set: {set:?}");

    let world = Arc::new(world);
    if order.faults == Fault::ALL {
        prelude::late_questions(&world, servers).await?;
        prelude::restore(&world, servers).await?;
    }
    say(&format!("the fleet is up after {:.0?}; breaking it", clock.elapsed()));
    let workload = Workload::start(&world);
    // Nothing new in the last moments: it would only make the rest longer.
    let faults = Duration::from_secs_f64(order.minutes * 60.0);
    let evening = {
        let world = Arc::clone(&world);
        let last = faults - LAST_MOMENTS.min(faults / 10);
        tokio::spawn(async move {
            tokio::time::sleep(last).await;
            world.stop.cancel();
        })
    };
    let nemesis = Nemesis {
        world: Arc::clone(&world),
        fleet: Arc::clone(&fleet),
        servers: Arc::clone(servers),
        over: CancellationToken::new(),
    };
    nemesis.rage(order.minutes, &order.faults, CancellationToken::new()).await;
    evening.abort();
    world.stop.cancel();
    fleet.heal();
    rest::count_platform(&world);
    say(&format!("all is whole again after {:.0?}; waiting for rest", clock.elapsed()));
    workload.ended().await;
    // A planted bug may keep it from ever coming to rest.
    let patience = if order.planted.is_some() { REST / 2 } else { REST };
    let moving = rest::quiet(&world, servers, patience, say).await?;
    rest::write_down(&world, &fleet, servers, &setup, began_at, &secrets).await?;
    let deaths = fleet.members.iter().map(|member| member.deaths()).sum();
    let ops = world.tally().ops.clone();
    drop(nemesis);
    if let Ok(fleet) = Arc::try_unwrap(fleet) {
        fleet.stop().await;
    }
    drop(world);
    let history = History::read(&order.out)?;
    Ok(Done { history, moving, ops, deaths, took: clock.elapsed(), folder: folder.to_path_buf() })
}

const ENDPOINTS: [&str; 3] = ["idempotent", "verifiable", "blind"];

fn secret() -> String {
    format!("{:032x}{:032x}", rand::random::<u128>(), rand::random::<u128>())
}

/// This moment, and what the database calls it.
async fn now(servers: &Servers) -> Result<(Instant, Timestamp)> {
    let mut connection = servers.connect().await?;
    let began = Instant::now();
    let row = sqlx::query("SELECT to_json(galley_now())::text").fetch_one(&mut connection).await?;
    Ok((began, serde_json::from_str(row.try_get::<&str, _>(0)?)?))
}

/// Waits until the fleet serves: every API answers, and the agents are known.
async fn ready(world: &World) -> Result<()> {
    let patience = Instant::now() + Duration::from_secs(60);
    loop {
        let listed = world.ask(&world.tenants[0], Request::get("/v1/agents")).await.done();
        let known = listed.as_ref().and_then(|listed| listed["items"].as_array()).map_or(0, Vec::len);
        let has = |agent: &str| listed.as_ref().is_some_and(|listed| listed.to_string().contains(agent));
        if known > 0 && has(crate::agents::SCRIBE) && has(outside::SCHOLAR) && has("publisher") {
            return Ok(());
        }
        anyhow::ensure!(Instant::now() < patience, "the fleet does not come up");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn add_account(
    world: &World,
    servers: &Servers,
    place: usize,
    endpoint: &str,
    token: &str,
) -> Result<galley_core::ids::AccountId> {
    let tenant = &world.tenants[place];
    let mut body = json!({
        "name": endpoint,
        "platform": "preview",
        "credential": token,
        "settings": { "url": world.platform.url(), "endpoint": endpoint, "postMicros": POST_MICROS },
    });
    // A limit of its own, below the workspace's, in one of them.
    if place == 2 && endpoint == "blind" {
        body["maxDailyPosts"] = json!(3);
    }
    let added = world.ask(tenant, Request::post("/v1/accounts", body)).await;
    anyhow::ensure!(matches!(added, Answer::Done(_)), "an account was not added: {added:?}");
    let mut connection = servers.connect().await?;
    let row = sqlx::query("SELECT id::text FROM accounts WHERE workspace_id = $1 AND name = $2")
        .bind(tenant.id.0)
        .bind(endpoint)
        .fetch_one(&mut connection)
        .await?;
    row.try_get::<&str, _>(0)?.parse().context("an account's id")
}

fn facts(order: &Order, world: &World, began_at: Timestamp, secrets: Vec<String>) -> Facts {
    let workspaces = world.tenants.iter().map(|tenant| Workspace {
        id: tenant.id,
        name: tenant.name.clone(),
        canary: tenant.canary.clone(),
    });
    let accounts = world.tenants.iter().flat_map(|tenant| {
        tenant.accounts.iter().map(|account| Account {
            id: account.id,
            workspace: tenant.id,
            name: account.name.clone(),
            handle: account.handle.clone(),
            capability: match account.endpoint {
                "idempotent" => Capability::Idempotent { window_s: 24 * 60 * 60 },
                "verifiable" => Capability::Verifiable { settle_s: 5 },
                _ => Capability::Blind,
            },
        })
    });
    Facts {
        seed: order.seed,
        minutes: order.minutes,
        mode: order.mode.clone(),
        began_at,
        clock_slack_ms: 50,
        workspaces: workspaces.collect(),
        accounts: accounts.collect(),
        secrets,
        needed_faults: order.needed_faults.clone(),
        needed_paths: order.needed_paths.clone(),
        needed_sums: order.needed_sums.clone(),
    }
}
