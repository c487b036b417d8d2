//! Broken rows: what the database must not hold.

use galley_core::ids::WorkspaceId;
use galley_core::run::StepState;
use jiff::SignedDuration;

use super::good::Good;
use super::story::version;
use super::{Break, PUBLISH, edit_journal, edit_run, row_of};
use crate::history::{Bytes, LetterRow, Reply, TimerRow};

fn second() -> SignedDuration {
    SignedDuration::from_secs(1)
}

pub(super) const BREAKS: &[Break] = &[
    ("said", "a message is gone", |good| {
        good.history.dump.messages.pop();
    }),
    ("said", "a message is there twice", |good| {
        let mut twin = good.history.dump.messages[0].clone();
        twin.n = 1;
        good.history.dump.messages.push(twin);
    }),
    ("said", "a message of an attempt that did not win", |good| {
        good.history.dump.messages[0].content = serde_json::json!({ "call": "another" });
    }),
    ("said", "a message of another change than its result", |good| good.history.dump.messages[0].seq += 1),
    ("said", "a later step did not hear it", |good| {
        let join = good.history.calls.iter_mut().find(|call| call.step == "join").unwrap();
        join.heard.clear();
    }),
    ("said", "a later step heard it twice", |good| {
        let call = good.history.calls.iter_mut().find(|call| !call.heard.is_empty()).unwrap();
        call.heard.push(call.heard[0].clone());
    }),
    ("said", "a step heard what nobody said", |good| good.history.calls[0].heard.push("nothing".into())),
    ("accepted", "an acknowledged workflow is gone", |good| {
        let dump = &mut good.history.dump;
        dump.workflows.retain(|row| row.id != good.expanded.1);
        dump.finished_runs.retain(|row| row.id != good.expanded.1);
    }),
    ("accepted", "a workflow has no run", |good| {
        good.history.dump.finished_runs.retain(|row| row.id != good.expanded.1);
    }),
    ("accepted", "a workflow is live and over", |good| {
        let over = good.history.dump.finished_runs[0].clone();
        let mut live = good.history.dump.runs[0].clone();
        (live.workspace_id, live.id, live.definition_id) = (over.workspace_id, over.id, over.definition_id);
        good.history.dump.runs.push(live);
    }),
    ("accepted", "a run of no workflow", |good| {
        good.history.dump.workflows.retain(|row| row.id != good.dead.1);
    }),
    ("accepted", "two workflows of one key", |good| {
        let mut twin = good.history.dump.workflows[0].clone();
        twin.id = galley_core::ids::WorkflowId(uuid::Uuid::from_u128(1));
        good.history.dump.workflows.push(twin);
    }),
    ("accepted", "a refused workflow is there", |good| {
        good.history.ops.iter_mut().find(|op| is_submit(op, "k-dead")).unwrap().reply =
            Reply::Refused { status: 422, problem: "invalid".into() };
    }),
    ("accepted", "a key told two clients two ids", |good| {
        let mut again = good.history.ops.iter().find(|op| is_submit(op, "k-dead")).unwrap().clone();
        if let Reply::Done(told) = &mut again.reply {
            told.workflow = Some(good.published.1);
        }
        good.history.ops.push(again);
    }),
    ("accepted", "one key for two requests", |good| {
        let mut again = good.history.ops.iter().find(|op| is_submit(op, "k-dead")).unwrap().clone();
        if let crate::history::Ask::Submit { body, .. } = &mut again.ask {
            *body += 1;
        }
        good.history.ops.push(again);
    }),
    ("schedules", "a time became two workflows", |good| {
        let twin = schedule_run(good).clone();
        good.history.dump.audit.push(twin);
    }),
    ("schedules", "a time was both run and skipped", |good| {
        let mut skipped = schedule_run(good).clone();
        skipped.action = "schedule.skip".into();
        good.history.dump.audit.push(skipped);
    }),
    ("schedules", "nothing tells that a schedule submitted it", |good| {
        good.history.dump.audit.retain(|row| row.action != "schedule.run");
    }),
    ("schedules", "what a schedule submitted is gone", |good| {
        let recurring = good.recurring.1;
        good.history.dump.workflows.retain(|row| row.id != recurring);
    }),
    ("rest", "a step was lost in the queue", |good| {
        edit_run(good, good.dead, |run| run.steps[0].state = StepState::Queued);
    }),
    ("rest", "two branches finished at once and nobody queued the join", |good| {
        edit_run(good, good.asked, |run| run.steps[1].state = StepState::Blocked);
    }),
    ("rest", "a timer passed and nobody noticed", |good| {
        let at = good.history.dump.at - second();
        good.history.dump.timers[0].due_at = at;
    }),
    ("rest", "a workflow is over and still live", |good| {
        edit_run(good, good.dead, |run| {
            run.steps.iter_mut().for_each(|step| step.state = StepState::Cancelled);
        });
    }),
    ("runs", "a run cannot be read", |good| good.history.dump.runs[0].run = Bytes("\\x0901".into())),
    ("runs", "its definition is gone", |good| good.history.dump.definitions.clear()),
    ("runs", "it is over with another state", |good| {
        good.history.dump.finished_runs[0].state = "stalled".into();
    }),
    ("runs", "a row counts steps that do not run", |good| good.history.dump.runs[0].running = 1),
    ("runs", "a child is there twice", |good| {
        edit_run(good, good.expanded, |run| run.steps[3].item = Some(0));
    }),
    ("transitions", "a version is missing: two writers wrote the same", |good| {
        good.history.dump.run_journal.remove(2);
    }),
    ("transitions", "a version was written twice", |good| {
        let mut twin = good.history.dump.run_journal[2].clone();
        twin.n += 1;
        good.history.dump.run_journal.insert(3, twin);
    }),
    ("transitions", "the row is older than its journal", |good| {
        good.history.dump.finished_runs[0].version = version(2);
    }),
    ("transitions", "a final step moved", |good| {
        edit_journal(good, good.published, 3, |run| run.steps[0].state = StepState::Failed);
    }),
    ("transitions", "an epoch was reset", |good| {
        edit_journal(good, good.published, 3, |run| run.steps[1].epoch = 0);
    }),
    ("transitions", "a nonce came back", |good| {
        let first = nonces(good)[0];
        for version in [6, 7] {
            edit_journal(good, good.published, version, |run| {
                run.steps[1].lease.as_mut().unwrap().nonce.0 = first;
            });
        }
    }),
    ("transitions", "a step ran before what it needs", |good| {
        edit_journal(good, good.published, 1, |run| run.steps[1].state = StepState::Queued);
    }),
    ("transitions", "an overtaken attempt completed", |good| {
        row_of!(good.history.dump.results, good.published, 0).nonce += 1;
    }),
    ("transitions", "a step was claimed while it waited for its time", |good| {
        edit_journal(good, good.published, 2, |run| run.steps[0].epoch += 1);
        edit_journal(good, good.published, 1, |run| {
            (run.steps[0].state, run.steps[0].lease) = (StepState::Scheduled, None);
        });
        edit_journal(good, good.published, 2, |run| {
            run.steps[0].state = StepState::Running;
            run.steps[0].lease = Some(lease(5));
        });
    }),
    ("transitions", "a step started after the cancel", |good| {
        let rows = &mut good.history.dump.run_journal;
        let last = rows.iter().rfind(|row| row.id == good.cancelled.1).unwrap().clone();
        let n = rows.len() as i64 + 1;
        rows.push(crate::history::JournalRow {
            n,
            version: version((last.version >> 24) as u64 + 1),
            ..last
        });
        let versions = rows.iter().filter(|row| row.id == good.cancelled.1).count();
        edit_journal(good, good.cancelled, versions - 1, |run| {
            run.steps[1].state = StepState::Running;
            run.steps[1].lease = Some(lease(6));
            run.steps[1].epoch += 1;
        });
    }),
    ("results", "a result is gone", |good| {
        good.history.dump.results.retain(|row| row.workflow_id != good.published.1);
    }),
    ("results", "a step has two results", |good| {
        let twin = good.history.dump.results[0].clone();
        good.history.dump.results.push(twin);
    }),
    ("results", "a result of an older epoch", |good| {
        row_of!(good.history.dump.results, good.published, 0).epoch -= 1;
    }),
    ("results", "a result of a step that died", |good| {
        let mut stray = good.history.dump.results[0].clone();
        (stray.workspace_id, stray.workflow_id, stray.step) = (good.dead.0, good.dead.1, 0);
        good.history.dump.results.push(stray);
    }),
    ("results", "a result of no step", |good| {
        row_of!(good.history.dump.results, good.published, 0).step = 9;
    }),
    ("results", "the attempt that won is logged as failed", |good| {
        let nonce = row_of!(good.history.dump.results, good.published, 0).nonce;
        let mut lost = good.history.dump.attempts[0].clone();
        (lost.workflow_id, lost.step, lost.nonce) = (good.published.1, 0, nonce);
        good.history.dump.attempts.push(lost);
    }),
    ("results", "a result of no call", |good| good.history.calls.clear()),
    ("parents", "a step ended before what it needs", |good| {
        let at = row_of!(good.history.dump.results, good.expanded, 2).finished_at;
        row_of!(good.history.dump.results, good.expanded, 1).finished_at = at - second();
    }),
    ("parents", "a step was called before what it needs", |good| {
        let join = good.history.calls.iter_mut().find(|call| call.step == "join").unwrap();
        join.at_ms = 0;
    }),
    ("parents", "a step was given a result that lost", |good| {
        let join = good.history.calls.iter_mut().find(|call| call.step == "join").unwrap();
        join.saw.get_mut("each").unwrap()[0] = "call-of-a-zombie".into();
    }),
    ("letters", "a dead step has no letter", |good| {
        good.history.dump.dead_letters.retain(|letter| letter.workflow_id != good.dead.1);
    }),
    ("letters", "a letter stayed open", |good| {
        row_of!(good.history.dump.dead_letters, good.cancelled, 0).status = "open".into();
    }),
    ("letters", "a letter was closed and its step is dead", |good| {
        let letter = row_of!(good.history.dump.dead_letters, good.dead, 0);
        (letter.status, letter.closed_at) = ("replayed".into(), Some(letter.died_at));
    }),
    ("letters", "a step died of too few attempts", |good| {
        row_of!(good.history.dump.dead_letters, good.dead, 0).reason = "attempts".into();
    }),
    ("letters", "a letter of no step", |good| {
        let letter = row_of!(good.history.dump.dead_letters, good.dead, 0).clone();
        good.history.dump.dead_letters.push(LetterRow { step: 40, ..letter });
    }),
    ("tenants", "a row names another workspace's canary", |good| {
        good.history.dump.workflows[0].input = serde_json::json!({ "product": "canary-two" });
    }),
    ("tenants", "a row of another workspace's workflow", |good| {
        let other: WorkspaceId = good.scheduled.0;
        good.history.dump.results[0].workspace_id = other;
    }),
    ("tenants", "a post of another workspace's account", |good| {
        let other = good.history.dump.accounts[1].id;
        row_of!(good.history.dump.posts, good.published, PUBLISH).account_id = other;
    }),
    ("secrets", "a row holds a credential", |good| {
        good.history.dump.audit[0].detail = Some("tok-4711-secret".into());
    }),
    ("secrets", "an account's credential is not sealed", |good| {
        good.history.dump.accounts[0].credential = Bytes::of(b"tok-4711-secret");
    }),
    ("leaks", "a timer outlived its workflow", |good| {
        let (workspace_id, workflow_id) = good.published;
        let due_at = good.history.dump.at + second();
        good.history.dump.timers.push(TimerRow { workspace_id, workflow_id, step: 0, epoch: 1, due_at });
    }),
    ("leaks", "a timer of another epoch", |good| good.history.dump.timers[0].epoch += 1),
    ("leaks", "a waiting step has no timer", |good| good.history.dump.timers.clear()),
    ("leaks", "a step still runs", |good| {
        edit_run(good, good.dead, |run| {
            run.steps[0].state = StepState::Running;
            run.steps[0].lease = Some(lease(1));
        });
    }),
    ("leaks", "a closed session was never swept", |good| {
        good.history.dump.sessions.push(crate::history::SessionRow {
            id: galley_core::ids::SessionId(1),
            worker: "w".into(),
            pid: 1,
            running: 0,
            closed_at: Some(good.history.dump.at),
            close_reason: Some("lost".into()),
            swept_at: None,
        });
    }),
];

fn is_submit(op: &crate::history::Op, wanted: &str) -> bool {
    matches!(&op.ask, crate::history::Ask::Submit { key, .. } if key == wanted)
}

fn lease(nonce: u64) -> galley_core::run::Lease {
    galley_core::run::Lease { nonce: galley_core::ids::Nonce(nonce), session: galley_core::ids::SessionId(1) }
}

fn schedule_run(good: &mut Good) -> &mut crate::history::AuditRow {
    good.history.dump.audit.iter_mut().find(|row| row.action == "schedule.run").unwrap()
}

/// The nonces of the claims of the published workflow's publish step.
fn nonces(good: &Good) -> Vec<u64> {
    let journal = good.history.dump.run_journal.iter().filter(|row| row.id == good.published.1);
    journal.filter_map(|row| Some(row.run.run().ok()?.steps[1].lease?.nonce.0)).collect()
}
