//! Read models: workflows, steps and their history as people ask for them, and
//! the live stream of a workflow's changes.

use std::collections::HashMap;
use std::sync::Arc;

use galley_core::definition::MAX_STEPS;
use galley_core::ids::{StepIndex, WorkflowId, WorkflowKey, WorkspaceId};
use galley_core::plan::Plan;
use galley_core::run::{Run, StepState, WorkflowState};
use galley_store::{
    ApprovalFilter, ApprovalRow, AttemptRow, Content, DeliberationRow, PostFilter, PostRow, ResultRow,
    StoreError, WaitRow, WorkflowRow,
};
use serde_json::Value;

use crate::claim::{assemble, parse};
use crate::engine::Engine;
use crate::error::EngineError;
use crate::transition::seq_of;
use crate::vault::Row;

/// A workflow as it stands.
#[derive(Clone, Debug)]
pub struct WorkflowView {
    /// What was submitted.
    pub row: WorkflowRow,
    /// What it runs.
    pub plan: Arc<Plan>,
    /// Where its steps stand.
    pub run: Run,
    /// Where it stands.
    pub state: WorkflowState,
    /// The number of its last change: what event streams resume from.
    pub seq: u64,
}

impl WorkflowView {
    /// Its steps by position, with their names.
    pub fn steps(&self) -> impl Iterator<Item = (StepIndex, String, &galley_core::run::StepRun)> {
        self.run.steps.iter().enumerate().map(|(index, step)| {
            let index = index as StepIndex;
            (index, self.run.step_name(&self.plan, index), step)
        })
    }

    /// The agent type of a step.
    pub fn agent(&self, step: StepIndex) -> &galley_core::ids::AgentType {
        &self.plan.steps[usize::from(self.run.steps[usize::from(step)].plan)].agent
    }

    /// The names of the steps a step needs.
    pub fn needs(&self, step: StepIndex) -> Vec<String> {
        let plan_step = &self.plan.steps[usize::from(self.run.steps[usize::from(step)].plan)];
        plan_step.needs.iter().map(|need| self.plan.steps[usize::from(*need)].name.clone()).collect()
    }
}

/// Everything known about a workflow's steps.
#[derive(Clone, Debug)]
pub struct WorkflowHistory {
    /// The workflow.
    pub workflow: WorkflowView,
    /// The workflow's input.
    pub input: Value,
    /// One result per succeeded step.
    pub results: HashMap<StepIndex, ResultRow>,
    /// Attempts that did not succeed, oldest first.
    pub attempts: Vec<AttemptRow>,
    /// When waiting steps are due, RFC 3339.
    pub due: HashMap<StepIndex, String>,
    /// The posts of its publish steps.
    pub posts: HashMap<StepIndex, PostRow>,
    /// What people are asked about it.
    pub questions: Vec<ApprovalRow>,
    /// How its attempts came to their models, oldest first.
    pub deliberations: Vec<DeliberationRow>,
    edited: HashMap<StepIndex, String>,
}

impl WorkflowHistory {
    /// The output of a step.
    pub fn output(&self, step: StepIndex) -> Option<Value> {
        self.results.get(&step).map(|row| match &row.output {
            Content::Clear(json) => parse(json),
            // Opened when this was read.
            Content::Sealed(_) => Value::Null,
        })
    }

    /// The input a step ran with, or would run with now.
    pub fn step_input(&self, step: StepIndex) -> Value {
        if let Some(json) = self.edited.get(&step) {
            return parse(json);
        }
        let WorkflowView { plan, run, .. } = &self.workflow;
        assemble(plan, run, step, self.input.clone(), &|need| self.output(need))
    }
}

/// Which workflows.
#[derive(Clone, Debug, Default)]
pub struct WorkflowFilter {
    /// Only in this state.
    pub state: Option<WorkflowState>,
    /// Only older than this one (the last of the page before).
    pub before: Option<WorkflowId>,
}

impl Engine {
    /// One workflow.
    ///
    /// # Errors
    /// [`EngineError::NotFound`].
    pub async fn workflow(&self, key: WorkflowKey) -> Result<WorkflowView, EngineError> {
        let row = self.store().workflow(key).await?;
        let row =
            row.ok_or_else(|| EngineError::NotFound { kind: "workflow", id: key.workflow.to_string() })?;
        self.view(row).await
    }

    /// One page of workflows, newest first. The page may be shorter than
    /// `limit` although more follow: go on behind its last workflow (second
    /// part of the answer) until that is `None`.
    ///
    /// # Errors
    /// Postgres is away.
    pub async fn workflows(
        &self,
        workspace: WorkspaceId,
        filter: &WorkflowFilter,
        limit: usize,
    ) -> Result<(Vec<WorkflowView>, Option<WorkflowId>), EngineError> {
        let state = filter.state.map(|state| if state.is_final() { state.word() } else { "live" });
        let rows = self.store().list_workflows(workspace, state, filter.before, limit as i64).await?;
        let next = (rows.len() == limit).then(|| rows.last().map(|row| row.key.workflow)).flatten();
        let mut views = Vec::with_capacity(rows.len());
        for row in rows {
            views.push(self.view(row).await?);
        }
        // Whether a live workflow is running or stalled is inside its run.
        if let Some(state) = filter.state {
            views.retain(|view| view.state == state);
        }
        Ok((views, next))
    }

    async fn view(&self, row: WorkflowRow) -> Result<WorkflowView, EngineError> {
        let run = Run::decode(&row.run).map_err(|source| StoreError::Corrupt { key: row.key, source })?;
        let plan = self.caches().plan(self.store(), row.key.workspace, row.definition).await?;
        let (state, seq) = (run.state(&plan), seq_of(row.version));
        Ok(WorkflowView { row, plan, run, state, seq })
    }

    /// A workflow with the history of all its steps.
    ///
    /// # Errors
    /// [`EngineError::NotFound`].
    pub async fn history(&self, key: WorkflowKey) -> Result<WorkflowHistory, EngineError> {
        let workflow = self.workflow(key).await?;
        let input = self.store().load_inputs(&[key]).await?;
        let input = match input.into_iter().next() {
            Some((_, content, _)) => parse(&self.opened(Row::Input(key), content).await?),
            None => Value::Null,
        };
        let mut results = HashMap::new();
        for mut row in self.store().results_of(key).await? {
            row.output = Content::Clear(self.opened(Row::Output(key, row.step), row.output).await?);
            results.insert(row.step, row);
        }
        let attempts = self.store().attempts_of(key).await?;
        let mut posts = HashMap::new();
        if workflow.plan.publishes {
            let filter = PostFilter { workflow: Some(key.workflow), ..PostFilter::default() };
            let rows = self.store().list_posts(key.workspace, &filter, None, MAX_STEPS as i64).await?;
            posts.extend(rows.into_iter().map(|post| (post.step, post)));
        }
        let questions = if workflow.run.count(StepState::WaitingApproval) > 0 {
            let filter = ApprovalFilter {
                status: Some("pending".into()),
                workflow: Some(key.workflow),
                ..ApprovalFilter::default()
            };
            self.store().list_approvals(key.workspace, &filter, None, MAX_STEPS as i64).await?
        } else {
            Vec::new()
        };
        let timed = [StepState::Scheduled, StepState::Unknown];
        let due = if timed.iter().any(|state| workflow.run.count(*state) > 0) {
            self.store().timers_of(key).await?.into_iter().collect()
        } else {
            HashMap::new()
        };
        let mut edited = HashMap::new();
        for (index, step) in workflow.run.steps.iter().enumerate() {
            let index = index as StepIndex;
            if let Some(epoch) = step.edited
                && let Some(json) = self.edited_input(key, index, epoch).await?
            {
                edited.insert(index, json.map_err(EngineError::Sealed)?);
            }
        }
        let deliberations = self.store().deliberations_of(key).await?;
        Ok(WorkflowHistory {
            workflow,
            input,
            results,
            attempts,
            due,
            posts,
            questions,
            deliberations,
            edited,
        })
    }

    /// The times for which a workflow's steps waited for people.
    ///
    /// # Errors
    /// Postgres is away.
    pub async fn waits(&self, key: WorkflowKey) -> Result<Vec<WaitRow>, EngineError> {
        Ok(self.store().waits_of(key).await?)
    }

    /// The current change numbers of workflows: what a watcher polls, one
    /// query for all it watches.
    ///
    /// # Errors
    /// Postgres is away.
    pub async fn change_numbers(
        &self,
        keys: &[WorkflowKey],
    ) -> Result<HashMap<WorkflowKey, u64>, EngineError> {
        let versions = self.store().run_versions(keys).await?;
        Ok(versions.into_iter().map(|(key, version)| (key, seq_of(version))).collect())
    }
}
