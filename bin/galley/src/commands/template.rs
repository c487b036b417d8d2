//! `galley template`: the workflow templates of the workspace.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use galley_api::views;
use galley_core::definition::Definition;

use crate::cli::{self, Remote, Run, Settings};
use crate::client;
use crate::config::Flags;
use crate::failure::Failure;
use crate::files::{document, input};
use crate::table::{Table, cell};
use crate::{print, time};

/// List, show and store workflow templates
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  galley template list
  galley template show campaign > launch.json     begin your own from one that is there
  galley template store launch.json               the next version of the template it names")]
pub(crate) struct Template {
    #[command(subcommand)]
    command: TemplateCommand,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Debug, Subcommand)]
enum TemplateCommand {
    /// List the templates: built-in ones and the workspace's own
    List,
    /// Print a template's definition
    Show {
        /// NAME, or NAME@VERSION
        template: String,
    },
    /// Store a definition as the next version of the template it names
    Store {
        /// A file with the definition (JSON); `-` for stdin
        file: PathBuf,
    },
}

impl Run for Template {
    fn flags(&self) -> Flags {
        self.remote.flags()
    }

    async fn run(self, settings: Settings) -> Result<(), Failure> {
        let client = Remote::client(&settings)?;
        let json = self.remote.json;
        match self.command {
            TemplateCommand::List => {
                let listed = client.list_all(&["v1", "templates"]).await?;
                if json {
                    return print::json(&listed);
                }
                let mut table = Table::new(&["TEMPLATE", ">VERSION", ">STEPS", "STORED", "~DESCRIPTION"]);
                for template in listed.items::<views::Template>()? {
                    table.row(vec![
                        cell(&template.name),
                        cell(template.version),
                        cell(template.definition.steps.len()),
                        cell(match (&template.created_at, &template.created_by) {
                            (Some(at), Some(by)) => format!("{} by {by}", time::ago(at)),
                            _ => "built in".into(),
                        }),
                        cell(&template.definition.description),
                    ]);
                }
                print::data(&table.render(print::data_width()))
            }
            TemplateCommand::Show { template } => {
                let answer = client.get(&["v1", "templates", &template]).await?;
                if json {
                    return print::json(&answer);
                }
                let template: views::Template = client::read(&answer)?;
                print::say(&format!("{}@{}", template.name, template.version));
                print::json(&template.definition)
            }
            TemplateCommand::Store { file } => {
                let definition: Definition = document(&input(&file)?, &file)?;
                let answer = client.create(&["v1", "templates"], &definition, &cli::new_key()).await?;
                let stored: views::Template = client::read(&answer)?;
                let (name, version) = (&stored.name, stored.version);
                cli::done(
                    json,
                    &answer,
                    &format!(
                        "stored {name}@{version}; run it with `galley workflow submit --template {name} --input BRIEF.json`"
                    ),
                )
            }
        }
    }
}
