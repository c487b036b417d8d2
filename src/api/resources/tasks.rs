//! Tasks: the history of steps, per workflow, agent or status.

use axum::Json;
use axum::extract::{Path, State};
use galley_core::ids::{AgentType, StepIndex, WorkflowId};
use galley_core::run::StepRun;
use galley_engine::{WorkflowFilter, WorkflowHistory, WorkflowView};
use serde::Deserialize;

use crate::authorize::{Grant, May, Read};
use crate::compile;
use crate::config::ApiState;
use crate::cursor::Binding;
use crate::error::ApiError;
use crate::extract::{QueryString, agent_type, page_limit, task_id};
use crate::views::{AgentTaskHistory, Page, TaskStatus};

/// Workflows read at a time when looking for tasks across workflows.
const SCAN_PAGE: usize = 50;

/// Most workflows one request looks at: a rare match makes short pages, not a
/// long request.
const SCAN_AT_MOST: usize = 400;

/// Which tasks.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ListTasks {
    /// Only of this workflow.
    #[param(value_type = Option<Uuid>)]
    workflow: Option<WorkflowId>,
    /// Only of this agent type.
    agent: Option<String>,
    /// Only in this status.
    status: Option<TaskStatus>,
    /// Items per page, 1 to 200; 50 when absent.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<usize>,
    /// The `nextCursor` of the page before.
    cursor: Option<String>,
}

/// Which steps of a workflow.
struct Wanted {
    agent: Option<AgentType>,
    status: Option<TaskStatus>,
}

impl Wanted {
    fn matches(&self, view: &WorkflowView, index: StepIndex, step: &StepRun) -> bool {
        self.agent.as_ref().is_none_or(|agent| agent == view.agent(index))
            && self.status.is_none_or(|status| status == step.state.into())
    }
}

/// The last step a page looked at. Workflows go from new to old, the steps of
/// one in order.
type Position = (WorkflowId, StepIndex);

/// Lists tasks: newest workflow first, its steps in order.
///
/// A page may be shorter than its limit, or empty, although more follow: go on
/// until `nextCursor` is absent.
#[utoipa::path(
    get, path = "/v1/tasks", operation_id = "listTasks", tag = "tasks",
    params(ListTasks),
    responses((status = 200, description = "One page", body = Page<AgentTaskHistory>)),
)]
pub(crate) async fn list(
    State(state): State<ApiState>,
    grant: May<Read>,
    QueryString(query): QueryString<ListTasks>,
) -> Result<Json<Page<AgentTaskHistory>>, ApiError> {
    let limit = page_limit(query.limit)?;
    let binding = Binding::new("tasks", grant.workspace, &(&query.workflow, &query.agent, query.status));
    let after = binding.open::<Position>(query.cursor.as_deref())?;
    let agent = query.agent.as_deref().map(agent_type).transpose()?;
    let wanted = Wanted { agent, status: query.status };
    let mut page = Filling { items: Vec::new(), limit, last: None };
    let next = match query.workflow {
        Some(workflow) => {
            let history = state.engine.history(grant.key(workflow)).await?;
            let full = page.take(&history, &wanted, after.map(|(_, step)| step));
            page.last.filter(|_| full)
        }
        None => scan(&state, &grant, &wanted, after, &mut page).await?,
    };
    let next_cursor = next.map(|last| binding.seal(last)).transpose()?;
    Ok(Json(Page { items: page.items, next_cursor }))
}

/// A page while it is being filled.
struct Filling {
    items: Vec<AgentTaskHistory>,
    limit: usize,
    last: Option<Position>,
}

impl Filling {
    /// Takes the steps that match, behind `after`; `true` when the page is full
    /// before the workflow was through.
    fn take(&mut self, history: &WorkflowHistory, wanted: &Wanted, after: Option<StepIndex>) -> bool {
        let view = &history.workflow;
        for (index, name, step) in view.steps() {
            if after.is_some_and(|after| index <= after) || !wanted.matches(view, index, step) {
                continue;
            }
            if self.items.len() == self.limit {
                return true;
            }
            self.items.push(compile::task(history, index, &name));
            self.last = Some((view.row.key.workflow, index));
        }
        false
    }
}

/// Fills a page from as many workflows as it takes; where to go on, if there
/// is more.
async fn scan(
    state: &ApiState,
    grant: &Grant,
    wanted: &Wanted,
    after: Option<Position>,
    page: &mut Filling,
) -> Result<Option<Position>, ApiError> {
    let mut before = None;
    if let Some((workflow, step)) = after {
        before = Some(workflow);
        if step != StepIndex::MAX {
            let history = state.engine.history(grant.key(workflow)).await?;
            if page.take(&history, wanted, Some(step)) {
                return Ok(page.last);
            }
        }
    }
    for _ in 0..SCAN_AT_MOST / SCAN_PAGE {
        let filter = WorkflowFilter { state: None, before };
        let (views, next) = state.engine.workflows(grant.workspace, &filter, SCAN_PAGE).await?;
        for view in views {
            // Results and attempts are read for those workflows only that have
            // something to show.
            let any = view.steps().any(|(index, _, step)| wanted.matches(&view, index, step));
            if any && page.items.len() == page.limit {
                return Ok(page.last.map(|(workflow, _)| (workflow, StepIndex::MAX)));
            }
            if any {
                let history = state.engine.history(view.row.key).await?;
                if page.take(&history, wanted, None) {
                    return Ok(page.last);
                }
            }
        }
        if next.is_none() {
            return Ok(None);
        }
        before = next;
    }
    // Behind a whole workflow: no step has this number.
    Ok(before.map(|workflow| (workflow, StepIndex::MAX)))
}

/// Shows a task.
#[utoipa::path(
    get, path = "/v1/tasks/{taskId}", operation_id = "showTask", tag = "tasks",
    params(("taskId" = String, Path, description = "`<workflow id>.<step name>`")),
    responses((status = 200, description = "The task", body = AgentTaskHistory)),
)]
pub(crate) async fn show(
    State(state): State<ApiState>,
    grant: May<Read>,
    Path(id): Path<String>,
) -> Result<Json<AgentTaskHistory>, ApiError> {
    let (workflow, step_name) = task_id(&id)?;
    let history = state.engine.history(grant.key(workflow)).await?;
    let view = &history.workflow;
    let step = view.run.find_step(&view.plan, step_name);
    let step = step.ok_or_else(|| ApiError::not_found("task", &id))?;
    Ok(Json(compile::task(&history, step, step_name)))
}
