//! What one run saw: the contract between the runner, which writes it, and the
//! checker, which decides on nothing else.
