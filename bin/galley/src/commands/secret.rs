//! `galley secret`: the keys that credentials are sealed with.

use clap::{Args, Subcommand};
use galley_engine::rotate_secrets;
use galley_engine::store::Role;
use serde_json::json;

use crate::cli::{self, Run, Settings};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::telemetry::{LogTo, start_logging};
use crate::{deployment, print, secrets};

/// Rotate the keys that credentials are sealed with
///
/// Each credential is sealed with a data key of its workspace, and each data
/// key is wrapped by a secret key of the deployment. To change the secret key:
/// give every API server and worker the new one beside the old one, under a
/// higher version; run `galley secret rotate`; take the old one away.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  openssl rand -hex 32                                      makes a key
  printf '2:%s\\n' KEY >> keys.txt                           the next version, for GALLEY_SECRET_KEY_FILE
  galley secret rotate                                      needs DATABASE_URL and both keys")]
pub(crate) struct Secret {
    #[command(subcommand)]
    command: SecretCommand,
}

#[derive(Debug, Subcommand)]
enum SecretCommand {
    /// Wrap every data key with the newest secret key; then older ones can go
    ///
    /// Works on the database (DATABASE_URL). It may be stopped and run again,
    /// and runs beside a working deployment.
    Rotate {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

impl Run for Secret {
    async fn run(self, settings: Settings) -> Result<(), Failure> {
        let SecretCommand::Rotate { json } = self.command;
        let config = &settings.config;
        start_logging(&config.log, LogTo::Stderr)?;
        let keyring = secrets::keyring(config)?.ok_or_else(|| {
            Failure::usage("no secret key is configured").hint(
                "set GALLEY_SECRET_KEY_FILE (or GALLEY_SECRET_KEY) as the API servers and workers have it",
            )
        })?;
        let store = deployment::store(config, Role::Publisher)?;
        store.check_schema(false).await?;
        let done = rotate_secrets(&store, &keyring, cli::DIRECT_ACTOR).await?;
        store.close().await;
        if json {
            print::json(&json!({
                "newest": done.newest,
                "rewrapped": done.rewrapped,
                "current": done.current,
                "resealed": done.resealed,
                "left": done.left,
            }))?;
        } else {
            let all = done.rewrapped + done.current;
            print::data(&format!(
                "{} of {all} data keys rewrapped with secret key {}, {} credentials resealed\n",
                done.rewrapped, done.newest, done.resealed
            ))?;
        }
        if done.left.is_empty() {
            print::say("nothing needs an older key any more");
            return Ok(());
        }
        let mut failure = Failure::new(Exit::Refused, format!("{} could not be opened", done.left.len()));
        for left in &done.left {
            failure = failure.detail(format!("- {left}"));
        }
        Err(failure
            .hint("give the key that each was sealed with, too, and run it again; keep all keys until then"))
    }
}
