//! Credentials: in envelopes, out of reach of everything but the process that
//! publishes, and under another key when the deployment says so.

use chacha20poly1305::aead::{Aead, Payload};
use chacha20poly1305::{KeyInit, XChaCha20Poly1305, XNonce};
use galley_core::run::WorkflowState;
use galley_engine::store::Role;
use galley_engine::{EngineError, Keyring, rotate_secrets};
use serde_json::json;
use sqlx::{AssertSqlSafe, Connection};
use uuid::Uuid;

use crate::harness::posts::{account, autonomous, in_state, submit, writer};
use crate::harness::{Bed, KEY, Network, Setup};

/// A credential as it was sealed before there were data keys.
fn first_format(bed: &Bed, account: Uuid, credential: &str) -> String {
    let whose = [bed.workspace.0.as_bytes().as_slice(), account.as_bytes()].concat();
    let payload = Payload { msg: credential.as_bytes(), aad: &whose };
    let cipher = XChaCha20Poly1305::new_from_slice(&hex::decode(KEY).unwrap()).unwrap();
    let sealed = cipher.encrypt(&XNonce::from([9; 24]), payload).unwrap();
    hex::encode([&[1][..], &[9; 24], &sealed].concat())
}

/// Whether a role may do something; nothing of it stays.
async fn may(bed: &Bed, role: &str, statement: &str) -> bool {
    let mut connection = sqlx::PgConnection::connect(&bed.database_url).await.unwrap();
    let tenant = bed.workspace.0;
    let begin = format!("BEGIN; SET LOCAL ROLE {role}; SET LOCAL app.workspace = '{{{tenant}}}'");
    sqlx::raw_sql(AssertSqlSafe(begin)).execute(&mut connection).await.unwrap();
    let done = sqlx::raw_sql(AssertSqlSafe(statement.to_owned())).execute(&mut connection).await;
    connection.close().await.unwrap();
    match done {
        Ok(_) => true,
        Err(error) if error.as_database_error().is_some_and(|db| db.code().as_deref() == Some("42501")) => {
            false
        }
        Err(error) => panic!("{role}: {statement}: {error}"),
    }
}

#[tokio::test]
async fn a_credential_lives_in_an_envelope_and_changes_its_key() {
    let network = Network::new();
    let mut bed =
        Bed::with(Setup { network: Some(network.clone()), nervous: true, ..Setup::default() }).await;
    // Two processes make the workspace's first data key at once: one is kept,
    // and both accounts open with it.
    let other = bed.engine_as(Role::Api);
    let new = |name: &str| {
        let new = json!({ "name": name, "platform": "network", "credential": "secret", "settings": {} });
        serde_json::from_value(new).unwrap()
    };
    let (one, two) = tokio::join!(
        bed.api.add_account(bed.workspace, new("a"), "ada"),
        other.add_account(bed.workspace, new("b"), "bob"),
    );
    let (old, older) = (one.unwrap().id.0, two.unwrap().id.0);
    account(&bed, "c", json!({})).await;
    assert_eq!(bed.count("SELECT count(*) FROM data_keys").await, 1);
    assert_eq!(bed.count("SELECT count(*) FROM accounts WHERE octet_length(credential) > 0").await, 0);
    // `a` is as the migration found it; `b` as an API a release older adds it.
    let (a, b) = (first_format(&bed, old, "secret"), first_format(&bed, older, "secret"));
    bed.execute(&format!(
        "UPDATE credentials SET data_key = NULL, sealed = '\\x{a}' WHERE account_id = '{old}';
         UPDATE accounts SET credential = '\\x{a}' WHERE id = '{old}';
         DELETE FROM credentials WHERE account_id = '{older}';
         UPDATE accounts SET credential = '\\x{b}' WHERE id = '{older}'"
    ))
    .await;
    autonomous(&bed).await;
    bed.serve(&writer()).await;
    for name in ["a", "b", "c"] {
        let key = submit(&bed, name, name).await;
        bed.finish(key, WorkflowState::Succeeded).await;
    }
    assert_eq!(network.texts(), ["a", "b", "c"]);
    assert_eq!(bed.audited().await.iter().filter(|action| *action == "account.use").count(), 3);

    // Another key: once, and then there is nothing left to do.
    let store = bed.engine_as(Role::Publisher).store().clone();
    let rotate = async |keys: &str| {
        let done = rotate_secrets(&store, &Keyring::read(keys).unwrap(), "ops").await.unwrap();
        (done.rewrapped, done.current, done.resealed, done.left)
    };
    let (first, second, third) =
        (format!("1:{KEY}"), format!("2:{}", "2b".repeat(32)), format!("3:{}", "3c".repeat(32)));
    let both = format!("{first}\n{second}");
    // Whoever has only another key changes nothing and says so.
    let (rewrapped, _, resealed, left) = rotate(&second).await;
    assert_eq!((rewrapped, resealed, left.len()), (0, 0, 3), "{left:?}");
    assert!(left[0].contains("secret key 1, which this process does not have"), "{left:?}");
    assert_eq!(rotate(&both).await, (1, 0, 2, vec![]));
    assert_eq!(rotate(&both).await, (0, 1, 0, vec![]));
    assert_eq!(store.kek_versions().await.unwrap(), [(2, 1)]);
    assert_eq!(bed.count("SELECT count(*) FROM accounts WHERE octet_length(credential) > 0").await, 0);
    assert_eq!(bed.count("SELECT count(*) FROM credentials WHERE data_key = 1").await, 3);
    let told = bed.audited().await;
    assert_eq!(told.iter().filter(|action| action.starts_with("secret.")).count(), 3, "{told:?}");
    // The first key is not needed any more: the second opens everything.
    assert_eq!(rotate(&format!("{second}\n{third}")).await, (1, 0, 0, vec![]));
    // And it opens nothing: the workers here have no other.
    let key = submit(&bed, "c", "never").await;
    let dead = in_state(&bed, key, "failed").await;
    assert_eq!(network.texts().len(), 3, "{dead:?}");
    let why = bed.text("SELECT message FROM dead_letters").await;
    assert!(why.contains("wrapped by secret key 3, which this process does not have"), "{why}");

    // Removing an account removes its credential.
    bed.api.remove_account(bed.workspace, "a", "ada").await.unwrap();
    assert_eq!(bed.count("SELECT count(*) FROM credentials").await, 2);

    // Who may do what with all that, asked of Postgres itself.
    let [api, engine, publisher] = ["galley_api", "galley_engine", "galley_publisher"];
    for (statement, allowed) in [
        ("SELECT sealed FROM credentials", vec![publisher]),
        ("SELECT * FROM credentials", vec![publisher]),
        ("UPDATE credentials SET sealed = ''", vec![publisher]),
        (
            "DELETE FROM credentials WHERE workspace_id = '00000000-0000-0000-0000-000000000000'",
            vec![api, publisher],
        ),
        // Any worker may have to ask a workspace's own provider.
        ("SELECT sealed FROM provider_keys", vec![engine, publisher]),
        ("UPDATE provider_keys SET sealed = ''", vec![]),
        ("UPDATE providers SET base_url = ''", vec![api]),
        ("SELECT credential FROM accounts", vec![publisher]),
        ("SELECT name FROM accounts", vec![api, engine, publisher]),
        ("UPDATE data_keys SET wrapped = ''", vec![publisher]),
        ("SELECT wrapped FROM data_keys", vec![api, engine, publisher]),
    ] {
        for role in [api, engine, publisher] {
            assert_eq!(may(&bed, role, statement).await, allowed.contains(&role), "{role}: {statement}");
        }
    }
    store.close().await;
    bed.end().await;
}

#[tokio::test]
async fn an_account_is_tried_by_a_worker_that_publishes() {
    let network = Network::new();
    let mut bed =
        Bed::with(Setup { network: Some(network.clone()), nervous: true, ..Setup::default() }).await;
    account(&bed, "good", json!({})).await;
    account(&bed, "bad", json!({ "settings": { "broken": true } })).await;
    // Nobody is there who could: a clear answer, and the question is gone.
    let nobody = bed.api.test_account(bed.workspace, "good", "ada").await;
    assert!(matches!(&nobody, Err(EngineError::Conflict(why)) if why.contains("no worker")), "{nobody:?}");
    assert_eq!(bed.count("SELECT count(*) FROM account_checks").await, 0);
    let missing = bed.api.test_account(bed.workspace, "none", "ada").await;
    assert!(matches!(missing, Err(EngineError::NotFound { .. })), "{missing:?}");

    bed.execute(
        "INSERT INTO account_checks (workspace_id, id, account_id, asked_by, asked_at, taken_at)
         SELECT workspace_id, gen_random_uuid(), id, 'old', now() - interval '2 hours', now() FROM accounts",
    )
    .await;
    bed.serve(&writer()).await;
    let tried = async |name| loop {
        match bed.api.test_account(bed.workspace, name, "ada").await {
            // The worker looks every second; this bed waits for half of one.
            Err(EngineError::Conflict(_)) => {}
            tried => return tried.unwrap(),
        }
    };
    assert_eq!(tried("good").await, Ok("the network takes it".to_owned()));
    assert_eq!(tried("bad").await, Err("the network does not take it".to_owned()));
    assert_eq!(bed.count("SELECT count(*) FROM account_checks WHERE asked_by = 'old'").await, 0, "pruned");
    let told = bed.audited().await;
    for action in ["account.test", "account.use"] {
        assert!(told.contains(&action.to_owned()), "{told:?}");
    }
    bed.end().await;
}
