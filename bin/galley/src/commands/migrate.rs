//! `galley migrate`: brings the schema up to this release.

use clap::Args;
use galley_engine::store::Role;

use crate::cli::{Run, Settings};
use crate::failure::Failure;
use crate::telemetry::{LogTo, start_logging};
use crate::{deployment, print};

/// Bring the database's schema up to this release
///
/// Needs DATABASE_URL. Run it once per release, before the new processes
/// start; running it again, or twice at once, does no harm.
#[derive(Debug, Args)]
pub(crate) struct Migrate {}

impl Run for Migrate {
    async fn run(self, settings: Settings) -> Result<(), Failure> {
        start_logging(&settings.config.log, LogTo::Stderr)?;
        let store = deployment::store(&settings.config, Role::Login)?;
        store.migrate().await?;
        store.check_schema(false).await?;
        store.close().await;
        print::say("the schema is up to date");
        Ok(())
    }
}
