use super::Invariant;
use super::world::World;
use crate::history::NeededSum;

pub(super) const INVARIANT: Invariant = Invariant {
    name: "sometimes",
    says: "every kind of fault really happened, and every rescue path was really walked",
    find,
};

fn find(world: &World<'_>) -> Vec<String> {
    let (facts, seen) = (&world.history.facts, &world.history.seen);
    let faults = facts.needed_faults.iter().filter(|name| seen.faults.get(*name).is_none_or(|n| *n == 0));
    let paths = facts.needed_paths.iter().filter(|name| seen.paths.get(*name).is_none_or(|n| *n == 0));
    let sums = facts.needed_sums.iter().filter_map(|sum| {
        let counts = |name: &str| sum.kinds.is_empty() || sum.kinds.iter().any(|kind| name.starts_with(kind));
        let seen: u64 = seen.faults.iter().filter(|(name, _)| counts(name)).map(|(_, count)| count).sum();
        let NeededSum { what, least, .. } = sum;
        (seen < *least).then(|| format!("there were {seen} {what}, not {least}"))
    });
    faults
        .map(|name| format!("the fault `{name}` never happened"))
        .chain(paths.map(|name| format!("the rescue path `{name}` was never walked")))
        .chain(sums)
        .collect()
}
