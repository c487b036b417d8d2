//! Errors as problems (RFC 9457): what failed, for which id, what to do next.
//!
//! A handler returns an [`ApiError`]; [`crate::frame`] writes it down, because
//! only the frame knows the request's id.

use axum::http::StatusCode;
use axum::http::header::{RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderValue};
use axum::response::{IntoResponse, Response};
use galley_core::plan::Problem as CoreProblem;
use galley_engine::EngineError;
use galley_engine::store::StoreError;

use crate::problem::{Problem, ProblemAt};
use crate::rate::Standing;

/// Seconds after which a store that was away is worth another try.
const RETRY_SECONDS: u64 = 2;

/// A kind of problem: its stable name, its title, its status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind(&'static str, &'static str, StatusCode);

impl Kind {
    /// A kind that only one server has.
    pub const fn of_its_own(name: &'static str, title: &'static str, status: StatusCode) -> Self {
        Self(name, title, status)
    }
}

/// It is no request of ours.
pub const MALFORMED: Kind = Kind("malformed", "The request cannot be read", StatusCode::BAD_REQUEST);
/// Nobody knows who asks.
pub const UNAUTHENTICATED: Kind =
    Kind("unauthenticated", "A valid token is required", StatusCode::UNAUTHORIZED);
/// Whoever asks may not.
pub const FORBIDDEN: Kind = Kind("forbidden", "The token does not allow this", StatusCode::FORBIDDEN);
/// It is not there, or not the caller's.
pub const NOT_FOUND: Kind = Kind("not-found", "There is no such thing here", StatusCode::NOT_FOUND);
/// The route has another method.
pub const METHOD_NOT_ALLOWED: Kind =
    Kind("method-not-allowed", "This cannot be done to it", StatusCode::METHOD_NOT_ALLOWED);
/// Its state does not allow it.
pub const CONFLICT: Kind = Kind("conflict", "Its state does not allow this", StatusCode::CONFLICT);
/// The body is over the limit.
pub const TOO_LARGE: Kind = Kind("too-large", "The request is too large", StatusCode::PAYLOAD_TOO_LARGE);
/// The body says it is something else.
pub const NOT_JSON: Kind =
    Kind("unsupported-media-type", "The body is not JSON", StatusCode::UNSUPPORTED_MEDIA_TYPE);
/// It can be read, and is wrong.
pub const INVALID: Kind = Kind("invalid", "The request is not valid", StatusCode::UNPROCESSABLE_ENTITY);
/// The key was another request's.
pub const IDEMPOTENCY: Kind = Kind(
    "idempotency-mismatch",
    "The idempotency key was used for another request",
    StatusCode::UNPROCESSABLE_ENTITY,
);
/// Asked too often.
pub const RATE_LIMITED: Kind = Kind("rate-limited", "Too many requests", StatusCode::TOO_MANY_REQUESTS);
/// Too much is unfinished.
pub const BACKLOG_FULL: Kind = Kind("backlog-full", "Too much is unfinished", StatusCode::TOO_MANY_REQUESTS);
/// A key that opens content is missing.
pub const SEALED: Kind =
    Kind("sealed-content", "Sealed content cannot be opened", StatusCode::INTERNAL_SERVER_ERROR);
/// A bug, or a broken deployment.
pub const INTERNAL: Kind =
    Kind("internal", "Something is wrong inside Galley", StatusCode::INTERNAL_SERVER_ERROR);
/// Postgres or Redis does not answer.
pub const UNAVAILABLE: Kind = Kind("unavailable", "A store is away", StatusCode::SERVICE_UNAVAILABLE);
/// It took too long.
pub const TIMEOUT: Kind = Kind("timeout", "It took too long", StatusCode::GATEWAY_TIMEOUT);

/// When another try is worth it.
#[derive(Clone, Debug)]
struct Again {
    /// After so many seconds.
    seconds: u64,
    /// Where the caller stands with its limit.
    standing: Option<Standing>,
}

/// A request that was not served.
#[derive(Clone, Debug)]
pub struct ApiError {
    kind: Kind,
    detail: String,
    problems: Vec<ProblemAt>,
    /// What only the log may say.
    secret: Option<String>,
    /// When another try is worth it.
    again: Option<Box<Again>>,
}

impl ApiError {
    /// A problem of a kind: what failed, and what to do next.
    pub fn new(kind: Kind, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into(), problems: Vec::new(), secret: None, again: None }
    }

    /// Whatever is wrong with the token, these are the words.
    pub fn unauthenticated() -> Self {
        let detail = "send `Authorization: Bearer <token>` with a valid token; an admin issues one";
        Self::new(UNAUTHENTICATED, detail)
    }

    /// Whoever asks may not do this.
    pub fn forbidden(detail: String) -> Self {
        Self::new(FORBIDDEN, detail)
    }

    /// One request too many.
    pub fn rate_limited(standing: Standing) -> Self {
        let seconds = standing.retry_after();
        let detail = format!(
            "this caller or its workspace asked too often; nothing was done, repeat the request after {seconds} s"
        );
        let again = Some(Box::new(Again { seconds, standing: Some(standing) }));
        Self { again, ..Self::new(RATE_LIMITED, detail) }
    }

    /// One workflow too many.
    pub fn backlog_full(detail: String, seconds: u64) -> Self {
        let again = Some(Box::new(Again { seconds, standing: None }));
        Self { again, ..Self::new(BACKLOG_FULL, detail) }
    }

    /// A request that cannot be read, at a place.
    pub fn malformed(at: &str, problem: impl Into<String>) -> Self {
        Self::at(MALFORMED, at, problem)
    }

    /// A request that can be read and is wrong, at a place.
    pub fn invalid(at: &str, problem: impl Into<String>) -> Self {
        Self::at(INVALID, at, problem)
    }

    fn at(kind: Kind, at: &str, problem: impl Into<String>) -> Self {
        let problem = problem.into();
        let detail = format!("{at}: {problem}");
        let problems = vec![ProblemAt { at: at.to_owned(), problem }];
        Self { problems, ..Self::new(kind, detail) }
    }

    /// Something of the caller's workspace that is not there.
    pub fn not_found(kind: &'static str, id: &str) -> Self {
        EngineError::NotFound { kind, id: id.to_owned() }.into()
    }

    /// A bug or a broken deployment: the reason goes to the log only.
    pub fn internal(secret: impl Into<String>) -> Self {
        let detail = "the request was not served because of an error inside Galley; \
                      tell an operator this problem's `instance`, the log says more under it";
        Self { secret: Some(secret.into()), ..Self::new(INTERNAL, detail) }
    }

    /// The problem of an answer that some layer made without us.
    pub fn of_status(status: StatusCode) -> Self {
        match status {
            StatusCode::UNAUTHORIZED => Self::unauthenticated(),
            StatusCode::NOT_FOUND => {
                Self::new(NOT_FOUND, "there is no such route; `/openapi.json` lists them")
            }
            StatusCode::METHOD_NOT_ALLOWED => {
                Self::new(METHOD_NOT_ALLOWED, "this route answers to the methods in `Allow`")
            }
            StatusCode::PAYLOAD_TOO_LARGE => Self::new(TOO_LARGE, "the body is too large"),
            StatusCode::GATEWAY_TIMEOUT => Self::new(
                TIMEOUT,
                "the request took too long and nobody knows how it ended; repeat it, with the same \
                 idempotency key if it had one",
            ),
            status if status.is_client_error() => {
                let detail = status.canonical_reason().unwrap_or("the request cannot be read");
                Self { kind: Kind(MALFORMED.0, MALFORMED.1, status), ..Self::new(MALFORMED, detail) }
            }
            status => Self::internal(format!("a layer answered {status}")),
        }
    }

    /// The answer's status.
    pub fn status(&self) -> StatusCode {
        self.kind.2
    }

    /// What only the log may say.
    pub fn secret(&self) -> Option<&str> {
        self.secret.as_deref()
    }

    /// The answer's body, for the request of this id.
    pub fn problem(&self, instance: &str) -> Problem {
        let Kind(name, title, status) = self.kind;
        Problem {
            kind: format!("urn:galley:problem:{name}"),
            title: title.into(),
            status: status.as_u16(),
            detail: self.detail.clone(),
            instance: instance.into(),
            problems: self.problems.clone(),
        }
    }

    /// The answer's headers.
    pub fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        if self.kind == UNAUTHENTICATED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(standing) = self.again.as_ref().and_then(|again| again.standing) {
            headers.extend(standing.headers());
        }
        let unavailable = (self.kind == UNAVAILABLE).then_some(RETRY_SECONDS);
        if let Some(seconds) = self.again.as_ref().map(|again| again.seconds).or(unavailable) {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        headers
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = self.status().into_response();
        response.extensions_mut().insert(self);
        response
    }
}

impl From<EngineError> for ApiError {
    fn from(error: EngineError) -> Self {
        let detail = error.to_string();
        match error {
            EngineError::Invalid(problems) => {
                // The key is a header: without it the request is not even one.
                let malformed = problems.iter().any(|problem| problem.at == "Idempotency-Key");
                let kind = if malformed { MALFORMED } else { INVALID };
                let place = |CoreProblem { at, problem }| ProblemAt { at, problem };
                Self { problems: problems.into_iter().map(place).collect(), ..Self::new(kind, detail) }
            }
            EngineError::IdempotencyMismatch(_) => Self::new(
                IDEMPOTENCY,
                format!("{detail}; repeat that request unchanged, or send this one with another key"),
            ),
            EngineError::NotFound { .. } => Self::new(NOT_FOUND, detail),
            // Its tokens are no more than any other bad ones.
            EngineError::NoWorkspace => Self::unauthenticated(),
            EngineError::Conflict(_) => Self::new(CONFLICT, detail),
            EngineError::StoreUnavailable(_) => Self {
                secret: Some(detail),
                ..Self::new(
                    UNAVAILABLE,
                    "the database does not answer and nobody knows how the request ended; repeat it \
                     after `Retry-After` seconds, with the same idempotency key if it had one",
                )
            },
            EngineError::QueueUnavailable(_) => Self {
                secret: Some(detail),
                ..Self::new(
                    UNAVAILABLE,
                    "the queue does not answer; repeat the request after `Retry-After` seconds",
                )
            },
            EngineError::Sealed(_) => Self::new(SEALED, detail),
            EngineError::Internal(_) => Self::internal(detail),
        }
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        EngineError::from(error).into()
    }
}
