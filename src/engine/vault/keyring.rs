//! The deployment's keys: they wrap data keys and nothing else. They come from
//! the configuration, have a version each, and the newest wraps what is new.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use chacha20poly1305::{KeyInit, XChaCha20Poly1305};
use galley_core::ids::{AccountId, WorkspaceId};
use galley_store::DataKeyRow;
use secrecy::SecretString;
use secrecy::zeroize::Zeroizing;

use super::VaultError;
use super::envelope::{self, DataKey};

/// The deployment's keys, by version. Cheap to clone; never printed.
#[derive(Clone)]
pub struct Keyring {
    keys: Arc<BTreeMap<u32, Kek>>,
}

/// One key, and a mark by which two can be told apart without showing either.
struct Kek {
    cipher: XChaCha20Poly1305,
    mark: [u8; 32],
}

/// Keys that cannot be used. Never says what they are.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyringError {
    /// The key's text is not one.
    #[error("a secret key is 64 hexadecimal digits (32 bytes); `openssl rand -hex 32` makes one")]
    BadKey,
    /// A line of a list of keys is none.
    #[error(
        "line {0}: write VERSION:KEY, a number from 1 and 64 hexadecimal digits; the highest version is the newest"
    )]
    BadLine(usize),
    /// One version, two keys.
    #[error("there are two different keys of version {0}; a new key needs a new version")]
    TwoKeys(u32),
    /// There is no key at all.
    #[error("there is no key in it; write lines of VERSION:KEY")]
    Empty,
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Keyring").field(&self.versions()).finish()
    }
}

impl Keyring {
    /// One key, as version 1, from its 64 hexadecimal digits.
    ///
    /// # Errors
    /// [`KeyringError::BadKey`].
    pub fn single(text: &str) -> Result<Self, KeyringError> {
        let key = kek(text).ok_or(KeyringError::BadKey)?;
        Ok(Self { keys: Arc::new(BTreeMap::from([(1, key)])) })
    }

    /// Keys from lines of `VERSION:KEY`; empty lines and lines that begin with
    /// `#` say nothing.
    ///
    /// # Errors
    /// The first line that is wrong; no key at all.
    pub fn read(text: &str) -> Result<Self, KeyringError> {
        let mut keys = BTreeMap::new();
        for (number, line) in text.lines().map(str::trim).enumerate() {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let bad = || KeyringError::BadLine(number + 1);
            let (version, key) = line.split_once(':').ok_or_else(bad)?;
            let version: u32 = version.trim().parse().map_err(|_| bad())?;
            if !(1..=i32::MAX as u32).contains(&version) {
                return Err(bad());
            }
            add(&mut keys, version, kek(key).ok_or_else(bad)?)?;
        }
        if keys.is_empty() { Err(KeyringError::Empty) } else { Ok(Self { keys: Arc::new(keys) }) }
    }

    /// The keys of both.
    ///
    /// # Errors
    /// [`KeyringError::TwoKeys`].
    pub fn with(&self, other: &Self) -> Result<Self, KeyringError> {
        let mut keys = BTreeMap::new();
        for (version, kek) in self.keys.iter().chain(other.keys.iter()) {
            add(&mut keys, *version, Kek { cipher: kek.cipher.clone(), mark: kek.mark })?;
        }
        Ok(Self { keys: Arc::new(keys) })
    }

    /// The versions there are, oldest first.
    pub fn versions(&self) -> Vec<u32> {
        self.keys.keys().copied().collect()
    }

    /// The version that wraps what is new.
    pub fn newest(&self) -> u32 {
        // A keyring is never empty.
        self.keys.keys().next_back().copied().unwrap_or(1)
    }

    /// A data key for storing, wrapped by the newest key.
    pub(super) fn wrap(
        &self,
        workspace: WorkspaceId,
        version: i32,
        key: &DataKey,
    ) -> Result<DataKeyRow, VaultError> {
        let newest = self.newest();
        let kek = self.keys.get(&newest).ok_or(VaultError::Unsealable)?;
        let wrapped = envelope::wrap(&kek.cipher, workspace, version, newest, key)?;
        Ok(DataKeyRow { workspace, version, kek_version: signed(newest), wrapped })
    }

    /// A stored data key, unwrapped.
    pub(super) fn unwrap(&self, row: &DataKeyRow) -> Result<DataKey, VaultError> {
        let by = row.kek_version.unsigned_abs();
        let kek = self.keys.get(&by).ok_or(VaultError::UnknownKey(by))?;
        envelope::unwrap(&kek.cipher, row.workspace, row.version, by, &row.wrapped)
    }

    /// A credential that was sealed before there were data keys: with the only
    /// key there was, which is version 1 now.
    pub(super) fn open_first_format(
        &self,
        workspace: WorkspaceId,
        account: AccountId,
        sealed: &[u8],
    ) -> Result<SecretString, VaultError> {
        let kek = self.keys.get(&1).ok_or(VaultError::UnknownKey(1))?;
        envelope::open_first_format(&kek.cipher, workspace, account, sealed)
    }
}

fn kek(text: &str) -> Option<Kek> {
    let bytes = Zeroizing::new(hex::decode(text.trim()).ok()?);
    // None unless it has the length of a key.
    let cipher = XChaCha20Poly1305::new_from_slice(&bytes).ok()?;
    let mark = galley_core::hash::of_parts(&[b"galley secret key", &bytes]);
    Some(Kek { cipher, mark })
}

fn add(keys: &mut BTreeMap<u32, Kek>, version: u32, kek: Kek) -> Result<(), KeyringError> {
    match keys.get(&version) {
        Some(known) if known.mark != kek.mark => Err(KeyringError::TwoKeys(version)),
        _ => {
            keys.insert(version, kek);
            Ok(())
        }
    }
}

/// A version as Postgres keeps it; checked when it was read.
pub(super) fn signed(version: u32) -> i32 {
    i32::try_from(version).unwrap_or(i32::MAX)
}
