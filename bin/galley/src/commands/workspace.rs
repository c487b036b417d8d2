//! `galley workspace`: the tenants of the deployment.

use clap::{Args, Subcommand};
use galley_api::{REVOKED_WITHIN, views};
use galley_core::ids::WorkspaceId;
use galley_engine::store::{Erasure, Role, Store, WorkspaceRow};
use galley_engine::{Opener, seal_workspace};

use crate::cli::{self, Remote, Run, Settings};
use crate::client;
use crate::commands::token;
use crate::config::Flags;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::table::{Table, cell};
use crate::{deployment, print, secrets, time};

/// Create, list, encrypt, retain, export and erase workspaces: the tenants
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  galley workspace list
  galley workspace create acme
  galley workspace create acme --direct     the first one of a deployment: needs DATABASE_URL, no token
  galley workspace retain acme --days 90    forget what is finished for 90 days
  galley workspace retain acme --forever
  galley workspace encrypt acme --yes       its new prompts and outputs, at rest
  galley workspace export acme > acme.jsonl
  galley workspace erase acme --yes")]
pub(crate) struct Workspace {
    #[command(subcommand)]
    command: WorkspaceCommand,
    /// Work on the database (DATABASE_URL) instead of through the API
    #[arg(long, global = true)]
    direct: bool,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Debug, Subcommand)]
enum WorkspaceCommand {
    /// Create a workspace; prints its id
    Create {
        /// 1-64 of a-z, 0-9, `-`, `_` and `.`
        name: String,
        /// Its share of the workers when all are busy, 1 to 1000
        #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
        weight: u32,
    },
    /// List the workspaces
    List,
    /// Set how long a workspace keeps what is finished: needs DATABASE_URL
    ///
    /// Workflows that are over for longer are forgotten, with their inputs,
    /// results, attempts, dead letters and unpublished posts, and the text of
    /// posts that went out. The audit log and the receipts of posts stay.
    #[command(group(clap::ArgGroup::new("time").required(true).args(["days", "forever"])))]
    Retain {
        /// Its name or id
        workspace: String,
        /// Days, 1 to 36500
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..=36500))]
        days: Option<i32>,
        /// Forget nothing: how a workspace begins
        #[arg(long)]
        forever: bool,
    },
    /// Encrypt a workspace's new prompts and outputs at rest: needs DATABASE_URL of the tables' owner, and the secret keys
    ///
    /// Inputs of workflows and schedules, outputs of steps and edited inputs are
    /// sealed with the workspace's data key from here on. What is stored already
    /// stays as it is, and stays readable. Posts stay in the clear: approvers
    /// read them, and their hash is what an approval is bound to.
    Encrypt {
        /// Its name or id
        workspace: String,
        /// No longer: what is new is stored in the clear again
        #[arg(long)]
        off: bool,
        /// Do it: every API server, worker and scheduler has the secret keys
        #[arg(long)]
        yes: bool,
    },
    /// Print everything of a workspace as JSON lines, without credentials: needs DATABASE_URL of the tables' owner
    Export {
        /// Its name or id
        workspace: String,
    },
    /// Erase a workspace with everything in it: needs DATABASE_URL of the tables' owner
    ///
    /// Its tokens and keys open nothing any more, and nothing is accepted for it
    /// again. Its name is free. With its id, once more removes what came late.
    Erase {
        /// Its name or id
        workspace: String,
        /// Do it: nothing brings it back
        #[arg(long)]
        yes: bool,
    },
}

impl Run for Workspace {
    fn flags(&self) -> Flags {
        self.remote.flags()
    }

    async fn run(self, settings: Settings) -> Result<(), Failure> {
        let json = self.remote.json;
        match self.command {
            WorkspaceCommand::Create { name, weight } => {
                let answer = if self.direct {
                    let engine = deployment::production_engine(&settings, Role::Login).await?;
                    let row = engine.create_workspace(&name, weight, cli::DIRECT_ACTOR).await?;
                    cli::json_of(&views::Workspace::from(row))?
                } else {
                    let body = views::CreateWorkspace { name, weight };
                    Remote::client(&settings)?.create(&["v1", "workspaces"], &body, &cli::new_key()).await?
                };
                if json {
                    return print::json(&answer);
                }
                let workspace: views::Workspace = client::read(&answer)?;
                print::data(&format!("{}\n", workspace.id))?;
                print::say(&format!(
                    "workspace {} is there; `galley token issue --workspace {}` opens it",
                    workspace.name, workspace.id
                ));
                Ok(())
            }
            WorkspaceCommand::List => {
                let items = if self.direct {
                    let rows = deployment::store(&settings.config, Role::Login)?.list_workspaces().await?;
                    let views = rows.into_iter().map(|row| cli::json_of(&views::Workspace::from(row)));
                    views.collect::<Result<Vec<_>, _>>()?
                } else {
                    Remote::client(&settings)?.list_all(&["v1", "workspaces"]).await?.items
                };
                let listed = client::Listed { items, next_cursor: None };
                if json {
                    return print::json(&listed);
                }
                let mut table = Table::new(&["NAME", "ID", ">WEIGHT", "KEEPS", "CREATED", "ENCRYPTED"]);
                for workspace in listed.items::<views::Workspace>()? {
                    table.row(vec![
                        cell(&workspace.name),
                        cell(workspace.id),
                        cell(workspace.weight),
                        cell(keeps(workspace.retain_days)),
                        cell(time::ago(&workspace.created_at)),
                        cell(workspace.encrypted_since.as_deref().map_or_else(|| "no".into(), time::ago)),
                    ]);
                }
                if table.is_empty() {
                    print::say("no workspaces; `galley workspace create NAME` makes one");
                    return Ok(());
                }
                print::data(&table.render(print::data_width()))
            }
            WorkspaceCommand::Retain { workspace, days, forever: _ } => {
                retain(&settings, &workspace, days, json).await
            }
            WorkspaceCommand::Encrypt { workspace, off, yes } => {
                encrypt(&settings, &workspace, !off, yes, json).await
            }
            WorkspaceCommand::Export { workspace } => export(&settings, &workspace).await,
            WorkspaceCommand::Erase { workspace, yes } => erase(&settings, &workspace, yes, json).await,
        }
    }
}

/// The store as the owner of the tables.
async fn owner(settings: &Settings) -> Result<Store, Failure> {
    let store = deployment::store(&settings.config, Role::Login)?;
    store.check_schema(true).await?;
    Ok(store)
}

/// The workspace somebody named, by its name or id.
async fn named(store: &Store, name: &str) -> Result<WorkspaceRow, Failure> {
    let row = match name.parse() {
        Ok(id) => store.workspace(id).await?,
        Err(_) => store.workspace_named(name).await?,
    };
    row.ok_or_else(|| token::unknown_workspace(name))
}

fn keeps(days: Option<u32>) -> String {
    days.map_or("for ever".into(), |days| format!("{days} d"))
}

async fn retain(settings: &Settings, name: &str, days: Option<i32>, json: bool) -> Result<(), Failure> {
    let store = owner(settings).await?;
    let mut workspace = named(&store, name).await?;
    if !store.set_retention(workspace.id, days, cli::DIRECT_ACTOR.to_owned()).await? {
        return Err(token::unknown_workspace(name));
    }
    workspace.retain_days = days;
    let told = match days {
        Some(days) => {
            format!("{} forgets what has been finished for {days} days; a scheduler does it", workspace.name)
        }
        None => format!("{} forgets nothing", workspace.name),
    };
    cli::done(json, &cli::json_of(&views::Workspace::from(workspace))?, &told)
}

async fn encrypt(settings: &Settings, name: &str, on: bool, yes: bool, json: bool) -> Result<(), Failure> {
    let store = owner(settings).await?;
    let workspace = named(&store, name).await?;
    if !yes {
        let what = if on { "encrypted" } else { "changed" };
        return Err(Failure::usage(format!("{} ({}) was not {what}", workspace.name, workspace.id))
            .detail("a process without the secret keys could neither read nor store its prompts and outputs")
            .hint(
                "give the keys to every API server, worker and scheduler of this release; then add --yes",
            ));
    }
    let keyring = secrets::keyring(&settings.config)?;
    let changed = seal_workspace(&store, keyring.as_ref(), workspace.id, on, cli::DIRECT_ACTOR).await?;
    if json {
        let told = serde_json::json!({ "workspaceId": workspace.id, "encrypted": on, "changed": changed });
        return print::json(&told);
    }
    let name = &workspace.name;
    print::say(&match (on, changed) {
        (true, true) => {
            format!("new prompts and outputs of {name} are encrypted at rest, within two seconds everywhere")
        }
        (true, false) => format!("new prompts and outputs of {name} are encrypted already"),
        (false, true) => format!("new prompts and outputs of {name} are stored in the clear again"),
        (false, false) => format!("prompts and outputs of {name} are not encrypted"),
    });
    if on {
        print::say("what was stored before stays as it is; losing the secret keys loses what is encrypted");
    }
    Ok(())
}

async fn export(settings: &Settings, name: &str) -> Result<(), Failure> {
    let store = owner(settings).await?;
    let workspace = named(&store, name).await?;
    let keyring = secrets::keyring(&settings.config)?;
    let opener = Opener::of(&store, keyring.as_ref(), workspace.id).await?;
    let mut rows = 0_u64;
    store
        .export_workspace(workspace.id, |line| {
            rows += 1;
            let line = opener.line(line).map_err(|why| {
                Failure::new(Exit::Refused, format!("{} was exported in part", workspace.name))
                    .detail(why)
                    .hint("give the secret keys as the API servers and workers have them")
            })?;
            print::data(&format!("{line}\n"))
        })
        .await??;
    print::say(&format!("{rows} rows of {}; credentials and keys are left out", workspace.name));
    Ok(())
}

async fn erase(settings: &Settings, name: &str, yes: bool, json: bool) -> Result<(), Failure> {
    let store = owner(settings).await?;
    // An erased one has no name any more, and is erased once more by its id.
    let id = match name.parse() {
        Ok(id) => id,
        Err(_) => named(&store, name).await?.id,
    };
    if !yes {
        return Err(Failure::usage(format!("{name} was not erased"))
            .detail("everything in it would be gone: workflows, results, posts, accounts, audit")
            .hint(format!("`galley workspace export {name}` keeps a copy; then add --yes")));
    }
    let mut gone = erased(store.erase_workspace(id, cli::DIRECT_ACTOR.to_owned()).await?, name, id)?;
    // Whoever an API server remembers as good may still store something.
    tokio::time::sleep(REVOKED_WITHIN).await;
    let rest = store.erase_the_rest(id).await.map_err(|error| {
        Failure::from(error).hint(format!(
            "it is erased, but what was on its way into it may be left: `galley workspace erase {id} --yes` removes it"
        ))
    })?;
    gone.extend(erased(rest, name, id)?);
    let rows: u64 = gone.iter().map(|(_, rows)| rows).sum();
    if json {
        let mut by_table = serde_json::Map::new();
        for (table, rows) in gone {
            let known = by_table.get(&table).and_then(serde_json::Value::as_u64).unwrap_or_default();
            by_table.insert(table, (known + rows).into());
        }
        return print::json(&serde_json::json!({ "workspaceId": id, "rows": by_table }));
    }
    let what = if name == id.to_string() { name.to_owned() } else { format!("{name} ({id})") };
    print::say(&format!("{what} is erased: {rows} rows"));
    print::say("its tokens and API keys open nothing any more; its name is free");
    Ok(())
}

/// The rows of each table that are gone.
fn erased(erasure: Erasure, name: &str, id: WorkspaceId) -> Result<Vec<(String, u64)>, Failure> {
    match erasure {
        Erasure::Done(gone) => Ok(gone),
        Erasure::NotThere => Err(token::unknown_workspace(name)),
        Erasure::OnTheirWay(open) => Err(Failure::new(Exit::Conflict, format!("{name} was not erased"))
            .detail(format!("{open} of its posts are on their way to a platform, or nobody knows yet whether they are out"))
            .hint(format!("wait until `galley post list --state publishing` and `--state unknown` are empty, then try again; its id is {id}"))),
    }
}
