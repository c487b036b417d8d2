//! What a proxy passes, drops and cuts, against servers of a few lines.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

/// A server that says everything back.
async fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let (mut read, mut write) = stream.split();
                tokio::io::copy(&mut read, &mut write).await.ok();
            });
        }
    });
    address
}

async fn through(proxy: &Proxy) -> TcpStream {
    TcpStream::connect(("127.0.0.1", proxy.port())).await.unwrap()
}

async fn said(stream: &mut TcpStream, count: usize) -> Vec<u8> {
    let mut said = vec![0; count];
    stream.read_exact(&mut said).await.unwrap();
    said
}

/// Reads until the connection ends: what still arrived.
async fn rest(stream: &mut TcpStream) -> Vec<u8> {
    let mut rest = Vec::new();
    // A reset is an end, too.
    let _ = stream.read_to_end(&mut rest).await;
    rest
}

#[tokio::test]
async fn bytes_pass_both_ways() {
    let proxy = Proxy::before(echo().await, Protocol::Opaque).await.unwrap();
    let mut client = through(&proxy).await;
    client.write_all(b"hello").await.unwrap();
    assert_eq!(said(&mut client, 5).await, b"hello");
    assert!(proxy.counts().is_empty());
}

#[tokio::test]
async fn a_cut_ends_what_is_open_and_nothing_else() {
    let proxy = Proxy::before(echo().await, Protocol::Opaque).await.unwrap();
    let mut client = through(&proxy).await;
    client.write_all(b"a").await.unwrap();
    said(&mut client, 1).await;
    proxy.cut();
    assert_eq!(rest(&mut client).await, b"");
    assert_eq!(proxy.counts()["cut"], 1);
    let mut client = through(&proxy).await;
    client.write_all(b"b").await.unwrap();
    assert_eq!(said(&mut client, 1).await, b"b");
}

#[tokio::test]
async fn a_cut_at_a_byte_lets_exactly_so_many_pass() {
    for way in [Way::ToServer, Way::ToClient] {
        let proxy = Proxy::before(echo().await, Protocol::Opaque).await.unwrap();
        let mut client = through(&proxy).await;
        proxy.cut_after(way, 3);
        client.write_all(b"hello").await.unwrap();
        let rest = rest(&mut client).await;
        // Towards the server the echo may be lost with the connection.
        assert!(b"hel".starts_with(&rest), "{rest:?}");
        assert!(way == Way::ToServer || rest.len() == 3, "{rest:?}");
        assert_eq!(proxy.counts()["cut at a byte"], 1);
    }
}

#[tokio::test]
async fn a_silent_way_loses_bytes_and_the_connection_ends_when_it_is_heard_again() {
    for way in [Way::ToServer, Way::ToClient] {
        let proxy = Proxy::before(echo().await, Protocol::Opaque).await.unwrap();
        let mut client = through(&proxy).await;
        proxy.weather(Weather {
            swallow_to_server: way == Way::ToServer,
            swallow_to_client: way == Way::ToClient,
            ..Weather::default()
        });
        client.write_all(b"hello").await.unwrap();
        while !proxy.counts().contains_key("swallowed") {
            tokio::task::yield_now().await;
        }
        proxy.heal();
        assert_eq!(rest(&mut client).await, b"");
    }
}

#[tokio::test]
async fn a_delay_only_delays() {
    let proxy = Proxy::before(echo().await, Protocol::Opaque).await.unwrap();
    proxy.weather(Weather { delay: Duration::from_millis(5), ..Weather::default() });
    let mut client = through(&proxy).await;
    client.write_all(b"hello").await.unwrap();
    assert_eq!(said(&mut client, 5).await, b"hello");
    assert!(proxy.counts()["delayed"] >= 2);
}

/// A server that answers every query with its text and `ReadyForQuery`, and
/// says which it served.
async fn database() -> (SocketAddr, tokio::sync::mpsc::UnboundedReceiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (served, saw) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let served = served.clone();
            tokio::spawn(async move {
                let startup = stream.read_u32().await.unwrap();
                said(&mut stream, startup as usize - 4).await;
                stream.write_all(b"Z\0\0\0\x05I").await.unwrap();
                while let Ok(kind) = stream.read_u8().await {
                    let length = stream.read_u32().await.unwrap() as usize - 4;
                    let body = said(&mut stream, length).await;
                    let text = String::from_utf8(body[..length - 1].to_vec()).unwrap();
                    served.send(text).unwrap();
                    if kind == b'Q' {
                        let mut answer = query(b'C', &body);
                        answer.extend(b"Z\0\0\0\x05I");
                        // A client that hung up.
                        let _ = stream.write_all(&answer).await;
                    }
                }
            });
        }
    });
    (address, saw)
}

fn query(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut message = vec![kind];
    message.extend((body.len() as u32 + 4).to_be_bytes());
    message.extend(body);
    message
}

async fn client(proxy: &Proxy) -> TcpStream {
    let mut stream = through(proxy).await;
    stream.write_all(b"\0\0\0\x08\0\x03\0\0").await.unwrap();
    assert_eq!(said(&mut stream, 6).await, b"Z\0\0\0\x05I");
    stream
}

#[tokio::test]
async fn exactly_the_reply_of_a_commit_is_lost() {
    let (server, mut saw) = database().await;
    let proxy = Proxy::before(server, Protocol::Postgres).await.unwrap();
    let mut stream = client(&proxy).await;
    proxy.lose_commits(1);
    for text in ["BEGIN", "UPDATE x", "ROLLBACK", "COMMIT PREPARED 'x'"] {
        let body = format!("{text}\0");
        stream.write_all(&query(b'Q', body.as_bytes())).await.unwrap();
        let answer = said(&mut stream, 5 + body.len() + 6).await;
        assert!(answer.ends_with(b"Z\0\0\0\x05I"), "{text}");
    }
    stream.write_all(&query(b'Q', b"COMMIT\0")).await.unwrap();
    assert_eq!(rest(&mut stream).await, b"", "not a byte of its reply");
    let mut served = Vec::new();
    while served.last().is_none_or(|text| text != "COMMIT") {
        served.push(saw.recv().await.unwrap());
    }
    assert_eq!(served.len(), 5, "the server committed: {served:?}");
    assert_eq!(proxy.counts()["lost commit"], 1);
    // The next one is answered.
    let mut stream = client(&proxy).await;
    stream.write_all(&query(b'Q', b"COMMIT\0")).await.unwrap();
    assert_eq!(said(&mut stream, 18).await, [&query(b'C', b"COMMIT\0")[..], b"Z\0\0\0\x05I"].concat());
}

#[tokio::test]
async fn replies_before_that_of_a_pipelined_commit_arrive() {
    let (server, _saw) = database().await;
    let proxy = Proxy::before(server, Protocol::Postgres).await.unwrap();
    let mut stream = client(&proxy).await;
    proxy.lose_commits(1);
    let both = [query(b'Q', b"SELECT\0"), query(b'Q', b"COMMIT\0")].concat();
    stream.write_all(&both).await.unwrap();
    assert_eq!(rest(&mut stream).await, [&query(b'C', b"SELECT\0")[..], b"Z\0\0\0\x05I"].concat());
}
