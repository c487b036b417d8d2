//! `galley dev`: all of Galley in one process, with servers of its own.

use std::time::Instant;

use clap::Args;
use galley_api::views::Role;
use galley_api::{ApiConfig, NewToken, Signer};
use galley_core::ids::WorkspaceId;
use galley_engine::store::Role as DatabaseRole;
use galley_engine::{Engine, EngineError};
use galley_gateway::GatewayConfig;
use galley_worker::{Stop, WorkerError};
use tokio::net::TcpListener;
use tokio::task::{JoinError, JoinHandle};
use tokio_util::sync::CancellationToken;

use super::{token, worker};
use crate::Changes;
use crate::cli::{Run, Settings};
use crate::client::Client;
use crate::config::{Address, Config, Flags};
use crate::failure::Failure;
use crate::found::DevFile;
use crate::home::{Home, Servers};
use crate::print::{self, style};
use crate::telemetry::{LogTo, listen, listen_for, serve_metrics, start_logging};
use crate::{demo, deployment, secrets, show, site, stop, time};

/// The workspace a person begins in.
const WORKSPACE: &str = "demo";
/// How long the offline provider takes here, unless somebody said: long enough
/// to see steps run.
const OFFLINE_DELAY_MS: u64 = 450;
/// The token of a folder: it opens servers on this machine only.
const TOKEN_LIFETIME: std::time::Duration = std::time::Duration::from_secs(365 * 86_400);

/// Run everything on this machine: the place to begin
///
/// Starts a private PostgreSQL and Redis in ./.galley (or uses DATABASE_URL and
/// REDIS_URL), brings the schema up to date, serves the API, and runs a worker
/// for all agents and a scheduler, all in one process. The first start runs a
/// sample campaign and shows what came out.
///
/// Other commands that run in this folder, or below it, find the server and a
/// token by themselves. Ctrl-C stops everything; the next start goes on where
/// it was.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  galley dev
  galley dev --fresh                        forget everything and begin anew
  galley dev --api-addr 127.0.0.1:8090 --metrics-addr off
  galley dev --exit-after-demo              run the sample campaign and stop, as a check")]
pub(crate) struct Dev {
    /// Delete what earlier runs left in ./.galley first
    #[arg(long)]
    fresh: bool,
    /// Run no sample campaign
    #[arg(long)]
    no_demo: bool,
    /// Run the sample campaign in any case, and stop when it is over (exit code 8 unless it succeeded)
    #[arg(long, conflicts_with = "no_demo")]
    exit_after_demo: bool,
    /// Where the API listens; port 0 for any free one
    #[arg(long, value_name = "ADDR")]
    api_addr: Option<String>,
    /// Where /metrics is served; `off` for nowhere
    #[arg(long, value_name = "ADDR")]
    metrics_addr: Option<String>,
    /// Where the preview network listens; `off` for nowhere
    #[arg(long, value_name = "ADDR")]
    preview_addr: Option<String>,
    /// Where the gateway for workers in other languages listens; `off` for nowhere
    #[arg(long, value_name = "ADDR")]
    gateway_addr: Option<String>,
    /// Steps to run at once
    #[arg(long, value_name = "N")]
    concurrency: Option<String>,
}

impl Run for Dev {
    fn flags(&self) -> Flags {
        let mut flags = Flags::new();
        flags.extend(self.api_addr.clone().map(|addr| ("api.addr", "--api-addr", addr)));
        flags.extend(self.metrics_addr.clone().map(|addr| ("metrics.addr", "--metrics-addr", addr)));
        flags.extend(self.preview_addr.clone().map(|addr| ("preview.addr", "--preview-addr", addr)));
        flags.extend(self.gateway_addr.clone().map(|addr| ("gateway.addr", "--gateway-addr", addr)));
        flags.extend(self.concurrency.clone().map(|n| ("worker.concurrency", "--concurrency", n)));
        flags
    }

    async fn run(self, settings: Settings) -> Result<(), Failure> {
        let stop = stop::on_signals()?;
        let mut config = settings.config;
        let home = Home::open()?;
        start_logging(&config.log, LogTo::File(home.log()?))?;
        if !settings.sources.is_set("providers", "offline_delay_ms") {
            config.providers.offline_delay_ms = Some(OFFLINE_DELAY_MS);
        }
        // Its preview network is on this machine.
        if !settings.sources.is_set("publishing", "allow_private_targets") {
            config.publishing.allow_private_targets = true;
        }
        if !config.publishing.allow_private_targets && config.preview.addr != Address::Off {
            return Err(Failure::usage("the preview network of `galley dev` is on this machine")
                .detail("setting publishing.allow_private_targets is false: nothing could be sent there")
                .hint("leave the setting out, or do without the network: --preview-addr off"));
        }
        let Address::At(address) = config.api.addr else {
            return Err(Failure::usage("`galley dev` needs its API")
                .hint("give an address, such as --api-addr 127.0.0.1:8080"));
        };
        // Ports first: a taken one is told before anything is started.
        let listener = listen(address).await?;
        let metrics = serve_metrics(config.metrics.addr)?;
        let preview = match config.preview.addr {
            Address::At(address) => Some(listen_for("the preview network", "--preview-addr", address).await?),
            Address::Off => None,
        };
        let gateway = match config.gateway.addr {
            Address::At(address) => Some(listen_for("the gateway", "--gateway-addr", address).await?),
            Address::Off => None,
        };
        if !secrets::are_configured(&config) {
            config.secrets.key = Some(home.kept_secret("secret-key")?);
        }

        let began = Instant::now();
        print::say(&format!("starting PostgreSQL and Redis in {}", home.folder().display()));
        let started = async {
            if self.fresh {
                home.wipe().await?;
            }
            Servers::start(&home, &mut config).await
        };
        let servers = tokio::select! {
            started = started => started?,
            () = stop.soft.cancelled() => return Ok(()),
        };
        let ports = Ports { api: listener, metrics, preview, gateway };
        let done = serve(&self, &home, &config, &servers, ports, began, &stop).await;
        servers.stop().await;
        done
    }
}

/// The ports this start took.
struct Ports {
    api: TcpListener,
    metrics: Option<std::net::SocketAddr>,
    preview: Option<TcpListener>,
    gateway: Option<TcpListener>,
}

async fn serve(
    dev: &Dev,
    home: &Home,
    config: &Config,
    servers: &Servers,
    ports: Ports,
    began: Instant,
    stop: &Stop,
) -> Result<(), Failure> {
    let Ports { api: listener, metrics, preview, gateway } = ports;
    let owner = deployment::store(config, DatabaseRole::Login)?;
    owner.migrate().await?;
    owner.check_schema(false).await?;
    owner.close().await;
    let engines = Engines::new(config)?;
    let engine = &engines.publisher;
    let registry = deployment::registry(config)?;
    let mut specs: Vec<_> = registry.specs().cloned().collect();
    specs.push(galley_core::publish::spec().map_err(EngineError::from)?);
    // The worker does it, too; but the sample campaign must not come before it.
    engine.store().register_agents(&specs).await?;
    let secret = home.secret(config)?;
    let workspace = workspace(engine).await?;
    let url = url_of(&listener)?;
    let gateway_url = gateway.as_ref().map(url_of).transpose()?;
    let network = match preview {
        Some(listener) => {
            let token = home.kept_secret("preview-token")?;
            let network = site::start(listener, home, engine, workspace, &token)?;
            site::connect(engine, workspace, network.url(), &token).await?;
            Some(network)
        }
        None => None,
    };
    let file = DevFile {
        url: url.clone(),
        token: token_for(&deployment::signer(&secret, config)?, workspace)?,
        pid: std::process::id(),
        metrics: metrics.map(|address| format!("http://{address}/metrics")),
        preview: network.as_ref().map(|network| network.url().to_owned()),
        gateway: gateway_url,
    };
    let gateway = match gateway {
        Some(listener) => Some((listener, deployment::gateway_config(config, secret.clone())?)),
        None => None,
    };
    let api = (listener, deployment::api_config(config, secret)?);
    let mut fleet = Fleet::start(&engines, registry, config, api, gateway, stop)?;
    file.write(home.folder())?;
    print::say(&format!(
        "{} after {}: {}\n{:5} API, preview network, gateway, scheduler, and a worker for {} agent types",
        style::GOOD.on("ready"),
        time::run_time(u64::try_from(began.elapsed().as_millis()).unwrap_or(0)),
        servers.in_words(),
        "",
        specs.len()
    ));

    let client = Client::to(&url, Some(file.token.clone().into()), None)?;
    let talk = async {
        let shown = if dev.no_demo { None } else { demo::run(&client, dev.exit_after_demo).await? };
        if dev.exit_after_demo {
            return shown.as_ref().map_or(Ok(()), show::ended);
        }
        if shown.is_none() {
            demo::tell_unfinished(&client).await?;
        }
        demo::tell_next(home.folder(), &file, shown.as_ref())?;
        demo::tell_published(&client).await
    };
    let done = tokio::select! {
        // A stop that cuts the talk off is no failure of the talk.
        biased;
        () = stop.soft.cancelled() => Ok(()),
        died = servers.died() => Err(died),
        ended = fleet.ended() => Err(ended),
        told = talk => told,
    };
    fleet.stop(stop).await;
    if let Some(network) = network {
        network.stop().await;
    }
    // Or PostgreSQL would wait for the connections.
    for engine in [&engines.api, &engines.scheduler, &engines.publisher] {
        engine.store().close().await;
    }
    done
}

/// What would be processes of their own, each in its role.
struct Engines {
    api: Engine,
    scheduler: Engine,
    publisher: Engine,
}

impl Engines {
    fn new(config: &Config) -> Result<Self, Failure> {
        // Together they open as many connections as one process may.
        let share = |part: u32| {
            let mut config = config.clone();
            config.database.connections = (config.database.connections * part / 4).max(2);
            config
        };
        let engine = |part, role| deployment::engine(&share(part), Changes::default(), role);
        Ok(Self {
            api: engine(1, DatabaseRole::Api)?,
            scheduler: engine(1, DatabaseRole::Engine)?,
            publisher: engine(2, DatabaseRole::Publisher)?,
        })
    }
}

/// Finds the workspace a person begins in, or makes it.
async fn workspace(engine: &Engine) -> Result<WorkspaceId, Failure> {
    if let Some(row) = engine.store().workspace_named(WORKSPACE).await? {
        return Ok(row.id);
    }
    match engine.create_workspace(WORKSPACE, 1, "galley dev").await {
        Ok(row) => Ok(row.id),
        // Another `galley dev` on the same database was faster.
        Err(EngineError::Conflict(why)) => {
            let row = engine.store().workspace_named(WORKSPACE).await?;
            row.map(|row| row.id).ok_or_else(|| Failure::unexpected(why))
        }
        Err(other) => Err(other.into()),
    }
}

/// Whoever reads this folder has the secret, too: the token reaches as far.
fn token_for(signer: &Signer, workspace: WorkspaceId) -> Result<String, Failure> {
    let new = NewToken {
        workspace,
        subject: "dev".into(),
        roles: Role::ALL.to_vec(),
        ttl: signer.longest().min(TOKEN_LIFETIME),
        deployment: true,
    };
    Ok(signer.issue(&new).map_err(token::refused)?.token)
}

/// What runs in this process beside the talk.
struct Fleet {
    worker: JoinHandle<Result<(), WorkerError>>,
    api: JoinHandle<Result<(), Failure>>,
    gateway: JoinHandle<Result<(), Failure>>,
    duties: JoinHandle<()>,
    stop_duties: CancellationToken,
}

impl Fleet {
    fn start(
        engines: &Engines,
        registry: galley_agents::Registry,
        config: &Config,
        (listener, api): (TcpListener, ApiConfig),
        gateway: Option<(TcpListener, GatewayConfig)>,
        stop: &Stop,
    ) -> Result<Self, Failure> {
        let options = deployment::worker_options(config)?;
        let stop_duties = CancellationToken::new();
        let (for_duties, stopped) = (engines.scheduler.clone(), stop_duties.clone());
        let (served, soft) = (engines.api.clone(), stop.soft.clone());
        Ok(Self {
            worker: tokio::spawn(galley_worker::run(
                engines.publisher.clone(),
                registry,
                options,
                stop.clone(),
            )),
            api: tokio::spawn(async move { deployment::serve_api(listener, served, &api, soft).await }),
            gateway: tokio::spawn(serve_gateway(gateway, engines.scheduler.clone(), stop.soft.clone())),
            duties: tokio::spawn(async move { galley_engine::run_duties(&for_duties, &stopped).await }),
            stop_duties,
        })
    }

    /// Waits until a part ended although nobody asked it to.
    async fn ended(&mut self) -> Failure {
        tokio::select! {
            ended = &mut self.worker => why("the worker", ended.map(|ended| ended.map_err(worker::failed))),
            ended = &mut self.api => why("the API", ended),
            ended = &mut self.gateway => why("the gateway", ended),
            ended = &mut self.duties => why("the scheduler", ended.map(Ok)),
        }
    }

    /// Drains: the worker first, as its last results may need the rest.
    async fn stop(self, stop: &Stop) {
        stop.soft.cancel();
        let Self { worker, api, gateway, duties, stop_duties } = self;
        let drained = async {
            finished("the worker", worker).await;
            stop_duties.cancel();
            finished("the scheduler", duties).await;
        };
        drained.await;
        // Requests that still run are cut off by a second signal.
        tokio::select! {
            () = async { tokio::join!(finished("the API", api), finished("the gateway", gateway)); } => {}
            () = stop.hard.cancelled() => {}
        }
    }
}

/// Serves the gateway, where there is one; else only waits for the end.
async fn serve_gateway(
    gateway: Option<(TcpListener, GatewayConfig)>,
    engine: Engine,
    stop: CancellationToken,
) -> Result<(), Failure> {
    match gateway {
        Some((listener, config)) => deployment::serve_gateway(listener, engine, &config, stop).await,
        None => {
            stop.cancelled().await;
            Ok(())
        }
    }
}

fn url_of(listener: &TcpListener) -> Result<String, Failure> {
    let address = listener.local_addr();
    let address = address.map_err(|error| Failure::unexpected("a server has no address").detail(error))?;
    Ok(format!("http://{address}"))
}

/// Waits for a part; how it ended is no news any more, unless it panicked.
async fn finished<T>(what: &str, part: JoinHandle<T>) {
    // A part that [`Fleet::ended`] saw the end of must not be asked again.
    if part.is_finished() {
        return;
    }
    if let Err(error) = part.await {
        tracing::error!(%error, "{what} did not stop in good order");
    }
}

fn why(what: &str, ended: Result<Result<(), Failure>, JoinError>) -> Failure {
    match ended {
        Ok(Ok(())) => Failure::unexpected(format!("{what} ended by itself")),
        Ok(Err(failure)) => failure,
        Err(error) => deployment::broken(what, &error),
    }
}
