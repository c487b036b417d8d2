//! A proxy before Postgres that loses exactly one reply: the client's
//! connection is cut after the server has finished the statement.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::servers::on_database;

/// The proxy. Stops when dropped.
pub(crate) struct Proxy {
    port: u16,
    orders: Arc<Mutex<Orders>>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Orders {
    /// Lose the reply of statements that begin with this, so many times.
    lose: Option<(String, usize)>,
    lost: usize,
}

impl Proxy {
    /// A proxy before the server of this URL.
    pub(crate) async fn before(database_url: &str) -> Self {
        let server = server_of(database_url);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let orders = Arc::new(Mutex::new(Orders::default()));
        let shared = Arc::clone(&orders);
        let task = tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let Ok(server) = TcpStream::connect(&server).await else { continue };
                tokio::spawn(pass(client, server, Arc::clone(&shared)));
            }
        });
        Self { port, orders, task }
    }

    /// The database's URL through this proxy.
    pub(crate) fn url(&self, database_url: &str) -> String {
        through(database_url, self.port)
    }

    /// Loses the replies of the next statements that begin with this text.
    pub(crate) fn lose(&self, statement: &str, times: usize) {
        self.orders.lock().unwrap().lose = Some((statement.to_owned(), times));
    }

    /// How many replies were lost so far.
    pub(crate) fn lost(&self) -> usize {
        self.orders.lock().unwrap().lost
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The database's URL through a port of this machine.
pub(crate) fn through(database_url: &str, port: u16) -> String {
    let (credentials, rest) = database_url.rsplit_once('@').unwrap();
    let database = rest.rsplit_once('/').unwrap().1;
    let here = format!("{credentials}@127.0.0.1:{port}/");
    // Without TLS, so that the messages can be read.
    format!("{}?sslmode=disable", on_database(&here, database))
}

/// Host and port of a database's server.
pub(crate) fn server_of(database_url: &str) -> String {
    let (_, rest) = database_url.rsplit_once('@').unwrap();
    rest.rsplit_once('/').unwrap().0.to_owned()
}

impl Orders {
    /// Whether the reply of this statement is to be lost; counts it.
    fn take(&mut self, statement: &str) -> bool {
        let Some((wanted, times)) = &mut self.lose else { return false };
        if *times == 0 || !statement.trim_start().starts_with(wanted.as_str()) {
            return false;
        }
        *times -= 1;
        self.lost += 1;
        true
    }
}

/// Passes messages of one connection until it ends or its reply is lost.
async fn pass(client: TcpStream, server: TcpStream, orders: Arc<Mutex<Orders>>) {
    let (mut from_client, to_client) = client.into_split();
    let (from_server, mut to_server) = server.into_split();
    let cut = Arc::new(Mutex::new(false));
    let replies = tokio::spawn(pass_replies(from_server, to_client, Arc::clone(&cut)));
    let mut statements = HashMap::new();
    // The first message has no type.
    let Ok(startup) = read_body(&mut from_client).await else { return };
    if write_message(&mut to_server, None, &startup).await.is_err() {
        return;
    }
    while let Ok((kind, body)) = read_message(&mut from_client).await {
        let statement = match kind {
            b'Q' => Some(text_at(&body, 0).0),
            b'P' => {
                let (name, next) = text_at(&body, 0);
                statements.insert(name, text_at(&body, next).0);
                None
            }
            b'B' => {
                let (_, next) = text_at(&body, 0);
                statements.get(&text_at(&body, next).0).cloned()
            }
            _ => None,
        };
        if let Some(statement) = statement
            && orders.lock().unwrap().take(&statement)
        {
            *cut.lock().unwrap() = true;
        }
        if write_message(&mut to_server, Some(kind), &body).await.is_err() {
            break;
        }
    }
    replies.abort();
}

/// Passes replies; once told to cut, it swallows them, waits until the server
/// is idle again (then the statement is committed), and hangs up.
async fn pass_replies(mut from_server: OwnedReadHalf, mut to_client: OwnedWriteHalf, cut: Arc<Mutex<bool>>) {
    while let Ok((kind, body)) = read_message(&mut from_server).await {
        if *cut.lock().unwrap() {
            if kind == b'Z' {
                // Dropping the write half alone would only half-close.
                to_client.shutdown().await.ok();
                return;
            }
            continue;
        }
        if write_message(&mut to_client, Some(kind), &body).await.is_err() {
            return;
        }
    }
}

/// One message: its type, and what follows its length.
pub(crate) async fn read_message(from: &mut (impl AsyncRead + Unpin)) -> std::io::Result<(u8, Vec<u8>)> {
    let kind = from.read_u8().await?;
    Ok((kind, read_body(from).await?))
}

/// What follows a length. The first message has nothing else.
pub(crate) async fn read_body(from: &mut (impl AsyncRead + Unpin)) -> std::io::Result<Vec<u8>> {
    let length = from.read_u32().await?;
    let mut body = vec![0; length as usize - 4];
    from.read_exact(&mut body).await?;
    Ok(body)
}

pub(crate) async fn write_message(
    to: &mut (impl AsyncWrite + Unpin),
    kind: Option<u8>,
    body: &[u8],
) -> std::io::Result<()> {
    let mut message = Vec::with_capacity(body.len() + 5);
    message.extend(kind);
    message.extend((body.len() as u32 + 4).to_be_bytes());
    message.extend(body);
    to.write_all(&message).await
}

/// The zero-terminated text at a position, and where the next one begins.
pub(crate) fn text_at(body: &[u8], from: usize) -> (String, usize) {
    let end = from + body[from..].iter().position(|byte| *byte == 0).unwrap();
    (String::from_utf8_lossy(&body[from..end]).into_owned(), end + 1)
}
