//! Platforms that posts go to: one adapter, one file, one line in
//! [`Publishers::built_in`].
//!
//! An adapter sends one post and reports what it knows about it, as
//! [`Sent`](galley_core::publish::Sent) or
//! [`Looked`](galley_core::publish::Looked). It must never decide what an
//! unknown outcome means, never call a post unsent that may have gone out,
//! never send a second time on its own, and never show a credential.
//!
//! What an adapter says of a call is about that call alone: a refused second
//! attempt says nothing about a first one whose reply was lost.

mod http;
mod preview;
mod publisher;
mod registry;
mod settings;
#[cfg(test)]
mod target_tests;
mod verdict;
mod webhook;

pub use preview::Preview;
pub use publisher::{Account, Outgoing, Publisher};
pub use registry::{Options, Publishers, SetupError};
pub use webhook::Webhook;
