//! A platform that does what a test says: it answers, hangs, hangs up, or
//! talks nonsense, and remembers every request it could read.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// What the platform does with the next connection.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    /// Reads the request and answers.
    Answer(Reply),
    /// Reads the request and says nothing, for as long as the client stays.
    Hang,
    /// Answers with a head that promises a body, and then says nothing.
    HangInBody(u16),
    /// Answers with a body that ends before its announced length.
    BreakOff(u16),
    /// Answers with a body of 50 MB.
    Flood(u16),
    /// Reads the request and closes.
    Close,
    /// Reads the request and resets the connection.
    Reset,
    /// Closes without having read anything.
    CloseUnread,
    /// Reads the request and answers something that is no HTTP.
    Nonsense,
    /// Says something that is no TLS to whoever begins with TLS.
    NoTls,
}

/// An answer.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: String,
}

impl Reply {
    pub(crate) fn new(status: u16, body: impl Into<String>) -> Self {
        Self { status, headers: vec![("Content-Type", "application/json".into())], body: body.into() }
    }

    pub(crate) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

/// A request, as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) method: String,
    pub(crate) path: String,
    headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut all = self.headers.iter().filter(|(found, _)| found.eq_ignore_ascii_case(name));
        let first = all.next();
        assert!(all.next().is_none(), "{name} is there twice: {self:?}");
        first.map(|(_, value)| value.as_str())
    }
}

/// The platform. It ends with its value.
pub(crate) struct Platform {
    address: std::net::SocketAddr,
    script: Arc<Mutex<VecDeque<Act>>>,
    seen: Arc<Mutex<Vec<Seen>>>,
    flooded: watch::Receiver<Option<usize>>,
    connections: Arc<Mutex<usize>>,
    accepting: JoinHandle<()>,
}

impl Drop for Platform {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Platform {
    /// A platform that does these in this order, one for each connection, and
    /// answers 404 to every further one.
    pub(crate) async fn that(acts: impl IntoIterator<Item = Act>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let script: Arc<Mutex<VecDeque<Act>>> = Arc::new(Mutex::new(acts.into_iter().collect()));
        let (seen, connections) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(0)));
        let (flood, flooded) = watch::channel(None);
        let accepting = tokio::spawn({
            let (script, seen, connections) = (script.clone(), seen.clone(), connections.clone());
            async move {
                while let Ok((socket, _)) = listener.accept().await {
                    *connections.lock().unwrap() += 1;
                    let act = script.lock().unwrap().pop_front();
                    let act = act.unwrap_or_else(|| Act::Answer(Reply::new(404, "nothing more is expected")));
                    let (seen, flood) = (seen.clone(), flood.clone());
                    tokio::spawn(async move { play(socket, act, &seen, &flood).await });
                }
            }
        });
        Self { address, script, seen, flooded, connections, accepting }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// How many connections there were, and that all of the script was played.
    pub(crate) fn connections(&self) -> usize {
        assert!(self.script.lock().unwrap().is_empty(), "the client never came");
        *self.connections.lock().unwrap()
    }

    /// How many bytes of a flood the client took before it went away.
    pub(crate) async fn flooded(&self) -> usize {
        let mut flooded = self.flooded.clone();
        flooded.wait_for(Option::is_some).await.unwrap().unwrap()
    }
}

async fn play(
    mut socket: TcpStream,
    act: Act,
    seen: &Mutex<Vec<Seen>>,
    flooded: &watch::Sender<Option<usize>>,
) {
    match act {
        Act::CloseUnread => return,
        Act::NoTls => {
            let _ = socket.read(&mut [0; 1024]).await;
            let _ = socket.write_all(b"this is no TLS, and it is long enough to be read as some").await;
            return;
        }
        _ => match request(&mut socket).await {
            Some(request) => seen.lock().unwrap().push(request),
            None => return,
        },
    }
    let announced =
        |status: u16, length: usize| format!("HTTP/1.1 {status} Said\r\nContent-Length: {length}\r\n\r\n");
    match act {
        Act::Answer(Reply { status, headers, body }) => {
            // No `Connection: close`: a client that would keep the connection
            // may.
            let mut text = format!("HTTP/1.1 {status} Said\r\nContent-Length: {}\r\n", body.len());
            for (name, value) in headers {
                text.push_str(&format!("{name}: {value}\r\n"));
            }
            let _ = socket.write_all(format!("{text}\r\n{body}").as_bytes()).await;
            // A second request on this connection would be read, and seen.
            if let Some(second) = request(&mut socket).await {
                seen.lock().unwrap().push(second);
            }
        }
        Act::Hang => gone(&mut socket).await,
        Act::HangInBody(status) => {
            let _ = socket.write_all(format!("{}{{\"id\":", announced(status, 40)).as_bytes()).await;
            gone(&mut socket).await;
        }
        Act::BreakOff(status) => {
            let _ = socket.write_all(format!("{}{{\"id\":", announced(status, 40)).as_bytes()).await;
        }
        Act::Flood(status) => {
            const SIZE: usize = 50_000_000;
            let _ = socket.write_all(announced(status, SIZE).as_bytes()).await;
            let (chunk, mut written) = (vec![b' '; 10_000], 0);
            while written < SIZE && socket.write_all(&chunk).await.is_ok() {
                written += chunk.len();
            }
            flooded.send_replace(Some(written));
        }
        Act::Reset => {
            let _ = socket.set_zero_linger();
        }
        Act::Nonsense => {
            let _ = socket.write_all(b"220 mail.example ready\r\n").await;
        }
        Act::Close | Act::CloseUnread | Act::NoTls => {}
    }
}

/// Waits until the client has gone.
async fn gone(socket: &mut TcpStream) {
    while socket.read(&mut [0; 1024]).await.is_ok_and(|count| count > 0) {}
}

/// Reads one request; nothing when the client goes first.
async fn request(socket: &mut TcpStream) -> Option<Seen> {
    let (mut bytes, mut chunk) = (Vec::new(), [0; 4096]);
    loop {
        if let Some(seen) = parsed(&bytes) {
            return Some(seen);
        }
        match socket.read(&mut chunk).await {
            Ok(count) if count > 0 => bytes.extend_from_slice(&chunk[..count]),
            _ => return None,
        }
    }
}

fn parsed(bytes: &[u8]) -> Option<Seen> {
    let text = std::str::from_utf8(bytes).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    let mut lines = head.lines();
    let mut first = lines.next()?.split(' ');
    let (method, path) = (first.next()?.to_owned(), first.next()?.to_owned());
    let headers: Vec<_> = lines
        .map(|line| line.split_once(": ").map(|(name, value)| (name.to_owned(), value.to_owned())).unwrap())
        .collect();
    let seen = Seen { method, path, headers, body: body.to_owned() };
    let length = seen.header("content-length").map_or(0, |length| length.parse().unwrap());
    (body.len() == length).then_some(seen)
}
