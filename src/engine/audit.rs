//! The audit's chain, from the engine's side: sealing what was written, and
//! exporting it so that somebody else can check it.

use std::fmt;
use std::sync::Arc;

use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use futures::{Stream, stream};
use galley_core::chain::{self, Checkpoint, ExportHead, ExportLine};
use galley_core::ids::WorkspaceId;
use galley_store::{AuditWrite, ChainEnd, Hashes};
use secrecy::zeroize::Zeroizing;

use crate::engine::Engine;
use crate::error::EngineError;
use crate::policy::instant;

/// Rows sealed in one transaction.
const BATCH: i64 = 500;
/// Lines read at once for an export.
const PAGE: i64 = 500;

/// Seals one batch of audit rows into their workspaces' chains; answers how
/// many. Any number of schedulers may: one at a time does it.
///
/// # Errors
/// Postgres is away.
pub async fn seal_audit(engine: &Engine) -> Result<u64, EngineError> {
    let sealed = engine.store().seal_audit(BATCH).await?;
    if sealed > 0 {
        metrics::counter!("galley_audit_sealed_total").increment(sealed);
    }
    Ok(sealed)
}

/// Signs checkpoints: an Ed25519 key. Never printed.
#[derive(Clone)]
pub struct CheckpointKey(Arc<SigningKey>);

/// A key or a signature that is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    /// The key's text is not one.
    #[error("a signing key is 64 hexadecimal digits (32 bytes); `openssl rand -hex 32` makes one")]
    BadKey,
    /// The public key's text is not one.
    #[error("a public key is 64 hexadecimal digits; `galley audit key` prints it")]
    BadPublicKey,
    /// Nobody signed it.
    #[error("nobody signed the checkpoint: set GALLEY_AUDIT_SIGNING_KEY for the API")]
    Unsigned,
    /// Somebody else signed it, or it was changed.
    #[error("the checkpoint's signature is not of this key: somebody else made it, or it was changed")]
    Forged,
}

impl fmt::Debug for CheckpointKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CheckpointKey").field(&self.public()).finish()
    }
}

impl CheckpointKey {
    /// A key from its 64 hexadecimal digits.
    ///
    /// # Errors
    /// [`CheckpointError::BadKey`].
    pub fn from_hex(text: &str) -> Result<Self, CheckpointError> {
        let bytes = Zeroizing::new(hex::decode(text.trim()).map_err(|_| CheckpointError::BadKey)?);
        let seed: &[u8; 32] = bytes.as_slice().try_into().map_err(|_| CheckpointError::BadKey)?;
        Ok(Self(Arc::new(SigningKey::from_bytes(seed))))
    }

    /// The key that checks what this one signs, hexadecimal.
    pub fn public(&self) -> String {
        hex::encode(self.0.verifying_key().as_bytes())
    }

    fn sign(&self, checkpoint: &mut Checkpoint) {
        let signature = self.0.sign(checkpoint.message().as_bytes());
        checkpoint.public_key = Some(self.public());
        checkpoint.signature = Some(hex::encode(signature.to_bytes()));
    }
}

/// Checks who signed a checkpoint.
///
/// # Errors
/// Nobody did, or not whoever has this key.
pub fn check_signature(checkpoint: &Checkpoint, public_key: &str) -> Result<(), CheckpointError> {
    let bytes = |text: &str| hex::decode(text.trim()).ok();
    let key: [u8; 32] =
        bytes(public_key).and_then(|key| key.try_into().ok()).ok_or(CheckpointError::BadPublicKey)?;
    let key = VerifyingKey::from_bytes(&key).map_err(|_| CheckpointError::BadPublicKey)?;
    let signature = checkpoint.signature.as_deref().ok_or(CheckpointError::Unsigned)?;
    let signature = bytes(signature).and_then(|bytes| Signature::from_slice(&bytes).ok());
    let signature = signature.ok_or(CheckpointError::Forged)?;
    key.verify_strict(checkpoint.message().as_bytes(), &signature).map_err(|_| CheckpointError::Forged)
}

/// How far an export is.
enum Stage {
    Head,
    /// Behind this place.
    Chain(i64),
    /// Behind this row.
    Unsealed(i64),
    Checkpoint,
    Over,
}

impl Engine {
    /// Where a workspace's chain ends now, signed where a key is configured.
    ///
    /// # Errors
    /// Postgres is away.
    pub async fn checkpoint(&self, workspace: WorkspaceId) -> Result<Checkpoint, EngineError> {
        self.checkpoint_of(workspace, &self.store().chain_end(workspace).await?)
    }

    fn checkpoint_of(&self, workspace_id: WorkspaceId, end: &ChainEnd) -> Result<Checkpoint, EngineError> {
        let mut checkpoint = Checkpoint {
            workspace_id,
            seq: end.seq.unsigned_abs(),
            hash: if end.seq == 0 { hex::encode(chain::BEGINNING) } else { hex::encode(&end.hash) },
            at: instant(&end.now)?,
            public_key: None,
            signature: None,
        };
        if let Some(key) = &self.config().checkpoint_key {
            key.sign(&mut checkpoint);
        }
        Ok(checkpoint)
    }

    /// A workspace's whole audit with its chain, page by page. That somebody
    /// took it is in the audit.
    ///
    /// # Errors
    /// Postgres is away; in the stream, too: it ends without a checkpoint then.
    pub async fn export_audit(
        &self,
        workspace: WorkspaceId,
        actor: &str,
    ) -> Result<impl Stream<Item = Result<Vec<ExportLine>, EngineError>> + use<>, EngineError> {
        let line = AuditWrite {
            workspace,
            key: None,
            actor: actor.to_owned(),
            action: "audit.export",
            object: "audit".into(),
            detail: None,
            hashes: Hashes::default(),
        };
        self.store().audit(line).await?;
        // Sealed rows up to here; what is sealed meanwhile is in the next one.
        let end = self.store().chain_end(workspace).await?;
        let checkpoint = self.checkpoint_of(workspace, &end)?;
        let (store, last) = (self.store().clone(), end.last_seal);
        Ok(stream::try_unfold(Stage::Head, move |stage| {
            let (store, checkpoint) = (store.clone(), checkpoint.clone());
            async move {
                let (lines, next) = match stage {
                    Stage::Head => {
                        let head = ExportHead { format: 1, workspace_id: workspace };
                        (vec![ExportLine::Export(head)], Stage::Chain(0))
                    }
                    Stage::Chain(after) => {
                        let page = store.chain_page(workspace, after, last, PAGE).await?;
                        let next = page.last().map(|place| Stage::Chain(place.seq.cast_signed()));
                        let lines = page.into_iter().map(ExportLine::Link).collect();
                        (lines, next.unwrap_or(Stage::Unsealed(i64::MIN)))
                    }
                    Stage::Unsealed(after) => {
                        let page = store.unsealed_page(workspace, after, PAGE).await?;
                        let next = page.last().map(|row| Stage::Unsealed(row.id));
                        (
                            page.into_iter().map(ExportLine::Unsealed).collect(),
                            next.unwrap_or(Stage::Checkpoint),
                        )
                    }
                    Stage::Checkpoint => (vec![ExportLine::Checkpoint(checkpoint)], Stage::Over),
                    Stage::Over => return Ok(None),
                };
                Ok(Some((lines, next)))
            }
        }))
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn a_signature_is_of_this_checkpoint_and_this_key() {
        let key = CheckpointKey::from_hex(&"07".repeat(32)).unwrap();
        let mut signed = Checkpoint {
            workspace_id: WorkspaceId(Uuid::from_u128(1)),
            seq: 7,
            hash: "ab".repeat(32),
            at: "2026-11-26T12:00:00Z".parse().unwrap(),
            public_key: None,
            signature: None,
        };
        let check = |checkpoint: &Checkpoint| check_signature(checkpoint, &key.public());
        assert_eq!(check(&signed), Err(CheckpointError::Unsigned));
        key.sign(&mut signed);
        assert_eq!(check(&signed), Ok(()));
        let other = CheckpointKey::from_hex(&"08".repeat(32)).unwrap();
        assert_eq!(check_signature(&signed, &other.public()), Err(CheckpointError::Forged));
        assert_eq!(check_signature(&signed, "07"), Err(CheckpointError::BadPublicKey));
        for changed in [
            Checkpoint { seq: 6, ..signed.clone() },
            Checkpoint { hash: "ac".repeat(32), ..signed.clone() },
            Checkpoint { workspace_id: WorkspaceId(Uuid::from_u128(2)), ..signed.clone() },
            Checkpoint { at: "2026-11-26T12:00:01Z".parse().unwrap(), ..signed.clone() },
            Checkpoint { signature: Some("00".repeat(64)), ..signed.clone() },
        ] {
            assert_eq!(check(&changed), Err(CheckpointError::Forged), "{changed:?}");
        }
        assert!(!format!("{key:?}").contains(&"07".repeat(32)));
        assert_eq!(CheckpointKey::from_hex("07").unwrap_err(), CheckpointError::BadKey);
    }
}
