//! The fewest operations that still break something. Every part of a sequence
//! is a sequence, so this only leaves things out: halves, quarters, single
//! operations, and single members of a batch.

use crate::ops::Op;

/// A sequence that breaks something.
pub(crate) struct Broken {
    pub(crate) ops: Vec<Op>,
    pub(crate) why: String,
}

/// How a sequence ended that was not good: at which operation (its place), or
/// behind all of them.
pub(crate) struct Failure {
    pub(crate) at: Option<usize>,
    pub(crate) why: String,
}

/// Shrinks with at most so many runs.
pub(crate) fn shrink(
    ops: Vec<Op>,
    failure: Failure,
    mut runs: u32,
    mut fails: impl FnMut(&[Op]) -> Option<Failure>,
) -> Broken {
    let mut broken = Broken { ops, why: String::new() };
    broken.take(failure);
    let mut part = broken.ops.len().div_ceil(2);
    while part > 0 {
        let mut from = 0;
        let mut smaller = false;
        while from < broken.ops.len() && runs > 0 {
            let mut fewer = broken.ops.clone();
            fewer.drain(from..(from + part).min(fewer.len()));
            runs -= 1;
            match fails(&fewer) {
                Some(failure) => {
                    broken.ops = fewer;
                    broken.take(failure);
                    smaller = true;
                }
                None => from += part,
            }
        }
        // Single ones again and again, until none can be left out.
        part = if part == 1 && smaller && runs > 0 { 1 } else { part / 2 };
    }
    for index in (0..broken.ops.len()).rev() {
        let mut member = 0;
        while let Some(fewer) = broken.ops.get(index).and_then(|op| op.without(member)).filter(|_| runs > 0) {
            let mut ops = broken.ops.clone();
            ops[index] = fewer;
            runs -= 1;
            match fails(&ops) {
                Some(failure) => {
                    broken.ops = ops;
                    broken.take(failure);
                }
                None => member += 1,
            }
        }
    }
    broken
}

impl Broken {
    /// What came behind the failure had no part in it.
    fn take(&mut self, failure: Failure) {
        if let Some(at) = failure.at {
            self.ops.truncate(at + 1);
        }
        self.why = failure.why;
    }
}

#[test]
fn only_what_is_needed_is_left() {
    let ops: Vec<Op> = (0..100).map(|n| if n == 40 { Op::Flush } else { Op::Kill(n) }).collect();
    let mut ops = ops;
    ops[70] = Op::GiveBack(vec![1, 2, 3]);
    // Broken by a flush and, later, a ticket 2 that is given back.
    let fails = |ops: &[Op]| {
        let flush = ops.iter().position(|op| matches!(op, Op::Flush))?;
        let is_it = |op: &Op| matches!(op, Op::GiveBack(tickets) if tickets.contains(&2));
        let at = ops.iter().skip(flush).position(is_it)?;
        Some(Failure { at: Some(flush + at), why: "so".into() })
    };
    let failure = fails(&ops).unwrap();
    let broken = shrink(ops, failure, 1_000, fails);
    assert!(
        matches!(&broken.ops[..], [Op::Flush, Op::GiveBack(tickets)] if tickets == &[2]),
        "{:?}",
        broken.ops
    );
}
