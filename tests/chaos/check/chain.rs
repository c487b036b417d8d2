use super::Invariant;
use super::world::World;

pub(super) const INVARIANT: Invariant = Invariant {
    name: "chain",
    says: "every audit row has one place in its workspace's chain, and every hash holds",
    find,
};

fn find(world: &World<'_>) -> Vec<String> {
    world.history.leftovers.chains.clone()
}
