//! A workflow's event stream: where its steps stand, as they come to stand
//! there, resumable.
//!
//! Events are states, not a log: a step that moved twice between two looks is
//! told once, with where it stands now. So resuming behind any number loses
//! nothing that still holds, and the final states always arrive.

use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::response::IntoResponse;
use galley_engine::{Engine, EngineError, WorkflowView};
use galley_probe::{Bug, planted};
use serde::Serialize;

use crate::authorize::{May, Read};
use crate::compile::task_id;
use crate::config::ApiState;
use crate::error::ApiError;
use crate::extract::workflow_id;
use crate::follow::{Follower, Tell, Teller, resume_behind};
use crate::views::{StepEvent, WorkflowEvent};

/// Streams a workflow's changes.
///
/// Server-sent events: `event: step` (a StepEvent) for every step that changed,
/// then `event: workflow` (a WorkflowEvent). `id` is the workflow's change
/// number; send it back as `Last-Event-ID` to resume behind it. The stream ends
/// after the final state.
#[utoipa::path(
    get, path = "/v1/workflows/{id}/events", operation_id = "watchWorkflow", tag = "workflows",
    params(
        ("id" = Uuid, Path, description = "The workflow"),
        ("Last-Event-ID" = Option<u64>, Header, description = "Resume behind this change"),
    ),
    responses((status = 200, description = "`step` and `workflow` events", body = String,
        content_type = "text/event-stream")),
)]
pub(crate) async fn stream(
    State(state): State<ApiState>,
    grant: May<Read>,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Result<impl IntoResponse, ApiError> {
    let key = grant.key(workflow_id(&id)?);
    let last = resume_behind(&headers)?;
    Follower::start(&state, key, last, Changes).await
}

/// Tells where steps stand.
struct Changes;

impl Teller for Changes {
    async fn tell(
        &mut self,
        _engine: &Engine,
        view: &WorkflowView,
        since: u64,
    ) -> Result<Vec<Tell>, EngineError> {
        Ok(changes_since(view, since).iter().map(Change::told).collect())
    }
}

/// One event before it is text.
#[derive(Debug, PartialEq)]
struct Change {
    /// Set on the last event of a change number, so that resuming behind it
    /// skips nothing of it.
    id: Option<u64>,
    what: What,
}

#[derive(Debug, PartialEq, Serialize)]
#[serde(untagged)]
enum What {
    Step(StepEvent),
    Workflow(WorkflowEvent),
}

impl Change {
    fn told(&self) -> Tell {
        let name = match self.what {
            What::Step(_) => "step",
            What::Workflow(_) => "workflow",
        };
        Tell::new(name, self.id, &self.what)
    }
}

/// What is told to somebody who has seen everything up to `since`.
fn changes_since(view: &WorkflowView, since: u64) -> Vec<Change> {
    let workflow = view.row.key.workflow;
    let mut steps: Vec<_> = view
        .steps()
        .filter(|(_, _, step)| step.changed > since + u64::from(planted(Bug::EventsById)))
        .map(|(index, name, step)| StepEvent {
            task_id: task_id(workflow, &name),
            step: name,
            agent: view.agent(index).to_string(),
            state: step.state.into(),
            attempts: step.attempts,
            seq: step.changed,
        })
        .collect();
    // Stable: steps that changed together stay in definition order.
    steps.sort_by_key(|step| step.seq);
    let mut changes = Vec::with_capacity(steps.len() + 1);
    let mut steps = steps.into_iter().peekable();
    while let Some(step) = steps.next() {
        // The number of the whole belongs to the workflow event behind.
        let next = steps.peek().map_or(view.seq, |next| next.seq);
        let id = (next != step.seq).then_some(step.seq);
        changes.push(Change { id, what: What::Step(step) });
    }
    let whole = WorkflowEvent { workflow_id: workflow, state: view.state.into(), seq: view.seq };
    changes.push(Change { id: Some(view.seq), what: What::Workflow(whole) });
    changes
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use galley_core::ids::{WorkflowId, WorkflowKey, WorkspaceId};
    use galley_core::plan::Plan;
    use galley_core::retry::RetryPolicy;
    use galley_core::run::{Run, WorkflowState};
    use galley_engine::store::WorkflowRow;
    use serde_json::json;
    use uuid::Uuid;

    use super::*;

    /// A workflow of steps that last changed at these numbers.
    fn view(changed: &[u64], seq: u64) -> WorkflowView {
        let steps: Vec<_> =
            (0..changed.len()).map(|n| json!({ "name": format!("s{n}"), "agent": "a" })).collect();
        let definition = serde_json::from_value(json!({ "name": "w", "steps": steps })).unwrap();
        let plan = Plan::compile(definition, |_| Some(RetryPolicy::default())).unwrap();
        let mut run = Run::new(&plan, 5);
        for (step, changed) in run.steps.iter_mut().zip(changed) {
            step.changed = *changed;
        }
        let key = WorkflowKey { workspace: WorkspaceId(Uuid::nil()), workflow: WorkflowId(Uuid::nil()) };
        let row = WorkflowRow {
            key,
            definition: 1,
            name: "w".into(),
            template: None,
            priority: 5,
            created_by: "t".into(),
            created_at: String::new(),
            traceparent: None,
            version: 0,
            run: Vec::new(),
            finished_at: None,
            age_us: 0,
        };
        WorkflowView { row, plan: Arc::new(plan), run, state: WorkflowState::Running, seq }
    }

    /// `name@seq#id` of each change.
    fn told(view: &WorkflowView, since: u64) -> Vec<String> {
        changes_since(view, since)
            .into_iter()
            .map(|change| {
                let (name, seq) = match change.what {
                    What::Step(step) => (step.step, step.seq),
                    What::Workflow(workflow) => ("workflow".into(), workflow.seq),
                };
                format!("{name}@{seq}{}", change.id.map(|id| format!("#{id}")).unwrap_or_default())
            })
            .collect()
    }

    #[test]
    fn steps_come_in_the_order_of_their_change_and_the_workflow_last() {
        let view = view(&[4, 2, 0, 4], 4);
        assert_eq!(told(&view, 0), ["s1@2#2", "s0@4", "s3@4", "workflow@4#4"]);
        assert_eq!(told(&view, 2), ["s0@4", "s3@4", "workflow@4#4"]);
        assert_eq!(told(&view, 4), ["workflow@4#4"]);
    }

    #[test]
    fn a_change_of_the_workflow_alone_has_its_own_number() {
        let view = view(&[3, 3], 5);
        assert_eq!(told(&view, 0), ["s0@3", "s1@3#3", "workflow@5#5"]);
    }

    /// Cut the stream behind any event, resume behind the last id seen: what
    /// was told before and after is everything.
    #[test]
    fn resuming_behind_any_event_loses_nothing() {
        let view = view(&[1, 3, 3, 2, 5, 3], 6);
        let all = changes_since(&view, 0);
        for cut in 0..=all.len() {
            let seen = &all[..cut];
            let last = seen.iter().rev().find_map(|change| change.id).unwrap_or(0);
            let rest = changes_since(&view, last);
            for change in &all {
                let told = seen.iter().chain(&rest).any(|other| other.what == change.what);
                assert!(told, "cut at {cut}: {change:?} is lost");
            }
        }
    }
}
