//! What one database step touches, read from its SQL: by table, and by
//! workflow where a statement names one, which is coarser than rows and
//! therefore never misses a meeting.

use std::collections::BTreeSet;

/// What something is written to, and read by an operation.
const SHARED: [&str; 17] = [
    "sessions",
    "runs",
    "finished_runs",
    "results",
    "attempts",
    "step_inputs",
    "timers",
    "dead_letters",
    "automation",
    "workspaces",
    "accounts",
    "posts",
    "post_revisions",
    "approvals",
    "publications",
    "day_quota",
    // No table: the one lock that no row stands for, of a workspace's slots.
    "pg_advisory_xact_lock",
];
// Not among them: what never changes (workflows, definitions, agents) and what
// is appended and read by nobody who decides (audit, publication_events).

/// Tables whose rows are each of one workflow.
const OF_WORKFLOWS: [&str; 11] = [
    "runs",
    "finished_runs",
    "results",
    "attempts",
    "step_inputs",
    "timers",
    "dead_letters",
    "posts",
    "post_revisions",
    "approvals",
    "publications",
];

/// How a statement says that it means the rows it names, and no others.
const BY_KEY: [&str; 6] =
    [" id = $", "workflow_id = $", "post_id = $", "effect_key = $", "unnest(", "values ("];

/// A table, or the part of it that is one workflow's.
type Table = (&'static str, Option<usize>);

/// Tables and parts of them.
pub(super) type Tables = BTreeSet<Table>;

/// What one step touches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Footprint {
    /// Read as of the last commits.
    reads: Tables,
    /// Rows locked as shared: `FOR SHARE`.
    shares: Tables,
    /// Rows locked or written.
    locks: Tables,
    /// Whose writes others see from here on.
    publishes: Tables,
}

impl Footprint {
    /// Of a statement inside a transaction; `workflow` is the number of the one
    /// that its parameters name.
    pub(crate) fn of(sql: &str, workflow: Option<usize>) -> Self {
        let sql = sql.to_lowercase();
        let by_key = BY_KEY.iter().any(|form| sql.contains(form));
        let words: Vec<&str> =
            sql.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').filter(|w| !w.is_empty()).collect();
        let named = |word: &&str| SHARED.into_iter().find(|table| table == word);
        let mut of = Self::default();
        for (at, word) in words.iter().enumerate() {
            let Some(table) = named(word) else { continue };
            let part = workflow.filter(|_| by_key && OF_WORKFLOWS.contains(&table));
            let before = |n: usize| at.checked_sub(n).and_then(|at| words.get(at)).copied();
            let written =
                matches!((before(2), before(1)), (_, Some("update")) | (Some("insert"), Some("into")))
                    || matches!((before(2), before(1)), (Some("delete"), Some("from")));
            if written || table == "pg_advisory_xact_lock" {
                of.locks.insert((table, part));
            } else {
                of.reads.insert((table, part));
            }
        }
        of.reads.retain(|table| !of.locks.contains(table));
        let ends = |words: &[&str], with: &[&str]| words.windows(with.len()).any(|part| part == with);
        if ends(&words, &["for", "share"]) {
            of.shares = std::mem::take(&mut of.reads);
        } else if ends(&words, &["for", "update"]) || ends(&words, &["for", "no", "key", "update"]) {
            of.locks.append(&mut of.reads);
        }
        of
    }

    /// What it wrote or locked: seen by others when its transaction ends.
    pub(crate) fn held(&self) -> Tables {
        self.locks.union(&self.shares).copied().collect()
    }

    /// Of a commit that ends these.
    pub(crate) fn of_commit(held: Tables) -> Self {
        Self { publishes: held, ..Self::default() }
    }

    /// Of a statement that is its own transaction.
    pub(crate) fn alone(self) -> Self {
        Self { publishes: self.held(), ..self }
    }

    /// Whether others see from here on what was written.
    pub(crate) fn publishes(&self) -> bool {
        !self.publishes.is_empty()
    }

    /// Whether nobody can tell when it happened.
    pub(crate) fn is_silent(&self) -> bool {
        *self == Self::default()
    }

    /// Whether it matters which of two steps comes first.
    pub(crate) fn meets(&self, other: &Self) -> bool {
        let both = |one: &Table, other: &Table| {
            one.0 == other.0 && (one.1 == other.1 || one.1.is_none() || other.1.is_none())
        };
        let touch = |a: &Tables, b: &Tables| a.iter().any(|one| b.iter().any(|other| both(one, other)));
        let one_way = |a: &Self, b: &Self| {
            let published = |of: &Self, table| of.publishes.iter().any(|one| one.0 == table);
            // A policy that is acknowledged does not come before a send that it
            // forbids, whatever rows they share.
            (published(a, "automation") && published(b, "publications"))
                || [&b.reads, &b.shares, &b.locks].into_iter().any(|touched| touch(&a.publishes, touched))
                || [&b.shares, &b.locks].into_iter().any(|touched| touch(&a.locks, touched))
        };
        one_way(self, other) || one_way(other, self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(sql: &str) -> Footprint {
        Footprint::of(sql, None)
    }

    fn whole<const N: usize>(tables: [&'static str; N]) -> Tables {
        tables.into_iter().map(|table| (table, None)).collect()
    }

    #[test]
    fn a_statement_tells_what_it_touches() {
        let joined = of("UPDATE posts SET state = $1 FROM runs r WHERE posts.id = r.id");
        assert_eq!((joined.locks, joined.reads), (whole(["posts"]), whole(["runs"])));
        let locked = of("SELECT 1 FROM posts WHERE id = $1 FOR UPDATE");
        assert_eq!((locked.locks, locked.reads), (whole(["posts"]), whole([])));
        assert_eq!(of("SELECT version FROM automation FOR SHARE").shares, whole(["automation"]));
        let moved = of("WITH gone AS (DELETE FROM runs r USING d RETURNING r.id)
                        INSERT INTO finished_runs (id) SELECT id FROM gone");
        assert_eq!(moved.locks, whole(["runs", "finished_runs"]));
        let put = of("INSERT INTO automation AS a (version) VALUES (1)
                      ON CONFLICT (workspace_id) DO UPDATE SET version = 2");
        assert_eq!(put.locks, whole(["automation"]));
        assert!(of("BEGIN").is_silent());
    }

    #[test]
    fn what_is_not_committed_is_not_seen() {
        let read = of("SELECT 1 FROM posts");
        let write = of("UPDATE posts SET held = true");
        let share = of("SELECT 1 FROM posts FOR SHARE");
        assert!(!read.meets(&write));
        assert!(read.meets(&write.clone().alone()) && read.meets(&Footprint::of_commit(write.held())));
        assert!(write.meets(&write) && write.meets(&share) && !share.meets(&share));
        assert!(!read.meets(&read) && !write.meets(&of("DELETE FROM timers")));
        let slots = of("SELECT pg_advisory_xact_lock(1)");
        assert!(slots.meets(&slots));
    }

    #[test]
    fn the_rows_of_two_workflows_do_not_meet() {
        let write = |workflow| Footprint::of("UPDATE posts SET held = true WHERE id = $1", workflow);
        assert!(!write(Some(0)).meets(&write(Some(1))));
        assert!(write(Some(0)).meets(&write(Some(0))) && write(Some(0)).meets(&write(None)));
        // It names one, and reads all others.
        let others = Footprint::of("SELECT 1 FROM posts WHERE NOT id = ANY($1)", Some(1));
        assert!(others.meets(&write(Some(0)).alone()));
        let quota = |workflow| Footprint::of("UPDATE day_quota SET used = 1 WHERE id = $1", workflow);
        assert!(quota(Some(0)).meets(&quota(Some(1))));
    }
}
