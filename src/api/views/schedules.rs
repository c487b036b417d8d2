//! Schedules: workflows that are submitted again and again.

use galley_core::ids::{ScheduleId, WorkflowId};
use galley_core::schedule;
use galley_engine::{NewSchedule, ScheduleView};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::workflows::SubmitWorkflow;

/// What happens with times that passed while no scheduler looked, or while the
/// policy kept schedules off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum MissedRuns {
    /// They are gone. A time is missed when it is more than five minutes late.
    Skip,
    /// The last of them runs, once, however many they were.
    #[default]
    RunLast,
}

/// Whether a schedule's times become workflows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ScheduleState {
    /// They do.
    Active,
    /// A person paused it.
    Paused,
    /// The workspace's policy keeps all schedules off: `scheduleAutomation`.
    Off,
}

impl ScheduleState {
    /// The word, as in the JSON.
    pub fn word(self) -> &'static str {
        match self {
            Self::Active => schedule::ScheduleState::Active,
            Self::Paused => schedule::ScheduleState::Paused,
            Self::Off => schedule::ScheduleState::Off,
        }
        .word()
    }
}

/// A workflow that is submitted again and again.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Schedule {
    /// Its id: `GET /v1/why/{id}` says what it waits for.
    #[schema(value_type = Uuid)]
    pub id: ScheduleId,
    /// What people call it; unique in the workspace. Its workflows are
    /// submitted by `schedule:<name>`.
    pub name: String,
    /// Minute, hour, day of month, month, day of week.
    #[schema(example = "30 9 * * MON-FRI")]
    pub cron: String,
    /// The IANA time zone the pattern is meant in.
    pub time_zone: String,
    /// What happens with missed times.
    pub missed: MissedRuns,
    /// What it submits.
    pub submit: SubmitWorkflow,
    /// Whether its times become workflows.
    pub state: ScheduleState,
    /// Who paused it.
    pub paused_by: Option<String>,
    /// When it runs next; null while it does not run.
    #[schema(format = DateTime)]
    pub next_at: Option<String>,
    /// The last time that became a workflow.
    #[schema(format = DateTime)]
    pub last_at: Option<String>,
    /// That workflow.
    #[schema(value_type = Option<Uuid>)]
    pub last_workflow_id: Option<WorkflowId>,
    /// Why a later time became none; null when there was no such time.
    pub last_problem: Option<String>,
    /// That time.
    #[schema(format = DateTime)]
    pub last_problem_at: Option<String>,
    /// Rises with every change by a person.
    pub version: u64,
    /// Who added it.
    pub created_by: String,
    /// When.
    #[schema(format = DateTime)]
    pub created_at: String,
    /// Who changed it last.
    pub updated_by: String,
    /// When.
    #[schema(format = DateTime)]
    pub updated_at: String,
}

/// A schedule with its next times.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ScheduleDetail {
    /// As in the list.
    #[serde(flatten)]
    pub schedule: Schedule,
    /// Its next ten times; they become workflows while it is `active`.
    #[schema(format = DateTime)]
    pub upcoming: Vec<String>,
    /// What it waits for, and what to do: one sentence.
    pub sentence: String,
    /// Whether somebody has to do something.
    pub needs_action: bool,
}

impl From<ScheduleView> for ScheduleDetail {
    fn from(view: ScheduleView) -> Self {
        let upcoming = view.upcoming.iter().map(ToString::to_string).collect();
        let (sentence, needs_action) = (view.why.sentence.clone(), view.why.needs_action);
        Self { schedule: view.into(), upcoming, sentence, needs_action }
    }
}

impl From<ScheduleView> for Schedule {
    fn from(view: ScheduleView) -> Self {
        let ScheduleView { row, missed, submit, state, .. } = view;
        let state = state.into();
        Self {
            id: row.id,
            name: row.name,
            cron: row.cron,
            time_zone: row.time_zone,
            missed: missed.into(),
            submit: submit.into(),
            state,
            paused_by: row.paused_by,
            next_at: row.next_at.filter(|_| state == ScheduleState::Active),
            last_at: row.last_at,
            last_workflow_id: row.last_workflow,
            last_problem: row.last_problem,
            last_problem_at: row.last_problem_at,
            version: row.version.unsigned_abs(),
            created_by: row.created_by,
            created_at: row.created_at,
            updated_by: row.updated_by,
            updated_at: row.updated_at,
        }
    }
}

/// A request to add a schedule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AddSchedule {
    /// What people call it: 1-48 of `a-z`, `0-9` and `_`.
    pub name: String,
    /// Minute, hour, day of month, month, day of week.
    #[schema(example = "30 9 * * MON-FRI")]
    pub cron: String,
    /// The IANA time zone the pattern is meant in; absent: the workspace's, as
    /// it is now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
    /// What happens with missed times; `run_last` when absent.
    #[serde(default)]
    pub missed: MissedRuns,
    /// What it submits, checked as a submit is.
    pub submit: SubmitWorkflow,
}

impl From<AddSchedule> for NewSchedule {
    fn from(add: AddSchedule) -> Self {
        let AddSchedule { name, cron, time_zone, missed, submit } = add;
        Self { name, cron, time_zone, missed: missed.into(), submit: submit.into() }
    }
}

/// A schedule anew.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SetSchedule {
    /// Minute, hour, day of month, month, day of week.
    #[schema(example = "30 9 * * MON-FRI")]
    pub cron: String,
    /// The IANA time zone the pattern is meant in; absent: as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
    /// What happens with missed times; absent: as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missed: Option<MissedRuns>,
    /// What it submits, checked as a submit is.
    pub submit: SubmitWorkflow,
    /// The version that was looked at: refused with 409 when there is a newer
    /// one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
}

impl From<SetSchedule> for galley_engine::SetSchedule {
    fn from(set: SetSchedule) -> Self {
        let SetSchedule { cron, time_zone, missed, submit, version: _ } = set;
        Self { cron, time_zone, missed: missed.map(Into::into), submit: submit.into() }
    }
}

impl From<schedule::Missed> for MissedRuns {
    fn from(missed: schedule::Missed) -> Self {
        match missed {
            schedule::Missed::Skip => Self::Skip,
            schedule::Missed::RunLast => Self::RunLast,
        }
    }
}

impl From<MissedRuns> for schedule::Missed {
    fn from(missed: MissedRuns) -> Self {
        match missed {
            MissedRuns::Skip => Self::Skip,
            MissedRuns::RunLast => Self::RunLast,
        }
    }
}

impl From<schedule::ScheduleState> for ScheduleState {
    fn from(state: schedule::ScheduleState) -> Self {
        match state {
            schedule::ScheduleState::Active => Self::Active,
            schedule::ScheduleState::Paused => Self::Paused,
            schedule::ScheduleState::Off => Self::Off,
        }
    }
}
