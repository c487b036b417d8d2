//! What a restart finds, and what a start says of a file it cannot use.

use std::io::Write;

use galley_preview::{Endpoint, FaultKind, PreviewError, PreviewNetwork, PreviewOptions, SetFault};
use serde_json::json;
use tempfile::TempDir;

use crate::bed::{Bed, listener, options, read, seed, token};

fn kept(folder: &TempDir) -> PreviewOptions {
    PreviewOptions { data_file: Some(folder.path().join("preview.jsonl")), ..options() }
}

#[tokio::test]
async fn a_restart_finds_accounts_posts_and_keys() {
    let folder = tempfile::tempdir().unwrap();
    let bed = Bed::with(kept(&folder)).await;
    let first = bed.publish(Endpoint::Idempotent, "ada", "k1", "kept").await;
    bed.publish(Endpoint::Verifiable, "ada", "k2", "kept, too").await;
    let cleo = bed.network.add_account("cleo", "Cleo").unwrap();
    // Taken in, not out yet: a stop carries it out instead of losing it.
    let late = SetFault::new(FaultKind::LateEffect).delay(std::time::Duration::from_secs(600));
    bed.network.set_fault(late).unwrap();
    read(bed.publishing(Endpoint::Blind, "ben", "k3", "late")).await.unwrap_err();
    let before = bed.network.ledger();
    bed.network.stop().await;

    // The options name the seeded accounts again: they stay who they are.
    let mut options = kept(&folder);
    options.accounts = vec![seed("ada", "Ada Byron")];
    let bed = Bed::with(options).await;
    let after = bed.network.ledger();
    assert_eq!(after.posts[..2], before.posts);
    assert_eq!(bed.texts(), ["kept", "kept, too", "late"]);
    let again = bed.publish(Endpoint::Idempotent, "ada", "k1", "kept").await;
    assert_eq!((again.status, again.id()), (200, first.id()));
    assert_eq!(read(bed.looking("ada", "k2")).await.unwrap().json["posts"].as_array().unwrap().len(), 1);
    assert!(bed.page("/a/ada").await.contains("Ada Byron"));
    let me =
        read(bed.http.get(format!("{}/api/me", bed.network.url())).bearer_auth(&cleo.token)).await.unwrap();
    assert_eq!(me.json["id"], cleo.id);
    assert_eq!(bed.publish(Endpoint::Blind, "ben", "k4", "next").await.status, 201);
    assert_eq!(bed.network.ledger().posts[3].seq, 4);
    assert_eq!(bed.network.faults(), [], "faults are not kept");
}

#[cfg(unix)]
#[tokio::test]
async fn the_file_is_its_owners_alone() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let _bed = Bed::with(kept(&folder)).await;
    let mode = std::fs::metadata(folder.path().join("preview.jsonl")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "it has tokens in it");
}

#[tokio::test]
async fn half_a_line_is_what_a_killed_process_leaves_and_is_cut_off() {
    let folder = tempfile::tempdir().unwrap();
    let bed = Bed::with(kept(&folder)).await;
    bed.publish(Endpoint::Blind, "ada", "k1", "whole").await;
    bed.network.stop().await;
    let path = folder.path().join("preview.jsonl");
    let mut file = std::fs::OpenOptions::new().append(true).open(&path).unwrap();
    file.write_all(br#"{"post":{"seq":2,"id":"p_half"#).unwrap();
    drop(file);
    let bed = Bed::with(kept(&folder)).await;
    assert_eq!(bed.texts(), ["whole"]);
    bed.publish(Endpoint::Blind, "ada", "k2", "after").await;
    bed.network.stop().await;
    assert_eq!(Bed::with(kept(&folder)).await.texts(), ["whole", "after"]);
}

async fn start(options: PreviewOptions) -> PreviewError {
    match PreviewNetwork::start(listener().await, options) {
        Ok(_) => panic!("it started"),
        Err(error) => error,
    }
}

#[tokio::test]
async fn a_file_that_cannot_be_used_is_told_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let bed = Bed::with(kept(&folder)).await;
    bed.publish(Endpoint::Blind, "ada", "k1", "whole").await;
    let in_use = start(kept(&folder)).await;
    assert!(matches!(in_use, PreviewError::InUse { .. }), "{in_use}");
    assert!(in_use.to_string().contains("stop that one first"), "{in_use}");
    bed.network.stop().await;

    let path = folder.path().join("preview.jsonl");
    let whole = std::fs::read_to_string(&path).unwrap();
    let gap = json!({ "post": { "seq": 7, "id": "p_x", "account": "ada", "endpoint": "blind", "text": "x",
                                "at": "2026-06-03T12:00:00Z" } });
    let stranger = gap.to_string().replace(r#""seq":7"#, r#""seq":2"#).replace("ada", "nobody");
    for (line, problem) in [
        ("rubbish", "expected value"),
        (&*gap.to_string(), "post 7 follows post 1"),
        (&stranger, "a post of the unknown account \"nobody\""),
    ] {
        std::fs::write(&path, format!("{whole}{line}\n")).unwrap();
        let error = start(kept(&folder)).await.to_string();
        let number = whole.lines().count() + 1;
        assert!(error.starts_with(&format!("line {number} of ")), "{error}");
        assert!(error.contains(problem) && error.contains("delete the file"), "{error}");
    }
    let missing = PreviewOptions { data_file: Some(folder.path().join("no/such/folder")), ..options() };
    assert!(matches!(start(missing).await, PreviewError::Data { .. }));
}

#[tokio::test]
async fn a_seeded_account_that_is_not_valid_stops_the_start() {
    let bad = |handle: &str, token: &str| {
        let mut account = seed(handle, "Somebody");
        account.token = token.into();
        PreviewOptions { accounts: vec![seed("ada", "Ada"), account], ..PreviewOptions::default() }
    };
    for (options, told) in [
        (bad("Bad Handle", "long-enough"), "handle: "),
        (bad("eve", "short"), "token: must have 8 to 200 visible ASCII characters"),
        (bad("eve", &token("ada")), "token: belongs to another account"),
    ] {
        let PreviewError::Account { source, .. } = start(options).await else { panic!("another error") };
        assert!(source.to_string().starts_with(told), "{source}");
    }
}

#[tokio::test]
async fn the_newest_ten_thousand_posts_are_kept_and_older_keys_forgotten() {
    let folder = tempfile::tempdir().unwrap();
    let bed = Bed::with(kept(&folder)).await;
    bed.network.stop().await;
    let path = folder.path().join("preview.jsonl");
    let mut file = std::fs::OpenOptions::new().append(true).open(&path).unwrap();
    let mut lines = String::new();
    for seq in 1..=10_003 {
        let post = json!({ "seq": seq, "id": format!("p_{seq}"), "account": "ada", "endpoint": "idempotent",
                           "key": format!("k{seq}"), "text": format!("post {seq}"), "at": "2026-06-03T12:00:00Z" });
        lines.push_str(&format!("{}\n", json!({ "post": post })));
    }
    file.write_all(lines.as_bytes()).unwrap();
    drop(file);
    let bed = Bed::with(kept(&folder)).await;
    let ledger = bed.network.ledger();
    assert_eq!((ledger.counts.posts, ledger.counts.kept), (10_003, 10_000));
    assert_eq!(ledger.posts[0].seq, 4);
    assert_eq!(bed.get("/p/p_3").await.status, 404);
    assert_eq!(bed.get("/p/p_4").await.status, 200);
    assert_eq!(bed.publish(Endpoint::Idempotent, "ada", "k10003", "again").await.status, 200);
    assert_eq!(bed.publish(Endpoint::Idempotent, "ada", "k4", "again").await.status, 200);
    // As a real platform does after a while.
    assert_eq!(bed.publish(Endpoint::Idempotent, "ada", "k3", "again").await.status, 201);
}
