//! `galley gateway`: the role that speaks for workers in any language.

use clap::Args;
use galley_engine::store::Role;

use crate::cli::{Run, Settings};
use crate::config::{Address, Flags};
use crate::failure::Failure;
use crate::telemetry::{LogTo, listen_for, serve_metrics, start_logging};
use crate::{deployment, stop};

/// Let workers in any language take part, over HTTP
///
/// A worker opens a session here, leases steps, and reports what became of
/// them; docs/workers.md tells how, examples/worker.py is one. It needs a token
/// of its own (`galley token issue --worker --agents a,b`).
///
/// Needs DATABASE_URL (with the engine's login), REDIS_URL and
/// GALLEY_JWT_SECRET. Start as many as you like behind a load balancer; all
/// with the same secret.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  galley gateway
  galley gateway --listen 0.0.0.0:8082 --metrics-addr 0.0.0.0:9464 --log-format json")]
pub(crate) struct Gateway {
    /// Where it listens
    #[arg(long, value_name = "ADDR", visible_alias = "gateway-addr")]
    listen: Option<String>,
    /// Where /metrics is served; `off` for nowhere
    #[arg(long, value_name = "ADDR")]
    metrics_addr: Option<String>,
}

impl Run for Gateway {
    fn flags(&self) -> Flags {
        let mut flags = Flags::new();
        flags.extend(self.listen.clone().map(|addr| ("gateway.addr", "--listen", addr)));
        flags.extend(self.metrics_addr.clone().map(|addr| ("metrics.addr", "--metrics-addr", addr)));
        flags
    }

    async fn run(self, settings: Settings) -> Result<(), Failure> {
        let config = &settings.config;
        start_logging(&config.log, LogTo::Stderr)?;
        let stop = stop::on_signals()?;
        let gateway = deployment::gateway_config(config, deployment::jwt_secret(config)?)?;
        let Address::At(address) = config.gateway.addr else {
            return Err(Failure::usage("setting gateway.addr is `off`, so there is nothing to serve")
                .hint("give an address, such as --listen 127.0.0.1:8082"));
        };
        let listener = listen_for("the gateway", "--listen", address).await?;
        serve_metrics(config.metrics.addr)?;
        let engine = deployment::production_engine(&settings, Role::Engine).await?;
        tracing::info!(gateway.addr = %address, "the gateway listens on http://{address}");
        let serving = deployment::serve_gateway(listener, engine.clone(), &gateway, stop.soft.clone());
        tokio::select! {
            served = serving => served?,
            () = stop.hard.cancelled() => {}
        }
        engine.store().close().await;
        tracing::info!("the gateway stopped");
        Ok(())
    }
}
