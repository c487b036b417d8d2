use super::Invariant;
use super::world::World;

pub(super) const INVARIANT: Invariant = Invariant {
    name: "secrets",
    says: "credentials and keys appear nowhere: no row, no log, no key of Redis",
    find,
};

fn find(world: &World<'_>) -> Vec<String> {
    let mut found = world.history.leftovers.secrets.clone();
    let Ok(rows) = world.history.dump.rows() else { return found };
    for (table, row) in rows {
        let text = row.to_string();
        for secret in &world.history.facts.secrets {
            // A `bytea` is written in hexadecimal.
            if text.contains(secret) || text.contains(&hex::encode(secret)) {
                found.push(format!("a row of {table} holds a secret"));
            }
        }
    }
    for op in &world.history.ops {
        let reply = format!("{:?}", op.reply);
        if world.history.facts.secrets.iter().any(|secret| reply.contains(secret)) {
            found.push(format!("the reply of op {} holds a secret", op.id));
        }
    }
    found
}
