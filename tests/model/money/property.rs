//! What must hold in every state, whatever happened: the promises about money.

use stateright::Property;

use super::Money;
use super::state::{Call, DAYS, Row, State};

/// All promises. Each is also the name under which a counterexample is found.
pub(crate) fn promises() -> Vec<Property<Money>> {
    vec![
        Property::always("what is spent and reserved stays within the limit", |_: &Money, s: &State| {
            s.counters.iter().all(|counter| counter.reserved + counter.spent <= s.limit)
        }),
        Property::always("what is truly billed stays within the limit", |_: &Money, s: &State| {
            (0..DAYS).all(|day| sum(s, day, |call| call.billed) <= s.limit)
        }),
        Property::always("every bill is covered", |_: &Money, s: &State| {
            s.calls().all(|(_, call)| match call.row {
                Row::Absent => call.billed == 0,
                Row::Settled(cost) => call.billed == cost,
                Row::Reserved(bound) | Row::Estimated(bound) => call.billed <= bound,
            })
        }),
        Property::always("the counters are the sum of the ledger", |_: &Money, s: &State| {
            (0..DAYS).all(|day| {
                let reserved = sum(s, day, |call| match call.row {
                    Row::Reserved(bound) => bound,
                    _ => 0,
                });
                let spent = sum(s, day, |call| match call.row {
                    Row::Settled(cost) | Row::Estimated(cost) => cost,
                    _ => 0,
                });
                s.counters[day].reserved == reserved && s.counters[day].spent == spent
            })
        }),
        Property::always("money goes to whoever holds the step", |_: &Money, s: &State| !s.unheld),
        Property::always("nothing is stuck", |p: &Money, s: &State| {
            let mut moves = Vec::new();
            p.moves(s, &mut moves);
            !moves.is_empty() || p.is_settled(s)
        }),
        // Every path of the model ends, so that this says: whatever happens, in
        // the end no reservation is left, and only who there is no room for
        // waits.
        Property::eventually("everything settles", |p: &Money, s: &State| p.is_settled(s)),
    ]
}

fn sum(s: &State, day: usize, amount: impl Fn(&Call) -> i8) -> i8 {
    s.calls().filter(|(_, call)| usize::from(call.day) == day).map(|(_, call)| amount(call)).sum()
}
