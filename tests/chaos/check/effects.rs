use super::Invariant;
use super::world::World;

pub(super) const INVARIANT: Invariant = Invariant {
    name: "effects",
    says: "a platform shows a post at most once; exactly once if it is published; not at all if it is not out; \
           and nothing that nobody intended",
    find,
};

fn find(world: &World<'_>) -> Vec<String> {
    let mut found = Vec::new();
    for publication in &world.history.dump.publications {
        let shown = world.effects(publication).len();
        let problem = match (publication.state.as_str(), shown) {
            ("published", 1) | ("not_sent" | "failed", 0) => continue,
            // Nobody can say, and nobody says that they can.
            ("intent" | "unknown" | "in_doubt", 0 | 1) => continue,
            ("published", 0) => "it is published, and the platform does not show it".to_owned(),
            ("not_sent" | "failed", _) => {
                format!("it is {}, and the platform shows it", publication.state)
            }
            (state, shown) => format!("it is {state}, and the platform shows it {shown} times"),
        };
        found.push(format!("post {} ({}): {problem}", publication.post_id, publication.effect_key));
    }
    for effect in &world.history.effects {
        if world.publication_of(effect).is_none() {
            found.push(format!("`{}` shows {}: nobody intended it", effect.account, effect.key));
        }
    }
    found
}
