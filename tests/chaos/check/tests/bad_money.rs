//! Broken books: what was over budget, on no ledger, or left reserved.

use galley_core::ids::{WorkflowId, WorkspaceId};
use galley_core::run::StepState;
use jiff::civil::date;

use super::story::Key;
use super::{Break, edit_run};
use crate::history::{Bill, BudgetJournalRow, BudgetWaitRow, CounterRow, History, SpendRow};

/// What the call and the post of the story cost.
const CALL: i64 = 40;
const POST: i64 = 300;

pub(super) const BREAKS: &[Break] = &[
    ("money", "a limit was passed for a moment", |good| {
        good.history.dump.budget_journal[0].reserved_micros = 1_000;
    }),
    ("money", "a reservation is left", |good| good.history.dump.spend[0].state = "reserved".into()),
    ("money", "a counter still has something reserved", |good| {
        good.history.dump.budget_counters[0].reserved_micros = 1;
    }),
    ("money", "a bill was booked twice", |good| good.history.dump.budget_counters[2].spent_micros += CALL),
    ("money", "a counter is missing", |good| drop(good.history.dump.budget_counters.remove(1))),
    ("money", "a call that was charged is on no ledger", |good| {
        let bill = good.history.bills[0].clone();
        good.history.bills.push(bill);
    }),
    ("money", "something was booked that nobody charged", |good| good.history.bills.clear()),
    ("money", "an estimate below what was charged", |good| {
        good.history.dump.spend[0].state = "estimated".into();
        good.history.bills[0].micros = CALL as u64 + 1;
    }),
    ("money", "the platform took more than is booked", |good| good.history.effects[0].cost_micros += 1),
    ("money", "a post that is out was paid with nothing", |good| {
        good.history.dump.spend.pop();
        for row in &mut good.history.dump.budget_counters {
            row.spent_micros -= POST;
        }
    }),
    ("money", "a post was paid for that there is not", |good| good.history.dump.spend[1].step = 0),
    ("money", "a step waits for money, and nobody knows", |good| {
        edit_run(good, good.asked, |run| run.steps[1].state = StepState::WaitingBudget);
    }),
    ("money", "a wait of no step", |good| {
        let (workspace_id, workflow_id) = good.asked;
        let row = BudgetWaitRow { workspace_id, workflow_id, step: 1, epoch: 1, needed_micros: 1 };
        good.history.dump.budget_waits.push(row);
    }),
];

/// A call and a post of a workflow cost something, and are booked as they were.
pub(super) fn pay(history: &mut History, published: Key) {
    let (workspace_id, workflow_id) = published;
    let row = |step, step_name: &str, account: Option<&str>, cost_micros| SpendRow {
        workspace_id,
        workflow_id,
        step,
        epoch: 1,
        nonce: 1,
        call: 0,
        step_name: step_name.into(),
        account: account.map(Into::into),
        day: date(2026, 11, 26),
        state: "settled".into(),
        reserved_micros: 900,
        cost_micros,
    };
    history.dump.spend = vec![row(0, "write", None, CALL), row(1, "publish", Some("blind"), POST)];
    history.bills.push(Bill {
        workspace: workspace_id,
        workflow: workflow_id,
        step: "write".into(),
        micros: CALL as u64,
    });
    // The first effect of the story is this post's.
    history.effects[0].cost_micros = POST as u64;
    counted(history, workspace_id, workflow_id);
}

fn counted(history: &mut History, workspace_id: WorkspaceId, workflow_id: WorkflowId) {
    let names = [
        ("day", "2026-11-26".to_owned()),
        ("month", "2026-11".into()),
        ("workflow", workflow_id.to_string()),
    ];
    history.dump.budget_counters = names
        .into_iter()
        .map(|(period, name)| CounterRow {
            workspace_id,
            period: period.into(),
            name,
            reserved_micros: 0,
            spent_micros: CALL + POST,
        })
        .collect();
    history.dump.budget_journal.push(BudgetJournalRow {
        n: 1,
        workspace_id,
        name: "2026-11-26".into(),
        reserved_micros: 0,
        spent_micros: CALL + POST,
        limit_micros: 1_000,
    });
}
