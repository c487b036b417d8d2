//! What the tests stand on. Never a place for assertions about Galley itself:
//! those are in the tests, where a reader looks for them.

mod agents;
mod api;
mod bed;
mod gateway;
mod network;
pub(crate) mod posts;
mod process;
mod provider;
mod proxy;
mod servers;
mod wire;

pub(crate) use agents::{Agents, Latch, answer, retry};
pub(crate) use api::Api;
pub(crate) use bed::{Bed, KEY, Setup, problems, request, until};
pub(crate) use gateway::{Gateway, Python};
pub(crate) use network::{Fault, Network};
pub(crate) use process::WorkerProcess;
pub(crate) use provider::{DIALECTS, Does, Ledger, Service};
pub(crate) use proxy::{Proxy, read_body, read_message, server_of, text_at, through, write_message};
pub(crate) use servers::migrate;
