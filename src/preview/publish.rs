//! Publishing and looking, and what a fault makes of it.
//!
//! A request is understood completely, then meets its fault, then has its
//! effect. The fault's hit and the effect happen under one lock: whoever saw
//! the hit finds the effect in the ledger.

use std::sync::Arc;

use axum::{
    Json,
    body::Body,
    extract::{
        Path, Query, State,
        rejection::{PathRejection, QueryRejection},
    },
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use serde_json::json;
use tokio::time::sleep;

use crate::{
    accounts::caller,
    answer::{ApiError, hang_up},
    error::Invalid,
    faults::{FaultKind, FaultTarget, Hit},
    fields,
    network::App,
    platform::{Platform, Published},
    posts::{Draft, Endpoint, Order, Post},
    read,
};

/// `PUT /api/idempotent/posts/{key}`
pub(crate) async fn idempotent(
    State(app): State<Arc<App>>,
    key: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let account = caller(&app, &headers)?;
    let Path(key) = key.map_err(|error| ApiError::malformed(error.body_text()))?;
    fields::key("key", &key)?;
    publish(app, account, Endpoint::Idempotent, Some(key), &headers, body).await
}

/// `POST /api/verifiable/posts`
pub(crate) async fn verifiable(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let account = caller(&app, &headers)?;
    let Some(key) = read::key_header(&headers, "X-Client-Key")? else {
        return Err(Invalid::new("X-Client-Key", "is missing: send the header with a key of yours").into());
    };
    publish(app, account, Endpoint::Verifiable, Some(key), &headers, body).await
}

/// `POST /api/blind/posts`
pub(crate) async fn blind(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let account = caller(&app, &headers)?;
    let key = read::key_header(&headers, "X-Trace-Key")?;
    publish(app, account, Endpoint::Blind, key, &headers, body).await
}

async fn publish(
    app: Arc<App>,
    account: String,
    endpoint: Endpoint,
    key: Option<String>,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let draft: Draft = read::json(headers, body).await?;
    draft.check()?;
    let order = Order { account, endpoint, key, draft };
    let (hit, effect) = {
        let mut platform = app.platform();
        let hit = platform.faults.hit(&order.account, endpoint.into());
        let at_once = hit.is_none_or(|hit| has_effect_at_once(hit.kind));
        let effect = at_once.then(|| platform.publish(&order));
        if hit.is_some() {
            platform.faults.count();
        }
        (hit, effect)
    };
    let reply = match effect {
        Some(Ok(published)) => Some(receipt(&app, &published)),
        // The data file is broken: that is no fault of ours to act out.
        Some(Err(error)) => return Err(error),
        None => None,
    };
    if let Some(Hit { kind: FaultKind::LateEffect, delay }) = hit {
        app.tasks.spawn(late_effect(Arc::clone(&app), order, delay));
    }
    match hit {
        Some(hit) => act_out(&app, hit, reply).await,
        None => Ok(reply.unwrap_or_else(hang_up)),
    }
}

const fn has_effect_at_once(kind: FaultKind) -> bool {
    matches!(kind, FaultKind::HangAfter | FaultKind::Late | FaultKind::LoseReply)
}

async fn late_effect(app: Arc<App>, order: Order, delay: std::time::Duration) {
    // What the platform took in is not lost by stopping it.
    tokio::select! {
        () = sleep(delay) => {}
        () = app.stop.cancelled() => {}
    }
    if let Err(error) = app.platform().publish(&order) {
        tracing::error!(error = error.into_message(), "a late post was not published");
    }
}

/// What the client gets of a request that met a fault; `reply` is what it would
/// have got, if there was an effect.
async fn act_out(app: &App, hit: Hit, reply: Option<Response>) -> Result<Response, ApiError> {
    let error = |status, code, message| Err(ApiError::new(status, code, message));
    match hit.kind {
        FaultKind::Fail => error(StatusCode::INTERNAL_SERVER_ERROR, "broken", "a fault was set: it failed"),
        FaultKind::Refuse => {
            error(StatusCode::UNPROCESSABLE_ENTITY, "refused", "a fault was set: the post is refused")
        }
        FaultKind::Throttle => {
            error(StatusCode::TOO_MANY_REQUESTS, "throttled", "a fault was set: too many requests")
        }
        FaultKind::OkWithError => {
            let message = "a fault was set: nothing was published, in spite of the status";
            Ok(Json(json!({ "error": { "code": "not_published", "message": message } })).into_response())
        }
        FaultKind::Hang | FaultKind::HangAfter => {
            app.stop.cancelled().await;
            Ok(hang_up())
        }
        FaultKind::Late => tokio::select! {
            () = sleep(hit.delay) => Ok(reply.unwrap_or_else(hang_up)),
            () = app.stop.cancelled() => Ok(hang_up()),
        },
        FaultKind::LateEffect | FaultKind::LoseReply => Ok(hang_up()),
    }
}

fn receipt(app: &App, published: &Published) -> Response {
    let mut receipt = json!({ "id": published.id, "url": post_url(app, &published.id) });
    tell_cost(&mut receipt, published.cost_micros);
    if published.repeated {
        receipt["repeated"] = true.into();
        Json(receipt).into_response()
    } else {
        (StatusCode::CREATED, Json(receipt)).into_response()
    }
}

/// A network that is free says nothing of money.
fn tell_cost(shown: &mut serde_json::Value, micros: u64) {
    if micros > 0 {
        shown["costMicros"] = micros.into();
    }
}

fn post_url(app: &App, id: &str) -> String {
    format!("{}/p/{id}", app.url)
}

/// The query of a look.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Look {
    client_key: String,
}

/// `GET /api/verifiable/posts?clientKey=K`: the account's posts with this key,
/// oldest first.
pub(crate) async fn look(
    State(app): State<Arc<App>>,
    look: Result<Query<Look>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let account = caller(&app, &headers)?;
    let Query(look) = look.map_err(|error| ApiError::malformed(error.body_text()))?;
    fields::key("clientKey", &look.client_key)?;
    let (hit, found) = {
        let mut platform = app.platform();
        let hit = platform.faults.hit(&account, FaultTarget::Lookup);
        if hit.is_some() {
            platform.faults.count();
        }
        (hit, found(&app, &platform, &account, &look.client_key))
    };
    match hit {
        Some(hit) => act_out(&app, hit, Some(found)).await,
        None => Ok(found),
    }
}

fn found(app: &App, platform: &Platform, account: &str, key: &str) -> Response {
    let shown = |post: &Post| {
        let mut shown = json!({
            "id": post.id,
            "url": post_url(app, &post.id),
            "text": post.text,
            "link": post.link,
            "createdAt": post.created_at,
            "at": post.at,
        });
        tell_cost(&mut shown, post.cost_micros);
        shown
    };
    let posts: Vec<_> = platform.posts_with_key(Endpoint::Verifiable, account, key).map(shown).collect();
    Json(json!({ "posts": posts })).into_response()
}
