//! Galley as a library.
