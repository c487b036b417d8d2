//! The compose file and the image, held to the command line and the settings
//! of today: there is no container engine here to try them with.

use std::path::{Path, PathBuf};

use galley_engine::store::Role;

use crate::cli;
use crate::config::KEYS;

fn file(name: &str) -> String {
    let path: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every `command: [...]` of a service that runs our image.
fn commands(compose: &str) -> Vec<Vec<String>> {
    compose
        .lines()
        .filter_map(|line| line.trim().strip_prefix("command: "))
        .map(|list| serde_json::from_str(list).expect("a command is a list of texts"))
        .filter(|command: &Vec<String>| command.first().is_none_or(|program| program != "redis-server"))
        .collect()
}

#[test]
fn every_service_runs_a_command_that_exists() {
    let commands = commands(&file("docker-compose.yml"));
    assert!(commands.len() >= 5, "{commands:?}");
    for command in commands {
        let line = std::iter::once("galley".to_owned()).chain(command.iter().cloned());
        if let Err(error) = cli::command().try_get_matches_from(line) {
            panic!("`galley {}`: {error}", command.join(" "));
        }
    }
}

#[test]
fn every_variable_is_a_setting() {
    let known: Vec<&str> = KEYS.iter().map(|key| key.env).collect();
    let compose = file("docker-compose.yml");
    let variables: Vec<&str> = compose
        .lines()
        .filter_map(|line| line.trim().split_once(": "))
        .map(|(name, _)| name)
        .filter(|name| name.starts_with("GALLEY_") || name.ends_with("_URL"))
        .collect();
    assert!(variables.len() >= 5, "{variables:?}");
    for variable in variables {
        assert!(known.contains(&variable), "docker-compose.yml sets {variable}, which no setting reads");
    }
}

/// Who a service is to the database is a login of a role of Galley's; only
/// `migrate` is the owner.
#[test]
fn every_service_logs_in_as_its_role() {
    let compose = file("docker-compose.yml");
    let mut logins: Vec<&str> = compose
        .lines()
        .filter_map(|line| line.trim().strip_prefix("DATABASE_URL: postgres://")?.split_once(':'))
        .map(|(login, _)| login)
        .collect();
    logins.sort_unstable();
    assert_eq!(logins, ["api", "engine", "galley", "publisher"]);
    let made = file("deploy/logins.sql");
    for (login, role) in [("api", Role::Api), ("engine", Role::Engine), ("publisher", Role::Publisher)] {
        let name = role.name().expect("a role of its own");
        assert!(made.contains(&format!("CREATE ROLE {name};")), "{name}");
        assert!(
            made.contains(&format!("CREATE ROLE {login} LOGIN PASSWORD 'galley' IN ROLE {name};")),
            "{login}"
        );
    }
}

#[test]
fn every_built_in_agent_has_a_worker_service() {
    let commands = commands(&file("docker-compose.yml"));
    let built_in = galley_agents::Definitions::built_in().expect("the built-in agents load");
    let names = built_in.names().map(ToString::to_string);
    for agent in names.chain([galley_core::publish::PUBLISHER.to_owned()]) {
        let served = commands.iter().any(|command| {
            command
                .windows(2)
                .any(|pair| pair[0] == "--agents" && pair[1].split(',').any(|name| name == agent.as_str()))
        });
        assert!(served, "no service of docker-compose.yml serves `{agent}`");
    }
}

#[test]
fn the_image_builds_and_runs_the_binary() {
    let image = file("Dockerfile");
    for line in ["--bin galley", "ENTRYPOINT [\"galley\"]", "STOPSIGNAL SIGTERM"] {
        assert!(image.contains(line), "Dockerfile lacks `{line}`");
    }
}
