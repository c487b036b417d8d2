//! One workspace never sees another's rows: Postgres itself sees to it,
//! whatever the code forgets.

use std::time::Duration;

use galley_api::views::Role as Allowed;
use galley_core::ids::{WorkflowKey, WorkspaceId};
use galley_core::run::WorkflowState;
use galley_engine::EngineError;
use galley_engine::store::{Erasure, Role, Store, StoreError};
use serde_json::json;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection, Row as _};

use crate::harness::posts::{bed, question, submit};
use crate::harness::{Api, Bed, Network, request};

/// Tables that belong to no workspace.
const FLEET: [&str; 6] =
    ["_sqlx_migrations", "agents", "audit_sealer", "fleet_experience", "sessions", "workspaces"];

async fn tenant_tables(bed: &Bed) -> Vec<String> {
    bed.texts(
        "SELECT c.relname::text FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
          WHERE c.relkind IN ('r', 'p') AND c.relnamespace = 'public'::regnamespace AND a.attname = 'workspace_id'
          ORDER BY 1",
    )
    .await
}

/// A connection in a role, as a process of it has.
async fn connection(bed: &Bed, role: &str) -> PgConnection {
    let mut connection = PgConnection::connect(&bed.database_url).await.unwrap();
    connection.execute(AssertSqlSafe(format!("SET ROLE {role}"))).await.unwrap();
    connection
}

async fn count(connection: &mut PgConnection, query: &str) -> i64 {
    connection.fetch_one(AssertSqlSafe(query.to_owned())).await.unwrap().get(0)
}

/// A workspace with rows in most tables (a post that is out, one that waits),
/// and another one with a workflow.
async fn two_workspaces(network: &Network) -> (Bed, WorkflowKey) {
    let bed = bed(network).await;
    let out = submit(&bed, "idempotent", "canary of acme").await;
    let asked = question(&bed, out).await;
    bed.api.approve(bed.workspace, asked.id, Some(&asked.content_hash), None, "ada").await.unwrap();
    bed.finish(out, WorkflowState::Succeeded).await;
    let waiting = submit(&bed, "idempotent", "still asked").await;
    question(&bed, waiting).await;
    let other = bed.engine.create_workspace("other", 1, "test").await.unwrap().id;
    let steps = json!([{ "name": "only", "agent": "writer" }]);
    let theirs = bed.submit_in(other, steps, json!({ "text": "canary of other" })).await;
    bed.finish(theirs, WorkflowState::Succeeded).await;
    (bed, theirs)
}

#[tokio::test]
async fn every_table_of_workspaces_is_under_row_level_security() {
    let bed = Bed::new().await;
    let open = bed
        .texts(
            "SELECT c.relname::text FROM pg_class c
          WHERE c.relkind IN ('r', 'p') AND c.relnamespace = 'public'::regnamespace
            AND NOT (c.relrowsecurity AND c.relforcerowsecurity)
          ORDER BY 1",
        )
        .await;
    assert_eq!(open, FLEET, "a table with a workspace_id calls galley_isolate() in its migration");
    // One policy of each kind, and nothing that opens a table to anybody else.
    for table in tenant_tables(&bed).await {
        let policies = bed.texts(
            &format!(
                "SELECT format('%s to %s', policyname, array_to_string(roles, ',')) FROM pg_policies
                  WHERE tablename = '{table}' AND permissive = 'PERMISSIVE' AND cmd = 'ALL' ORDER BY policyname"
            ),
        )
        .await;
        assert_eq!(policies.len(), 3, "{table}: {policies:?}");
        assert_eq!(policies[0], "fleet to galley_engine,galley_publisher", "{table}");
        assert_eq!(policies[2], "tenant to galley_api", "{table}");
        let keyed = bed
            .texts(&format!(
                "SELECT i.indexrelid::regclass::text FROM pg_index i
                   JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
                  WHERE i.indrelid = '{table}'::regclass AND i.indisunique AND a.attname <> 'workspace_id'
                    AND NOT (i.indisprimary AND a.attidentity = 'a')"
            ))
            .await;
        assert!(keyed.is_empty(), "{table}: a unique key that does not begin with workspace_id: {keyed:?}");
    }
    bed.end().await;
}

/// What SQL somebody may have smuggled in would see.
#[tokio::test]
async fn the_api_sees_one_workspace_with_any_sql() {
    let network = Network::new();
    let (bed, theirs) = two_workspaces(&network).await;
    let other = theirs.workspace;
    let mut api = connection(&bed, "galley_api").await;
    let mut filled = 0;
    for table in tenant_tables(&bed).await {
        // The owner sees that there is something to see.
        let all = bed.count(&format!("SELECT count(*) FROM {table}")).await;
        filled += usize::from(all > 0);
        assert_eq!(
            count(&mut api, &format!("SELECT count(*) FROM {table}")).await,
            0,
            "{table} without a workspace"
        );
        let mut transaction = api.begin().await.unwrap();
        transaction
            .execute(AssertSqlSafe(format!("SET LOCAL app.workspace = '{{{}}}'", other.0)))
            .await
            .unwrap();
        let foreign = format!("SELECT count(*) FROM {table} WHERE workspace_id <> '{}'", other.0);
        assert_eq!(count(&mut transaction, &foreign).await, 0, "{table}: rows of another workspace");
        transaction.rollback().await.unwrap();
        // The workspace of an earlier transaction is forgotten.
        assert_eq!(count(&mut api, &format!("SELECT count(*) FROM {table}")).await, 0, "{table} afterwards");
    }
    assert!(filled >= 12, "only {filled} tables have rows: this test shows little");

    let mut transaction = api.begin().await.unwrap();
    transaction.execute(AssertSqlSafe(format!("SET LOCAL app.workspace = '{{{}}}'", other.0))).await.unwrap();
    assert_eq!(count(&mut transaction, "SELECT count(*) FROM workflows").await, 1, "its own are there");
    let touched = transaction.execute("UPDATE posts SET reason = 'mine now'").await.unwrap().rows_affected();
    assert_eq!(touched, 0, "another's posts were changed");
    let planted = format!(
        "INSERT INTO audit (workspace_id, actor, action, object) VALUES ('{}', 'x', 'x', 'x')",
        bed.workspace.0
    );
    let refused = transaction.execute(AssertSqlSafe(planted)).await.unwrap_err();
    assert!(refused.to_string().contains("row-level security"), "{refused}");
    transaction.rollback().await.unwrap();
    api.close().await.unwrap();
    // Nobody who runs changes what is in the audit log.
    for role in ["galley_api", "galley_engine", "galley_publisher"] {
        let mut connection = connection(&bed, role).await;
        for statement in ["UPDATE audit SET actor = 'x'", "DELETE FROM audit", "TRUNCATE audit"] {
            let refused = connection.execute(statement).await.unwrap_err();
            assert!(refused.to_string().contains("permission denied"), "{role}, {statement}: {refused}");
        }
        connection.close().await.unwrap();
    }
    bed.end().await;
}

#[tokio::test]
async fn an_api_that_could_step_out_of_its_role_does_not_start() {
    let bed = Bed::new().await;
    let store = |role, url: &str| Store::connect_as(role, url, 1, Duration::from_secs(20)).unwrap();
    let superuser = store(Role::Api, &bed.database_url);
    let refused = superuser.check_login().await.unwrap_err();
    assert!(matches!(&refused, StoreError::Schema(why) if why.contains("a superuser")), "{refused}");
    superuser.close().await;

    // Names of this test: roles are the cluster's.
    let login = format!("{}_api", bed.prefix);
    let password = bed.prefix.clone();
    for statement in [
        format!("CREATE ROLE {login} LOGIN PASSWORD '{password}' IN ROLE galley_api"),
        format!("CREATE ROLE {login}_stranger LOGIN PASSWORD '{password}'"),
    ] {
        bed.execute(&statement).await;
    }
    let at = bed.database_url.split_once('@').unwrap().1;
    let member = store(Role::Api, &format!("postgres://{login}:{password}@{at}"));
    member.check_login().await.unwrap();
    member.check_schema(false).await.unwrap();
    // It took on no more than it is.
    let engine = store(Role::Engine, &format!("postgres://{login}:{password}@{at}"));
    let refused = engine.check_schema(false).await.unwrap_err();
    assert!(matches!(&refused, StoreError::Schema(why) if why.contains("galley_engine")), "{refused}");
    let stranger = store(Role::Api, &format!("postgres://{login}_stranger:{password}@{at}"));
    let refused = stranger.check_schema(false).await.unwrap_err();
    assert!(matches!(&refused, StoreError::Schema(why) if why.contains("galley_api")), "{refused}");
    for store in [member, engine, stranger] {
        store.close().await;
    }
    for login in [login.clone(), format!("{login}_stranger")] {
        bed.execute(&format!("DROP ROLE {login}")).await;
    }
    bed.end().await;
}

#[tokio::test]
async fn a_workspace_is_handed_out_and_erased_whole() {
    let network = Network::new();
    let (bed, _) = two_workspaces(&network).await;
    let api = Api::of(&bed, Allowed::Admin).await;
    let admin = api.token(bed.workspace, &[Allowed::Admin], false);
    let key = json!({ "name": "ci", "roles": ["producer"], "ttlSeconds": 3_600 });
    let key = api.ask("POST", "/v1/keys", Some(&admin), Some(&key)).await.body;
    let secret = key["secret"].as_str().unwrap();
    assert_eq!(api.ask("GET", "/v1/workflows", Some(secret), None).await.status, 200);

    let owner = Store::connect(&bed.database_url, 2).unwrap();
    let mut lines = Vec::new();
    let handed = owner.export_workspace(bed.workspace, |line| {
        lines.push(line);
        Ok::<_, std::convert::Infallible>(())
    });
    handed.await.unwrap().unwrap();
    let all = lines.join("\n");
    assert!(all.contains("canary of acme") && !all.contains("canary of other"));
    assert!(
        !all.contains("\"credential\"") && !all.contains("\"sealed\": \""),
        "a credential was handed out"
    );
    let hash = bed.text("SELECT encode(hash, 'hex') FROM api_keys").await;
    assert!(!all.contains(&hash) && !all.contains(secret), "a key was handed out");
    let tables: std::collections::BTreeSet<String> = lines
        .iter()
        .map(|line| {
            serde_json::from_str::<serde_json::Value>(line).unwrap()["table"].as_str().unwrap().to_owned()
        })
        .collect();
    assert!(
        ["workflows", "posts", "audit", "publications"].iter().all(|table| tables.contains(*table)),
        "{tables:?}"
    );
    assert!(
        ["api_keys", "credentials", "data_keys"].iter().all(|table| !tables.contains(*table)),
        "{tables:?}"
    );

    // What may be out is not forgotten.
    bed.execute("UPDATE publications SET state = 'unknown'").await;
    assert_eq!(owner.erase_workspace(bed.workspace, "ada".into()).await.unwrap(), Erasure::OnTheirWay(1));
    assert!(bed.count("SELECT count(*) FROM runs").await > 0, "nothing was erased");
    assert!(owner.workspace(bed.workspace).await.unwrap().is_some(), "it is still there");
    bed.execute("UPDATE publications SET state = 'published'").await;

    let erased = owner.erase_workspace(bed.workspace, "ada".into()).await.unwrap();
    assert!(matches!(&erased, Erasure::Done(gone) if gone.len() >= 8), "{erased:?}");
    for table in tenant_tables(&bed).await {
        let left = format!("SELECT count(*) FROM {table} WHERE workspace_id = '{}'", bed.workspace.0);
        assert_eq!(bed.count(&left).await, i64::from(table == "audit"), "{table}");
    }
    assert_eq!(bed.count("SELECT count(*) FROM workflows").await, 1, "the other's is still there");
    Box::pin(erased_for_good(&bed, &owner, &api, secret)).await;
    owner.close().await;
    bed.end().await;
}

/// An erased workspace stays erased, whoever still has what opened it.
async fn erased_for_good(bed: &Bed, owner: &Store, api: &Api, secret: &str) {
    // Another API server, which remembers nobody.
    let fresh = Api::of(bed, Allowed::Admin).await;
    let admin = api.token(bed.workspace, &[Allowed::Admin, Allowed::Producer], true);
    for token in [admin.as_str(), secret] {
        assert_eq!(fresh.ask("GET", "/v1/workflows", Some(token), None).await.status, 401);
    }
    // One that remembers the token as good gets no further than the database:
    // no workflow begins, also among others' that are accepted at once.
    let wanted = request(json!([{ "name": "only", "agent": "writer" }]), json!({ "text": "late" }));
    let (context, elsewhere) = (bed.context(), owner.workspace_named("other").await.unwrap().unwrap().id);
    let theirs = bed.context_with(elsewhere, "beside");
    let (refused, accepted) =
        tokio::join!(bed.api.submit(&context, &wanted), bed.api.submit(&theirs, &wanted));
    assert!(matches!(refused, Err(EngineError::NoWorkspace)), "{refused:?}");
    accepted.unwrap();
    let workflows = format!("SELECT count(*) FROM workflows WHERE workspace_id = '{}'", bed.workspace.0);
    assert_eq!(bed.count(&workflows).await, 0);
    // What came in late otherwise is removed, and the audit's line stays.
    bed.api.store_template(bed.workspace, wanted.definition.clone().unwrap(), "ada").await.unwrap();
    let rest = owner.erase_the_rest(bed.workspace).await.unwrap();
    assert!(matches!(&rest, Erasure::Done(gone) if !gone.is_empty()), "{rest:?}");
    let line = format!(
        "SELECT count(*) FROM audit WHERE workspace_id = '{}' AND action = 'workspace.erase'",
        bed.workspace.0
    );
    assert_eq!(bed.count(&line).await, 1);
    assert!(
        owner.erase_workspace(bed.workspace, "ada".into()).await.is_ok_and(|done| done != Erasure::NotThere)
    );
    assert_eq!(bed.count(&line).await, 1, "once more is no news");
    let nobody = WorkspaceId(uuid::Uuid::now_v7());
    assert_eq!(owner.erase_workspace(nobody, "ada".into()).await.unwrap(), Erasure::NotThere);
    assert_eq!(owner.erase_the_rest(elsewhere).await.unwrap(), Erasure::NotThere, "a living one");
    // Its name is free.
    let again = bed.engine.create_workspace("acme", 1, "test").await.unwrap();
    assert_ne!(again.id, bed.workspace);
    let listed = owner.list_workspaces().await.unwrap();
    assert!(listed.iter().all(|row| row.id != bed.workspace) && listed.len() == 2, "{listed:?}");
}
