//! The audit's chain: every row gets its place once, whatever commits when, and
//! whoever owns the database cannot change a row unnoticed.

use futures::TryStreamExt as _;
use galley_core::chain::{Checkpoint, ExportLine, Verified, Verifier};
use galley_core::ids::WorkspaceId;
use galley_engine::store::{AuditWrite, Hashes, Role, on_behalf};
use galley_engine::{Engine, seal_audit};
use serde_json::json;
use sqlx::{Connection as _, PgConnection};

use crate::harness::Bed;
use crate::harness::posts::policy;

async fn write(engine: &Engine, workspace: WorkspaceId, object: &str) {
    let line = AuditWrite {
        workspace,
        key: None,
        actor: "ada".into(),
        action: "queue.pause",
        object: object.to_owned(),
        detail: Some(json!({ "reason": object }).to_string()),
        hashes: Hashes { before: None, after: Some("aa".into()) },
    };
    on_behalf("request-1".into(), engine.store().audit(line)).await.unwrap();
}

/// The sealer of a scheduler; answers how many rows it sealed.
async fn seal(engine: &Engine) -> u64 {
    let mut sealed = 0;
    loop {
        match seal_audit(engine).await.unwrap() {
            0 => return sealed,
            more => sealed += more,
        }
    }
}

/// What an export says, read as a file would be.
async fn verified(bed: &Bed, workspace: WorkspaceId, kept: Option<&Checkpoint>) -> Verified {
    let pages: Vec<Vec<ExportLine>> =
        bed.api.export_audit(workspace, "auditor").await.unwrap().try_collect().await.unwrap();
    let mut verifier = Verifier::new();
    if let Some(kept) = kept {
        verifier.expect(kept);
    }
    for line in pages.into_iter().flatten() {
        let text = serde_json::to_string(&line).unwrap();
        verifier.read(serde_json::from_str(&text).unwrap());
    }
    verifier.end()
}

fn told(verified: &Verified) -> Vec<String> {
    verified.findings.iter().map(ToString::to_string).collect()
}

/// A transaction by hand that has written an audit row.
async fn begin(bed: &Bed) -> PgConnection {
    let mut connection = PgConnection::connect(&bed.database_url).await.unwrap();
    let tenant = bed.workspace.0;
    let insert = format!(
        "BEGIN; INSERT INTO audit (workspace_id, actor, action, object) VALUES ('{tenant}', 'late', 'x', 'y')"
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(insert)).execute(&mut connection).await.unwrap();
    connection
}

async fn end(mut connection: PgConnection, how: &'static str) {
    sqlx::raw_sql(how).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

const EVERY_ROW_ONCE: &str = "SELECT count(*) FROM audit a FULL JOIN audit_seals s
    ON s.workspace_id = a.workspace_id AND s.audit_id = a.id WHERE a.id IS NULL OR s.seq IS NULL";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_row_gets_its_place_once_whatever_commits_when() {
    let bed = Bed::new().await;
    let scheduler = bed.engine_as(Role::Engine);
    let elsewhere = bed.engine.create_workspace("elsewhere", 1, "test").await.unwrap().id;
    // Two transactions draw numbers first and end last, one of them in nothing.
    let (late, undone) = (begin(&bed).await, begin(&bed).await);
    for n in 0..3 {
        write(&bed.engine, bed.workspace, &format!("early-{n}")).await;
    }
    assert_eq!(seal(&scheduler).await, 5, "what is committed is sealed at once");
    end(late, "COMMIT").await;
    end(undone, "ROLLBACK").await;
    assert_eq!(seal(&scheduler).await, 1);
    let row = "SELECT seq FROM audit_seals JOIN audit ON id = audit_id WHERE actor = 'late'";
    assert_eq!(bed.count(row).await, 5, "a late row is the last of its chain");

    // Sealers of several processes at once, while rows come.
    let others = [bed.engine_as(Role::Engine), bed.engine_as(Role::Engine)];
    let writing = async {
        for n in 0..60 {
            let workspace = if n % 3 == 0 { elsewhere } else { bed.workspace };
            write(&bed.engine, workspace, &format!("row-{n}")).await;
        }
    };
    let sealing = |engine: Engine| async move {
        for _ in 0..40 {
            seal_audit(&engine).await.unwrap();
        }
    };
    let [one, two] = others.clone();
    tokio::join!(writing, sealing(one), sealing(two));
    seal(&scheduler).await;
    assert_eq!(bed.count(EVERY_ROW_ONCE).await, 0);
    // A database that came from a dump of another cluster: its marks and
    // transactions are from there.
    bed.execute(
        "UPDATE audit_sealer SET mark_txid = '9000000000000'; UPDATE audit SET txid = '8000000000000'",
    )
    .await;
    write(&bed.engine, bed.workspace, "after the restore").await;
    assert_eq!(seal(&scheduler).await, 1);
    write(&bed.engine, bed.workspace, "and later").await;
    assert_eq!(seal(&scheduler).await, 1);
    assert_eq!(bed.count(EVERY_ROW_ONCE).await, 0);
    for workspace in [bed.workspace, elsewhere] {
        let done = verified(&bed, workspace, None).await;
        assert_eq!(told(&done), [""; 0]);
        // Its own export is the one row that is newer than the chain.
        assert_eq!(done.unsealed, 1);
    }
    // What a change says it found is what the one before it left.
    policy(&bed, |config| config.max_daily_posts = Some(3)).await;
    policy(&bed, |config| config.max_daily_posts = Some(4)).await;
    let linked = "SELECT count(*) FROM audit a JOIN audit b ON b.before_hash = a.after_hash AND b.id > a.id
                   WHERE a.action = 'automation.set' AND b.action = 'automation.set'";
    assert_eq!(bed.count(linked).await, 1);
    let named =
        bed.count("SELECT count(*) FROM audit WHERE request_id = 'request-1' AND after_hash = 'aa'").await;
    assert_eq!(named, 65, "rows name the request and what it made");
    bed.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_owns_the_database_cannot_change_the_audit_unnoticed() {
    let bed = Bed::new().await;
    let scheduler = bed.engine_as(Role::Engine);
    for n in 2..=9 {
        write(&bed.engine, bed.workspace, &format!("row-{n}")).await;
    }
    seal(&scheduler).await;
    let kept = bed.api.checkpoint(bed.workspace).await.unwrap();
    assert_eq!(kept.seq, 9);
    let id = |place: i64| format!("(SELECT audit_id FROM audit_seals WHERE seq = {place})");
    let ids = |place: i64| format!("SELECT audit_id FROM audit_seals WHERE seq = {place}");
    let (fourth, sixth) = (bed.count(&ids(4)).await, bed.count(&ids(6)).await);
    bed.execute("CREATE TABLE kept AS TABLE audit; CREATE TABLE kept_seals AS TABLE audit_seals").await;
    let changed = "the row or its seal was changed after it was sealed";
    let swap =
        "UPDATE audit SET object = CASE id WHEN {4} THEN 'row-6' ELSE 'row-4' END WHERE id IN ({4}, {6})";
    let cases = [
        (
            format!("UPDATE audit SET actor = 'nobody' WHERE id = {}", id(4)),
            vec![format!("place 4, row {fourth}: {changed}")],
        ),
        (
            format!("DELETE FROM audit WHERE id = {}", id(4)),
            vec![format!("place 4, row {fourth}: the row was removed")],
        ),
        (
            "INSERT INTO audit (workspace_id, id, at, actor, action, object)
             OVERRIDING SYSTEM VALUE SELECT workspace_id, -1, at - interval '1 day', actor, action, object
               FROM audit ORDER BY id LIMIT 1"
                .to_owned(),
            // The sealer takes it for a late one, and its time gives it away.
            vec![
                "place 10, row -1: it came into the chain long after others of its time: it was inserted later"
                    .to_owned(),
            ],
        ),
        (
            "INSERT INTO audit (workspace_id, id, at, actor, action, object, txid)
             OVERRIDING SYSTEM VALUE SELECT workspace_id, -1, at - interval '1 day', actor, action, object, '5'
               FROM audit ORDER BY id LIMIT 1"
                .to_owned(),
            vec![
                "row -1: it is in no place although later rows are: it was inserted, or its seal was removed"
                    .to_owned(),
            ],
        ),
        ("DELETE FROM audit_seals WHERE seq = 4".to_owned(), vec!["place 4: its seal was removed".to_owned()]),
        (
            swap.replace("{4}", &fourth.to_string()).replace("{6}", &sixth.to_string()),
            vec![format!("place 4, row {fourth}: {changed}"), format!("place 6, row {sixth}: {changed}")],
        ),
        (
            format!("DELETE FROM audit_seals WHERE seq = 6; UPDATE audit_seals SET audit_id = {sixth} WHERE seq = 4"),
            vec![format!("place 4, row {sixth}: {changed}"), "place 6: its seal was removed".to_owned()],
        ),
        (
            "DELETE FROM audit_seals WHERE seq > 7; UPDATE audit_heads SET seq = 7,
                    hash = (SELECT hash FROM audit_seals WHERE seq = 7)"
                .to_owned(),
            // The chain itself holds; only what was kept elsewhere knows.
            vec!["place 9: the chain ends at place 7; the checkpoint saw this one".to_owned()],
        ),
        (
            "UPDATE audit_heads SET seq = 7, hash = (SELECT hash FROM audit_seals WHERE seq = 7)".to_owned(),
            vec!["place 8: there are seals behind the end of the chain".to_owned()],
        ),
    ];
    assert_eq!(told(&verified(&bed, bed.workspace, Some(&kept)).await), [""; 0], "before anybody tampers");
    for (tamper, wanted) in cases {
        let again = "DELETE FROM audit; DELETE FROM audit_seals;
             INSERT INTO audit OVERRIDING SYSTEM VALUE SELECT * FROM kept;
             INSERT INTO audit_seals SELECT * FROM kept_seals;
             UPDATE audit_heads SET seq = 9, hash = (SELECT hash FROM audit_seals WHERE seq = 9)";
        bed.execute(again).await;
        bed.execute(&tamper).await;
        if tamper.contains("INSERT") {
            seal(&scheduler).await;
        }
        assert_eq!(told(&verified(&bed, bed.workspace, Some(&kept)).await), wanted, "{tamper}");
    }
    bed.end().await;
}
