//! `galley key`: API keys, for scripts.

use std::time::Duration;

use clap::{Args, Subcommand};
use galley_api::views;

use super::{listed_by, token};
use crate::cli::{self, Remote, Run, Settings};
use crate::client;
use crate::config::Flags;
use crate::failure::Failure;
use crate::table::{Table, cell};
use crate::{print, time};

/// Create, list and revoke API keys: for CI and scripts
///
/// A key opens its workspace until it expires or is revoked. It makes no other
/// keys or tokens.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  galley key create ci --role producer
  galley key create nightly --role operator --role auditor --ttl 365d
  galley key list
  galley key revoke 1f2e3d4c5b6a                           by its prefix: what follows `glk_`
  GALLEY_TOKEN=glk_1f2e3d4c5b6a_… galley workflow list     a key goes wherever a token goes")]
pub(crate) struct Key {
    #[command(subcommand)]
    command: KeyCommand,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Debug, Subcommand)]
enum KeyCommand {
    /// Create a key; prints it, once
    Create(Create),
    /// List the keys
    List,
    /// Revoke a key
    Revoke {
        /// What it is known by: the part between `glk_` and the secret
        prefix: String,
    },
}

#[derive(Debug, Args)]
struct Create {
    /// What people call it
    name: String,
    /// What it allows; may be repeated
    #[arg(long = "role", value_name = "ROLE", required = true)]
    roles: Vec<views::Role>,
    /// The workspace it opens, by name or id; your own token's when absent
    #[arg(long, value_name = "WORKSPACE")]
    workspace: Option<String>,
    /// How long it holds: 90s, 15m, 12h or 30d
    #[arg(long, value_name = "TIME", default_value = "90d", value_parser = token::lifetime)]
    ttl: Duration,
}

impl Run for Key {
    fn flags(&self) -> Flags {
        self.remote.flags()
    }

    async fn run(self, settings: Settings) -> Result<(), Failure> {
        let client = Remote::client(&settings)?;
        let json = self.remote.json;
        match self.command {
            KeyCommand::Create(create) => {
                let workspace_id = token::workspace_id(&client, create.workspace).await?;
                let (name, roles, ttl_seconds) = (create.name, create.roles, create.ttl.as_secs());
                let body = views::CreateKey { workspace_id, name, roles, ttl_seconds };
                let answer = client.create(&["v1", "keys"], &body, &cli::new_key()).await?;
                if json {
                    return print::json(&answer);
                }
                let created: views::CreatedKey = client::read(&answer)?;
                print::data(&format!("{}\n", created.secret))?;
                print::say(&format!(
                    "it holds until {} ({}) and is shown this once; `galley key revoke {}` ends it",
                    time::exact(&created.key.expires_at),
                    time::ago(&created.key.expires_at),
                    created.key.prefix
                ));
                Ok(())
            }
            KeyCommand::List => {
                let listed = client.list_all(&["v1", "keys"]).await?;
                if json {
                    return print::json(&listed);
                }
                list(&listed.items()?)
            }
            KeyCommand::Revoke { prefix } => {
                let known = listed_by("galley key list");
                let answer = client.delete(&["v1", "keys", &prefix]).await.map_err(known)?;
                cli::done(json, &answer, &format!("key {prefix} is revoked"))
            }
        }
    }
}

fn list(keys: &[views::ApiKey]) -> Result<(), Failure> {
    if keys.is_empty() {
        print::say("no keys; `galley key create NAME --role ROLE` makes one");
        return Ok(());
    }
    let mut table = Table::new(&["PREFIX", "NAME", "~ROLES", "STATE", "LAST USED", "CREATED", "~BY"]);
    for key in keys {
        let state = match &key.revoked_at {
            Some(at) => format!("revoked {}", time::ago(at)),
            None => match time::ago(&key.expires_at) {
                coming if coming.starts_with("in ") => format!("ends {coming}"),
                past => format!("ended {past}"),
            },
        };
        table.row(vec![
            cell(&key.prefix),
            cell(&key.name),
            cell(key.roles.join(" ")),
            cell(state),
            cell(key.last_used_at.as_deref().map_or("never".into(), time::hour_ago)),
            cell(time::ago(&key.created_at)),
            cell(&key.created_by),
        ]);
    }
    print::data(&table.render(print::data_width()))
}
