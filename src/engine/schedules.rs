//! Recurring workflows as people handle them: add, look, change, pause, run
//! now. What a schedule submits is checked here as a submit is, so that its
//! maker hears of a mistake and not the scheduler at night.

use galley_core::ids::{ScheduleId, WorkspaceId, is_name};
use galley_core::plan::Problem;
use galley_core::schedule::{Missed, Recurrence, ScheduleState};
use galley_store::{
    AuditWrite, Hashes, ScheduleChange, ScheduleRow, ScheduleTurn, ScheduleWrite, StoreError,
};
use jiff::Timestamp;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::accept::{Submit, SubmitContext, Submitted};
use crate::engine::Engine;
use crate::error::EngineError;
use crate::policy::{Policy, instant};
use crate::vault::Row;
use crate::why::Why;

/// What the problem of a skipped time begins with: nobody has to do anything
/// about it.
pub(crate) const MISSED: &str = "missed";

/// How many of its next times a schedule shows.
const UPCOMING: usize = 10;

/// A schedule to add.
#[derive(Clone, Debug)]
pub struct NewSchedule {
    /// What people call it (`a-z0-9_`).
    pub name: String,
    /// Its cron pattern: minute, hour, day of month, month, day of week.
    pub cron: String,
    /// The IANA zone it is meant in; absent: the workspace's, as it is now.
    pub time_zone: Option<String>,
    /// What happens with missed times.
    pub missed: Missed,
    /// What it submits.
    pub submit: Submit,
}

/// A schedule anew.
#[derive(Clone, Debug)]
pub struct SetSchedule {
    /// Its cron pattern.
    pub cron: String,
    /// The IANA zone it is meant in; absent: as it is.
    pub time_zone: Option<String>,
    /// What happens with missed times; absent: as it is.
    pub missed: Option<Missed>,
    /// What it submits.
    pub submit: Submit,
}

/// A schedule as people see it.
#[derive(Clone, Debug)]
pub struct ScheduleView {
    /// As stored.
    pub row: ScheduleRow,
    /// Its rule about missed times.
    pub missed: Missed,
    /// What it submits.
    pub submit: Submit,
    /// Whether its times become workflows.
    pub state: ScheduleState,
    /// Its next times, whether or not they will become workflows.
    pub upcoming: Vec<Timestamp>,
    /// What it waits for, and what to do.
    pub why: Why,
}

/// Who submitted a schedule's workflows.
pub(crate) fn submitter(name: &str) -> String {
    format!("schedule:{name}")
}

impl ScheduleView {
    fn of(policy: &Policy, row: ScheduleRow, submit: &str) -> Result<Self, EngineError> {
        let submit = serde_json::from_str(submit).map_err(|error| {
            EngineError::Internal(format!("the request of schedule {} cannot be read: {error}", row.id))
        })?;
        let state = match &row.paused_by {
            Some(_) => ScheduleState::Paused,
            None if !policy.config.schedule_automation => ScheduleState::Off,
            None => ScheduleState::Active,
        };
        let now = policy.now()?;
        // A zone that is no more must not hide the schedule from who repairs it.
        let recurrence = Recurrence::parse(&row.cron, &row.time_zone).ok();
        let upcoming = recurrence.as_ref().map(|recurrence| recurrence.upcoming(now, UPCOMING));
        let why = why_schedule(&row, state, recurrence.as_ref(), now)?;
        Ok(Self {
            missed: Missed::from_word(&row.missed).unwrap_or_default(),
            submit,
            state,
            upcoming: upcoming.unwrap_or_default(),
            why,
            row,
        })
    }
}

impl Engine {
    /// Adds a schedule.
    ///
    /// # Errors
    /// [`EngineError::Invalid`] with every problem; [`EngineError::Conflict`]
    /// when the name is taken.
    pub async fn add_schedule(
        &self,
        workspace: WorkspaceId,
        new: NewSchedule,
        actor: &str,
    ) -> Result<ScheduleView, EngineError> {
        let policy = self.policy(workspace).await?;
        let time_zone = new.time_zone.unwrap_or_else(|| policy.config.time_zone.clone());
        let mut problems = Vec::new();
        if !is_name(&new.name) {
            problems.push(Problem::new("name", "use 1-48 of a-z, 0-9 and _, beginning with a letter"));
        }
        let recurrence = self.check_schedule(workspace, &new.cron, &time_zone, &new.submit, problems).await?;
        let (id, submit) = (ScheduleId(Uuid::now_v7()), json_of(&new.submit)?);
        let write = ScheduleWrite {
            id,
            name: new.name.clone(),
            cron: new.cron,
            time_zone,
            missed: new.missed.word(),
            sealed: self.seal(Row::Schedule(workspace, id), &submit).await?,
            submit,
            next_at: recurrence.next(policy.now()?).map(|at| at.to_string()),
        };
        match self.store().add_schedule(workspace, write, actor.to_owned()).await {
            Ok(()) => self.schedule(workspace, &new.name).await,
            Err(StoreError::Constraint { constraint }) if constraint == "schedules_name_unique" => {
                Err(EngineError::Conflict(format!(
                    "there is a schedule `{}` already; change that, or choose another name",
                    new.name
                )))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// A schedule by name.
    ///
    /// # Errors
    /// [`EngineError::NotFound`].
    pub async fn schedule(&self, workspace: WorkspaceId, name: &str) -> Result<ScheduleView, EngineError> {
        let row = self.schedule_row(workspace, name).await?;
        let policy = self.policy(workspace).await?;
        self.schedule_view(&policy, workspace, row).await
    }

    /// One page of schedules by name, behind `after`; with the name of the last
    /// one when there are more.
    ///
    /// # Errors
    /// Postgres is away.
    pub async fn schedules(
        &self,
        workspace: WorkspaceId,
        after: Option<&str>,
        limit: usize,
    ) -> Result<(Vec<ScheduleView>, Option<String>), EngineError> {
        // One more than asked for tells whether there is more.
        let mut rows = self.store().schedules(workspace, after, limit as i64 + 1).await?;
        let more = rows.len() > limit;
        rows.truncate(limit);
        let last = rows.last().filter(|_| more).map(|row| row.name.clone());
        let policy = self.policy(workspace).await?;
        let mut views = Vec::with_capacity(rows.len());
        for row in rows {
            views.push(self.schedule_view(&policy, workspace, row).await?);
        }
        Ok((views, last))
    }

    pub(crate) async fn schedule_view(
        &self,
        policy: &Policy,
        workspace: WorkspaceId,
        row: ScheduleRow,
    ) -> Result<ScheduleView, EngineError> {
        let submit = self.opened(Row::Schedule(workspace, row.id), row.submit.clone()).await?;
        ScheduleView::of(policy, row, &submit)
    }

    /// Replaces what a schedule submits and when. Where its times change, it
    /// goes on with the next one to come.
    ///
    /// # Errors
    /// [`EngineError::NotFound`]; [`EngineError::Invalid`] with every problem;
    /// [`EngineError::Conflict`] when it is not at the version that was seen.
    pub async fn set_schedule(
        &self,
        workspace: WorkspaceId,
        name: &str,
        set: SetSchedule,
        seen: Option<i64>,
        actor: &str,
    ) -> Result<ScheduleView, EngineError> {
        let old = self.schedule_row(workspace, name).await?;
        if seen.is_some_and(|seen| seen != old.version) {
            return Err(EngineError::Conflict(format!(
                "the schedule was changed meanwhile: it is at version {}; look at it and try again",
                old.version
            )));
        }
        let time_zone = set.time_zone.unwrap_or_else(|| old.time_zone.clone());
        let recurrence =
            self.check_schedule(workspace, &set.cron, &time_zone, &set.submit, Vec::new()).await?;
        let moved = (&set.cron, &time_zone) != (&old.cron, &old.time_zone);
        let next_at = if moved {
            let now = self.policy(workspace).await?.now()?;
            Some(recurrence.next(now).map(|at| at.to_string()))
        } else {
            None
        };
        let mut detail = json!({ "cron": set.cron, "timeZone": time_zone });
        if let Some(missed) = set.missed {
            detail["missed"] = json!(missed.word());
        }
        let submit = json_of(&set.submit)?;
        let change = ScheduleChange {
            sealed: self.seal(Row::Schedule(workspace, old.id), &submit).await?,
            cron: Some(set.cron),
            time_zone: Some(time_zone),
            missed: set.missed.map(Missed::word),
            submit: Some(submit),
            paused_by: None,
            next_at,
        };
        self.change_schedule(workspace, &old, change, actor, "schedule.set", Some(detail)).await
    }

    /// Pauses a schedule: its times pass by until it is resumed.
    ///
    /// # Errors
    /// [`EngineError::NotFound`]; [`EngineError::Conflict`] when it is paused
    /// already.
    pub async fn pause_schedule(
        &self,
        workspace: WorkspaceId,
        name: &str,
        actor: &str,
    ) -> Result<ScheduleView, EngineError> {
        let old = self.schedule_row(workspace, name).await?;
        if let Some(by) = &old.paused_by {
            return Err(EngineError::Conflict(format!(
                "schedule `{name}` is paused already, by {by}; `galley schedule resume {name}` lets it go on"
            )));
        }
        let change = ScheduleChange { paused_by: Some(Some(actor.to_owned())), ..ScheduleChange::default() };
        self.change_schedule(workspace, &old, change, actor, "schedule.pause", None).await
    }

    /// Lets a paused schedule go on with its next time to come: what passed
    /// while it was paused was not wanted, and is not missed.
    ///
    /// # Errors
    /// [`EngineError::NotFound`]; [`EngineError::Conflict`] when it is not
    /// paused.
    pub async fn resume_schedule(
        &self,
        workspace: WorkspaceId,
        name: &str,
        actor: &str,
    ) -> Result<ScheduleView, EngineError> {
        let old = self.schedule_row(workspace, name).await?;
        if old.paused_by.is_none() {
            return Err(EngineError::Conflict(format!("schedule `{name}` is not paused")));
        }
        let recurrence = Recurrence::parse(&old.cron, &old.time_zone).map_err(EngineError::Invalid)?;
        let now = self.policy(workspace).await?.now()?;
        let change = ScheduleChange {
            paused_by: Some(None),
            next_at: Some(recurrence.next(now).map(|at| at.to_string())),
            ..ScheduleChange::default()
        };
        self.change_schedule(workspace, &old, change, actor, "schedule.resume", None).await
    }

    /// Removes a schedule. The workflows it made stay.
    ///
    /// # Errors
    /// [`EngineError::NotFound`].
    pub async fn remove_schedule(
        &self,
        workspace: WorkspaceId,
        name: &str,
        actor: &str,
    ) -> Result<(), EngineError> {
        if self.store().remove_schedule(workspace, name.to_owned(), actor.to_owned()).await? {
            Ok(())
        } else {
            Err(not_found(name))
        }
    }

    /// Submits what a schedule submits, now, because a person wants it: paused
    /// or not, and whatever the policy says about schedules. It goes on waiting
    /// for what it waited for.
    ///
    /// # Errors
    /// [`EngineError::NotFound`]; [`EngineError::Invalid`] as for a submit.
    pub async fn run_schedule(
        &self,
        workspace: WorkspaceId,
        name: &str,
        idempotency_key: &str,
        traceparent: Option<String>,
        actor: &str,
    ) -> Result<Submitted, EngineError> {
        let view = self.schedule(workspace, name).await?;
        let context = SubmitContext {
            workspace,
            actor: submitter(name),
            idempotency_key: idempotency_key.to_owned(),
            traceparent,
        };
        let turn = ScheduleTurn {
            workspace,
            id: view.row.id,
            name: name.to_owned(),
            actor: actor.to_owned(),
            fence: None,
            at: self.policy(workspace).await?.now()?.to_string(),
            next_at: None,
        };
        // Without a fence only a removed schedule is not as it was.
        self.submit_scheduled(&context, &view.submit, turn).await?.ok_or_else(|| not_found(name))
    }

    async fn schedule_row(&self, workspace: WorkspaceId, name: &str) -> Result<ScheduleRow, EngineError> {
        self.store().schedule(workspace, name).await?.ok_or_else(|| not_found(name))
    }

    /// Everything about a schedule that can be wrong, at once.
    async fn check_schedule(
        &self,
        workspace: WorkspaceId,
        cron: &str,
        time_zone: &str,
        submit: &Submit,
        mut problems: Vec<Problem>,
    ) -> Result<Recurrence, EngineError> {
        let context = SubmitContext {
            workspace,
            actor: String::new(),
            // Each run has one of its own.
            idempotency_key: "schedule".into(),
            traceparent: None,
        };
        let recurrence = Recurrence::parse(cron, time_zone).map_err(|found| problems.extend(found));
        match self.checked(&context, submit).await {
            Ok(_) => {}
            Err(EngineError::Invalid(found)) => problems.extend(
                found
                    .into_iter()
                    .map(|Problem { at, problem }| Problem { at: format!("submit.{at}"), problem }),
            ),
            Err(error) => return Err(error),
        }
        match recurrence {
            Ok(recurrence) if problems.is_empty() => Ok(recurrence),
            _ => Err(EngineError::Invalid(problems)),
        }
    }

    async fn change_schedule(
        &self,
        workspace: WorkspaceId,
        old: &ScheduleRow,
        change: ScheduleChange,
        actor: &str,
        action: &'static str,
        detail: Option<Value>,
    ) -> Result<ScheduleView, EngineError> {
        let line = AuditWrite {
            workspace,
            key: None,
            actor: actor.to_owned(),
            action,
            object: old.name.clone(),
            detail: detail.map(|detail| detail.to_string()),
            hashes: Hashes::default(),
        };
        match self.store().change_schedule(old.id, old.version, change, line).await {
            Ok(()) => self.schedule(workspace, &old.name).await,
            Err(StoreError::Overtaken(_)) => Err(EngineError::Conflict(
                "the schedule was changed by somebody else at the same moment; look at it and try again"
                    .into(),
            )),
            Err(error) => Err(error.into()),
        }
    }
}

fn not_found(name: &str) -> EngineError {
    EngineError::NotFound { kind: "schedule", id: name.to_owned() }
}

fn json_of(submit: &Submit) -> Result<String, EngineError> {
    serde_json::to_string(submit)
        .map_err(|error| EngineError::Internal(format!("a request does not serialize: {error}")))
}

/// What a schedule waits for, and what to do, in one sentence.
fn why_schedule(
    row: &ScheduleRow,
    state: ScheduleState,
    recurrence: Option<&Recurrence>,
    now: Timestamp,
) -> Result<Why, EngineError> {
    let ScheduleRow { name, time_zone, .. } = row;
    let Some(recurrence) = recurrence else {
        return Ok(Why::act(format!(
            "schedule `{name}` cannot run: its time zone `{time_zone}` is not known any more; `galley schedule set {name} --time-zone ZONE` gives it another"
        )));
    };
    let say = |at: Timestamp| format!("{} {time_zone}", recurrence.local(at));
    let next = row.next_at.as_deref().map(instant).transpose()?;
    let late = next.filter(|next| *next <= now);
    match state {
        ScheduleState::Paused => {
            let by = row.paused_by.as_deref().unwrap_or("somebody");
            return Ok(Why::act(format!(
                "schedule `{name}` is paused by {by}; `galley schedule resume {name}` lets it go on with its next time"
            )));
        }
        ScheduleState::Off => {
            let then = late.map(|_| match Missed::from_word(&row.missed).unwrap_or_default() {
                Missed::RunLast => "; the last of the times it missed then runs at once",
                Missed::Skip => "; the times it missed are skipped",
            });
            return Ok(Why::act(format!(
                "schedule `{name}` does not run: recurring workflows are off in this workspace; `galley automation set --schedule-automation true` turns them on{}",
                then.unwrap_or_default()
            )));
        }
        ScheduleState::Active => {}
    }
    if late.is_some() {
        return Ok(Why::fine(format!(
            "schedule `{name}` is due: a scheduler submits it within a second; if it stays so, none runs: `galley scheduler`"
        )));
    }
    let waits = match next {
        Some(next) => format!("its next time is {}", say(next)),
        None => "it has no next time".into(),
    };
    if let (Some(problem), Some(at)) = (&row.last_problem, &row.last_problem_at) {
        let at = say(instant(at)?);
        return Ok(if problem.starts_with(MISSED) {
            Why::fine(format!("schedule `{name}` skipped {at} ({problem}); {waits}"))
        } else {
            Why::act(format!(
                "schedule `{name}` could not run at {at}: {problem}; `galley schedule run {name}` tries it again when that is repaired; {waits}"
            ))
        });
    }
    let last = match (&row.last_at, row.last_workflow) {
        (Some(at), Some(workflow)) => {
            format!("; the last one was workflow {workflow}, {}", say(instant(at)?))
        }
        _ => String::new(),
    };
    Ok(Why::fine(format!("schedule `{name}` waits: {waits}{last}")))
}
