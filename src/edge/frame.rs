//! Around every request: an id, a span, the metrics, and one shape for every
//! error, whoever made it.

use std::any::Any;
use std::time::Instant;

use axum::Json;
use axum::extract::{MatchedPath, Request};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
    X_FRAME_OPTIONS,
};
use axum::http::{HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use galley_engine::store::on_behalf;
use tracing::Instrument as _;

use crate::error::ApiError;
use crate::rate;
use crate::trace::{REQUEST_ID, request_id};

/// The outermost layer.
pub async fn frame(request: Request, next: Next) -> Response {
    let id = request_id(request.headers());
    let method = request.method().to_string();
    // The pattern, not the path: ids would make a metric per workflow.
    let route = request.extensions().get::<MatchedPath>();
    let route = route.map_or_else(|| "unmatched".to_owned(), |matched| matched.as_str().to_owned());
    let span = tracing::info_span!(
        "request",
        request.id = %id,
        %method,
        %route,
        workspace = tracing::field::Empty,
        status = tracing::field::Empty,
    );
    let began = Instant::now();
    // Audit rows name the request that asked for what they tell.
    let response = on_behalf(id.as_str().into(), next.run(request).instrument(span.clone())).await;
    let took = began.elapsed();

    let _in_span = span.enter();
    let mut response = write_problem(response, &id);
    let status = response.status().as_u16();
    span.record("status", status);
    tracing::debug!(ms = took.as_secs_f64() * 1_000.0, "answered");
    metrics::histogram!("galley_http_request_seconds", "route" => route.clone(), "method" => method.clone())
        .record(took.as_secs_f64());
    metrics::counter!(
        "galley_http_requests_total",
        "route" => route, "method" => method, "status" => status.to_string()
    )
    .increment(1);
    for (name, value) in SECURITY {
        response.headers_mut().entry(name).or_insert(HeaderValue::from_static(value));
    }
    // The id is ASCII: checked, or made here.
    if let Ok(id) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    response
}

/// What every answer says to browsers: it is data of one caller, nothing to
/// guess about, to run, to frame, or to keep.
const SECURITY: [(HeaderName, &str); 5] = [
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
    (X_FRAME_OPTIONS, "DENY"),
    (REFERRER_POLICY, "no-referrer"),
    (CACHE_CONTROL, "no-store"),
];

/// Errors that are not JSON yet become problems.
fn write_problem(mut response: Response, id: &str) -> Response {
    let error = match response.extensions_mut().remove::<ApiError>() {
        Some(error) => error,
        None if response.status().as_u16() < 400 || is_json(&response) => return response,
        None => ApiError::of_status(response.status()),
    };
    if let Some(secret) = error.secret() {
        tracing::error!(status = error.status().as_u16(), error = secret, "a request was not served");
    }
    let mut headers = error.headers();
    // Where the caller stands with its limits holds for errors, too.
    let said = response.headers().iter().filter(|(name, _)| name.as_str().starts_with(rate::PREFIX));
    headers.extend(said.map(|(name, value)| (name.clone(), value.clone())));
    // What an outer layer adds (`Allow`) comes later and stays.
    let mut response = (error.status(), headers, Json(error.problem(id))).into_response();
    let kind = HeaderValue::from_static("application/problem+json");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

fn is_json(response: &Response) -> bool {
    let kind = response.headers().get(CONTENT_TYPE);
    kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/json"))
}

/// The answer to a request whose handler panicked.
pub fn panicked(panic: Box<dyn Any + Send>) -> Response {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    ApiError::internal(format!("panic: {}", text.as_deref().unwrap_or("no message"))).into_response()
}
