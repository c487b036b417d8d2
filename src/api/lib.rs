//! The REST API `/v1` over the engine: routes, authentication, errors as
//! problems, OpenAPI, event streams.
//!
//! No business rule lives here and no SQL: a handler reads a request, asks the
//! engine, and writes the answer down as a view. The way of a request is
//! [`galley_edge::frame`] (id, span, metrics, problems) → token → rate →
//! permission → handler.

mod auth;
mod authorize;
mod backlog;
mod collaboration;
mod compile;
mod config;
mod cursor;
mod denials;
mod extract;
mod follow;
mod openapi;
mod rate;
mod resources;
mod router;
mod serve;
pub mod views;
mod watch;

use galley_edge::{error, memory, trace};

pub use auth::{
    AuthConfig, AuthError, Identities, JwksUrlError, KeySet, KeySetError, MIN_SECRET_BYTES, NewToken,
    NewWorkerToken, REVOKED_WITHIN, Signer, TokenError, TokenRules,
};
pub use config::{ApiConfig, ApiState, Limits};
pub use cursor::{BadCursor, Binding};
pub use galley_edge::rate::RateLimits;
pub use openapi::openapi;
pub use router::router;
pub use serve::serve;
