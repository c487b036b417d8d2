//! The REST API `/v1` over the engine: routes, authentication, errors as
//! problems, OpenAPI, event streams.
//!
//! No business rule lives here and no SQL: a handler reads a request, asks the
//! engine once, and writes the answer down as a view.

pub mod views;
