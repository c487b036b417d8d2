//! Money: what a workspace may spend, and what it spent.

use galley_core::ids::WorkspaceId;
use galley_core::money::{Budget as Limits, Period};
use galley_engine::BudgetView;
use galley_engine::store::{CounterRow, Savings, SpendRow};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::posts::nullable;

/// What a workspace may spend, and what it spent of it. Amounts are millionths
/// of a US dollar.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Budget {
    /// The workspace.
    #[schema(value_type = Uuid)]
    pub workspace_id: WorkspaceId,
    /// Limit per day of the workspace's time zone; null: none.
    pub day_micros: Option<u64>,
    /// Limit per calendar month of the workspace's time zone; null: none.
    pub month_micros: Option<u64>,
    /// Limit per workflow that has none of its own; null: none.
    pub workflow_micros: Option<u64>,
    /// A warning is raised when this share of a limit is spent, percent.
    pub warn_percent: u8,
    /// This day and this month; with `workflow`, that one, too.
    pub counters: Vec<BudgetCounter>,
    /// Steps that wait for money.
    pub waiting_steps: usize,
    /// What kept answers saved.
    pub saved: Saved,
    /// Rises with every change; 0: nobody set one.
    pub version: u64,
    /// Who set it.
    pub updated_by: Option<String>,
    /// When.
    #[schema(format = DateTime)]
    pub updated_at: Option<String>,
}

/// What was spent in one period.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct BudgetCounter {
    /// What is counted in.
    pub period: BudgetPeriod,
    /// `2026-11-26`, `2026-11`, or the workflow's id.
    pub name: String,
    /// Its limit; null: none.
    pub limit_micros: Option<u64>,
    /// What was spent, estimates included.
    pub spent_micros: u64,
    /// What calls under way may cost at most.
    pub reserved_micros: u64,
    /// What there is room for; null: anything.
    pub room_micros: Option<u64>,
}

/// What a limit counts in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum BudgetPeriod {
    /// A day of the workspace.
    Day,
    /// A calendar month of the workspace.
    Month,
    /// One workflow.
    Workflow,
}

/// What kept answers saved, as long as they are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Saved {
    /// Answers that are kept.
    pub kept: u64,
    /// How often one was given again.
    pub hits: u64,
    /// What those would have cost.
    pub saved_micros: u64,
}

impl Budget {
    /// The budget of a workspace.
    pub(crate) fn of(workspace_id: WorkspaceId, view: BudgetView, savings: Savings) -> Self {
        let BudgetView { row, counters, waiting } = view;
        Self {
            workspace_id,
            day_micros: row.budget.day_micros,
            month_micros: row.budget.month_micros,
            workflow_micros: row.budget.workflow_micros,
            warn_percent: row.budget.warn_percent,
            counters: counters.into_iter().map(BudgetCounter::of).collect(),
            waiting_steps: waiting,
            saved: Saved { kept: savings.kept, hits: savings.hits, saved_micros: savings.saved_micros },
            version: row.version.unsigned_abs(),
            updated_by: row.set_by,
            updated_at: row.set_at,
        }
    }
}

impl BudgetCounter {
    fn of(row: CounterRow) -> Self {
        Self {
            period: match row.counter.period {
                Period::Day => BudgetPeriod::Day,
                Period::Month => BudgetPeriod::Month,
                Period::Workflow => BudgetPeriod::Workflow,
            },
            name: row.name,
            limit_micros: row.counter.limit,
            spent_micros: row.counter.spent,
            reserved_micros: row.counter.reserved,
            room_micros: row.counter.room(),
        }
    }
}

/// All limits anew. What can be null may not be left out: a forgotten limit
/// would be no limit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SetBudget {
    /// Limit per day; null: none.
    #[serde(deserialize_with = "nullable")]
    #[schema(required, maximum = 10_000_000_000_000_u64)]
    pub day_micros: Option<u64>,
    /// Limit per calendar month; null: none.
    #[serde(deserialize_with = "nullable")]
    #[schema(required, maximum = 10_000_000_000_000_u64)]
    pub month_micros: Option<u64>,
    /// Limit per workflow that has none of its own; null: none.
    #[serde(deserialize_with = "nullable")]
    #[schema(required, maximum = 10_000_000_000_000_u64)]
    pub workflow_micros: Option<u64>,
    /// A warning is raised when this share of a limit is spent, percent;
    /// absent: as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 100)]
    pub warn_percent: Option<u8>,
    /// The version that was looked at: refused with 409 when there is a newer
    /// one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
}

impl SetBudget {
    /// The limits it asks for, where `current` hold now.
    pub(crate) fn over(&self, current: Limits) -> Limits {
        Limits {
            day_micros: self.day_micros,
            month_micros: self.month_micros,
            workflow_micros: self.workflow_micros,
            warn_percent: self.warn_percent.unwrap_or(current.warn_percent),
        }
    }
}

/// A limit for one workflow.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SetWorkflowBudget {
    /// Its limit; null: the workspace's for every workflow.
    #[serde(deserialize_with = "nullable")]
    #[schema(required, maximum = 10_000_000_000_000_u64)]
    pub limit_micros: Option<u64>,
}

/// What spend is summed up by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SpendBy {
    /// Days of the workspace.
    #[default]
    Day,
    /// Agent types.
    Agent,
    /// `provider:model`.
    Model,
    /// Workflows.
    Workflow,
    /// Accounts of posts that cost something.
    Account,
}

/// Spend between two days.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Spend {
    /// What it is summed up by.
    pub by: SpendBy,
    /// The first day, of the workspace.
    #[schema(format = Date)]
    pub since: String,
    /// The last day.
    #[schema(format = Date)]
    pub until: String,
    /// One per day, agent, model, workflow or account; days in order, of others
    /// the dearest first.
    pub items: Vec<SpendItem>,
    /// Their sum.
    pub total_micros: u64,
}

/// Spend of one day, agent, model, workflow or account.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SpendItem {
    /// Which.
    pub name: String,
    /// Calls that may cost something.
    pub calls: u64,
    /// Prompt tokens.
    pub tokens_in: u64,
    /// Completion tokens.
    pub tokens_out: u64,
    /// What they cost, estimates included.
    pub cost_micros: u64,
    /// How much of that is an estimate: of calls of which nobody can know what
    /// they cost, charged at their bound.
    pub estimated_micros: u64,
    /// What calls under way may cost at most.
    pub reserved_micros: u64,
}

impl From<SpendRow> for SpendItem {
    fn from(row: SpendRow) -> Self {
        Self {
            name: row.name,
            calls: row.calls.unsigned_abs(),
            tokens_in: row.tokens_in.unsigned_abs(),
            tokens_out: row.tokens_out.unsigned_abs(),
            cost_micros: row.cost_micros,
            estimated_micros: row.estimated_micros,
            reserved_micros: row.reserved_micros,
        }
    }
}
