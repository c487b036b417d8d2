//! The checker: decides every invariant on a history.
