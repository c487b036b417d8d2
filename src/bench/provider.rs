//! A provider of the bench's own: speaks as OpenAI does, over HTTP/2 as the
//! large ones do or over HTTP/1.1, streams one word a second, and keeps its own
//! ledger. It can hold every answer's last word back until so many calls are
//! under way: then a machine that cannot begin them all within the time of one
//! has them all under way at once, nevertheless.

use std::convert::Infallible;
use std::future::{Future as _, poll_fn};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use hyper::body::{Body, Bytes, Frame, Incoming};
use hyper::header::CONTENT_TYPE;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::Sleep;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// What a call is counted as.
pub(crate) const TOKENS_IN: u32 = 200;
/// See [`TOKENS_IN`].
pub(crate) const TOKENS_OUT: u32 = 40;

/// How long one part of an answer takes to come.
const PART: Duration = Duration::from_secs(1);

/// Whoever has said all but the last word says something this often while
/// others still begin: no caller takes it for dead.
const STILL_THERE: Duration = Duration::from_secs(15);

/// What it did.
#[derive(Debug, Default)]
pub(crate) struct Done {
    /// Calls under way now.
    pub(crate) under_way: AtomicUsize,
    /// The most there were.
    pub(crate) most: AtomicUsize,
    /// Calls it answered, and charges for.
    pub(crate) answered: AtomicU64,
    /// Calls whose caller went away.
    pub(crate) left: AtomicU64,
    /// When so many had begun that none is held back any more.
    pub(crate) gathered: OnceLock<Instant>,
    begun: AtomicUsize,
    /// Opens then.
    gate: CancellationToken,
}

/// Streams that it lets be open on one connection: what most servers do.
const STREAMS: u32 = 100;

/// Serves until the process ends; holds answers back until `gather` calls have
/// begun. Answers where.
pub(crate) async fn serve(
    length: Duration,
    gather: Option<usize>,
    http1: bool,
    done: Arc<Done>,
) -> anyhow::Result<String> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(([127, 0, 0, 1], 0).into())?;
    // Thousands connect within a second.
    let listener: TcpListener = socket.listen(4_096)?;
    let base = format!("http://{}/v1", listener.local_addr()?);
    tokio::spawn(async move {
        loop {
            match listener.accept().await {
                Ok((connection, _)) => {
                    tokio::spawn(talk(connection, length, gather, http1, Arc::clone(&done)));
                }
                Err(error) => {
                    tracing::error!(%error, "the bench's provider cannot accept");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    });
    Ok(base)
}

async fn talk(connection: TcpStream, length: Duration, gather: Option<usize>, http1: bool, done: Arc<Done>) {
    let _ = connection.set_nodelay(true);
    let service = service_fn(move |request: Request<Incoming>| {
        let done = Arc::clone(&done);
        async move {
            let mut question = request.into_body();
            while poll_fn(|context| Pin::new(&mut question).poll_frame(context)).await.is_some() {}
            let mut response = Response::new(Words::new(length, gather, done));
            response
                .headers_mut()
                .insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static("text/event-stream"));
            Ok::<_, Infallible>(response)
        }
    });
    let io = TokioIo::new(connection);
    let over = if http1 {
        http1::Builder::new().timer(TokioTimer::new()).serve_connection(io, service).await
    } else {
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder.max_concurrent_streams(STREAMS).serve_connection(io, service).await
    };
    if let Err(error) = over {
        tracing::debug!(%error, "a connection to the bench's provider ended");
    }
}

/// An answer, word for word.
struct Words {
    done: Arc<Done>,
    wait: Pin<Box<Sleep>>,
    part: Duration,
    /// Parts that are still to come, the first and the last included.
    left: u32,
    first: bool,
    /// Before the last one; none when nobody is waited for.
    gate: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
    /// It has said all the others.
    held: bool,
}

impl Words {
    fn new(length: Duration, gather: Option<usize>, done: Arc<Done>) -> Self {
        let now = done.under_way.fetch_add(1, Relaxed) + 1;
        done.most.fetch_max(now, Relaxed);
        if done.begun.fetch_add(1, Relaxed) + 1 == gather.unwrap_or(0) {
            let _ = done.gathered.set(Instant::now());
            done.gate.cancel();
        }
        let gate = gather.map(|_| Box::pin(done.gate.clone().cancelled_owned()));
        let parts = u32::try_from(length.as_secs()).unwrap_or(u32::MAX).max(1);
        let wait = Box::pin(tokio::time::sleep(Duration::ZERO));
        Self { done, wait, part: PART.min(length), left: parts + 1, first: true, gate, held: false }
    }
}

impl Body for Words {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        let is_last = self.left == 1;
        let held = match &mut self.gate {
            Some(gate) if is_last => gate.as_mut().poll(context).is_pending(),
            _ => false,
        };
        // Held back before, and no longer: at once.
        if held || !self.held {
            ready!(self.wait.as_mut().poll(context));
        }
        self.held = held;
        let next = self.wait.deadline() + if held { STILL_THERE } else { self.part };
        self.wait.as_mut().reset(next);
        if !held {
            self.left -= 1;
        }
        let said = if self.left == 0 {
            self.done.answered.fetch_add(1, Relaxed);
            last()
        } else if std::mem::take(&mut self.first) {
            part(r#""delta":{"role":"assistant","content":"{\"ok\":"}"#)
        } else {
            part(r#""delta":{"content":" "}"#)
        };
        Poll::Ready(Some(Ok(Frame::data(said.into()))))
    }
}

impl Drop for Words {
    fn drop(&mut self) {
        self.done.under_way.fetch_sub(1, Relaxed);
        if self.left > 0 {
            self.done.left.fetch_add(1, Relaxed);
        }
    }
}

fn last() -> String {
    let end = part(r#""delta":{"content":"true}"},"finish_reason":"stop""#);
    let tokens = TOKENS_IN + TOKENS_OUT;
    let usage = format!(
        r#"{{"prompt_tokens":{TOKENS_IN},"completion_tokens":{TOKENS_OUT},"total_tokens":{tokens}}}"#
    );
    format!("{end}data: {{\"model\":\"m-1\",\"choices\":[],\"usage\":{usage}}}\n\ndata: [DONE]\n\n")
}

fn part(choice: &str) -> String {
    format!("data: {{\"model\":\"m-1\",\"choices\":[{{\"index\":0,{choice}}}]}}\n\n")
}
