//! `galley api`: the role that serves the REST API.

use clap::Args;
use galley_engine::store::Role;

use crate::cli::{Run, Settings};
use crate::config::{Address, Flags};
use crate::failure::Failure;
use crate::telemetry::{LogTo, listen, serve_metrics, start_logging};
use crate::{deployment, stop};

/// Serve the REST API
///
/// Needs DATABASE_URL, REDIS_URL and GALLEY_JWT_SECRET. Start as many as you
/// like behind a load balancer; all with the same secret.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  galley api
  galley api --addr 0.0.0.0:8080 --metrics-addr 0.0.0.0:9464 --log-format json")]
pub(crate) struct Api {
    /// Where the API listens
    #[arg(long, value_name = "ADDR", visible_alias = "api-addr")]
    addr: Option<String>,
    /// Where /metrics is served; `off` for nowhere
    #[arg(long, value_name = "ADDR")]
    metrics_addr: Option<String>,
}

impl Run for Api {
    fn flags(&self) -> Flags {
        let mut flags = Flags::new();
        flags.extend(self.addr.clone().map(|addr| ("api.addr", "--addr", addr)));
        flags.extend(self.metrics_addr.clone().map(|addr| ("metrics.addr", "--metrics-addr", addr)));
        flags
    }

    async fn run(self, settings: Settings) -> Result<(), Failure> {
        let config = &settings.config;
        start_logging(&config.log, LogTo::Stderr)?;
        let stop = stop::on_signals()?;
        let api = deployment::api_config(config, deployment::jwt_secret(config)?)?;
        let Address::At(address) = config.api.addr else {
            return Err(Failure::usage("setting api.addr is `off`, so there is nothing to serve")
                .hint("give an address, such as --addr 127.0.0.1:8080"));
        };
        let listener = listen(address).await?;
        serve_metrics(config.metrics.addr)?;
        let engine = deployment::production_engine(&settings, Role::Api).await?;
        tracing::info!(api.addr = %address, "the API listens on http://{address}");
        let serving = deployment::serve_api(listener, engine.clone(), &api, stop.soft.clone());
        tokio::select! {
            served = serving => served?,
            () = stop.hard.cancelled() => {}
        }
        engine.store().close().await;
        tracing::info!("the API stopped");
        Ok(())
    }
}
