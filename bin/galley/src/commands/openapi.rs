//! `galley openapi`: the API's description.

use clap::Args;

use crate::cli::{Run, Settings};
use crate::failure::Failure;
use crate::print;

/// Print the REST API's OpenAPI description (JSON)
#[derive(Debug, Args)]
pub(crate) struct Openapi {}

impl Run for Openapi {
    async fn run(self, _: Settings) -> Result<(), Failure> {
        print::json(&galley_api::openapi())
    }
}
