//! What is sealed, byte by byte. XChaCha20-Poly1305; a random nonce in front of
//! each; everything that a sealed thing belongs to is authenticated with it.
//!
//! ```text
//! wrapped data key   1 | nonce 24 | sealed 32 + 16    bound to: workspace, its version, the key's version
//! credential, new    2 | nonce 24 | sealed …  + 16    bound to: workspace, account, name, the data key's version
//! content            3 | data key's version 4 | nonce 24 | sealed … + 16
//!                                                 bound to: workspace, table, row, the data key's version
//! credential, first  1 | nonce 24 | sealed …  + 16    bound to: workspace, account; sealed with the deployment's key
//! ```

use std::str;

use chacha20poly1305::aead::{Aead, Payload};
use chacha20poly1305::{KeyInit, XChaCha20Poly1305, XNonce};
use galley_core::ids::{AccountId, WorkspaceId};
use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret, SecretString};
use uuid::Uuid;

use super::VaultError;

/// Bytes of a key.
const KEY_BYTES: usize = 32;
/// Bytes of the nonce in front of whatever is sealed.
const NONCE_BYTES: usize = 24;

/// How a data key is wrapped.
const WRAPPED: u8 = 1;
/// How a credential is sealed.
const SEALED: u8 = 2;
/// How prompts and outputs are sealed.
const CONTENT: u8 = 3;
/// Bytes in front of its nonce.
const CONTENT_HEAD: usize = 1 + size_of::<i32>();
/// How it was before there were data keys.
const SEALED_FIRST: u8 = 1;

/// Where a credential belongs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place<'a> {
    pub(super) workspace: WorkspaceId,
    pub(super) account: AccountId,
    pub(super) name: &'a str,
    /// The version of the data key.
    pub(super) data_key: i32,
}

impl Place<'_> {
    /// The name is last and is the only part without a length of its own.
    fn bytes(&self) -> Vec<u8> {
        [
            &b"galley credential"[..],
            &[SEALED],
            self.workspace.0.as_bytes(),
            self.account.0.as_bytes(),
            &self.data_key.to_be_bytes(),
            self.name.as_bytes(),
        ]
        .concat()
    }
}

/// The row that content belongs to.
#[derive(Clone, Copy, Debug)]
pub(super) struct ContentPlace {
    pub(super) workspace: WorkspaceId,
    /// Which table, by a number that never changes.
    pub(super) table: u8,
    /// The id of what it is about; with step and epoch where the table has them.
    pub(super) id: Uuid,
    pub(super) step: u16,
    pub(super) epoch: u32,
    /// The version of the data key.
    pub(super) data_key: i32,
}

impl ContentPlace {
    /// Every part has a fixed length.
    fn bytes(&self) -> Vec<u8> {
        [
            &b"galley content"[..],
            &[CONTENT, self.table],
            self.workspace.0.as_bytes(),
            self.id.as_bytes(),
            &self.step.to_be_bytes(),
            &self.epoch.to_be_bytes(),
            &self.data_key.to_be_bytes(),
        ]
        .concat()
    }
}

/// The version of the data key that content says it was sealed with.
pub(super) fn content_key(sealed: &[u8]) -> Option<i32> {
    let (format, rest) = sealed.split_first()?;
    let version = rest.first_chunk()?;
    (*format == CONTENT).then(|| i32::from_be_bytes(*version))
}

/// A workspace's data key. Wiped when it is dropped; never printed.
pub(super) struct DataKey(Zeroizing<[u8; KEY_BYTES]>);

impl DataKey {
    pub(super) fn random() -> Self {
        Self(Zeroizing::new(rand::random()))
    }

    fn cipher(&self) -> Result<XChaCha20Poly1305, VaultError> {
        // By reference: no copy of the key is left behind.
        XChaCha20Poly1305::new_from_slice(self.0.as_slice()).map_err(|_| VaultError::Unopenable)
    }

    pub(super) fn seal(&self, place: &Place<'_>, credential: &SecretString) -> Result<Vec<u8>, VaultError> {
        seal(&self.cipher()?, SEALED, credential.expose_secret().as_bytes(), &place.bytes())
    }

    pub(super) fn open(&self, place: &Place<'_>, sealed: &[u8]) -> Result<SecretString, VaultError> {
        text(&open(&self.cipher()?, SEALED, sealed, &place.bytes())?)
    }

    pub(super) fn seal_content(&self, place: &ContentPlace, json: &str) -> Result<Vec<u8>, VaultError> {
        let mut sealed = seal(&self.cipher()?, CONTENT, json.as_bytes(), &place.bytes())?;
        // Which key it was is found before it is opened.
        sealed.splice(1..1, place.data_key.to_be_bytes());
        Ok(sealed)
    }

    pub(super) fn open_content(&self, place: &ContentPlace, sealed: &[u8]) -> Result<String, VaultError> {
        let body = sealed.get(CONTENT_HEAD..).ok_or(VaultError::Unopenable)?;
        let framed = [&[sealed[0]][..], body].concat();
        let opened = open(&self.cipher()?, CONTENT, &framed, &place.bytes())?;
        String::from_utf8(opened.to_vec()).map_err(|_| VaultError::Unopenable)
    }
}

/// A data key as it is stored.
pub(super) fn wrap(
    kek: &XChaCha20Poly1305,
    workspace: WorkspaceId,
    version: i32,
    kek_version: u32,
    key: &DataKey,
) -> Result<Vec<u8>, VaultError> {
    seal(kek, WRAPPED, key.0.as_slice(), &wrapped_for(workspace, version, kek_version))
}

/// A stored data key.
pub(super) fn unwrap(
    kek: &XChaCha20Poly1305,
    workspace: WorkspaceId,
    version: i32,
    kek_version: u32,
    wrapped: &[u8],
) -> Result<DataKey, VaultError> {
    let opened = open(kek, WRAPPED, wrapped, &wrapped_for(workspace, version, kek_version))?;
    let key = opened.as_slice().try_into().map_err(|_| VaultError::Unopenable)?;
    Ok(DataKey(Zeroizing::new(key)))
}

/// A credential that was sealed with the deployment's key itself.
pub(super) fn open_first_format(
    kek: &XChaCha20Poly1305,
    workspace: WorkspaceId,
    account: AccountId,
    sealed: &[u8],
) -> Result<SecretString, VaultError> {
    let whose = [workspace.0.as_bytes().as_slice(), account.0.as_bytes()].concat();
    text(&open(kek, SEALED_FIRST, sealed, &whose)?)
}

/// Whether a credential was sealed before there were data keys.
pub(super) fn is_first_format(sealed: &[u8]) -> bool {
    sealed.first() == Some(&SEALED_FIRST)
}

fn wrapped_for(workspace: WorkspaceId, version: i32, kek_version: u32) -> Vec<u8> {
    [
        &b"galley data key"[..],
        &[WRAPPED],
        workspace.0.as_bytes(),
        &version.to_be_bytes(),
        &kek_version.to_be_bytes(),
    ]
    .concat()
}

fn seal(cipher: &XChaCha20Poly1305, format: u8, secret: &[u8], place: &[u8]) -> Result<Vec<u8>, VaultError> {
    let nonce: [u8; NONCE_BYTES] = rand::random();
    let payload = Payload { msg: secret, aad: place };
    let sealed = cipher.encrypt(&XNonce::from(nonce), payload).map_err(|_| VaultError::Unsealable)?;
    Ok([&[format][..], &nonce, &sealed].concat())
}

fn open(
    cipher: &XChaCha20Poly1305,
    format: u8,
    sealed: &[u8],
    place: &[u8],
) -> Result<Zeroizing<Vec<u8>>, VaultError> {
    let (head, body) = sealed.split_at_checked(1 + NONCE_BYTES).ok_or(VaultError::Unopenable)?;
    let nonce: [u8; NONCE_BYTES] = head[1..].try_into().map_err(|_| VaultError::Unopenable)?;
    if head[0] != format {
        return Err(VaultError::Unopenable);
    }
    let opened = cipher
        .decrypt(&XNonce::from(nonce), Payload { msg: body, aad: place })
        .map_err(|_| VaultError::Unopenable)?;
    Ok(Zeroizing::new(opened))
}

/// Copied to its exact length, so that growing or shrinking leaves no second
/// copy behind.
fn text(opened: &Zeroizing<Vec<u8>>) -> Result<SecretString, VaultError> {
    let text = str::from_utf8(opened).map_err(|_| VaultError::Unopenable)?;
    Ok(SecretString::from(text.to_owned()))
}

/// A credential as it was sealed before there were data keys.
#[cfg(test)]
pub(super) fn seal_first_format(
    kek: &[u8; KEY_BYTES],
    workspace: WorkspaceId,
    account: AccountId,
    credential: &str,
) -> Vec<u8> {
    let whose = [workspace.0.as_bytes().as_slice(), account.0.as_bytes()].concat();
    let cipher = XChaCha20Poly1305::new_from_slice(kek).expect("key");
    seal(&cipher, SEALED_FIRST, credential.as_bytes(), &whose).expect("sealed")
}
