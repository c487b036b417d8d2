//! Where a workflow's time went, from real records: a retry, two branches side
//! by side, a person who answers late.

use std::time::Duration;

use galley_api::views::{Collaboration, Role, SpanKind, WorkflowDetail};
use galley_core::report::StepError;
use galley_core::run::WorkflowState;
use galley_engine::store::ApprovalFilter;
use jiff::Timestamp;
use serde_json::json;
use tokio::time::sleep;

use crate::harness::posts::{account, question};
use crate::harness::{Agents, Api, Bed, Network, Setup, answer, retry};

/// What agents take: the work of these tests, not what they wait for.
const LONG: Duration = Duration::from_millis(120);
const SHORT: Duration = Duration::from_millis(20);

fn agents() -> Agents {
    Agents::default()
        .with("quick", retry(3), |step| async move {
            sleep(SHORT).await;
            answer(&json!({ "step": step.step_name }))
        })
        .with("flaky", retry(3), |step| async move {
            sleep(LONG).await;
            match step.attempt {
                1 => Err(StepError::transient("down", "the first time")),
                _ => answer(&json!({})),
            }
        })
        .with("writer", retry(3), |_| async move {
            sleep(SHORT).await;
            answer(&json!({ "platform": "network", "text": "hello" }))
        })
}

async fn shown(api: &Api, path: &str) -> WorkflowDetail {
    let (status, detail) = api.get(path).await;
    assert_eq!(status, 200, "{detail}");
    serde_json::from_value(detail).unwrap()
}

fn kinds(detail: &WorkflowDetail, step: &str) -> Vec<SpanKind> {
    let part = detail.result.contributions.iter().find(|part| part.step == step).unwrap();
    part.timeline.iter().map(|span| span.kind).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_workflows_time_is_told_to_the_millisecond() {
    let network = Network::new();
    let setup = Setup { network: Some(network.clone()), nervous: true, ..Setup::default() };
    let mut bed = Bed::with(setup).await;
    account(&bed, "idempotent", json!({ "settings": { "kind": "idempotent" } })).await;
    bed.serve(&agents()).await;
    let api = Api::of(&bed, Role::Operator).await;
    let steps = json!([
        { "name": "plan", "agent": "quick" },
        { "name": "short", "agent": "quick", "needs": ["plan"] },
        { "name": "long", "agent": "flaky", "needs": ["plan"] },
        { "name": "write", "agent": "writer", "needs": ["short", "long"] },
        { "name": "write_2", "agent": "writer", "needs": ["write"] },
        { "name": "publish", "agent": "publisher", "needs": ["write_2"], "input": { "account": "idempotent" } },
    ]);
    let key = bed.submit(steps, json!({})).await;
    let path = format!("/v1/workflows/{}", key.workflow);
    let asked = question(&bed, key).await;

    let waiting = shown(&api, &path).await;
    assert_eq!(waiting.result.collaboration, None, "it is not over");
    assert_eq!(kinds(&waiting, "publish").last(), Some(&SpanKind::People));
    let until = waiting.result.contributions.iter().flat_map(|part| part.timeline.last());
    assert_eq!(until.map(|span| span.to_ms).max(), Some(waiting.result.totals.total_ms), "until now");

    bed.api.approve(bed.workspace, asked.id, None, None, "ada").await.unwrap();
    bed.finish(key, WorkflowState::Succeeded).await;
    let detail = shown(&api, &path).await;
    let found = detail.result.collaboration.clone().unwrap();
    let Collaboration { efficiency, wall_ms, useful_ms, losses, critical_path } = &found;
    let on_path: Vec<_> = critical_path.iter().map(|at| at.step.as_str()).collect();
    assert_eq!(on_path, ["plan", "long", "write", "write_2", "publish"]);

    // The sum is exact, and useful is what the attempts that succeeded took:
    // the second round was none of it.
    let lost = |kind| losses.iter().find(|loss| loss.kind == kind).map_or(0, |loss| loss.ms);
    assert_eq!(useful_ms + losses.iter().map(|loss| loss.ms).sum::<u64>(), *wall_ms, "{found:?}");
    assert_eq!(*wall_ms, detail.result.totals.total_ms);
    let took = |step: &str| {
        let part = detail.result.contributions.iter().find(|part| part.step == step).unwrap();
        u64::from(part.duration_ms.unwrap())
    };
    let work: u64 = ["plan", "long", "write", "publish"].into_iter().map(took).sum();
    assert_eq!((*useful_ms, lost(SpanKind::Rework)), (work, took("write_2")), "{found:?}");
    assert_eq!(*efficiency, work as f64 / *wall_ms as f64);
    assert!(lost(SpanKind::Retry) >= LONG.as_millis() as u64, "{found:?}");

    // What a person took is what their answer's row says.
    let filter = ApprovalFilter { workflow: Some(key.workflow), ..ApprovalFilter::default() };
    let rows = bed.engine.store().list_approvals(bed.workspace, &filter, None, 10).await.unwrap();
    let at = |text: &str| text.parse::<Timestamp>().unwrap().as_microsecond();
    let answered = at(rows[0].decided_at.as_ref().unwrap()) - at(&rows[0].asked_at);
    let people = lost(SpanKind::People);
    assert!((answered / 1_000 - people as i64).abs() <= 1, "{people} ms of {answered} us");

    // The other branch is drawn, but nobody waited for it.
    assert_eq!(kinds(&detail, "short").last(), Some(&SpanKind::Run));
    assert!(kinds(&detail, "long").contains(&SpanKind::Retry));
    assert_eq!(kinds(&detail, "write_2").last(), Some(&SpanKind::Rework));
    drop(api);
    bed.end().await;
}
