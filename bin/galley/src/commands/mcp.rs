//! `galley mcp`: an assistant's way in.

use clap::Args;
use rmcp::ServiceExt as _;

use crate::assistant::Assistant;
use crate::cli::{Remote, Run, Settings};
use crate::config::Flags;
use crate::failure::Failure;

/// Serve an assistant over the Model Context Protocol, on stdin and stdout
#[derive(Debug, Args)]
#[command(
    after_help = "An assistant that speaks MCP starts this command itself; the token it is given decides what it may
do: a token of a producer submits and looks, one of an approver answers questions. An approval is
bound to the hash of what the assistant was shown.

Examples:
  galley token issue --subject assistant --role producer    a token for it
  GALLEY_TOKEN=… galley mcp --url http://127.0.0.1:8080     what goes into the assistant's settings"
)]
pub(crate) struct Mcp {
    #[command(flatten)]
    remote: Remote,
}

impl Run for Mcp {
    fn flags(&self) -> Flags {
        self.remote.flags()
    }

    async fn run(self, settings: Settings) -> Result<(), Failure> {
        let assistant = Assistant::new(Remote::client(&settings)?);
        let failed =
            |error: String| Failure::unexpected("the assistant's connection ended early").detail(error);
        let served = assistant.serve(rmcp::transport::stdio()).await;
        let served = served.map_err(|error| failed(error.to_string()))?;
        served.waiting().await.map_err(|error| failed(error.to_string()))?;
        Ok(())
    }
}
