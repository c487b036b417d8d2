//! `galley demo break`: breaks everything in mid-publish, and lets the platform
//! count.

use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, Subcommand};
use galley_core::automation::{AutomationConfig, Mode};
use galley_core::ids::{WorkflowKey, WorkspaceId};
use galley_engine::queue::{RedisConfig, RedisQueue};
use galley_engine::store::{PostFilter, PostRow, Store};
use galley_engine::{Engine, EngineConfig, Keyring, NewAccount, Submit, SubmitContext};
use galley_preview::{FaultKind, FaultTarget, PreviewNetwork, PreviewOptions, SeedAccount, SetFault};
use galley_publishers::Publishers;
use galley_servers::{PrivatePostgres, PrivateRedis, Speed};
use galley_worker::Adapters;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;

use crate::cli::{Run, Settings};
use crate::config::Flags;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::print::{self, style};

/// Posts that are made.
const POSTS: usize = 24;
/// The accounts: name and what the platform can tell about them.
const ACCOUNTS: [(&str, &str); 2] = [("keeps_keys", "idempotent"), ("can_be_asked", "verifiable")];
/// Nothing here takes longer, unless something is broken.
const PATIENCE: Duration = Duration::from_secs(240);
/// Shorter than in production, so that the demo does not take minutes: a killed
/// worker is noticed sooner.
const SESSION_TTL_MS: u64 = 2_000;

/// Break Galley on purpose and count what is out
///
/// Starts private servers, a preview network and worker processes in a
/// temporary folder, sends posts out, and meanwhile kills a worker while the
/// platform holds its request, empties Redis and loses replies after the post
/// is out. Then the platform's own ledger says how many posts are there.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  galley demo break
  galley demo break --json")]
pub(crate) struct Demo {
    #[command(subcommand)]
    command: DemoCommand,
}

#[derive(Debug, Subcommand)]
enum DemoCommand {
    /// Kill, flush and lose replies in mid-publish; ends with the platform's own count
    Break {
        /// Print the count as JSON
        #[arg(long)]
        json: bool,
    },
}

impl Run for Demo {
    fn flags(&self) -> Flags {
        Flags::new()
    }

    async fn run(self, _: Settings) -> Result<(), Failure> {
        let DemoCommand::Break { json } = self.command;
        let mut scene = Scene::set().await?;
        let done = scene.play(json).await;
        scene.strike().await;
        done
    }
}

fn broken(what: &str, error: impl std::fmt::Display) -> Failure {
    Failure::unexpected(format!("the demo could not {what}")).detail(error)
}

struct Scene {
    _folder: tempfile::TempDir,
    postgres: PrivatePostgres,
    redis: PrivateRedis,
    network: PreviewNetwork,
    engine: Engine,
    workspace: WorkspaceId,
    secret_key: String,
    workers: Vec<Child>,
    duties: Option<(CancellationToken, tokio::task::JoinHandle<()>)>,
}

impl Scene {
    async fn set() -> Result<Self, Failure> {
        print::say("starting PostgreSQL, Redis, a preview network and two worker processes");
        let folder = tempfile::tempdir().map_err(|error| broken("make a folder", error))?;
        let (for_postgres, for_redis) = (folder.path().join("postgres"), folder.path().join("redis"));
        let (postgres, redis) = tokio::try_join!(
            PrivatePostgres::start(&for_postgres, Speed::Durable),
            PrivateRedis::start(&for_redis),
        )?;
        let listener = TcpListener::bind("127.0.0.1:0").await.map_err(|error| broken("listen", error))?;
        let accounts = ACCOUNTS.map(|(name, _)| SeedAccount {
            handle: name.replace('_', "-"),
            display_name: name.replace('_', " "),
            token: format!("demo-token-{name}"),
        });
        let options = PreviewOptions { accounts: accounts.into(), ..PreviewOptions::default() };
        let network =
            PreviewNetwork::start(listener, options).map_err(|error| broken("start the network", error))?;

        let secret_key = hex::encode(rand::random::<[u8; 32]>());
        // The platform is on this machine.
        let options = galley_publishers::Options {
            allow_private_targets: true,
            ..galley_publishers::Options::default()
        };
        let publishers = Publishers::built_in(options).map_err(|error| broken("make the adapters", error))?;
        let store = Store::connect(&postgres.url(), 8)?;
        store.migrate().await?;
        let queue =
            RedisQueue::new(RedisConfig::new(redis.url())).map_err(|error| broken("use Redis", error))?;
        let ttl = Duration::from_millis(SESSION_TTL_MS);
        let config = EngineConfig {
            session_ttl: ttl,
            renew_every: ttl / 3,
            keyring: Some(Keyring::single(&secret_key).map_err(|error| broken("seal", error))?),
            platforms: Some(Arc::new(Adapters(publishers))),
            ..EngineConfig::default()
        };
        let engine = Engine::new(store, Arc::new(queue), config);
        let workspace = engine.create_workspace("break", 1, "demo").await?.id;
        let policy = AutomationConfig {
            mode: Mode::FullAutonomous,
            content_approval_required: false,
            ..AutomationConfig::default()
        };
        engine.set_policy(workspace, &policy, None, "demo").await?;
        for (name, endpoint) in ACCOUNTS {
            let new = NewAccount {
                name: name.into(),
                platform: "preview".into(),
                content_platform: Some("x".into()),
                settings: json!({ "url": network.url(), "endpoint": endpoint }),
                credential: format!("demo-token-{name}").into(),
                time_zone: None,
                slots: Vec::new(),
                max_daily_posts: None,
            };
            engine.add_account(workspace, new, "demo").await?;
        }
        let stop = CancellationToken::new();
        let (for_duties, stopped) = (engine.clone(), stop.clone());
        let duties = tokio::spawn(async move { galley_engine::run_duties(&for_duties, &stopped).await });
        let mut scene = Self {
            _folder: folder,
            postgres,
            redis,
            network,
            engine,
            workspace,
            secret_key,
            workers: Vec::new(),
            duties: Some((stop, duties)),
        };
        scene.hire()?;
        scene.hire()?;
        Ok(scene)
    }

    /// One more worker process.
    fn hire(&mut self) -> Result<(), Failure> {
        let program = std::env::current_exe().map_err(|error| broken("find its own program", error))?;
        let worker = Command::new(program)
            .args(["worker", "--metrics-addr", "off", "--concurrency", "4"])
            .env("DATABASE_URL", self.postgres.url())
            .env("REDIS_URL", self.redis.url())
            .env("GALLEY_SECRET_KEY", &self.secret_key)
            .env("GALLEY_ALLOW_PRIVATE_TARGETS", "true")
            .env("GALLEY_SESSION_TTL_MS", SESSION_TTL_MS.to_string())
            .env("GALLEY_LOG", "error")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| broken("start a worker", error))?;
        self.workers.push(worker);
        Ok(())
    }

    async fn play(&mut self, json: bool) -> Result<(), Failure> {
        self.served().await?;
        // The next request hangs with its post already out; later ones lose
        // their replies, some with the post out and some without.
        let fault = |kind, times| SetFault::new(kind).times(times);
        for fault in [
            fault(FaultKind::HangAfter, 1),
            fault(FaultKind::LoseReply, 3),
            fault(FaultKind::LoseReply, 2).endpoint(FaultTarget::Verifiable),
            fault(FaultKind::Fail, 2),
        ] {
            self.network.set_fault(fault).map_err(|error| broken("set a fault", error))?;
        }
        for number in 0..POSTS {
            self.submit(number).await?;
        }
        print::say(&format!("submitted {POSTS} posts for two accounts"));
        self.network.wait_for_hits(1).await;
        // Whichever of them holds the hanging request: one dies, then the other.
        for what in ["the worker whose request the platform is holding", "the other worker"] {
            if let Some(mut worker) = (!self.workers.is_empty()).then(|| self.workers.remove(0)) {
                worker.kill().await.map_err(|error| broken("kill a worker", error))?;
            }
            print::say(&format!("{} {what} (SIGKILL)", style::BAD.on("killed")));
            self.hire()?;
        }
        self.flush().await?;
        print::say(&format!("{} Redis (FLUSHALL)", style::BAD.on("emptied")));
        tokio::time::timeout(PATIENCE, self.network.wait_for_hits(6))
            .await
            .map_err(|_| broken("lose its replies", "the platform was not called often enough"))?;
        print::say(&format!("{} five replies after the post was out", style::BAD.on("lost")));
        self.flush().await?;
        print::say(&format!("{} Redis once more", style::BAD.on("emptied")));
        print::say("waiting until Galley has found out about every post (an unknown one rests for 20 s)");
        let posts = self.settled().await?;
        self.count(&posts, json)
    }

    async fn flush(&self) -> Result<(), Failure> {
        galley_engine::queue::flush_all(&self.redis.url()).await.map_err(|error| broken("empty Redis", error))
    }

    /// Waits until a worker serves posts.
    async fn served(&self) -> Result<(), Failure> {
        self.until("have a worker", async || {
            let sessions = self.engine.store().unswept_sessions().await?;
            Ok(sessions.iter().any(|session| session.closed_at.is_none()))
        })
        .await
    }

    async fn submit(&self, number: usize) -> Result<WorkflowKey, Failure> {
        let (account, _) = ACCOUNTS[number % ACCOUNTS.len()];
        let text = format!("Post {} of {POSTS}: it must be here exactly once.", number + 1);
        let definition = json!({
            "name": "break",
            "steps": [
                { "name": "write", "agent": "content_creator", "needs": [], "input": { "platform": "x" } },
                { "name": "publish", "agent": "publisher", "input": { "account": account } },
            ],
        });
        let submit = Submit {
            template: None,
            definition: Some(
                serde_json::from_value(definition).map_err(|error| broken("write a definition", error))?,
            ),
            input: json!({ "product": { "name": text }, "goals": ["be there once"], "audience": "whoever counts" }),
            priority: None,
        };
        let context = SubmitContext {
            workspace: self.workspace,
            actor: "demo".into(),
            idempotency_key: format!("break-{number}"),
            traceparent: None,
        };
        let submitted = self.engine.submit(&context, &submit).await?;
        Ok(WorkflowKey { workspace: self.workspace, workflow: submitted.workflow })
    }

    async fn settled(&self) -> Result<Vec<PostRow>, Failure> {
        self.until("settle every post", async || Ok(self.engine.store().count_live_runs().await? == 0))
            .await?;
        Ok(self.engine.store().list_posts(self.workspace, &PostFilter::default(), None, 1_000).await?)
    }

    async fn until(&self, what: &str, holds: impl AsyncFn() -> Result<bool, Failure>) -> Result<(), Failure> {
        let begun = std::time::Instant::now();
        while !holds().await? {
            if begun.elapsed() > PATIENCE {
                return Err(broken(what, format!("it took longer than {} s", PATIENCE.as_secs())));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    fn count(&self, posts: &[PostRow], json: bool) -> Result<(), Failure> {
        let ledger = self.network.ledger();
        let published = ledger.counts.posts;
        let duplicates = ledger.counts.duplicates;
        let believed = posts.iter().filter(|post| post.state == "published").count();
        let lost = POSTS.saturating_sub(usize::try_from(published - duplicates).unwrap_or(0));
        if json {
            print::json(&json!({
                "submitted": POSTS, "published": published, "duplicates": duplicates, "lost": lost,
                "believedPublished": believed, "faults": self.network.faults(),
            }))?;
        } else {
            let good = duplicates == 0 && lost == 0;
            let paint = if good { style::GOOD } else { style::BAD };
            print::say(&format!("\n{}", style::STRONG.on("The platform's own ledger:")));
            print::data(&format!(
                "{}\n",
                paint.on(&format!("{published} published, {duplicates} duplicates, {lost} lost"))
            ))?;
        }
        if duplicates == 0 && lost == 0 && believed == POSTS {
            return Ok(());
        }
        Err(Failure::new(Exit::WorkflowFailed, "the promise did not hold")
            .detail(format!("Galley believes that {believed} of {POSTS} posts are out")))
    }

    async fn strike(mut self) {
        for worker in &mut self.workers {
            worker.kill().await.ok();
        }
        if let Some((stop, duties)) = self.duties.take() {
            stop.cancel();
            duties.await.ok();
        }
        self.engine.store().close().await;
        self.network.stop().await;
        self.redis.stop().await;
        self.postgres.stop().await;
    }
}
