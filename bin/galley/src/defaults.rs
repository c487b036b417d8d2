//! Secrets that are none: those of the examples, of `galley dev`, or such as
//! people type. A role that starts with one says so in its log, and `galley
//! doctor` shows it; nothing is refused, because a trial may run like that.

use std::collections::BTreeSet;
use std::path::Path;

use secrecy::{ExposeSecret, SecretString};

use crate::config::Config;
use crate::found;

/// A secret that somebody could guess. The secret itself is not in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Guessable {
    /// The setting.
    pub(crate) setting: &'static str,
    /// What is wrong with it.
    pub(crate) why: &'static str,
    /// What to do.
    pub(crate) todo: &'static str,
}

/// Passwords of the examples (docker-compose.yml, deploy/logins.sql) and of
/// half the world.
const PASSWORDS: [&str; 8] =
    ["galley", "postgres", "password", "secret", "admin", "redis", "changeme", "test"];

/// Words that stand where a secret was to be written.
const PLACEHOLDERS: [&str; 7] =
    ["changeme", "change-me", "change_me", "example", "password", "placeholder", "secret"];

/// Fewer different characters than this do not come from chance: of 64
/// hexadecimal digits that chance drew, one in a billion has so few.
const FEWEST: usize = 8;

/// What of a configuration somebody could guess, run in this folder.
pub(crate) fn guessable(config: &Config, here: &Path) -> Vec<Guessable> {
    let mut found = Vec::new();
    let mut add = |setting, why: Option<&'static str>, todo| {
        found.extend(why.map(|why| Guessable { setting, why, todo }));
    };
    let login = "give the login another password (deploy/logins.sql makes them), and DATABASE_URL with it";
    add("database.url", config.database.url.as_ref().and_then(password), login);
    let redis = "give Redis another password (requirepass), and REDIS_URL with it";
    add("redis.url", config.redis.url.as_ref().and_then(password), redis);
    let kept = |name: &str| std::fs::read_to_string(here.join(found::FOLDER).join(name)).unwrap_or_default();
    let jwt = "make one with `openssl rand -hex 32`; tokens that were signed with the old one end with it";
    add(
        "auth.jwt_secret",
        config.auth.jwt_secret.as_ref().and_then(|key| secret(key, &kept("jwt-secret"))),
        jwt,
    );
    let key =
        "make one with `openssl rand -hex 32` and change over to it (docs/configuration.md, Secret keys)";
    add("secrets.key", config.secrets.key.as_ref().and_then(|key| secret(key, &kept("secret-key"))), key);
    let audit = "make one with `openssl rand -hex 32`; keep the old public key for old checkpoints";
    add("audit.signing_key", config.audit.signing_key.as_ref().and_then(|key| secret(key, "")), audit);
    found
}

/// What is wrong with the password in a URL.
fn password(url: &SecretString) -> Option<&'static str> {
    let (_, rest) = url.expose_secret().split_once("://")?;
    let (login, _) = rest.rsplit_once('@')?;
    let (user, password) = login.split_once(':')?;
    if PASSWORDS.contains(&password.to_ascii_lowercase().as_str()) {
        Some("its password is one of the examples, or one that everybody tries first")
    } else if !password.is_empty() && password == user {
        Some("its password is the name of its login")
    } else {
        None
    }
}

/// What is wrong with a secret that chance should have drawn; `dev`: the one of
/// `galley dev`.
fn secret(secret: &SecretString, dev: &str) -> Option<&'static str> {
    let text = secret.expose_secret();
    let lower = text.to_ascii_lowercase();
    if !dev.trim().is_empty() && text.trim() == dev.trim() {
        Some("it is the one that `galley dev` drew for this folder")
    } else if PLACEHOLDERS.iter().any(|word| lower.contains(word)) {
        Some("it has a word in it that stands for a secret")
    } else if lower.chars().collect::<BTreeSet<_>>().len() < FEWEST || is_run(&lower) {
        Some("it was not drawn by chance")
    } else {
        None
    }
}

/// Whether a text repeats a short part of itself, or counts up.
fn is_run(text: &str) -> bool {
    let bytes = text.as_bytes();
    let repeats = (1..=bytes.len() / 2).any(|part| bytes.iter().zip(&bytes[part..]).all(|(a, b)| a == b));
    repeats || bytes.windows(2).all(|pair| pair[1] == pair[0].wrapping_add(1))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::config::{Flags, Sources};

    fn of(env: &[(&str, &str)], here: &Path) -> Vec<&'static str> {
        let env: HashMap<_, _> = env.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let config = Sources::new(None, env, Flags::new()).and_then(|sources| Config::read(&sources));
        let found = guessable(&config.unwrap(), here);
        assert!(found.iter().all(|found| !found.why.is_empty() && !found.todo.is_empty()));
        found.iter().map(|found| found.setting).collect()
    }

    #[test]
    fn secrets_of_examples_and_of_trials_are_told() {
        let folder = tempfile::tempdir().unwrap();
        let here = folder.path();
        let drawn = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
        let compose =
            std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docker-compose.yml"));
        let compose = compose.unwrap();
        let example = compose.lines().find_map(|line| line.trim().strip_prefix("DATABASE_URL: ")).unwrap();
        for (name, value, setting) in [
            ("DATABASE_URL", example, Some("database.url")),
            ("DATABASE_URL", "postgres://me:me@db/galley", Some("database.url")),
            ("DATABASE_URL", "postgres://galley:8Jq2xnV@db/galley", None),
            ("DATABASE_URL", "postgres://galley@db/galley", None),
            ("REDIS_URL", "redis://:redis@cache/", Some("redis.url")),
            ("REDIS_URL", "redis://cache/", None),
            ("GALLEY_JWT_SECRET", "a secret of mine, thirty-two bytes or so", Some("auth.jwt_secret")),
            ("GALLEY_JWT_SECRET", "CHANGEME-CHANGEME-CHANGEME-CHANGEME", Some("auth.jwt_secret")),
            ("GALLEY_JWT_SECRET", &"0123456789".repeat(4), Some("auth.jwt_secret")),
            ("GALLEY_JWT_SECRET", drawn, None),
            ("GALLEY_SECRET_KEY", &"5a".repeat(32), Some("secrets.key")),
            ("GALLEY_SECRET_KEY", &"0".repeat(64), Some("secrets.key")),
            ("GALLEY_SECRET_KEY", drawn, None),
            ("GALLEY_AUDIT_SIGNING_KEY", &"0123456789abcdef".repeat(4), Some("audit.signing_key")),
            ("GALLEY_AUDIT_SIGNING_KEY", drawn, None),
        ] {
            assert_eq!(of(&[(name, value)], here), Vec::from_iter(setting), "{name}={value}");
        }
        // What `galley dev` drew is good, and not for anything else.
        std::fs::create_dir(here.join(found::FOLDER)).unwrap();
        for (file, name, setting) in [
            ("jwt-secret", "GALLEY_JWT_SECRET", "auth.jwt_secret"),
            ("secret-key", "GALLEY_SECRET_KEY", "secrets.key"),
        ] {
            std::fs::write(here.join(found::FOLDER).join(file), format!("{drawn}\n")).unwrap();
            assert_eq!(of(&[(name, drawn)], here), [setting]);
        }
    }
}
