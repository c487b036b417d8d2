//! `galley workspace`: the tenants of the deployment.

use clap::{Args, Subcommand};
use galley_api::views;

use crate::cli::{self, Remote, Run, Settings};
use crate::client;
use crate::config::Flags;
use crate::failure::Failure;
use crate::table::{Table, cell};
use crate::{deployment, print, time};

/// Create and list workspaces: the tenants
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  galley workspace list
  galley workspace create acme
  galley workspace create acme --direct     the first one of a deployment: needs DATABASE_URL, no token")]
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
                    let engine = deployment::production_engine(&settings).await?;
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
                    let rows = deployment::store(&settings.config)?.list_workspaces().await?;
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
        }
    }
}
