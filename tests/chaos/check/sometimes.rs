use super::Invariant;
use super::world::World;

pub(super) const INVARIANT: Invariant = Invariant {
    name: "sometimes",
    says: "every kind of fault really happened, and every rescue path was really walked",
    find,
};

fn find(world: &World<'_>) -> Vec<String> {
    let (facts, seen) = (&world.history.facts, &world.history.seen);
    let faults = facts.needed_faults.iter().filter(|name| seen.faults.get(*name).is_none_or(|n| *n == 0));
    let paths = facts.needed_paths.iter().filter(|name| seen.paths.get(*name).is_none_or(|n| *n == 0));
    faults
        .map(|name| format!("the fault `{name}` never happened"))
        .chain(paths.map(|name| format!("the rescue path `{name}` was never walked")))
        .collect()
}
