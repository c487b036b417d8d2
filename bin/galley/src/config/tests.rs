//! The order of sources, the errors, and the table in the docs.

use std::collections::HashMap;
use std::path::Path;

use secrecy::ExposeSecret;

use super::{Address, Config, Flags, KEYS, LogFormat, Sources};

fn config(file: &str, env: &[(&str, &str)], flags: Flags) -> Result<Config, String> {
    let env: HashMap<_, _> = env.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    Sources::new(Some((Path::new("galley.toml"), file)), env, flags)
        .and_then(|sources| Config::read(&sources))
        .map_err(|failure| failure.line())
}

#[test]
fn every_default_can_be_read() {
    let config = config("", &[], vec![]).unwrap();
    assert_eq!(config.api.addr, Address::At("127.0.0.1:8080".parse().unwrap()));
    assert!(config.database.url.is_none());
}

#[test]
fn flags_win_over_the_environment_over_the_file_over_the_default() {
    let file = "[worker]\nconcurrency = 3\nagents = [\"strategy\", \"reviewer\"]\n[log]\nformat = \"json\"\n";
    assert_eq!(config("", &[], vec![]).unwrap().worker.concurrency, 16);
    let of_file = config(file, &[], vec![]).unwrap();
    assert_eq!(of_file.worker.concurrency, 3);
    assert_eq!(of_file.worker.agents.0.len(), 2);
    assert_eq!(of_file.log.format, LogFormat::Json);
    let env = [("GALLEY_CONCURRENCY", "5"), ("GALLEY_AGENTS", "")];
    let of_env = config(file, &env, vec![]).unwrap();
    assert_eq!(of_env.worker.concurrency, 5);
    assert_eq!(of_env.worker.agents.0.len(), 2, "an empty variable is not set");
    let flags = vec![("worker.concurrency", "--concurrency", "7".to_owned())];
    assert_eq!(config(file, &env, flags).unwrap().worker.concurrency, 7);
}

#[test]
fn an_error_names_the_setting_its_source_and_what_to_do() {
    let cases = [
        (config("", &[("GALLEY_API_ADDR", "8080")], vec![]), "GALLEY_API_ADDR has `8080`"),
        (config("[api]\nadr = 1", &[], vec![]), "no setting `adr` in [api]; settings are addr"),
        (config("[apis]\naddr = 1", &[], vec![]), "no section [apis]; sections are api,"),
        (config("api = 1", &[], vec![]), "write `[api]` on a line of its own"),
        (config("[log]\nformat = \"xml\"", &[], vec![]), "write `human` or `json`"),
        (config("[log", &[], vec![]), "not a TOML file"),
    ];
    for (outcome, wanted) in cases {
        let told = outcome.unwrap_err();
        assert!(told.contains(wanted), "{told} does not say {wanted}");
    }
}

#[test]
fn secrets_do_not_print() {
    let config = config("", &[("DATABASE_URL", "postgres://u:hunter2@h/d")], vec![]).unwrap();
    assert!(!format!("{config:?}").contains("hunter2"));
    assert!(config.database.url.unwrap().expose_secret().contains("hunter2"));
}

/// Run with `UPDATE_DOCS=1` to write the table anew.
#[test]
fn the_docs_have_every_setting() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/configuration.md");
    let mut table =
        String::from("| environment variable | in the file | default | meaning |\n|---|---|---|---|\n");
    for key in KEYS {
        let default = if key.default.is_empty() { String::new() } else { format!("`{}`", key.default) };
        table.push_str(&format!(
            "| `{}` | `{}.{}` | {default} | {} |\n",
            key.env,
            key.section,
            key.name,
            key.about.trim()
        ));
    }
    crate::docs::check(&path, "settings", &table);
}
