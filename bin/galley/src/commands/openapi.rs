//! `galley openapi`: the API's description, and the gateway's.

use clap::Args;

use crate::cli::{Run, Settings};
use crate::failure::Failure;
use crate::print;

/// Print the REST API's OpenAPI description (JSON)
#[derive(Debug, Args)]
pub(crate) struct Openapi {
    /// The gateway's instead, for workers in any language
    #[arg(long)]
    gateway: bool,
}

impl Run for Openapi {
    async fn run(self, _: Settings) -> Result<(), Failure> {
        if self.gateway {
            return print::json(&galley_gateway::openapi());
        }
        print::json(&galley_api::openapi())
    }
}
