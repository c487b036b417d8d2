//! What every HTTP server of Galley's shares: errors as problems, the frame
//! around a request, reading bodies, connections, and who a bearer is.
//!
//! The API and the gateway are built on it. It has no route and no business
//! rule, and it knows no resource.

pub mod auth;
pub mod body;
pub mod error;
pub mod frame;
pub mod health;
pub mod layers;
pub mod memory;
pub mod openapi;
mod problem;
pub mod rate;
pub mod serve;
pub mod trace;

pub use error::ApiError;
pub use layers::{HttpLimits, layered};
pub use problem::{Problem, ProblemAt};
pub use serve::serve;
