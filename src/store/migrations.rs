//! The one migrator: which migrations there are, and whether the database has
//! them.

use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::{Row, SqlSafeStr};

use crate::error::StoreError;
use crate::pool::{Store, to_the_end};

/// One line per migration; a test compares this with the folder.
const MIGRATIONS: &[(i64, &str, &str)] = &[
    (1, "engine", include_str!("../../migrations/0001_engine.sql")),
    (2, "publishing", include_str!("../../migrations/0002_publishing.sql")),
    (3, "control_versions", include_str!("../../migrations/0003_control_versions.sql")),
    (4, "isolation", include_str!("../../migrations/0004_isolation.sql")),
    (5, "identity", include_str!("../../migrations/0005_identity.sql")),
    (6, "vault", include_str!("../../migrations/0006_vault.sql")),
    (7, "audit_chain", include_str!("../../migrations/0007_audit_chain.sql")),
    (8, "budgets", include_str!("../../migrations/0008_budgets.sql")),
    (9, "sealed_content", include_str!("../../migrations/0009_sealed_content.sql")),
    (10, "keeping", include_str!("../../migrations/0010_keeping.sql")),
    (11, "approvals_of_step", include_str!("../../migrations/0011_approvals_of_step.sql")),
    (12, "coordinator", include_str!("../../migrations/0012_coordinator.sql")),
    (13, "messages", include_str!("../../migrations/0013_messages.sql")),
    (14, "gateway", include_str!("../../migrations/0014_gateway.sql")),
    (15, "paid_posts", include_str!("../../migrations/0015_paid_posts.sql")),
    (16, "providers", include_str!("../../migrations/0016_providers.sql")),
    (17, "figures", include_str!("../../migrations/0017_figures.sql")),
    (18, "savings", include_str!("../../migrations/0018_savings.sql")),
    (19, "prompts", include_str!("../../migrations/0019_prompts.sql")),
    (20, "sessions_of_the_api", include_str!("../../migrations/0020_sessions_of_the_api.sql")),
];

/// The body that `galley_now()` must have outside tests.
const TRUE_CLOCK: &str = "SELECT now()";

fn migrator() -> Migrator {
    let migrations = MIGRATIONS
        .iter()
        .map(|(version, name, sql)| {
            Migration::new(*version, (*name).into(), MigrationType::Simple, sql.into_sql_str(), false)
        })
        .collect();
    let mut migrator = Migrator::with_migrations(migrations);
    // A worker one release older meets migrations it does not know.
    migrator.set_ignore_missing(true);
    migrator
}

impl Store {
    /// Brings the schema up to this release. Several processes may do so at
    /// once: the migrator holds an advisory lock.
    ///
    /// # Errors
    /// Postgres is away, or a migration that was applied has changed since.
    pub async fn migrate(&self) -> Result<(), StoreError> {
        let pool = self.pool().clone();
        to_the_end(async move {
            migrator().run(&pool).await.map_err(|error| match error {
                sqlx::migrate::MigrateError::Execute(error) => StoreError::from(error),
                other => StoreError::Schema(format!("cannot migrate: {other}")),
            })
        })
        .await
    }

    /// Checks that the schema is at least this release's and that its clock is
    /// the true one (`clock_may_move` for tests).
    ///
    /// # Errors
    /// [`StoreError::Schema`] with what to do.
    pub async fn check_schema(&self, clock_may_move: bool) -> Result<(), StoreError> {
        let applied: i64 =
            sqlx::query("SELECT coalesce(max(version), 0) FROM _sqlx_migrations WHERE success")
                .fetch_one(self.pool())
                .await?
                .try_get(0)?;
        let wanted = MIGRATIONS.last().map_or(0, |(version, ..)| *version);
        if applied < wanted {
            return Err(StoreError::Schema(format!(
                "the schema is at version {applied}, this release needs {wanted}; run `galley migrate`"
            )));
        }
        let clock: String = sqlx::query("SELECT prosrc FROM pg_proc WHERE proname = 'galley_now'")
            .fetch_one(self.pool())
            .await?
            .try_get(0)?;
        if !clock_may_move && clock.trim() != TRUE_CLOCK {
            return Err(StoreError::Schema(
                "the database's clock was moved (galley_now() is not now()); restore it before a production start"
                    .into(),
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_migration_file_is_in_the_list() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../migrations");
        let mut files: Vec<_> = std::fs::read_dir(folder)
            .expect("migrations folder")
            .map(|entry| entry.expect("entry").file_name().into_string().expect("utf-8"))
            .collect();
        files.sort();
        let listed: Vec<_> =
            super::MIGRATIONS.iter().map(|(version, name, _)| format!("{version:04}_{name}.sql")).collect();
        assert_eq!(files, listed, "add the file to MIGRATIONS in src/store/migrations.rs");
    }
}
