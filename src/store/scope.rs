//! Whose rows a unit of database work may touch, and the connections that hold
//! it to that.
//!
//! Under the role of the API, Postgres shows the rows of the transaction's
//! workspaces and no others (row-level security); a transaction without any
//! sees none. So every read and write of this crate names its workspaces, and
//! one that forgets them finds nothing.

use std::fmt::Write as _;
use std::ops::{Deref, DerefMut};

use galley_core::ids::WorkspaceId;
use sqlx::pool::PoolConnection;
use sqlx::postgres::PgPool;
use sqlx::{AssertSqlSafe, PgConnection, Postgres, Transaction};

use crate::error::StoreError;

/// Whose rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// Those that belong to no workspace; of the others whatever the role sees.
    Fleet,
    /// Those of these workspaces.
    Tenants(Vec<WorkspaceId>),
}

impl Scope {
    /// The workspaces of these, each once.
    pub(crate) fn of(workspaces: impl Iterator<Item = WorkspaceId>) -> Self {
        let mut tenants: Vec<WorkspaceId> = Vec::with_capacity(1);
        for workspace in workspaces {
            // A batch is mostly one tenant's.
            if !tenants.iter().rev().any(|known| *known == workspace) {
                tenants.push(workspace);
            }
        }
        Self::Tenants(tenants)
    }

    /// What begins a transaction that is held to this scope, in one round trip.
    /// An id is hexadecimal digits and dashes: nothing foreign is pasted in.
    fn begin(&self) -> String {
        let mut sql = String::from("BEGIN");
        if let Self::Tenants(tenants) = self {
            sql.push_str("; SET LOCAL app.workspace = '{");
            for (place, tenant) in tenants.iter().enumerate() {
                let comma = if place == 0 { "" } else { "," };
                // Writing into a string never fails.
                let _ = write!(sql, "{comma}{}", tenant.0);
            }
            sql.push_str("}'");
        }
        sql
    }
}

impl From<WorkspaceId> for Scope {
    fn from(workspace: WorkspaceId) -> Self {
        Self::Tenants(vec![workspace])
    }
}

/// The pool, as a unit of work with a scope has it.
#[derive(Clone, Debug)]
pub(crate) struct ScopedPool {
    pool: PgPool,
    /// Whether Postgres holds the role to a scope.
    bounded: bool,
    scope: Scope,
}

impl ScopedPool {
    pub(crate) fn new(pool: PgPool, bounded: bool, scope: Scope) -> Self {
        Self { pool, bounded, scope }
    }

    /// Begins a transaction.
    pub(crate) async fn begin(&self) -> Result<Transaction<'static, Postgres>, StoreError> {
        if self.bounded {
            Ok(self.pool.begin_with(AssertSqlSafe(self.scope.begin())).await?)
        } else {
            Ok(self.pool.begin().await?)
        }
    }

    /// A connection for single statements: each is a transaction of its own
    /// unless the role is held to a scope, which takes one around them. Whoever
    /// writes ends with [`Link::done`].
    pub(crate) async fn link(&self) -> Result<Link, StoreError> {
        if self.bounded {
            Ok(Link::Held(self.begin().await?))
        } else {
            Ok(Link::Free(self.pool.acquire().await?))
        }
    }
}

/// A connection for single statements.
#[derive(Debug)]
pub(crate) enum Link {
    /// Each statement for itself.
    Free(PoolConnection<Postgres>),
    /// All in a transaction that holds them to a scope.
    Held(Transaction<'static, Postgres>),
}

impl Link {
    /// Keeps what was written.
    pub(crate) async fn done(self) -> Result<(), StoreError> {
        match self {
            Self::Free(_) => Ok(()),
            Self::Held(transaction) => Ok(transaction.commit().await?),
        }
    }
}

impl Deref for Link {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        match self {
            Self::Free(connection) => connection,
            Self::Held(transaction) => transaction,
        }
    }
}

impl DerefMut for Link {
    fn deref_mut(&mut self) -> &mut PgConnection {
        match self {
            Self::Free(connection) => connection,
            Self::Held(transaction) => transaction,
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn a_scope_names_each_workspace_once() {
        let [a, b] = [1, 2].map(|n| WorkspaceId(Uuid::from_u128(n)));
        assert_eq!(Scope::of([a, a, b, a].into_iter()), Scope::Tenants(vec![a, b]));
        assert_eq!(
            Scope::of([a, b].into_iter()).begin(),
            format!("BEGIN; SET LOCAL app.workspace = '{{{},{}}}'", a.0, b.0)
        );
        assert_eq!(Scope::Tenants(Vec::new()).begin(), "BEGIN; SET LOCAL app.workspace = '{}'");
        assert_eq!(Scope::Fleet.begin(), "BEGIN");
    }
}
