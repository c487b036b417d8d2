//! The preview network: a small social platform that runs on this computer.
//!
//! Why this room exists: whoever tries Galley must see posts go out without an
//! account on a real platform, and a test must see what Galley does when a
//! platform fails, hangs or loses a reply. Both get a real HTTP server with
//! accounts, tokens, a timeline to look at, a ledger of everything that was
//! published, and switches for every fault a real platform has.
//!
//! The platform publishes in three ways, which is all that matters about a
//! platform once an answer was lost:
//! - `PUT  /api/idempotent/posts/{key}`: the same key again is the same post;
//! - `POST /api/verifiable/posts`: a client can look for its key afterwards;
//! - `POST /api/blind/posts`: always a new post, and nothing to look up.
//!
//! What it must never do: know Galley (it has no `galley-*` dependency, and what
//! waits in Galley comes from a [`WaitingSource`] that somebody else brings),
//! help a client to avoid a duplicate where a real platform would not, lose a
//! post it confirmed while its data file can be written, or be used in
//! production.

mod accounts;
mod answer;
mod connections;
mod error;
mod faults;
mod fields;
mod journal;
mod ledger;
mod network;
mod page;
mod platform;
mod posts;
mod publish;
mod read;
mod router;
mod waiting;

pub use accounts::{Account, SeedAccount};
pub use error::{Invalid, PreviewError};
pub use faults::{Fault, FaultKind, FaultTarget, SetFault};
pub use ledger::{Counts, Duplicate, Entry, Ledger};
pub use network::{PreviewNetwork, PreviewOptions};
pub use posts::{Endpoint, Price};
pub use waiting::{WaitingPost, WaitingSource};
