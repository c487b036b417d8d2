//! `galley audit`: who did what.

use clap::{Args, Subcommand};
use galley_api::views;

use crate::cli::{self, Remote, Run, Settings};
use crate::config::Flags;
use crate::failure::Failure;
use crate::table::{Table, cell};
use crate::{print, time};

/// Show who did what in the workspace
#[derive(Debug, Args)]
pub(crate) struct Audit {
    #[command(subcommand)]
    command: AuditCommand,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Debug, Subcommand)]
enum AuditCommand {
    /// List audit lines, newest first
    List {
        /// At most this many
        #[arg(long, default_value_t = 50, value_name = "N", value_parser = cli::limit)]
        limit: usize,
    },
}

impl Run for Audit {
    fn flags(&self) -> Flags {
        self.remote.flags()
    }

    async fn run(self, settings: Settings) -> Result<(), Failure> {
        let AuditCommand::List { limit } = self.command;
        let listed = Remote::client(&settings)?.list(&["v1", "audit"], &[], limit).await?;
        if self.remote.json {
            return print::json(&listed);
        }
        let mut table = Table::new(&[">ID", "WHEN", "WHO", "ACTION", "OBJECT", "~DETAIL"]);
        for line in listed.items::<views::AuditLine>()? {
            table.row(vec![
                cell(line.id),
                cell(time::ago(&line.at)),
                cell(&line.actor),
                cell(&line.action),
                cell(&line.object),
                cell(line.detail.map(|detail| detail.to_string()).unwrap_or_default()),
            ]);
        }
        if table.is_empty() {
            print::say("nothing was done yet");
            return Ok(());
        }
        print::data(&table.render(print::data_width()))
    }
}
