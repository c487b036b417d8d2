//! The house rules that a machine can hold: who may see whom, where SQL and
//! Redis may be named, and that lists and folders agree.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use toml::Table;

use crate::harness::Bed;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn manifest(folder: &str) -> Table {
    read(&root().join(folder).join("Cargo.toml")).parse().unwrap()
}

fn dependencies(folder: &str) -> BTreeSet<String> {
    let manifest = manifest(folder);
    let table = manifest.get("dependencies").and_then(|table| table.as_table());
    table.into_iter().flat_map(|table| table.keys().cloned()).collect()
}

/// The rooms: folders of `src` that are packages.
fn rooms() -> BTreeSet<String> {
    let entries = fs::read_dir(root().join("src")).unwrap().map(|entry| entry.unwrap().path());
    entries
        .filter(|path| path.join("Cargo.toml").exists())
        .map(|path| path.file_name().unwrap().to_str().unwrap().to_owned())
        .collect()
}

/// Every file below a folder with this ending, relative to the repository.
fn files(folder: &str, ending: &str) -> Vec<String> {
    let (root, mut found) = (root(), Vec::new());
    let mut folders = vec![root.join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.to_str().unwrap().ends_with(ending) {
                found.push(path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned());
            }
        }
    }
    found.sort();
    found
}

/// Our own code that ships: no tests, no examples.
fn shipped() -> Vec<String> {
    let test =
        |path: &String| path.contains("/tests/") || path.contains("/examples/") || path.ends_with("tests.rs");
    let mut all = files("src", ".rs");
    all.extend(files("bin/galley", ".rs"));
    all.into_iter().filter(|path| !test(path)).collect()
}

/// The lines of a file that are code.
fn code(path: &str) -> Vec<String> {
    let text = read(&root().join(path));
    let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
    code.lines().filter(|line| !line.trim_start().starts_with("//")).map(str::to_owned).collect()
}

#[test]
fn a_room_sees_only_the_rooms_below_it() {
    let allowed: BTreeMap<&str, &[&str]> = BTreeMap::from([
        ("core", &[][..]),
        ("probe", &[]),
        ("servers", &[]),
        ("store", &["core"]),
        ("queue", &["core"]),
        ("reach", &[]),
        ("prompts", &["core"]),
        ("agents", &["core", "reach", "prompts"]),
        ("publishers", &["core", "reach"]),
        ("preview", &[]),
        ("engine", &["core", "store", "queue", "reach", "prompts"]),
        ("worker", &["core", "engine", "agents", "publishers"]),
        ("edge", &["core", "engine"]),
        ("api", &["core", "engine", "edge"]),
        ("gateway", &["core", "engine", "agents", "edge"]),
        ("bench", &["core", "engine", "agents", "worker", "servers"]),
    ]);
    let known: BTreeSet<String> = allowed.keys().map(|room| (*room).to_owned()).collect();
    assert_eq!(rooms(), known, "give a new room its place in this list and in ARCHITECTURE.md");
    for (room, below) in allowed {
        for dependency in dependencies(&format!("src/{room}")) {
            if let Some(other) = dependency.strip_prefix("galley-") {
                // Tests watch every room but the core, which is a pure function.
                if other == "probe" && room != "core" {
                    continue;
                }
                assert!(below.contains(&other), "src/{room} must not see src/{other}");
            }
        }
    }
    let facade: BTreeSet<_> =
        dependencies("").into_iter().filter(|name| name.starts_with("galley-")).collect();
    for name in facade {
        let fits =
            ["galley-core", "galley-agents", "galley-engine", "galley-worker"].contains(&name.as_str());
        assert!(fits, "the facade must not see {name}");
    }
}

/// A build that tests may break is never the product.
#[test]
fn only_the_fault_tests_arm_the_probes() {
    for path in ["", "src", "bin", "tests"].into_iter().flat_map(|folder| match folder {
        "" => vec!["Cargo.toml".to_owned()],
        folder => files(folder, "Cargo.toml"),
    }) {
        let armed = read(&root().join(&path)).contains("armed");
        let may = ["src/probe/Cargo.toml", "tests/chaos/Cargo.toml"].contains(&path.as_str());
        assert!(may || !armed, "{path} must not arm the probes");
    }
    // What Cargo makes of it: the graph of the binary as it ships.
    let tree = Command::new(env!("CARGO"))
        .args(["tree", "--offline", "--package", "galley-bin", "--edges", "features"])
        .current_dir(root())
        .output()
        .unwrap();
    let graph = String::from_utf8(tree.stdout).unwrap();
    assert!(tree.status.success(), "{}", String::from_utf8_lossy(&tree.stderr));
    assert!(graph.contains("galley-probe"), "the rooms carry the probes, empty");
    assert!(!graph.contains("\"armed\""), "the shipped binary is armed:\n{graph}");
}

/// A name that stands nowhere would be demanded by the fault tests in vain.
#[test]
fn every_probe_stands_somewhere() {
    let places: Vec<String> = shipped()
        .into_iter()
        .filter(|path| !path.starts_with("src/probe/"))
        .map(|path| code(&path).join("\n"))
        .collect();
    for (list, kind) in [("point", "Point"), ("bug", "Bug"), ("rescue", "Rescue")] {
        let names = code(&format!("src/probe/{list}.rs"));
        let names: Vec<&str> =
            names.iter().filter_map(|line| Some(line.split_once(" = \"")?.0.trim())).collect();
        assert!(names.len() > 15, "the scan finds the names");
        for name in names {
            let probe = format!("{kind}::{name}");
            let ends = |rest: &str| !rest.starts_with(|c: char| c.is_ascii_alphanumeric());
            let stands =
                |code: &String| code.match_indices(&probe).any(|(at, _)| ends(&code[at + probe.len()..]));
            assert!(places.iter().any(stands), "{probe} stands nowhere");
        }
    }
}

#[test]
fn a_foreign_crate_is_known_to_its_one_room() {
    let owners = [
        ("sqlx", "store"),
        ("redis", "queue"),
        ("apalis-core", "worker"),
        ("genai", "agents"),
        ("minijinja", "prompts"),
        ("cel", "core"),
        ("croner", "core"),
        ("standardwebhooks", "publishers"),
    ];
    for (name, owner) in owners {
        for room in rooms().iter().filter(|room| *room != owner) {
            assert!(
                !dependencies(&format!("src/{room}")).contains(name),
                "only src/{owner} names {name}, not src/{room}"
            );
        }
        assert!(!dependencies("bin/galley").contains(name), "only src/{owner} names {name}, not the binary");
    }
    // The API and the gateway serve Galley, both on what the edge has; the
    // preview network is a server that knows nothing of it.
    let servers = ["edge", "api", "gateway", "preview"];
    for room in rooms().iter().filter(|room| !servers.contains(&room.as_str())) {
        assert!(!dependencies(&format!("src/{room}")).contains("axum"), "src/{room} must not name axum");
    }
    // The core decides: it has no runtime, no chance, no I/O, and no clock: jiff
    // only computes with the times it is given.
    for name in ["tokio", "rand", "reqwest", "futures", "async-trait"] {
        assert!(!dependencies("src/core").contains(name), "the core must not use {name}");
    }
    for path in shipped().into_iter().filter(|path| path.starts_with("src/core/")) {
        for line in code(&path) {
            assert!(!line.contains("::now("), "the core reads no clock: {path}: {line}");
        }
    }
}

/// Accounts name addresses: whatever is sent there passes the one place that
/// checks them.
#[test]
fn only_one_place_sends_to_addresses_that_workspaces_name() {
    for path in shipped().into_iter().filter(|path| path.starts_with("src/publishers/")) {
        if path == "src/publishers/http.rs" {
            continue;
        }
        for line in code(&path) {
            for mark in [
                "Client::",
                "Client,",
                "Client}",
                "reqwest::Client",
                "reqwest::get",
                ".send()",
                ".execute(",
                "TcpStream",
            ] {
                assert!(!line.contains(mark), "only src/publishers/http.rs sends: {path}: {line}");
            }
        }
    }
}

#[test]
fn only_the_store_has_sql() {
    let marks = ["SELECT ", "INSERT INTO ", "DELETE FROM ", "CREATE TABLE ", "ALTER TABLE ", "DROP TABLE "];
    for path in shipped().into_iter().filter(|path| !path.starts_with("src/store/")) {
        for line in code(&path) {
            assert!(
                !marks.iter().any(|mark| line.contains(mark)),
                "SQL outside src/store, in {path}: {line}"
            );
        }
    }
}

#[test]
fn files_are_short_and_named_for_what_they_do() {
    for path in ["src", "bin", "tests"].into_iter().flat_map(|folder| files(folder, ".rs")) {
        let lines = read(&root().join(&path)).lines().count();
        assert!(lines <= 700, "{path} has {lines} lines; it wants to be two");
        for vague in ["util", "utils", "common", "helpers", "misc"] {
            let named = path.split(['/', '.']).any(|part| part == vague);
            assert!(!named, "{path}: `{vague}` says nothing");
        }
    }
}

#[test]
fn every_file_says_why_it_exists() {
    for path in shipped() {
        let text = read(&root().join(&path));
        assert!(text.starts_with("//!"), "{path} does not begin with a `//!` header");
    }
}

#[test]
fn every_package_is_a_member_with_the_houses_lints() {
    let workspace = manifest("");
    let members = workspace["workspace"]["members"].as_array().unwrap();
    let members: BTreeSet<String> =
        members.iter().map(|member| member.as_str().unwrap().to_owned()).collect();
    let mut found = BTreeSet::new();
    for path in ["src", "bin", "tests"].into_iter().flat_map(|folder| files(folder, "Cargo.toml")) {
        let folder = path.trim_end_matches("/Cargo.toml").to_owned();
        let lints = manifest(&folder).get("lints").and_then(|lints| lints.get("workspace").cloned());
        assert_eq!(
            lints.and_then(|inherits| inherits.as_bool()),
            Some(true),
            "{path} has no `[lints] workspace = true`"
        );
        found.insert(folder);
    }
    assert_eq!(found, members);
}

/// The folder of a registry, and the source that must name each of its files.
#[test]
fn folders_and_registries_agree() {
    let registries = [
        ("agents", ".toml", "src/agents/definitions.rs"),
        ("src/core/templates", ".json", "src/core/template.rs"),
        ("src/queue/scripts", ".lua", "src/queue/redis/scripts.rs"),
        ("migrations", ".sql", "src/store/migrations.rs"),
    ];
    for (folder, ending, registry) in registries {
        let source = read(&root().join(registry));
        let files = files(folder, ending);
        assert!(!files.is_empty(), "{folder} is empty");
        // The price list is no agent.
        for file in files.iter().filter(|file| !file.ends_with("agents/models.toml")) {
            let name = file.rsplit('/').next().unwrap();
            let stem = name.trim_end_matches(ending);
            let named = source.contains(name) || source.contains(&format!("\"{stem}\""));
            assert!(named, "{file} is not in {registry}");
        }
    }
}

#[tokio::test]
async fn every_migration_is_applied() {
    let bed = Bed::new().await;
    let applied = bed.count("SELECT count(*) FROM _sqlx_migrations WHERE success").await;
    assert_eq!(applied, files("migrations", ".sql").len() as i64);
    bed.end().await;
}

#[tokio::test]
async fn every_tenant_table_is_keyed_by_its_workspace() {
    let bed = Bed::new().await;
    let stray = bed
        .count(
            "SELECT count(*) FROM information_schema.columns c
              WHERE c.table_schema = 'public' AND c.column_name = 'workspace_id' AND c.is_nullable = 'YES'",
        )
        .await;
    assert_eq!(stray, 0, "a row belongs to exactly one workspace");
    let unique = bed
        .count(
            "SELECT count(*) FROM pg_index i
               JOIN pg_class t ON t.oid = i.indrelid JOIN pg_namespace n ON n.oid = t.relnamespace
               JOIN pg_attribute a ON a.attrelid = t.oid AND a.attname = 'workspace_id'
               JOIN pg_attribute f ON f.attrelid = t.oid AND f.attnum = i.indkey[0]
              WHERE n.nspname = 'public' AND i.indisunique AND f.attname <> 'workspace_id'
                AND NOT (i.indisprimary AND f.attidentity <> '')",
        )
        .await;
    assert_eq!(unique, 0, "a tenant's unique keys begin with its workspace");
    bed.end().await;
}

/// A metric: its type and labels.
type Metrics = BTreeMap<String, (String, BTreeSet<String>)>;

fn emitted() -> Metrics {
    let mut metrics = Metrics::new();
    for path in shipped() {
        let code = code(&path).join("\n");
        for kind in ["counter", "gauge", "histogram"] {
            for call in code.split(&format!("{kind}!(")).skip(1) {
                let mut depth = 1;
                let end = call.find(|c| {
                    depth += match c {
                        '(' => 1,
                        ')' => -1,
                        _ => 0,
                    };
                    depth == 0
                });
                let call = &call[..end.unwrap()];
                let texts: Vec<&str> = call.split('"').skip(1).step_by(2).collect();
                let labels = call.split("=>").collect::<Vec<_>>();
                let labels = labels[..labels.len() - 1]
                    .iter()
                    .map(|before| before.rsplit('"').nth(1).unwrap().to_owned())
                    .collect::<BTreeSet<_>>();
                let name = texts.first().unwrap_or_else(|| panic!("{path}: a metric without a literal name"));
                let entry = (kind.to_owned(), labels);
                let known = metrics.insert((*name).to_owned(), entry.clone());
                assert!(known.is_none_or(|known| known == entry), "{name} differs between two places");
            }
        }
    }
    metrics
}

fn documented() -> Metrics {
    let text = read(&root().join("docs/metrics.md"));
    let rows = text.lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        assert!(!cells[4].is_empty(), "no meaning: {row}");
        let labels = cells[3].split(", ").filter(|label| !label.is_empty()).map(str::to_owned).collect();
        (cells[1].trim_matches('`').to_owned(), (cells[2].to_owned(), labels))
    })
    .collect()
}

#[test]
fn every_metric_is_documented_and_every_documented_one_is_emitted() {
    let (emitted, documented) = (emitted(), documented());
    assert!(emitted.len() > 30, "the scan finds the code's metrics");
    assert_eq!(documented, emitted, "left: docs/metrics.md, right: the code");
    for (name, (kind, _)) in emitted {
        assert!(name.starts_with("galley_"), "{name}");
        assert_eq!(
            name.ends_with("_total"),
            kind == "counter",
            "{name}: a counter, and only one, ends in _total"
        );
    }
}
