//! Credentials in envelopes: each is sealed with a data key of its workspace,
//! and the data key is wrapped by a key of the deployment, which the database
//! never sees.
//!
//! What is sealed here is bound to its workspace, account and name: moved to
//! another row it is worth nothing. A credential is opened only by whoever
//! publishes, for one call, and is never printed.

mod content;
mod envelope;
mod keyring;
mod rotate;

use galley_core::ids::{AccountId, WorkspaceId};
use galley_store::{AccountRow, DataKeyRow};
use secrecy::SecretString;

pub(crate) use self::content::{ContentKeys, Row};
pub use self::content::{Opener, seal_workspace};
use self::envelope::{DataKey, Place};
pub use self::keyring::{Keyring, KeyringError};
pub use self::rotate::{Rotated, rotate_secrets};
use crate::engine::Engine;
use crate::error::EngineError;

/// Something sealed that cannot be used, or could not be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum VaultError {
    /// The data key is wrapped by a key that this process does not have.
    #[error(
        "the workspace's data key is wrapped by secret key {0}, which this process does not have; give it that key, or run `galley secret rotate` where both keys are"
    )]
    UnknownKey(u32),
    /// Sealed with another key, for another place, or damaged.
    #[error(
        "the credential cannot be opened: it was sealed with another key or is damaged; add the account again"
    )]
    Unopenable,
    /// It could not be sealed.
    #[error("the credential could not be sealed")]
    Unsealable,
}

/// A credential, sealed for one account.
pub(crate) struct Sealed {
    /// The version of the workspace's data key.
    pub(crate) data_key: i32,
    /// The bytes.
    pub(crate) bytes: Vec<u8>,
}

/// What a process without keys says about credentials.
pub(crate) const NO_KEYS: &str = "this process has no secret key (GALLEY_SECRET_KEY, or a key file or command); set it for the API and the workers";

impl Engine {
    /// Seals a credential for an account; makes the workspace's data key when
    /// it is the first.
    ///
    /// # Errors
    /// [`EngineError::Conflict`] when no key is configured, or not the one that
    /// the data key is wrapped by.
    pub(crate) async fn seal_credential(
        &self,
        workspace: WorkspaceId,
        account: AccountId,
        name: &str,
        credential: &SecretString,
    ) -> Result<Sealed, EngineError> {
        let Some(keyring) = &self.config().keyring else {
            return Err(EngineError::Conflict(NO_KEYS.into()));
        };
        let row = match self.store().data_key(workspace).await? {
            Some(row) => row,
            None => {
                let first = new_data_key(keyring, workspace).map_err(internal)?;
                // Another process may be faster: its key is the workspace's then.
                self.store().first_data_key(first).await?
            }
        };
        let key = keyring.unwrap(&row).map_err(|error| match error {
            error @ VaultError::UnknownKey(_) => EngineError::Conflict(error.to_string()),
            error => EngineError::Internal(format!("the data key of workspace {workspace}: {error}")),
        })?;
        let place = Place { workspace, account, name, data_key: row.version };
        let bytes = key.seal(&place, credential).map_err(internal)?;
        Ok(Sealed { data_key: row.version, bytes })
    }

    /// Opens the credential of an account, for one call to its platform. The
    /// inner error is for people.
    ///
    /// # Errors
    /// Postgres is away.
    pub(crate) async fn open_credential(
        &self,
        workspace: WorkspaceId,
        account: &AccountRow,
    ) -> Result<Result<SecretString, String>, EngineError> {
        let Some(keyring) = &self.config().keyring else { return Ok(Err(NO_KEYS.into())) };
        let Some(stored) = self.store().credential(workspace, account.id).await? else {
            let told = format!("the account `{}` has no credential any more; add it again", account.name);
            return Ok(Err(told));
        };
        let opened = match &stored.data_key {
            None => keyring.open_first_format(workspace, account.id, &stored.sealed),
            Some(row) => keyring.unwrap(row).and_then(|key| {
                let place =
                    Place { workspace, account: account.id, name: &account.name, data_key: row.version };
                key.open(&place, &stored.sealed)
            }),
        };
        Ok(opened.map_err(|error| error.to_string()))
    }

    /// Opens what was sealed for a place that has no account of its own. The
    /// error is for people.
    pub(crate) fn open_for(
        &self,
        workspace: WorkspaceId,
        account: AccountId,
        name: &str,
        sealed: &[u8],
        data_key: &DataKeyRow,
    ) -> Result<SecretString, String> {
        let Some(keyring) = &self.config().keyring else { return Err(NO_KEYS.into()) };
        let place = Place { workspace, account, name, data_key: data_key.version };
        let opened = keyring.unwrap(data_key).and_then(|key| key.open(&place, sealed));
        opened.map_err(|error| match error {
            VaultError::Unopenable => {
                "its key cannot be opened: it was sealed for another address, with another key, or is damaged; set it again".into()
            }
            other => other.to_string(),
        })
    }
}

/// A workspace's first data key, wrapped by the newest key.
fn new_data_key(keyring: &Keyring, workspace: WorkspaceId) -> Result<DataKeyRow, VaultError> {
    keyring.wrap(workspace, 1, &DataKey::random())
}

fn internal(error: VaultError) -> EngineError {
    EngineError::Internal(error.to_string())
}

#[cfg(test)]
mod tests;
