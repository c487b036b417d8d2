//! `galley workspace`: the tenants of the deployment.

use clap::{Args, Subcommand};
use galley_api::views;
use galley_engine::store::{Erasure, Role, Store, WorkspaceRow};

use crate::cli::{self, Remote, Run, Settings};
use crate::client;
use crate::commands::token;
use crate::config::Flags;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::table::{Table, cell};
use crate::{deployment, print, time};

/// Create, list, export and erase workspaces: the tenants
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  galley workspace list
  galley workspace create acme
  galley workspace create acme --direct     the first one of a deployment: needs DATABASE_URL, no token
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
    /// Print everything of a workspace as JSON lines, without credentials: needs DATABASE_URL of the tables' owner
    Export {
        /// Its name or id
        workspace: String,
    },
    /// Erase a workspace with everything in it: needs DATABASE_URL of the tables' owner
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
                let mut table = Table::new(&["NAME", "ID", ">WEIGHT", "CREATED"]);
                for workspace in listed.items::<views::Workspace>()? {
                    table.row(vec![
                        cell(&workspace.name),
                        cell(workspace.id),
                        cell(workspace.weight),
                        cell(time::ago(&workspace.created_at)),
                    ]);
                }
                if table.is_empty() {
                    print::say("no workspaces; `galley workspace create NAME` makes one");
                    return Ok(());
                }
                print::data(&table.render(print::data_width()))
            }
            WorkspaceCommand::Export { workspace } => export(&settings, &workspace).await,
            WorkspaceCommand::Erase { workspace, yes } => erase(&settings, &workspace, yes, json).await,
        }
    }
}

/// The store as the owner of the tables, and the workspace somebody named.
async fn found(settings: &Settings, name: &str) -> Result<(Store, WorkspaceRow), Failure> {
    let store = deployment::store(&settings.config, Role::Login)?;
    store.check_schema(true).await?;
    let row = match name.parse() {
        Ok(id) => store.workspace(id).await?,
        Err(_) => store.workspace_named(name).await?,
    };
    let row = row.ok_or_else(|| token::unknown_workspace(name))?;
    Ok((store, row))
}

async fn export(settings: &Settings, name: &str) -> Result<(), Failure> {
    let (store, workspace) = found(settings, name).await?;
    let mut rows = 0_u64;
    store
        .export_workspace(workspace.id, |line| {
            rows += 1;
            print::data(&format!("{line}\n"))
        })
        .await??;
    print::say(&format!("{rows} rows of {}; credentials and keys are left out", workspace.name));
    Ok(())
}

async fn erase(settings: &Settings, name: &str, yes: bool, json: bool) -> Result<(), Failure> {
    let (store, workspace) = found(settings, name).await?;
    if !yes {
        return Err(Failure::usage(format!("{} ({}) was not erased", workspace.name, workspace.id))
            .detail("everything in it would be gone: workflows, results, posts, accounts, audit")
            .hint(format!("`galley workspace export {name}` keeps a copy; then add --yes")));
    }
    match store.erase_workspace(workspace.id, cli::DIRECT_ACTOR.to_owned()).await? {
        Erasure::Done(gone) => {
            let rows: u64 = gone.iter().map(|(_, rows)| rows).sum();
            if json {
                let gone: serde_json::Map<_, _> =
                    gone.into_iter().map(|(table, rows)| (table, rows.into())).collect();
                return print::json(&serde_json::json!({ "workspaceId": workspace.id, "rows": gone }));
            }
            print::say(&format!("{} is erased: {rows} rows of {} tables", workspace.name, gone.len()));
            print::say("its API keys are gone; tokens that were issued for it hold until they expire");
            Ok(())
        }
        Erasure::OnTheirWay(open) => Err(Failure::new(Exit::Conflict, format!("{} was not erased", workspace.name))
            .detail(format!("{open} of its posts are on their way to a platform, or nobody knows yet whether they are out"))
            .hint("wait until `galley post list --state publishing` and `--state unknown` are empty, then try again")),
    }
}
