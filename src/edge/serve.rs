//! Serving until told to stop: connections on hyper itself, because axum's own
//! server bounds neither the time nor the size of a request's head.

use std::convert::Infallible;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::response::Response;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;

use crate::layers::HttpLimits;

/// Pause after the system could not accept (it is out of file descriptors).
const PAUSE: Duration = Duration::from_millis(100);

/// Serves a router until `stop`: then it takes no new request and lets running
/// ones finish.
///
/// # Errors
/// The listener broke.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    limits: HttpLimits,
    stop: CancellationToken,
) -> io::Result<()> {
    let places = Arc::new(Semaphore::new(limits.connections));
    let connections = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = async {
                let place = Arc::clone(&places).acquire_owned().await;
                (place, listener.accept().await)
            } => accepted,
        };
        match accepted {
            (place, Ok((stream, _))) => {
                let (router, stop) = (router.clone(), stop.clone());
                connections.spawn(async move {
                    let _place = place;
                    connection(stream, router, limits, &stop).await;
                });
            }
            (_, Err(error)) => {
                tracing::warn!(%error, "the server cannot accept a connection");
                tokio::select! {
                    () = stop.cancelled() => break,
                    () = tokio::time::sleep(PAUSE) => {}
                }
            }
        }
    }
    connections.close();
    connections.wait().await;
    Ok(())
}

async fn connection(stream: TcpStream, router: Router, limits: HttpLimits, stop: &CancellationToken) {
    // Small answers go out at once instead of waiting for more.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a connection keeps its delay");
    }
    let service = service_fn(move |request: hyper::Request<Incoming>| answer(router.clone(), request));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        // Whoever sends its head byte by byte, or nothing at all, is cut off.
        .header_read_timeout(limits.head_timeout)
        .max_headers(limits.headers)
        .max_buf_size(limits.head_bytes)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::trace!(%error, "a connection ended");
    }
}

async fn answer(router: Router, request: hyper::Request<Incoming>) -> Result<Response, Infallible> {
    router.oneshot(request.map(Body::new)).await
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    /// What a connection hears until its end.
    async fn hear(request: &str, limits: HttpLimits) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let served = tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let router = Router::new().route("/", get(|| std::future::ready("hello")));
            connection(stream, router, limits, &CancellationToken::new()).await;
        });
        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(request.as_bytes()).await.unwrap();
        let mut heard = Vec::new();
        // A connection that is cut may be reset.
        let _ = client.read_to_end(&mut heard).await;
        served.await.unwrap();
        String::from_utf8_lossy(&heard).into_owned()
    }

    #[tokio::test]
    async fn a_head_that_is_slow_or_large_ends_the_connection() {
        let limits = HttpLimits { head_timeout: Duration::from_millis(50), ..HttpLimits::default() };
        let heard = hear("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", limits).await;
        assert!(heard.starts_with("HTTP/1.1 200"), "{heard}");
        // It would wait for ever: the test ends because the server hangs up.
        let heard = hear("GET / HTTP/1.1\r\nHost: a\r\n", limits).await;
        assert!(!heard.contains("hello"), "{heard}");
        let heard = hear("", limits).await;
        assert!(heard.is_empty(), "{heard}");
        let many = "x: y\r\n".repeat(limits.headers + 1);
        let heard = hear(&format!("GET / HTTP/1.1\r\n{many}\r\n"), limits).await;
        assert!(heard.starts_with("HTTP/1.1 431"), "{heard}");
        let large = "y".repeat(limits.head_bytes * 2);
        let heard = hear(&format!("GET / HTTP/1.1\r\nx: {large}\r\n\r\n"), limits).await;
        assert!(heard.is_empty() || heard.starts_with("HTTP/1.1 431"), "{heard}");
    }
}
