//! What Galley is built from is what `deny.toml` allows: checked here without
//! `cargo deny`, which takes minutes to build (`bin/supply-chain` runs it).

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use toml::Table;

fn root() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

fn read(name: &str) -> Table {
    std::fs::read_to_string(root().join(name)).unwrap().parse().unwrap()
}

fn texts(list: &toml::Value) -> BTreeSet<String> {
    list.as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect()
}

/// Whether an SPDX expression can be met with these licences. `A/B` is an old
/// way to write `A OR B`.
fn is_met(expression: &str, allowed: &BTreeSet<String>) -> bool {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let mut words = spaced.split_whitespace().peekable();
    let met = any_of(&mut words, allowed);
    met && words.next().is_none()
}

type Words<'a> = std::iter::Peekable<std::str::SplitWhitespace<'a>>;

fn any_of(words: &mut Words<'_>, allowed: &BTreeSet<String>) -> bool {
    let mut met = all_of(words, allowed);
    while words.next_if_eq(&"OR").is_some() {
        met |= all_of(words, allowed);
    }
    met
}

fn all_of(words: &mut Words<'_>, allowed: &BTreeSet<String>) -> bool {
    let mut met = one(words, allowed);
    while words.next_if_eq(&"AND").is_some() {
        met &= one(words, allowed);
    }
    met
}

fn one(words: &mut Words<'_>, allowed: &BTreeSet<String>) -> bool {
    match words.next() {
        Some("(") => {
            let met = any_of(words, allowed);
            words.next_if_eq(&")").is_some() && met
        }
        Some(licence) => {
            let exception = words.next_if_eq(&"WITH").and_then(|_| words.next());
            let whole = exception.map(|exception| format!("{licence} WITH {exception}"));
            allowed.contains(licence) || whole.is_some_and(|whole| allowed.contains(&whole))
        }
        None => false,
    }
}

#[test]
fn licences_are_read_as_they_are_written() {
    let allowed = ["MIT", "Apache-2.0 WITH LLVM-exception", "ISC"].map(str::to_owned).into();
    for good in [
        "MIT",
        "GPL-3.0 OR MIT",
        "MIT/Apache-2.0",
        "(MIT OR GPL-3.0) AND ISC",
        "Apache-2.0 WITH LLVM-exception",
    ] {
        assert!(is_met(good, &allowed), "{good}");
    }
    for bad in [
        "GPL-3.0",
        "MIT AND GPL-3.0",
        "Apache-2.0",
        "(MIT OR ISC",
        "",
        "MIT ISC",
        "ISC AND (GPL-3.0 OR AGPL-3.0)",
    ] {
        assert!(!is_met(bad, &allowed), "{bad}");
    }
}

#[test]
fn dependencies_have_licences_names_and_sources_that_are_allowed() {
    let deny = read("deny.toml");
    let allowed = texts(&deny["licenses"]["allow"]);
    let banned: BTreeSet<String> = deny["bans"]["deny"]
        .as_array()
        .unwrap()
        .iter()
        .map(|ban| ban["crate"].as_str().unwrap().to_owned())
        .collect();
    assert!(allowed.len() > 3 && banned.len() > 2, "deny.toml says something else than this test reads");

    // Every package of every platform: names and sources.
    let lock = read("Cargo.lock");
    let mut sources = BTreeSet::new();
    for package in lock["package"].as_array().unwrap() {
        let name = package["name"].as_str().unwrap();
        assert!(!banned.contains(name), "deny.toml bans {name}");
        if let Some(source) = package.get("source") {
            assert!(package.get("checksum").is_some(), "{name}: no checksum holds what it is");
            sources.insert(source.as_str().unwrap().to_owned());
        } else {
            assert!(name.starts_with("galley"), "{name} comes from nowhere");
        }
    }
    assert_eq!(sources.len(), 1, "one registry: {sources:?}");
    assert!(sources.iter().all(|source| source.starts_with("registry+")), "{sources:?}");

    // Those that are built on this platform: licences.
    let tree = Command::new(env!("CARGO"))
        .args(["tree", "--workspace", "--locked", "--offline", "--edges", "normal,build,dev"])
        .args(["--prefix", "none", "--format", "{p}|{l}"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(tree.status.success(), "{}", String::from_utf8_lossy(&tree.stderr));
    let tree = String::from_utf8(tree.stdout).unwrap();
    let packages: BTreeSet<(&str, &str)> = tree
        .lines()
        .filter_map(|line| line.split_once('|'))
        .map(|(package, licence)| (package, licence.trim_end_matches("(*)").trim()))
        .collect();
    let wrong: Vec<_> = packages.iter().filter(|(_, licence)| !is_met(licence, &allowed)).collect();
    assert!(packages.len() > 300, "{} packages: this shows little", packages.len());
    assert!(wrong.is_empty(), "licences that deny.toml does not allow: {wrong:?}");
}
