//! Reading requests: every refusal names the field it is about.

use std::error::Error as _;

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::header::CONTENT_TYPE;
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use galley_engine::store::carried;
use serde::de::DeserializeOwned;
use serde_json::error::Category;
use tracing::Instrument as _;

use crate::error::{ApiError, NOT_JSON, TOO_LARGE};

/// A JSON body.
pub struct Body<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let json = is_json(request.headers());
        let bytes = read(request, state).await?;
        if !json {
            return Err(ApiError::new(NOT_JSON, "send JSON with `Content-Type: application/json`"));
        }
        parse(&bytes).map(Self)
    }
}

/// A JSON body that may be left out.
pub struct MaybeBody<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned + Default> FromRequest<S> for MaybeBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let json = is_json(request.headers());
        let bytes = read(request, state).await?;
        if bytes.is_empty() {
            return Ok(Self(T::default()));
        }
        if !json {
            return Err(ApiError::new(NOT_JSON, "send JSON with `Content-Type: application/json`"));
        }
        // `null` is no body, either.
        parse::<Option<T>>(&bytes).map(|body| Self(body.unwrap_or_default()))
    }
}

async fn read<S: Send + Sync>(request: Request, state: &S) -> Result<Bytes, ApiError> {
    Bytes::from_request(request, state).await.map_err(|rejection| {
        if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
            ApiError::new(
                TOO_LARGE,
                "the body is over the limit of this server; pass large data by reference",
            )
        } else {
            ApiError::malformed("body", rejection.body_text())
        }
    })
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json"))
}

/// How deep a body may nest: as far as its parts are read everywhere.
const MAX_DEPTH: u32 = 100;

/// Whether JSON nests too deeply. What is kept as it came would not be counted
/// by whoever parses it.
fn is_deep(bytes: &[u8]) -> bool {
    let (mut depth, mut text, mut escaped) = (0_u32, false, false);
    for byte in bytes {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if text => escaped = true,
            b'"' => text = !text,
            _ if text => {}
            b'[' | b'{' => {
                depth += 1;
                if depth > MAX_DEPTH {
                    return true;
                }
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    false
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    if is_deep(bytes) {
        return Err(ApiError::malformed("body", format!("it nests deeper than {MAX_DEPTH}")));
    }
    // A list would be taken for an object's fields in their order.
    if bytes.trim_ascii_start().first() == Some(&b'[') {
        return Err(ApiError::invalid("body", "a JSON object is expected, not a list"));
    }
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let parsed = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let path = error.path().to_string();
        let at = if path == "." { "body" } else { &path };
        match error.inner().classify() {
            Category::Data => ApiError::invalid(at, error.inner().to_string()),
            Category::Io | Category::Syntax | Category::Eof => {
                ApiError::malformed("body", format!("not JSON: {}", error.inner()))
            }
        }
    })?;
    json.end().map_err(|error| ApiError::malformed("body", format!("not JSON: {error}")))?;
    Ok(parsed)
}

/// The query string.
pub struct QueryString<T>(pub T);

impl<S: Sync, T: DeserializeOwned> FromRequestParts<S> for QueryString<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let query = axum::extract::Query::<T>::try_from_uri(&parts.uri).map_err(|rejection| {
            // The rejection wraps the error that knows the field.
            let mut source = rejection.source();
            while let Some(error) = source {
                if let Some(error) = error.downcast_ref::<QueryError>() {
                    let path = error.path().to_string();
                    let at = if path == "." { "query" } else { &path };
                    return ApiError::malformed(at, error.inner().to_string());
                }
                source = error.source();
            }
            ApiError::malformed("query", rejection.body_text())
        })?;
        Ok(Self(query.0))
    }
}

type QueryError = serde_path_to_error::Error<serde::de::value::Error>;

/// A header as text; `None` when it is absent.
///
/// # Errors
/// It is no text.
pub fn header<'h>(headers: &'h HeaderMap, name: &str) -> Result<Option<&'h str>, ApiError> {
    let value = headers.get(name).map(|value| value.to_str());
    value.transpose().map_err(|_| ApiError::malformed(name, "visible ASCII characters only"))
}

/// Runs a change to its end in a task of its own: a client that hangs up, or a
/// request that times out, does not leave it half done.
pub async fn to_the_end<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> T {
    match tokio::spawn(carried(work.in_current_span())).await {
        Ok(done) => done,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // Only a runtime that goes down cancels it; nobody hears an answer.
            Err(_) => std::future::pending().await,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depth_is_what_nests_and_not_what_texts_hold() {
        let nested = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
        assert!(!is_deep(nested(100).as_bytes()) && is_deep(nested(101).as_bytes()));
        assert!(!is_deep(format!("\"{}\"", "[".repeat(500)).as_bytes()));
        assert!(!is_deep(format!("\"\\\"{}\"", "[".repeat(500)).as_bytes()));
        assert!(is_deep(format!("\"\\\\\"{}", "{".repeat(101)).as_bytes()));
        assert!(!is_deep("[],".repeat(500).as_bytes()));
    }
}
