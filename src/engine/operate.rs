//! What people do to workflows, steps and queues: cancel, replay, discard,
//! pause, limit. Each with an audit line in the same transaction.

use galley_core::decide::{Event, Refusal};
use galley_core::ids::{AgentType, WorkflowKey, WorkspaceId};
use galley_probe::{Point, Rescue, point, seen};
use galley_store::{AgentRow, AuditWrite, ControlChange, Hashes, LetterFilter, LetterRow, WorkspaceRow};
use serde_json::Value;
use uuid::Uuid;

use crate::engine::Engine;
use crate::error::EngineError;
use crate::transition::{Command, Record, Verdict};

/// Most dead letters one request may touch.
pub const LARGEST_LETTER_BATCH: usize = 1_000;

/// What to do with dead letters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repair {
    /// Back to the queue, with fresh attempts.
    Retry,
    /// Given up: the step fails for good.
    Discard,
}

/// What became of one dead letter.
#[derive(Clone, Debug)]
pub struct Repaired {
    /// The letter as it was.
    pub letter: LetterRow,
    /// Why nothing happened to it, if so.
    pub refused: Option<String>,
}

impl Engine {
    /// Cancels a workflow: nothing of it starts any more, running attempts are
    /// told to stop and their results are refused.
    ///
    /// # Errors
    /// [`EngineError::NotFound`]; [`EngineError::Conflict`] when it is over.
    pub async fn cancel(&self, key: WorkflowKey, actor: &str) -> Result<(), EngineError> {
        let object = key.workflow.to_string();
        let record = Record::Person { actor: actor.into(), action: "workflow.cancel", object, input: None };
        let commands = [Command { key, event: Event::Cancel, record }];
        let applied = self.apply(&commands).await?;
        point(Point::CancelCommitted);
        self.push(&[], &applied).await;
        match &applied.verdicts[0] {
            Verdict::Done => {
                if applied.runs.get(&key).is_some_and(|(_, known)| known.run.steps.iter().any(|s| s.intent)) {
                    seen(Rescue::CancelWaitsForIntent);
                }
                Ok(())
            }
            Verdict::Unstorable(why) => Err(EngineError::Internal(why.clone())),
            Verdict::Overtaken(what) => Err(EngineError::Conflict(what.to_string())),
            Verdict::Refused(_) | Verdict::Gone => {
                let workflow = self.workflow(key).await?;
                let state = workflow.state.word();
                let told = format!("workflow {} is already {state}; nothing to cancel", key.workflow);
                Err(EngineError::Conflict(told))
            }
        }
    }

    /// Retries or discards one dead letter; a retry may replace the step's
    /// whole input.
    ///
    /// # Errors
    /// [`EngineError::NotFound`]; [`EngineError::Conflict`] when the step is
    /// not dead any more.
    pub async fn repair(
        &self,
        key: WorkflowKey,
        step_name: &str,
        repair: Repair,
        input: Option<Value>,
        actor: &str,
    ) -> Result<LetterRow, EngineError> {
        let task = format!("{}.{step_name}", key.workflow);
        let not_found = || EngineError::NotFound { kind: "dead letter", id: task.clone() };
        let workflow = self.workflow(key).await.map_err(|error| match error {
            EngineError::NotFound { .. } => not_found(),
            other => other,
        })?;
        let step = workflow.run.find_step(&workflow.plan, step_name).ok_or_else(not_found)?;
        let letter = self.store().letter(key, step).await?.ok_or_else(not_found)?;
        let input = match input {
            Some(input) => {
                if repair == Repair::Discard {
                    return Err(EngineError::invalid("input", "a discarded step needs no input"));
                }
                Some(check_edit(input)?)
            }
            None => None,
        };
        let mut repaired = self.repair_letters(vec![letter], repair, input, actor).await?;
        match repaired.pop() {
            Some(Repaired { letter, refused: None }) => Ok(letter),
            Some(Repaired { refused: Some(why), .. }) => {
                Err(EngineError::Conflict(format!("task {task}: {why}")))
            }
            None => Err(not_found()),
        }
    }

    /// Retries or discards the open dead letters that match; a dry run only
    /// lists them. At most [`LARGEST_LETTER_BATCH`] at once, so that a fleet is
    /// not flooded: repeat for more.
    ///
    /// # Errors
    /// Postgres is away.
    pub async fn repair_matching(
        &self,
        workspace: WorkspaceId,
        filter: &LetterFilter,
        repair: Repair,
        dry_run: bool,
        actor: &str,
    ) -> Result<Vec<Repaired>, EngineError> {
        let filter = LetterFilter { status: Some("open".into()), ..filter.clone() };
        let letters =
            self.store().list_letters(workspace, &filter, None, LARGEST_LETTER_BATCH as i64).await?;
        if dry_run {
            return Ok(letters.into_iter().map(|letter| Repaired { letter, refused: None }).collect());
        }
        self.repair_letters(letters, repair, None, actor).await
    }

    async fn repair_letters(
        &self,
        letters: Vec<LetterRow>,
        repair: Repair,
        input: Option<String>,
        actor: &str,
    ) -> Result<Vec<Repaired>, EngineError> {
        let commands: Vec<Command> = letters
            .iter()
            .map(|letter| {
                let step = letter.step;
                let (event, action) = match repair {
                    Repair::Retry if input.is_some() => {
                        (Event::Replay { step, edited: true }, "dead.edit_and_retry")
                    }
                    Repair::Retry => (Event::Replay { step, edited: false }, "dead.retry"),
                    Repair::Discard => (Event::Discard { step }, "dead.discard"),
                };
                let object = format!("{}.{}", letter.key.workflow, letter.step_name);
                let record = Record::Person { actor: actor.into(), action, object, input: input.clone() };
                Command { key: letter.key, event, record }
            })
            .collect();
        let applied = self.apply(&commands).await?;
        point(Point::RepairCommitted);
        self.push(&[], &applied).await;
        Ok(letters
            .into_iter()
            .zip(applied.verdicts)
            .map(|(letter, verdict)| Repaired {
                letter,
                refused: match verdict {
                    Verdict::Done => {
                        seen(if repair == Repair::Retry { Rescue::Replay } else { Rescue::Discard });
                        None
                    }
                    Verdict::Refused(Refusal::NotDead(state)) => {
                        Some(format!("the step is {}, not dead any more", state.word()))
                    }
                    Verdict::Refused(refusal) => Some(refusal.to_string()),
                    Verdict::Gone => Some("its workflow is over".into()),
                    Verdict::Unstorable(why) => Some(why),
                    Verdict::Overtaken(what) => Some(what.to_string()),
                },
            })
            .collect())
    }

    /// Pauses or resumes an agent type, or changes its limits, everywhere and
    /// for all workspaces; survives the loss of Redis.
    ///
    /// # Errors
    /// [`EngineError::NotFound`] when no worker ever registered it.
    pub async fn control_agent(
        &self,
        workspace: WorkspaceId,
        agent: &AgentType,
        change: ControlChange,
        actor: &str,
    ) -> Result<AgentRow, EngineError> {
        let (action, detail) = match (&change.paused, &change.max_running, &change.max_running_per_workspace)
        {
            (Some((true, _, reason)), ..) => {
                ("queue.pause", reason.as_ref().map(|why| serde_json::json!({ "reason": why })))
            }
            (Some((false, ..)), ..) => ("queue.resume", None),
            (None, running, per_workspace) => (
                "queue.limit",
                Some(serde_json::json!({ "maxRunning": running, "maxRunningPerWorkspace": per_workspace })),
            ),
        };
        let audit = AuditWrite {
            workspace,
            key: None,
            actor: actor.into(),
            action,
            object: agent.to_string(),
            detail: detail.map(|detail| detail.to_string()),
            hashes: Hashes::default(),
        };
        let row = match self.store().change_control(agent.as_str(), change, audit).await {
            Err(galley_store::StoreError::Constraint { .. }) => {
                return Err(EngineError::invalid(
                    "maxRunning",
                    "a limit is at least 1; leave it out to lift it",
                ));
            }
            other => other?,
        };
        let row = row.ok_or_else(|| EngineError::NotFound { kind: "agent type", id: agent.to_string() })?;
        let reading = self.fleet().fresh().await?;
        if let Err(error) = self.queue().mirror(&reading.controls()).await {
            tracing::warn!(%error, "the change is stored; the queue hears of it when Redis answers");
        }
        Ok(row)
    }

    /// Makes a workspace.
    ///
    /// # Errors
    /// [`EngineError::Invalid`] for a bad name, [`EngineError::Conflict`] when
    /// the name is taken.
    pub async fn create_workspace(
        &self,
        name: &str,
        weight: u32,
        actor: &str,
    ) -> Result<WorkspaceRow, EngineError> {
        let fits = (1..=64).contains(&name.len())
            && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_.".contains(&b));
        if !fits {
            return Err(EngineError::invalid("name", "1-64 of a-z, 0-9, `-`, `_` and `.`"));
        }
        let weight = i32::try_from(weight).unwrap_or(i32::MAX);
        let id = WorkspaceId(Uuid::now_v7());
        match self.store().create_workspace(id, name, weight, actor).await {
            Ok(row) => Ok(row),
            Err(galley_store::StoreError::Constraint { constraint })
                if constraint == "workspaces_name_unique" =>
            {
                Err(EngineError::Conflict(format!("there is already a workspace named `{name}`")))
            }
            Err(galley_store::StoreError::Constraint { .. }) => {
                Err(EngineError::invalid("weight", "1 to 1000"))
            }
            Err(other) => Err(other.into()),
        }
    }
}

/// An edited input has the shape every step input has.
fn check_edit(input: Value) -> Result<String, EngineError> {
    let Value::Object(fields) = &input else {
        return Err(EngineError::invalid(
            "input",
            "an object with `brief`, `params` and `results`, as `dead show` prints it",
        ));
    };
    if let Some(unknown) =
        fields.keys().find(|key| !["brief", "params", "results", "item"].contains(&key.as_str()))
    {
        return Err(EngineError::invalid(
            &format!("input.{unknown}"),
            "unknown field; a step input has `brief`, `params`, `results` and perhaps `item`",
        ));
    }
    let json = input.to_string();
    if json.len() > 4 * galley_core::definition::MAX_PAYLOAD_BYTES {
        return Err(EngineError::invalid("input", format!("{} bytes; at most 1 MiB", json.len())));
    }
    Ok(json)
}
