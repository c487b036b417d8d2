//! Reading a request: a bounded body, JSON that names what is wrong with it,
//! a header that may be missing.

use axum::{
    body::{Body, Bytes},
    http::{HeaderMap, StatusCode, header},
};
use futures::StreamExt;
use serde::de::DeserializeOwned;

use crate::{answer::ApiError, error::Invalid, fields};

/// Bytes of a body, at most.
const BODY: usize = 64 * 1024;
/// Bytes of an oversized body that are read and thrown away before the answer:
/// a client that is still writing when the connection closes sees a broken
/// pipe, not the 413.
const DRAIN: usize = 1024 * 1024;

/// A JSON body of at most 64 KiB.
pub(crate) async fn json<T: DeserializeOwned>(headers: &HeaderMap, body: Body) -> Result<T, ApiError> {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    // Insisting on it also keeps other sites' forms away: a browser asks first.
    if !kind.eq_ignore_ascii_case("application/json") {
        let message = "send the body as `Content-Type: application/json`";
        return Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "not_json", message));
    }
    let bytes = bytes(headers, body).await?;
    serde_json::from_slice(&bytes).map_err(|error| {
        if error.is_data() {
            Invalid::new("body", error.to_string()).into()
        } else {
            ApiError::malformed(format!("the body is not JSON: {error}"))
        }
    })
}

async fn bytes(headers: &HeaderMap, body: Body) -> Result<Bytes, ApiError> {
    let too_large = || {
        let message = format!("the body has more than {BODY} bytes");
        ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", message)
    };
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    if announced.and_then(|length| length.parse::<u64>().ok()).is_some_and(|length| length > DRAIN as u64) {
        return Err(too_large());
    }
    let (mut kept, mut seen) = (Vec::new(), 0usize);
    let mut chunks = body.into_data_stream();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|error| ApiError::malformed(format!("the body ended early: {error}")))?;
        seen = seen.saturating_add(chunk.len());
        if seen > DRAIN {
            return Err(too_large());
        }
        if seen <= BODY {
            kept.extend_from_slice(&chunk);
        }
    }
    if seen > BODY { Err(too_large()) } else { Ok(kept.into()) }
}

/// A key in a header, when there is one.
pub(crate) fn key_header(headers: &HeaderMap, name: &'static str) -> Result<Option<String>, ApiError> {
    let Some(value) = headers.get(name) else { return Ok(None) };
    let Ok(key) = value.to_str() else {
        return Err(Invalid::new(name, "must be visible ASCII").into());
    };
    fields::key(name, key)?;
    Ok(Some(key.to_owned()))
}
