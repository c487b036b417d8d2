//! Every path of the network, and the headers of every answer.

use std::sync::Arc;

use axum::{
    Json, Router,
    body::Body,
    extract::{Path, State, rejection::PathRejection},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header},
    middleware::map_response,
    response::{IntoResponse, Response},
    routing::{delete, get, post, put},
};
use serde_json::json;

use crate::{
    accounts, answer::ApiError, faults::SetFault, ledger, network::App, page, posts::Price, publish, read,
};

pub(crate) fn router(app: Arc<App>) -> Router {
    let api = Router::new()
        .route("/api/accounts", post(accounts::create).get(accounts::list))
        .route("/api/me", get(accounts::me))
        .route("/api/idempotent/posts/{key}", put(publish::idempotent))
        .route("/api/verifiable/posts", post(publish::verifiable).get(publish::look))
        .route("/api/blind/posts", post(publish::blind))
        .route("/api/ledger", get(ledger::show))
        .route("/api/price", get(show_price).put(set_price))
        .route("/api/faults", post(set_fault).get(list_faults).delete(clear_faults))
        .route("/api/faults/{id}", delete(delete_fault));
    let pages = Router::new()
        .route("/", get(page::timeline))
        .route("/a/{handle}", get(page::account))
        .route("/p/{id}", get(page::post))
        .route("/fragment", get(page::fragment))
        .route("/favicon.svg", get(page::favicon));
    api.merge(pages)
        .fallback(nowhere)
        .method_not_allowed_fallback(wrong_method)
        .layer(map_response(secured))
        .with_state(app)
}

/// The headers of every answer: nothing may be framed, guessed, cached or
/// loaded from elsewhere.
async fn secured(mut response: Response) -> Response {
    let fixed: [(HeaderName, HeaderValue); 4] = [
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (header::CONTENT_SECURITY_POLICY, page::policy()),
    ];
    for (name, value) in fixed {
        response.headers_mut().entry(name).or_insert(value);
    }
    response
}

async fn nowhere(State(app): State<Arc<App>>, uri: Uri) -> Response {
    if is_api(&uri) {
        ApiError::not_found(format!("there is no {}", uri.path())).into_response()
    } else {
        page::nothing_here(&app).await
    }
}

async fn wrong_method(method: Method, uri: Uri) -> Response {
    let message = format!("{} does not take {method}", uri.path());
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message).into_response()
}

fn is_api(uri: &Uri) -> bool {
    uri.path() == "/api" || uri.path().starts_with("/api/")
}

// -- what a post costs

async fn show_price(State(app): State<Arc<App>>) -> Json<Price> {
    Json(app.platform().price)
}

async fn set_price(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Price>, ApiError> {
    let price: Price = read::json(&headers, body).await?;
    price.check()?;
    app.platform().price = price;
    Ok(Json(price))
}

// -- faults

async fn set_fault(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let wanted: SetFault = read::json(&headers, body).await?;
    let fault = app.platform().set_fault(wanted)?;
    Ok((StatusCode::CREATED, Json(fault)).into_response())
}

async fn list_faults(State(app): State<Arc<App>>) -> Response {
    let platform = app.platform();
    let hits = *platform.faults.hits().borrow();
    Json(json!({ "faults": platform.faults.list(), "hits": hits })).into_response()
}

async fn clear_faults(State(app): State<Arc<App>>) -> StatusCode {
    app.platform().faults.clear();
    StatusCode::NO_CONTENT
}

async fn delete_fault(
    State(app): State<Arc<App>>,
    id: Result<Path<u64>, PathRejection>,
) -> Result<StatusCode, ApiError> {
    let Path(id) = id.map_err(|error| ApiError::malformed(error.body_text()))?;
    if app.platform().faults.delete(id) {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(ApiError::not_found(format!("there is no fault {id}")))
    }
}
