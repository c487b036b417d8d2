//! Every target over its seeds and over random changes of them; and the fuzzer
//! has them all.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};

use galley_fuzz::TARGETS;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

/// Changed seeds per target.
const CASES: u32 = 512;

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz")
}

fn seeds(target: &str) -> Vec<Vec<u8>> {
    let folder = fuzz().join("corpus").join(target);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

#[test]
fn every_target_is_in_the_fuzzers_package() {
    let manifest: toml::Table = fs::read_to_string(fuzz().join("Cargo.toml")).unwrap().parse().unwrap();
    let bins = manifest["bin"].as_array().unwrap();
    let names: Vec<&str> = bins.iter().map(|bin| bin["name"].as_str().unwrap()).collect();
    assert_eq!(names, TARGETS.map(|(name, _)| name));
    for name in names {
        let path = fuzz().join(format!("fuzz_targets/{name}.rs"));
        let expected =
            format!("#![no_main]\n\nlibfuzzer_sys::fuzz_target!(|data: &[u8]| galley_fuzz::{name}(data));\n");
        assert_eq!(fs::read_to_string(path).unwrap(), expected, "{name}");
    }
}

#[test]
fn seeds_break_nothing() {
    for (name, target) in TARGETS {
        let seeds = seeds(name);
        assert!(seeds.len() >= 3, "{name} has {} seeds", seeds.len());
        seeds.iter().for_each(|seed| target(seed));
    }
}

/// What happens to a seed.
#[derive(Clone, Debug)]
enum Change {
    Set(usize, u8),
    Cut(usize, usize),
    Put(usize, Vec<u8>),
    Repeat(usize, usize, usize),
}

fn change() -> impl Strategy<Value = Change> {
    let at = 0..4_096_usize;
    let byte = prop_oneof![any::<u8>(), proptest::sample::select(&b"\"{}[]()0-9.:,%\\\n \0"[..])];
    prop_oneof![
        (at.clone(), byte.clone()).prop_map(|(at, byte)| Change::Set(at, byte)),
        (at.clone(), 1..64_usize).prop_map(|(at, length)| Change::Cut(at, length)),
        (at.clone(), vec(byte, 1..16)).prop_map(|(at, bytes)| Change::Put(at, bytes)),
        (at, 1..16_usize, 2..200_usize).prop_map(|(at, length, times)| Change::Repeat(at, length, times)),
    ]
}

fn changed(mut bytes: Vec<u8>, changes: &[Change]) -> Vec<u8> {
    for change in changes {
        let within = |at: usize| at % (bytes.len() + 1);
        match change {
            Change::Set(at, byte) => {
                let at = within(*at);
                bytes.splice(at..bytes.len().min(at + 1), [*byte]);
            }
            Change::Cut(at, length) => {
                let at = within(*at);
                bytes.drain(at..bytes.len().min(at + length));
            }
            Change::Put(at, new) => {
                let at = within(*at);
                bytes.splice(at..at, new.iter().copied());
            }
            Change::Repeat(at, length, times) => {
                let at = within(*at);
                let part = bytes[at..bytes.len().min(at + length)].repeat(*times);
                bytes.splice(at..at, part);
            }
        }
    }
    bytes
}

#[test]
fn changed_seeds_break_nothing() {
    for (name, target) in TARGETS {
        let seeds = seeds(name);
        let mut runner = TestRunner::new(ProptestConfig {
            cases: CASES,
            failure_persistence: None,
            ..ProptestConfig::default()
        });
        let inputs = (0..=seeds.len(), vec(change(), 1..8));
        let run = runner.run(&inputs, |(seed, changes)| {
            // One behind the last seed: nothing but what is put in.
            target(&changed(seeds.get(seed).cloned().unwrap_or_default(), &changes));
            Ok(())
        });
        run.unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}
