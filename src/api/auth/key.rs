//! API keys: `glk_<prefix>_<secret>`. The prefix is shown and names the key, the
//! secret is random and 256 bits long, and only its hash is stored.

use secrecy::{ExposeSecret as _, SecretString};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

/// What every key begins with: what people and scanners know it by.
const MARK: &str = "glk_";

/// Random bytes of a prefix.
const PREFIX_BYTES: usize = 6;

/// Random bytes of a secret.
const SECRET_BYTES: usize = 32;

/// A new key.
pub(crate) struct NewKey {
    /// What it is known by.
    pub(crate) prefix: String,
    /// All of it, to be shown once.
    pub(crate) text: SecretString,
    /// What is stored.
    pub(crate) hash: [u8; 32],
}

impl NewKey {
    /// Draws one.
    pub(crate) fn draw() -> Self {
        let prefix = hex::encode(rand::random::<[u8; PREFIX_BYTES]>());
        let secret = SecretString::from(hex::encode(rand::random::<[u8; SECRET_BYTES]>()));
        let hash = hash_of(secret.expose_secret());
        let text = format!("{MARK}{prefix}_{}", secret.expose_secret()).into();
        Self { prefix, text, hash }
    }
}

/// Whether a bearer says that it is a key.
pub(super) fn is_key(bearer: &str) -> bool {
    bearer.starts_with(MARK)
}

/// A key's prefix and secret; none when it was never one of ours.
pub(super) fn parts(bearer: &str) -> Option<(&str, &str)> {
    let (prefix, secret) = bearer.strip_prefix(MARK)?.split_once('_')?;
    let hex = |text: &str, bytes: usize| {
        text.len() == bytes * 2 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    };
    (hex(prefix, PREFIX_BYTES) && hex(secret, SECRET_BYTES)).then_some((prefix, secret))
}

/// What is stored of a secret.
fn hash_of(secret: &str) -> [u8; 32] {
    Sha256::digest(secret).into()
}

/// Whether a secret is the one that was stored. Takes as long for every wrong
/// one.
pub(super) fn fits(secret: &str, stored: &[u8]) -> bool {
    hash_of(secret).ct_eq(stored).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_what_was_drawn_and_nothing_else() {
        let key = NewKey::draw();
        let text = key.text.expose_secret();
        let (prefix, secret) = parts(text).unwrap();
        assert_eq!(prefix, key.prefix);
        assert!(fits(secret, &key.hash) && !fits(&secret.replace(['1', '2'], "3"), &key.hash));
        assert!(!fits(secret, &key.hash[..31]) && !fits(secret, &[]));
        assert_ne!(NewKey::draw().text.expose_secret(), text);
        for bad in [
            "glk_",
            "glk__",
            "glk_x_y",
            &text[1..],
            &text[..text.len() - 1],
            &text.to_uppercase(),
            &format!("{text}0"),
        ] {
            assert!(parts(bad).is_none(), "{bad}");
        }
    }
}
