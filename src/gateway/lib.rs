//! Workers in any language: HTTP endpoints through which a process that is not
//! ours opens a session, leases steps and reports what became of them.
//!
//! It is the protocol of `galley-worker` and no second one: the same sessions,
//! claims and reports, fenced by the same epoch and nonce. A gateway keeps
//! nothing: any of them serves any session's next call. What has to be
//! remembered is in Postgres, or in what the worker hands back, sealed.
//!
//! It runs in the engine's role, because a worker serves all workspaces; so
//! it believes only tokens that the deployment's own secret signed for workers,
//! each for the agents it names. Publish steps are never handed out: credentials
//! and what platforms can tell stay inside.

mod committer;
mod config;
mod door;
mod hub;
mod lease;
mod offer;
mod openapi;
mod pay;
mod report;
mod router;
mod schemas;
mod seal;
mod session;
pub mod views;

pub use config::{GatewayConfig, GatewayLimits, GatewayState};
pub use openapi::openapi;
pub use router::{router, serve};
