//! Just enough of PostgreSQL's protocol to lose the reply of a `COMMIT`, and
//! nothing else: messages are told apart, and `ReadyForQuery` is counted, so
//! that the reply of this statement is known even behind others.

use std::io;
use std::sync::Mutex;

use tokio::io::{AsyncReadExt, BufReader};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use super::link::{Pair, forward};
use super::{Shared, Way};

/// Longest message that is believed: anything longer is not this protocol.
const LONGEST: usize = 64 * 1024 * 1024;

/// Messages that are there already are passed in one piece of about this size.
const PIECE: usize = 32 * 1024;

/// What a client asked for on one connection.
#[derive(Debug, Default)]
pub(super) struct Requests {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Requests that end in a `ReadyForQuery`, the startup included.
    asked: u64,
    /// The request whose reply is to be lost.
    lose: Option<u64>,
}

impl Requests {
    /// Passes what the client says.
    pub(super) async fn pass(
        &self,
        from: OwnedReadHalf,
        mut to: OwnedWriteHalf,
        shared: &Shared,
        pair: &Pair,
    ) -> io::Result<()> {
        let mut from = BufReader::with_capacity(PIECE, from);
        // The startup message has no type.
        let startup = message(&mut from, None).await?;
        self.asked(false);
        forward(&startup, &mut to, Way::ToServer, shared, pair).await?;
        let mut piece = Vec::new();
        loop {
            let kind = from.read_u8().await?;
            let message = message(&mut from, Some(kind)).await?;
            // Query, Sync and FunctionCall are answered by ReadyForQuery.
            if matches!(kind, b'Q' | b'S' | b'F') {
                let commit = kind == b'Q' && is_commit(&message[5..]);
                self.asked(commit && shared.take_commit());
            }
            piece.extend(message);
            if from.buffer().is_empty() || piece.len() >= PIECE {
                forward(&piece, &mut to, Way::ToServer, shared, pair).await?;
                piece.clear();
            }
        }
    }

    fn asked(&self, lose: bool) {
        let mut state = self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        state.asked += 1;
        if lose {
            state.lose = Some(state.asked);
        }
    }

    /// The request whose reply is to be lost, if there is one.
    fn lose(&self) -> Option<u64> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner).lose
    }
}

/// What the server answers on one connection.
#[derive(Debug)]
pub(super) struct Replies;

impl Replies {
    /// Passes what the server says, until it has answered what is to be lost.
    pub(super) async fn pass(
        requests: &Requests,
        from: OwnedReadHalf,
        mut to: OwnedWriteHalf,
        shared: &Shared,
        pair: &Pair,
    ) -> io::Result<()> {
        let mut from = BufReader::with_capacity(PIECE, from);
        let mut answered = 0;
        let mut piece = Vec::new();
        loop {
            let kind = from.read_u8().await?;
            let message = message(&mut from, Some(kind)).await?;
            let ready = kind == b'Z';
            let lost = requests.lose() == Some(answered + 1);
            answered += u64::from(ready);
            if !lost {
                piece.extend(message);
            }
            if !piece.is_empty() && (lost || from.buffer().is_empty() || piece.len() >= PIECE) {
                forward(&piece, &mut to, Way::ToClient, shared, pair).await?;
                piece.clear();
            }
            if lost && ready {
                // Committed, or the server would not be ready for more.
                shared.count("lost commit");
                return Ok(());
            }
        }
    }
}

/// Whether a query is a `COMMIT` and nothing else.
fn is_commit(query: &[u8]) -> bool {
    let text = query.strip_suffix(&[0]).unwrap_or(query).trim_ascii();
    text.strip_suffix(b";").unwrap_or(text).eq_ignore_ascii_case(b"commit")
}

/// One message, whole, as it is on the wire.
async fn message(from: &mut BufReader<OwnedReadHalf>, kind: Option<u8>) -> io::Result<Vec<u8>> {
    let length = from.read_u32().await?;
    let body =
        (length as usize).checked_sub(4).filter(|body| *body <= LONGEST).ok_or(io::ErrorKind::InvalidData)?;
    let head = usize::from(kind.is_some());
    let mut message = Vec::with_capacity(head + 4 + body);
    message.extend(kind);
    message.extend(length.to_be_bytes());
    message.resize(head + 4 + body, 0);
    from.read_exact(&mut message[head + 4..]).await?;
    Ok(message)
}
