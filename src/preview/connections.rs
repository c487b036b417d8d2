//! The listener and its connections, on hyper itself: axum's own server always
//! writes a reply, and losing replies is what this network is for.

use std::{convert::Infallible, pin::pin, sync::Arc, time::Duration};

use axum::{Router, body::Body, response::Response};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::sleep,
};
use tower::ServiceExt;

use crate::{answer::HangUp, network::App};

/// Connections at a time, hanging ones included; further ones wait.
const CONNECTIONS: usize = 1_024;
/// Time a client has for its headers.
const HEADERS: Duration = Duration::from_secs(30);
/// Pause after the system could not accept (it is out of file descriptors).
const PAUSE: Duration = Duration::from_millis(100);

/// hyper closes a connection whose service fails, and writes nothing.
#[derive(Debug, thiserror::Error)]
#[error("hung up on purpose")]
struct HungUp;

/// Accepts until the network stops.
pub(crate) async fn serve(listener: TcpListener, router: Router, app: Arc<App>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let accepted = tokio::select! {
            () = app.stop.cancelled() => return,
            accepted = async {
                let place = Arc::clone(&places).acquire_owned().await;
                (place, listener.accept().await)
            } => accepted,
        };
        match accepted {
            (place, Ok((stream, _))) => {
                let (router, app) = (router.clone(), Arc::clone(&app));
                let tasks = app.tasks.clone();
                tasks.spawn(async move {
                    let _place = place;
                    tokio::select! {
                        () = connection(stream, router, &app) => {}
                        () = app.abort.cancelled() => {}
                    }
                });
            }
            (_, Err(error)) => {
                tracing::warn!(%error, "the preview network cannot accept a connection");
                tokio::select! {
                    () = app.stop.cancelled() => return,
                    () = sleep(PAUSE) => {}
                }
            }
        }
    }
}

async fn connection(stream: TcpStream, router: Router, app: &App) {
    // Small answers that a test waits for; a failure only makes them slower.
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request: hyper::Request<Incoming>| answer(router.clone(), request));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = app.stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::trace!(%error, "a connection ended");
    }
}

async fn answer(router: Router, request: hyper::Request<Incoming>) -> Result<Response, HungUp> {
    let response: Result<Response, Infallible> = router.oneshot(request.map(Body::new)).await;
    let Ok(response) = response;
    if response.extensions().get::<HangUp>().is_some() { Err(HungUp) } else { Ok(response) }
}
