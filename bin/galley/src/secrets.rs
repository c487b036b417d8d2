//! Where the deployment's keys come from: the environment, a file, a command,
//! or several of them while one takes over from another. They go from here into
//! the engine's keyring and nowhere else; no error shows one.

use std::io::Read as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use galley_engine::{Keyring, KeyringError};
use secrecy::ExposeSecret;
use secrecy::zeroize::Zeroizing;

use crate::config::{Config, Secrets};
use crate::failure::Failure;

/// How long a command may take to print keys.
const PATIENCE: Duration = Duration::from_secs(30);

/// The keys this process was given; `None` when it was given none.
///
/// # Errors
/// A source that cannot be read, or whose keys are none.
pub(crate) fn keyring(config: &Config) -> Result<Option<Keyring>, Failure> {
    let Secrets { key, key_file, key_command } = &config.secrets;
    let mut found: Option<Keyring> = None;
    let mut add = |setting: &str, read: Result<Keyring, KeyringError>| {
        let both = read.and_then(|keyring| match &found {
            Some(others) => others.with(&keyring),
            None => Ok(keyring),
        });
        found = Some(both.map_err(|error| unusable(setting).detail(error).hint(SAME))?);
        Ok::<_, Failure>(())
    };
    if let Some(key) = key {
        add("key", Keyring::single(key.expose_secret()))?;
    }
    if let Some(path) = key_file {
        add("key_file", Keyring::read(&file(path)?))?;
    }
    if let Some(command) = key_command {
        add("key_command", Keyring::read(&printed(command, PATIENCE)?))?;
    }
    Ok(found)
}

/// Whether anybody said where keys come from.
pub(crate) fn are_configured(config: &Config) -> bool {
    let Secrets { key, key_file, key_command } = &config.secrets;
    key.is_some() || key_file.is_some() || key_command.is_some()
}

const SAME: &str = "give the same keys to every API server and worker";

fn unusable(setting: &str) -> Failure {
    Failure::usage(format!("setting secrets.{setting} cannot be used"))
}

fn file(path: &Path) -> Result<Zeroizing<String>, Failure> {
    std::fs::read_to_string(path).map(Zeroizing::new).map_err(|error| {
        unusable("key_file")
            .detail(format!("{}: {error}", path.display()))
            .hint("check GALLEY_SECRET_KEY_FILE and who may read the file")
    })
}

/// What a command printed.
fn printed(command: &str, patience: Duration) -> Result<Zeroizing<String>, Failure> {
    let failed = |why: String| {
        unusable("key_command").detail(why).hint("run it by hand: it has to print lines of VERSION:KEY")
    };
    let mut child = Command::new("sh")
        .args(["-c", command])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| failed(format!("it cannot be run: {error}")))?;
    let stdout = child.stdout.take();
    let (told, heard) = mpsc::channel();
    std::thread::spawn(move || {
        let mut text = Zeroizing::new(String::new());
        let read = stdout.map_or(Ok(0), |mut stdout| stdout.read_to_string(&mut text));
        let _ = told.send(read.map(|_| text));
    });
    let Ok(text) = heard.recv_timeout(patience) else {
        let _ = child.kill();
        let _ = child.wait();
        return Err(failed(format!("it did not come to its end within {patience:?}")));
    };
    let status = child.wait().map_err(|error| failed(error.to_string()))?;
    if !status.success() {
        return Err(failed(format!("it ended with {status}")));
    }
    text.map_err(|error| failed(error.to_string()))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::config::{Flags, Sources};

    fn read(env: &[(&str, &str)]) -> Result<Option<Vec<u32>>, String> {
        let env: HashMap<_, _> = env.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let config = Sources::new(None, env, Flags::new()).and_then(|sources| Config::read(&sources));
        let found = keyring(&config.unwrap()).map_err(|failure| failure.line())?;
        Ok(found.map(|keyring| keyring.versions()))
    }

    #[test]
    fn keys_come_from_the_environment_a_file_and_a_command() {
        let (one, two) = ("01".repeat(32), "02".repeat(32));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys");
        std::fs::write(&path, format!("# newest last\n2:{two}\n")).unwrap();
        let path = path.to_str().unwrap();
        let command = format!("echo 3:{one}");
        assert_eq!(read(&[]), Ok(None));
        let all = [
            ("GALLEY_SECRET_KEY", one.as_str()),
            ("GALLEY_SECRET_KEY_FILE", path),
            ("GALLEY_SECRET_KEY_COMMAND", &command),
        ];
        assert_eq!(read(&all), Ok(Some(vec![1, 2, 3])));
        assert_eq!(read(&all[1..2]), Ok(Some(vec![2])));
        let other = format!("echo 2:{one}");
        for (env, wanted) in [
            (vec![("GALLEY_SECRET_KEY", "07")], "setting secrets.key cannot be used; a secret key is 64"),
            (vec![("GALLEY_SECRET_KEY_FILE", "/nowhere/keys")], "/nowhere/keys: No such file"),
            (vec![("GALLEY_SECRET_KEY_COMMAND", "exit 3")], "it ended with exit status: 3"),
            (vec![("GALLEY_SECRET_KEY_COMMAND", "true")], "there is no key in it"),
            (vec![all[1], ("GALLEY_SECRET_KEY_COMMAND", &other)], "two different keys of version 2"),
        ] {
            let told = read(&env).unwrap_err();
            assert!(told.contains(wanted), "{told} does not say {wanted}");
            assert!(!told.contains(&one), "an error shows a key: {told}");
        }
        let hangs = printed("sleep 60", Duration::from_millis(20)).unwrap_err().line();
        assert!(hangs.contains("within"), "{hangs}");
    }
}
