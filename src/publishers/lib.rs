//! The platforms: one adapter per file, one line in the registry.
//!
//! An adapter sends and looks, and says what it knows. It must never decide
//! what an unknown outcome means, never try again by itself, and never call an
//! outcome "not sent" when a byte of the request may have arrived.

mod http;
mod preview;
mod publisher;
mod registry;

pub use preview::Preview;
pub use publisher::{Account, Outgoing, Publisher};
pub use registry::{Options, Publishers};
