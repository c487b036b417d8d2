//! Day arithmetic over the very statements of the intent, on a clock that the
//! tests move: a limit lets out exactly so many posts on every day of a year in
//! forty zones, from the day's first microsecond to its last, however long the
//! day is, and a day gets back exactly what was never sent.
//!
//! Postgres says which day it is when it counts; here `jiff` says when each day
//! begins, from time zone data of its own. Where the two data sets disagree
//! about a zone's year, that year is left out, and at most one may be.

mod calendar;
mod changes;
mod counter;
mod years;

use galley_engine::store::Overtaken;

/// Nothing is sent in the last ten seconds of a day.
const WINDOW_MS: u64 = 10_000;

/// How an intent that found no place was refused.
type Refused = Overtaken;
