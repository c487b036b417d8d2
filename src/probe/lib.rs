//! Places where a test may stop, break or watch a process.
//!
//! Three questions of a fault test cannot be asked from outside: *what if it
//! dies exactly here* ([`point`]), *would anybody notice if this guard were
//! missing* ([`planted`]), and *was this rescue ever needed* ([`seen`]). The
//! names of all places are lists in this room, so that a test can demand each
//! of them.
//!
//! It is nothing in the product: without the feature `armed`, which only
//! `tests/chaos` turns on, every function is empty and every planted bug is a
//! constant `false`. What it must never do: change what Galley does unless the
//! environment asks for it, or be seen by `core`, which stays a pure function.

#[cfg(feature = "armed")]
mod armed;
mod bug;
mod names;
mod point;
mod rescue;

pub use bug::Bug;
pub use point::Point;
pub use rescue::Rescue;

/// Which point ends or stops this process, as `name:hit:how`: the name of a
/// [`Point`], which hit of it (from 1), and `kill` (SIGKILL) or `stop`
/// (SIGSTOP; it goes on after a SIGCONT). Several are separated by commas.
pub const CRASH_POINT: &str = "GALLEY_CRASH_POINT";

/// Which [`Bug`]s are planted: names separated by commas.
pub const PLANTED: &str = "GALLEY_PLANTED";

/// The file to which every [`Rescue`] that is walked appends its name.
pub const SEEN_FILE: &str = "GALLEY_SEEN_FILE";

/// Whether this build can be broken. A product's cannot.
pub const ARMED: bool = cfg!(feature = "armed");

/// A place between two pieces of I/O: a test may have the process die or stop
/// here.
#[cfg(not(feature = "armed"))]
#[inline(always)]
pub const fn point(_: Point) {}

/// Whether a bug is planted: the code next to it then does what it must never
/// do.
#[cfg(not(feature = "armed"))]
#[inline(always)]
#[must_use]
pub const fn planted(_: Bug) -> bool {
    false
}

/// A rescue path was walked.
#[cfg(not(feature = "armed"))]
#[inline(always)]
pub const fn seen(_: Rescue) {}

#[cfg(feature = "armed")]
pub use armed::{planted, point, seen};

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn check(names: impl IntoIterator<Item = (&'static str, &'static str)>) {
        let mut known = BTreeSet::new();
        for (name, says) in names {
            assert!(known.insert(name), "{name} is there twice");
            let plain = |c: char| c.is_ascii_lowercase() || "._".contains(c);
            assert!(name.chars().all(plain), "{name} cannot stand in a list");
            assert!(says.ends_with('.') && !says.contains("  "), "{name}: {says:?}");
        }
    }

    #[test]
    fn every_place_has_one_name_and_a_sentence() {
        check(Point::ALL.iter().map(|one| (one.name(), one.says())));
        check(Bug::ALL.iter().map(|one| (one.name(), one.says())));
        check(Rescue::ALL.iter().map(|one| (one.name(), one.says())));
        assert!(Point::ALL.iter().all(|one| one.name().matches('.').count() == 1), "room.moment");
        assert_eq!(Point::named("claim.popped"), Some(Point::ClaimPopped));
        assert_eq!(Bug::named("no such bug"), None);
    }

    #[cfg(not(feature = "armed"))]
    #[test]
    fn a_product_has_no_bug_whatever_the_environment_says() {
        // Not a question of time: these are constants.
        const { assert!(!ARMED && !planted(Bug::UtcDay)) };
        const { point(Point::ClaimPopped) };
        const { seen(Rescue::Reap) };
    }
}
