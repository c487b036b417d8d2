//! Rotation: every data key under the newest key, and every credential in an
//! envelope. It can stop anywhere and be run again, by several at once: each
//! row is written by compare-and-set, with its line in the audit.

use galley_store::{AuditWrite, DataKeyRow, Hashes, SealedRow, Store};
use serde_json::json;

use super::envelope::{self, Place};
use super::{Keyring, VaultError, new_data_key};
use crate::error::EngineError;

/// Rows read at once.
const PAGE: i64 = 200;

/// What a rotation did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rotated {
    /// The version everything is wrapped by now.
    pub newest: u32,
    /// Data keys that another key wrapped before.
    pub rewrapped: u64,
    /// Data keys that the newest key had wrapped already.
    pub current: u64,
    /// Credentials that were sealed with a secret key itself and are in an
    /// envelope now.
    pub resealed: u64,
    /// What could not be opened, and why: it was left as it is.
    pub left: Vec<String>,
}

/// Wraps every data key with the newest key and reseals credentials of the
/// first format. Afterwards nothing needs an older key, unless something is
/// [`left`](Rotated::left).
///
/// # Errors
/// Postgres is away: run it again, it goes on where it stopped.
pub async fn rotate_secrets(store: &Store, keyring: &Keyring, actor: &str) -> Result<Rotated, EngineError> {
    let mut done = Rotated { newest: keyring.newest(), ..Rotated::default() };
    let mut after = None;
    loop {
        let page = store.page_data_keys(after, PAGE).await?;
        let Some(last) = page.last() else { break };
        after = Some((last.workspace, last.version));
        for row in page {
            rewrap(store, keyring, actor, row, &mut done).await?;
        }
    }
    let mut after = None;
    loop {
        let page = store.page_first_format(after, PAGE).await?;
        let Some(last) = page.last() else { break };
        after = Some((last.workspace, last.account));
        for row in page {
            reseal(store, keyring, actor, row, &mut done).await?;
        }
    }
    Ok(done)
}

async fn rewrap(
    store: &Store,
    keyring: &Keyring,
    actor: &str,
    row: DataKeyRow,
    done: &mut Rotated,
) -> Result<(), EngineError> {
    if row.kek_version.unsigned_abs() == done.newest {
        done.current += 1;
        return Ok(());
    }
    let wrapped = keyring.unwrap(&row).and_then(|key| keyring.wrap(row.workspace, row.version, &key));
    let new = match wrapped {
        Ok(new) => new,
        Err(error) => {
            done.left.push(format!("data key {} of workspace {}: {error}", row.version, row.workspace));
            return Ok(());
        }
    };
    let line = AuditWrite {
        workspace: row.workspace,
        key: None,
        actor: actor.to_owned(),
        action: "secret.rotate",
        object: format!("data key {}", row.version),
        detail: Some(json!({ "from": row.kek_version, "to": new.kek_version }).to_string()),
        hashes: Hashes::default(),
    };
    if store.rewrap_data_key(row, new, line).await? {
        done.rewrapped += 1;
    } else {
        // Somebody else's rotation was faster.
        done.current += 1;
    }
    Ok(())
}

async fn reseal(
    store: &Store,
    keyring: &Keyring,
    actor: &str,
    row: SealedRow,
    done: &mut Rotated,
) -> Result<(), EngineError> {
    let (workspace, account) = (row.workspace, row.account);
    let resealed = if envelope::is_first_format(&row.sealed) {
        let opened = keyring.open_first_format(workspace, account, &row.sealed);
        let credential = match opened {
            Ok(credential) => credential,
            Err(error) => {
                done.left
                    .push(format!("credential of account {} of workspace {workspace}: {error}", row.name));
                return Ok(());
            }
        };
        let data_key = match store.data_key(workspace).await? {
            Some(data_key) => data_key,
            None => store.first_data_key(new_data_key(keyring, workspace).map_err(internal)?).await?,
        };
        let place = Place { workspace, account, name: &row.name, data_key: data_key.version };
        let sealed = keyring.unwrap(&data_key).and_then(|key| key.seal(&place, &credential));
        match sealed {
            Ok(sealed) => Some((data_key.version, sealed)),
            Err(error) => {
                done.left
                    .push(format!("credential of account {} of workspace {workspace}: {error}", row.name));
                return Ok(());
            }
        }
    } else {
        // In an envelope already; only the place where it was before is left.
        None
    };
    let line = resealed.is_some().then(|| AuditWrite {
        workspace,
        key: None,
        actor: actor.to_owned(),
        action: "secret.reseal",
        object: row.name.clone(),
        detail: None,
        hashes: Hashes::default(),
    });
    if store.reseal(row, resealed, line).await? {
        done.resealed += 1;
    }
    Ok(())
}

fn internal(error: VaultError) -> EngineError {
    EngineError::Internal(error.to_string())
}
