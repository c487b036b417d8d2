//! The roles of Galley's processes in the database: who a connection is, and
//! whether it may be that.
//!
//! Migration 0004 makes the roles and says what each may do. A process either
//! logs in as its role or as a member of it that takes the role on when it
//! connects.

use sqlx::Row;

use crate::error::StoreError;
use crate::pool::Store;

/// Who a process is to Postgres.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Whoever the URL names: migrations, tools of whoever deploys.
    Login,
    /// `galley_api`: sees the rows of the workspaces it names, one transaction
    /// at a time, and no others.
    Api,
    /// `galley_engine`: schedulers and workers that publish nothing. Sees every
    /// workspace, and no credential.
    Engine,
    /// `galley_publisher`: workers that publish. May read sealed credentials.
    Publisher,
}

impl Role {
    /// Its name in the database; `None`: it takes none on.
    pub const fn name(self) -> Option<&'static str> {
        match self {
            Self::Login => None,
            Self::Api => Some("galley_api"),
            Self::Engine => Some("galley_engine"),
            Self::Publisher => Some("galley_publisher"),
        }
    }

    /// Whether Postgres holds it to the workspaces of each transaction.
    pub(crate) const fn is_bounded(self) -> bool {
        matches!(self, Self::Api)
    }
}

impl Store {
    /// Checks that this connection's login could not step out of its role: it
    /// is no superuser, owns none of the tables and is not exempt from
    /// row-level security.
    ///
    /// # Errors
    /// [`StoreError::Schema`] with what to do.
    pub async fn check_login(&self) -> Result<(), StoreError> {
        let row = sqlx::query(
            "SELECT session_user::text, r.rolsuper, r.rolbypassrls,
                    EXISTS (SELECT 1 FROM pg_class c
                             WHERE c.oid = 'workflows'::regclass AND pg_has_role(session_user, c.relowner, 'MEMBER'))
               FROM pg_roles r WHERE r.rolname = session_user",
        )
        .fetch_one(&mut *self.reader(crate::scope::Scope::Fleet).await?)
        .await?;
        let login: String = row.try_get(0)?;
        let what = if row.try_get(1)? {
            "a superuser"
        } else if row.try_get(2)? {
            "exempt from row-level security"
        } else if row.try_get(3)? {
            "the owner of the tables"
        } else {
            return Ok(());
        };
        Err(StoreError::Schema(format!(
            "the API would be `{login}` in the database, which is {what}: one mistake could show one workspace \
             another's rows. Give the API a login of its own (`CREATE ROLE galley_api_login LOGIN PASSWORD '…' IN ROLE \
             galley_api`) and put it into its DATABASE_URL; see docs/security.md"
        )))
    }
}
