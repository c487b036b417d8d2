//! Which orders to run: all that differ.
//!
//! Two orders that only swap neighbouring steps that do not meet end the same,
//! so one of them is enough (dynamic partial-order reduction: from every run it
//! is learned where a step met one of another operation, and there the other
//! order is run too; sleep sets keep orders from being run twice).
//!
//! Every run begins anew: the orders are a tree, walked depth first.

use std::collections::{BTreeMap, BTreeSet};

use super::footprint::Footprint;
use super::gate::Step;

/// A point of a run at which somebody was let.
#[derive(Debug)]
struct Node {
    /// What waited here.
    waiting: BTreeMap<usize, Step>,
    /// Who was let in the run at hand.
    chosen: usize,
    /// Who was let here before.
    done: BTreeSet<usize>,
    /// Who has to be let here, too.
    wanted: BTreeSet<usize>,
    /// Whose step here was run in an order that this one only repeats.
    asleep: BTreeSet<usize>,
}

/// The tree of orders, and where in it we are.
#[derive(Debug, Default)]
pub(crate) struct Orders {
    path: Vec<Node>,
    /// How many of the path's choices are given.
    given: usize,
    at: usize,
    /// Everybody who waits is asleep: the rest of this run repeats another.
    repeats: bool,
    /// The run did not begin as it did before: Postgres let somebody go first
    /// of two that waited for one lock, and then the other.
    strayed: bool,
    /// Orders run to their end, that no other repeats.
    pub(crate) runs: usize,
    /// Runs that turned out to repeat another.
    pub(crate) repeated: usize,
    /// Orders that could not be run because Postgres chose another.
    pub(crate) lost: usize,
}

impl Orders {
    /// Who is let, of those that wait.
    pub(crate) fn choose(&mut self, waiting: BTreeMap<usize, Step>) -> usize {
        let first = *waiting.keys().next().expect("somebody waits");
        if self.at < self.given {
            let node = &mut self.path[self.at];
            let chosen = node.chosen;
            let step = |of: &BTreeMap<usize, Step>| of.get(&chosen).map(|step| step.footprint.clone());
            if step(&waiting).is_none() || step(&waiting) != step(&node.waiting) {
                self.strayed = true;
                self.given = self.at;
                return first;
            }
            node.waiting = waiting;
            self.at += 1;
            return chosen;
        }
        if self.repeats || self.strayed {
            return first;
        }
        let asleep = self.asleep_here(&waiting);
        // Who went on goes on: the first run is one after the other.
        let last = self.path.last().map(|node| node.chosen);
        let awake = |actor: &usize| waiting.contains_key(actor) && !asleep.contains(actor);
        let chosen = last.filter(awake).or_else(|| waiting.keys().copied().find(awake));
        let Some(chosen) = chosen else {
            self.repeats = true;
            return first;
        };
        let wanted = BTreeSet::from([chosen]);
        self.path.push(Node { waiting, chosen, done: BTreeSet::new(), wanted, asleep });
        self.at += 1;
        chosen
    }

    fn asleep_here(&self, waiting: &BTreeMap<usize, Step>) -> BTreeSet<usize> {
        let Some(before) = self.path.last() else { return BTreeSet::new() };
        let step = &before.waiting[&before.chosen].footprint;
        let stays = |actor: &&usize| {
            let its = before.waiting.get(actor).map(|step| &step.footprint);
            waiting.contains_key(actor) && its.is_some_and(|its| !its.meets(step))
        };
        before.asleep.union(&before.done).filter(stays).copied().collect()
    }

    /// The run has ended: learns from it. Answers whether there is another one
    /// to run.
    pub(crate) fn next(&mut self) -> bool {
        match (self.strayed, self.repeats) {
            (true, _) => self.lost += 1,
            (_, true) => self.repeated += 1,
            _ => self.runs += 1,
        }
        if !self.strayed {
            self.learn();
        }
        while let Some(node) = self.path.last_mut() {
            node.done.insert(node.chosen);
            let next =
                node.wanted.iter().find(|a| !node.done.contains(a) && !node.asleep.contains(a)).copied();
            if let Some(next) = next {
                node.chosen = next;
                (self.given, self.at) = (self.path.len(), 0);
                (self.repeats, self.strayed) = (false, false);
                return true;
            }
            self.path.pop();
        }
        false
    }

    /// The order of this run, for people.
    pub(crate) fn told(&self, names: &[String]) -> String {
        let line = |node: &Node| {
            let sql = node.waiting[&node.chosen].sql.split_whitespace().collect::<Vec<_>>().join(" ");
            format!("  {:12} {}", names[node.chosen], sql.chars().take(110).collect::<String>())
        };
        self.path.iter().map(line).collect::<Vec<_>>().join("\n")
    }

    /// Where two steps met that nothing between them orders, the other order
    /// has to be run as well.
    fn learn(&mut self) {
        let steps: Vec<(usize, Footprint)> =
            self.path.iter().map(|n| (n.chosen, n.waiting[&n.chosen].footprint.clone())).collect();
        let meet = |i: usize, j: usize| steps[i].0 == steps[j].0 || steps[i].1.meets(&steps[j].1);
        // after[j]: everything that has to come before j.
        let mut before: Vec<BTreeSet<usize>> = Vec::with_capacity(steps.len());
        for j in 0..steps.len() {
            let mut of = BTreeSet::new();
            for i in (0..j).rev() {
                if meet(i, j) && !of.contains(&i) {
                    of.insert(i);
                    of.extend(before[i].iter().copied());
                }
            }
            before.push(of);
        }
        for j in 0..steps.len() {
            for i in 0..j {
                let meets = steps[i].0 != steps[j].0 && steps[i].1.meets(&steps[j].1);
                let between = (i + 1..j).any(|k| before[k].contains(&i) && before[j].contains(&k));
                if !meets || between {
                    continue;
                }
                // Whoever can begin what does not need step i.
                let without: Vec<usize> =
                    (i + 1..j).filter(|k| !before[*k].contains(&i)).chain([j]).collect();
                let begins = |k: &&usize| !without.iter().any(|other| before[**k].contains(other));
                let able: BTreeSet<usize> = without.iter().filter(begins).map(|k| steps[*k].0).collect();
                let node = &mut self.path[i];
                if able.iter().any(|actor| node.wanted.contains(actor) || node.done.contains(actor)) {
                    continue;
                }
                match able.iter().find(|actor| node.waiting.contains_key(actor)) {
                    Some(actor) => node.wanted.extend([*actor]),
                    None => node.wanted.extend(node.waiting.keys()),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs programs (each a list of statements) under every order; answers
    /// with the orders that were run, as strings of actors.
    fn all(programs: &[&[&str]]) -> Vec<String> {
        let mut orders = Orders::default();
        let mut seen = Vec::new();
        loop {
            let mut at = vec![0; programs.len()];
            let mut order = String::new();
            loop {
                let waiting: BTreeMap<usize, Step> = (0..programs.len())
                    .filter_map(|n| Some((n, (*programs[n].get(at[n])?).to_owned())))
                    .map(|(n, sql)| (n, Step { footprint: Footprint::of(&sql, None).alone(), sql }))
                    .collect();
                if waiting.is_empty() {
                    break;
                }
                let chosen = orders.choose(waiting);
                at[chosen] += 1;
                order.push(char::from(b'a' + chosen as u8));
            }
            let runs = orders.runs;
            let more = orders.next();
            if orders.runs > runs {
                seen.push(order);
            }
            if !more {
                seen.sort();
                return seen;
            }
        }
    }

    const W: &str = "UPDATE runs SET version = 2";
    const R: &str = "SELECT 1 FROM runs";
    const T: &str = "UPDATE timers SET epoch = 2";

    #[test]
    fn steps_that_meet_are_run_in_every_order() {
        assert_eq!(all(&[&[W], &[W]]), ["ab", "ba"]);
        // 4! / (2! 2!)
        assert_eq!(all(&[&[W, W], &[W, W]]).len(), 6);
        // 6! / (2! 2! 2!)
        assert_eq!(all(&[&[W, W], &[W, W], &[W, W]]).len(), 90);
        assert_eq!(all(&[&[R], &[W], &[W]]).len(), 6);
    }

    #[test]
    fn an_order_that_postgres_does_not_allow_is_lost() {
        let waiting = |actors: &[usize]| -> BTreeMap<usize, Step> {
            let step = Step { footprint: Footprint::of(W, None).alone(), sql: W.to_owned() };
            actors.iter().map(|actor| (*actor, step.clone())).collect()
        };
        let mut orders = Orders::default();
        let mut run = |points: &[&[usize]]| -> Vec<usize> {
            let chosen = points.iter().map(|actors| orders.choose(waiting(actors))).collect();
            orders.next();
            chosen
        };
        assert_eq!(run(&[&[0, 1, 2], &[1, 2], &[2]]), [0, 1, 2]);
        // The third was let behind the second, and then before it.
        assert_eq!(run(&[&[0, 1, 2], &[1, 2], &[1]]), [0, 2, 1]);
        // Of three that were there only one is, and then the one whose turn it
        // is is not.
        assert_eq!(run(&[&[1], &[0], &[0]]), [1, 0, 0]);
        assert_eq!(run(&[&[0, 1], &[1]]), [0, 1]);
        assert_eq!(orders.lost, 1);
    }

    #[test]
    fn steps_that_do_not_meet_are_run_in_one_order() {
        assert_eq!(all(&[&[W, W, W], &[T, T, T]]).len(), 1);
        assert_eq!(all(&[&[R, R], &[R, R]]).len(), 1);
        // Two reads see the write or do not, the second at least what the first saw.
        assert_eq!(all(&[&[R, R], &[W]]).len(), 3);
        assert_eq!(all(&[&[R, T], &[W], &[T]]).len(), 4);
    }
}
