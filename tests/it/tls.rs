//! Both stores over TLS, checked against a certificate authority of ours.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use galley_core::run::WorkflowState;
use galley_engine::queue::{DispatchQueue as _, RedisConfig, RedisQueue};
use galley_engine::store::Store;
use galley_servers::{PrivatePostgres, PrivateRedis, Speed};
use nix::unistd::{Gid, Uid, chown};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};

use crate::harness::{Bed, Setup, WorkerProcess, migrate};

fn run(program: &str, folder: &Path, arguments: &[&str]) {
    let done = Command::new(program).args(arguments).current_dir(folder).output().unwrap();
    let told = String::from_utf8_lossy(&done.stderr) + String::from_utf8_lossy(&done.stdout);
    assert!(done.status.success() && !told.contains("ERR"), "{program} {arguments:?}: {told}");
}

fn openssl(folder: &Path, arguments: &str) {
    run("openssl", folder, &arguments.split(' ').collect::<Vec<_>>());
}

/// An authority, a certificate of it for 127.0.0.1, and an authority that has
/// nothing to do with it.
fn certificates(folder: &Path) {
    let authority = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2";
    for name in ["ca", "stranger"] {
        openssl(folder, &format!("{authority} -keyout {name}.key -out {name}.pem -subj /CN={name}"));
    }
    std::fs::write(folder.join("names"), "subjectAltName=IP:127.0.0.1\n").unwrap();
    openssl(
        folder,
        "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout server.key -out server.csr -subj /CN=server",
    );
    openssl(
        folder,
        "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile names -out server.pem",
    );
}

/// Turns TLS on in a running PostgreSQL.
async fn encrypt(postgres: &PrivatePostgres, folder: &Path) {
    let data = postgres.home().join("data");
    let owner = std::fs::metadata(&data).unwrap();
    for name in ["server.pem", "server.key"] {
        let place = data.join(name);
        std::fs::copy(folder.join(name), &place).unwrap();
        std::fs::set_permissions(&place, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        chown(&place, Some(Uid::from_raw(owner.uid())), Some(Gid::from_raw(owner.gid()))).unwrap();
    }
    let mut connection = PgConnection::connect(&postgres.url()).await.unwrap();
    for setting in ["ssl_cert_file = 'server.pem'", "ssl_key_file = 'server.key'", "ssl = on"] {
        connection.execute(AssertSqlSafe(format!("ALTER SYSTEM SET {setting}"))).await.unwrap();
    }
    connection.execute("SELECT pg_reload_conf()").await.unwrap();
    connection.close().await.unwrap();
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[tokio::test]
async fn a_worker_reaches_both_stores_over_tls_and_trusts_nobody_else() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    certificates(folder.path());
    let postgres = PrivatePostgres::start_temporary(Speed::Throwaway).await.unwrap();
    encrypt(&postgres, folder.path()).await;
    let redis = PrivateRedis::start_temporary().await.unwrap();
    let port = free_port();
    for (name, value) in [
        ("tls-cert-file", path("server.pem")),
        ("tls-key-file", path("server.key")),
        ("tls-ca-cert-file", path("ca.pem")),
        ("tls-auth-clients", "no".into()),
        ("tls-port", port.to_string()),
    ] {
        run("redis-cli", folder.path(), &["-u", &redis.url(), "CONFIG", "SET", name, &value]);
    }
    migrate(&postgres.url()).await;
    let setup =
        Setup { database_url: Some(postgres.url()), redis_url: Some(redis.url()), ..Setup::default() };
    let mut bed = Bed::with(setup).await;
    bed.start_duties();

    let database_url = |ca: &str| format!("{}?sslmode=verify-full&sslrootcert={}", postgres.url(), path(ca));
    let redis_url = format!("rediss://127.0.0.1:{port}/");
    let ca = path("ca.pem");
    let mut worker =
        WorkerProcess::start_on(&bed, 2, &database_url("ca.pem"), &redis_url, &[("SSL_CERT_FILE", &ca)])
            .await;
    let encrypted = "SELECT count(*) FROM pg_stat_ssl s JOIN pg_stat_activity a USING (pid)
                      WHERE s.ssl AND a.application_name = 'galley'";
    assert!(bed.count(encrypted).await > 0);
    let key = bed.submit(json!([{ "name": "a", "agent": "echo" }]), Value::Null).await;
    bed.finish(key, WorkflowState::Succeeded).await;
    worker.signal(nix::sys::signal::Signal::SIGTERM);
    assert!(worker.ended().await);

    // A server that shows another authority's certificate is not talked to.
    let store =
        Store::connect_with_patience(&database_url("stranger.pem"), 1, Duration::from_secs(20)).unwrap();
    let refused = store.ping().await.unwrap_err();
    assert!(refused.to_string().to_lowercase().contains("certificate"), "{refused}");
    // Redis is checked against the system's authorities, and ours is none.
    let queue = RedisQueue::new(RedisConfig::new(&redis_url)).unwrap();
    queue.ping().await.unwrap_err();
    bed.end().await;
}
