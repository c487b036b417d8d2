//! Tasks: a step's history, in the words of AgentTaskHistory.

use galley_core::choice::{Score, WhyNot};
use galley_core::ids::{WorkflowId, WorkspaceId};
use galley_core::report::Deliberation;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::words::{TaskState, TaskStatus};

/// One step of one workflow: what it got, what it made, how it went.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct AgentTaskHistory {
    /// The same as `taskId`: a step has one history.
    pub id: String,
    /// Its tenant.
    #[schema(value_type = Uuid)]
    pub workspace_id: WorkspaceId,
    /// `<workflow id>.<step name>`; the step name of an expanded part has a
    /// dot itself: `content.0`.
    pub task_id: String,
    /// The agent type.
    pub agent_type: String,
    /// What the step ran with, or would run with now.
    pub input: Value,
    /// What the agent made; null until it succeeded.
    pub output: Value,
    /// How it ended; null until it did.
    pub result: Option<TaskResult>,
    /// Its workflow.
    #[schema(value_type = Uuid)]
    pub workflow_id: WorkflowId,
    /// Where it stands, in four words.
    pub status: TaskStatus,
    /// A person's judgement. Null.
    pub feedback: Option<Value>,
    /// What was learned from it. Null.
    pub learning_data: Option<Value>,
    /// When its workflow was accepted.
    #[schema(format = DateTime)]
    pub created_at: String,
    /// When it succeeded, or when its last attempt failed for good.
    #[schema(format = DateTime)]
    pub completed_at: Option<String>,
    /// Where it stands, exactly.
    pub state: TaskState,
    /// Every attempt, oldest first.
    pub attempts: Vec<Attempt>,
    /// How its attempts came to their models, oldest first; empty for agents
    /// that ask none.
    #[serde(default)]
    pub choices: Vec<ModelChoice>,
}

/// How an attempt came to its model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ModelChoice {
    /// The attempt's epoch.
    pub epoch: u32,
    /// The model that was chosen, `provider:model`.
    pub model: String,
    /// The version of the prompt: equal templates have equal ones.
    pub prompt: String,
    /// Why this model.
    pub reason: String,
    /// Calls to providers, repairs and fallbacks included.
    pub calls: u16,
    /// What every candidate was expected to be worth.
    pub scores: Vec<ModelScore>,
}

/// What a candidate was expected to be worth when a model was chosen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ModelScore {
    /// `provider:model`.
    pub name: String,
    /// Expected rating, 1 to 5.
    pub quality: f64,
    /// Expected success rate, 0 to 1.
    pub success: f64,
    /// Expected cost of a run, millionths of a US dollar.
    pub cost_micros: u64,
    /// Expected run time, milliseconds.
    pub latency_ms: u64,
    /// What it all comes to; comparable within one choice only.
    pub utility: f64,
    /// Whether it was chosen to learn more about it.
    pub explored: bool,
    /// Why it could not be chosen: `budget` or `unhealthy`.
    pub why_not: Option<String>,
}

impl ModelChoice {
    /// The choice of the attempt of an epoch.
    pub(crate) fn of(epoch: u32, deliberation: &Deliberation) -> Self {
        let Deliberation { prompt, model, reason, scores, calls, .. } = deliberation.clone();
        Self { epoch, model, prompt, reason, calls, scores: scores.into_iter().map(ModelScore::of).collect() }
    }
}

impl ModelScore {
    fn of(score: Score) -> Self {
        let Score { name, quality, success, cost_micros, latency_ms, utility, explored, why_not, .. } = score;
        let why_not = why_not.map(|why| {
            match why {
                WhyNot::Budget => "budget",
                WhyNot::Unhealthy => "unhealthy",
            }
            .to_owned()
        });
        Self { name, quality, success, cost_micros, latency_ms, utility, explored, why_not }
    }
}

/// How a task ended, and its bill.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct TaskResult {
    /// Whether it produced an output.
    pub success: bool,
    /// The last error, if it did not.
    pub error: Option<TaskError>,
    /// Run time of the attempt that decided, milliseconds.
    pub duration_ms: Option<u32>,
    /// The model's name at its provider.
    pub model: Option<String>,
    /// Who answered.
    pub provider: Option<String>,
    /// Prompt tokens, those of attempts that failed included.
    pub tokens_in: u32,
    /// Completion tokens, those of attempts that failed included.
    pub tokens_out: u32,
    /// Cost in millionths of a US dollar, that of attempts that failed included.
    pub cost_micros: u64,
    /// Whether the answer came from the response cache.
    pub cache_hit: bool,
}

/// Why an attempt failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct TaskError {
    /// A short, stable name of the kind of error.
    pub class: String,
    /// What happened, for a person.
    pub message: String,
}

/// One execution of a step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Attempt {
    /// The fencing counter of its claim.
    pub epoch: u32,
    /// `succeeded`, `failed`, `throttled`, `waiting_budget`, `crashed` or
    /// `overdue`.
    pub outcome: String,
    /// The worker session that ran it, where it is recorded.
    pub session: Option<i64>,
    /// Why it did not succeed.
    pub error: Option<TaskError>,
    /// Run time, milliseconds, where somebody measured it.
    pub duration_ms: Option<u32>,
    /// When it ended.
    #[schema(format = DateTime)]
    pub ended_at: String,
}
