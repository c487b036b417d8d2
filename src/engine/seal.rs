//! Sealing credentials: XChaCha20-Poly1305 under the deployment's key, bound
//! to workspace and account so that a sealed credential is worth nothing
//! elsewhere. An envelope per workspace will take this file's place.

use std::fmt;

use chacha20poly1305::aead::{Aead, Payload};
use chacha20poly1305::{Key, KeyInit, XChaCha20Poly1305, XNonce};
use galley_core::ids::{AccountId, WorkspaceId};
use secrecy::{ExposeSecret, SecretString};

/// Bytes of a deployment's key.
const KEY_BYTES: usize = 32;
/// Bytes of the nonce in front of each sealed credential.
const NONCE_BYTES: usize = 24;
/// The first byte of a sealed credential: how it was sealed.
const VERSION: u8 = 1;

/// The deployment's key. Never printed.
#[derive(Clone)]
pub struct Seal {
    cipher: XChaCha20Poly1305,
}

/// A key or a sealed credential that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The key's text is not one.
    #[error("a secret key is 64 hexadecimal digits (32 bytes); `openssl rand -hex 32` makes one")]
    BadKey,
    /// Sealed with another key, for another account, or damaged.
    #[error(
        "the credential cannot be opened: it was sealed with another key or is damaged; add the account again"
    )]
    Unopenable,
    /// It could not be sealed.
    #[error("the credential could not be sealed")]
    Unsealable,
}

impl fmt::Debug for Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seal(…)")
    }
}

impl Seal {
    /// A key from its 64 hexadecimal digits.
    ///
    /// # Errors
    /// [`SealError::BadKey`].
    pub fn from_hex(text: &str) -> Result<Self, SealError> {
        let bytes = hex::decode(text.trim()).map_err(|_| SealError::BadKey)?;
        let key: [u8; KEY_BYTES] = bytes.try_into().map_err(|_| SealError::BadKey)?;
        Ok(Self { cipher: XChaCha20Poly1305::new(&Key::from(key)) })
    }

    /// Seals a credential for one account.
    ///
    /// # Errors
    /// [`SealError::Unsealable`].
    pub fn seal(
        &self,
        workspace: WorkspaceId,
        account: AccountId,
        credential: &SecretString,
    ) -> Result<Vec<u8>, SealError> {
        let nonce: [u8; NONCE_BYTES] = rand::random();
        let whose = whose(workspace, account);
        let payload = Payload { msg: credential.expose_secret().as_bytes(), aad: &whose };
        let sealed = self.cipher.encrypt(&XNonce::from(nonce), payload).map_err(|_| SealError::Unsealable)?;
        Ok([&[VERSION][..], &nonce, &sealed].concat())
    }

    /// Opens the credential of one account.
    ///
    /// # Errors
    /// [`SealError::Unopenable`].
    pub fn open(
        &self,
        workspace: WorkspaceId,
        account: AccountId,
        sealed: &[u8],
    ) -> Result<SecretString, SealError> {
        let (head, body) = sealed.split_at_checked(1 + NONCE_BYTES).ok_or(SealError::Unopenable)?;
        let nonce: [u8; NONCE_BYTES] = head[1..].try_into().map_err(|_| SealError::Unopenable)?;
        if head[0] != VERSION {
            return Err(SealError::Unopenable);
        }
        let whose = whose(workspace, account);
        let opened = self
            .cipher
            .decrypt(&XNonce::from(nonce), Payload { msg: body, aad: &whose })
            .map_err(|_| SealError::Unopenable)?;
        Ok(SecretString::from(String::from_utf8(opened).map_err(|_| SealError::Unopenable)?))
    }
}

fn whose(workspace: WorkspaceId, account: AccountId) -> Vec<u8> {
    [workspace.0.as_bytes().as_slice(), account.0.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    #[test]
    fn a_credential_opens_only_where_it_was_sealed() {
        let seal = Seal::from_hex(&"07".repeat(32)).expect("key");
        let (workspace, account) = (WorkspaceId(Uuid::from_u128(1)), AccountId(Uuid::from_u128(2)));
        let sealed = seal.seal(workspace, account, &"token".to_owned().into()).expect("sealed");
        assert!(!sealed.windows(5).any(|part| part == b"token"));
        assert_eq!(seal.open(workspace, account, &sealed).expect("opened").expose_secret(), "token");
        let elsewhere = AccountId(Uuid::from_u128(3));
        assert_eq!(seal.open(workspace, elsewhere, &sealed).err(), Some(SealError::Unopenable));
        let mut damaged = sealed.clone();
        *damaged.last_mut().expect("bytes") ^= 1;
        assert_eq!(seal.open(workspace, account, &damaged).err(), Some(SealError::Unopenable));
        assert_eq!(seal.open(workspace, account, &[1, 2]).err(), Some(SealError::Unopenable));
        let other = Seal::from_hex(&"08".repeat(32)).expect("key");
        assert_eq!(other.open(workspace, account, &sealed).err(), Some(SealError::Unopenable));
        assert_eq!(format!("{seal:?}"), "Seal(…)");
        assert_eq!(Seal::from_hex("0707").err(), Some(SealError::BadKey));
    }
}
