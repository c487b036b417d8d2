//! Prompts and outputs at rest: sealed for workspaces that ask for it, each
//! bound to its row.
//!
//! Whether a row is sealed is in the row, so old ones stay readable and a
//! workspace can go either way. What cannot be opened is never guessed at: it is
//! told with its place, and the step that needs it becomes a dead letter.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use galley_core::hash;
use galley_core::ids::{AgentType, ScheduleId, StepIndex, WorkflowId, WorkflowKey, WorkspaceId};
use galley_store::{Content, SaveBatch, Store, StoreError};
use serde_json::Value;
use uuid::Uuid;

use super::envelope::{self, ContentPlace, DataKey};
use super::{Keyring, NO_KEYS, VaultError, new_data_key};
use crate::cache::KnownInput;
use crate::cache::fresh;
use crate::engine::Engine;
use crate::error::EngineError;

/// The row that content belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Row {
    /// A workflow's input.
    Input(WorkflowKey),
    /// A step's output.
    Output(WorkflowKey, StepIndex),
    /// The input that a person gave a step for one epoch.
    Edited(WorkflowKey, StepIndex, u32),
    /// What a schedule submits.
    Schedule(WorkspaceId, ScheduleId),
    /// One of the messages that a step sent.
    Message(WorkflowKey, StepIndex, u16),
    /// One of the entries of the shared context that a step wrote.
    Context(WorkflowKey, StepIndex, u16),
    /// A version of an agent's prompt; the agent as [`Row::prompt`] has it.
    Prompt(WorkspaceId, Uuid, u32),
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Input(key) => write!(f, "the input of workflow {}", key.workflow),
            Self::Output(key, step) => write!(f, "the output of step {step} of workflow {}", key.workflow),
            Self::Edited(key, step, _) => {
                write!(f, "the edited input of step {step} of workflow {}", key.workflow)
            }
            Self::Schedule(_, id) => write!(f, "the request of schedule {id}"),
            Self::Message(key, step, n) => {
                write!(f, "message {n} of step {step} of workflow {}", key.workflow)
            }
            Self::Context(key, step, n) => {
                write!(f, "context entry {n} of step {step} of workflow {}", key.workflow)
            }
            Self::Prompt(_, _, version) => write!(f, "version {version} of the workspace's own prompt"),
        }
    }
}

impl Row {
    /// A version of an agent's prompt. A place has no room for a name of any
    /// length, so the beginning of its hash stands there.
    pub(crate) fn prompt(workspace: WorkspaceId, agent: &AgentType, version: i64) -> Self {
        let hash = hash::of_parts(&[agent.as_str().as_bytes()]);
        let mut id = [0; 16];
        id.copy_from_slice(&hash[..16]);
        Self::Prompt(workspace, Uuid::from_bytes(id), u32::try_from(version).unwrap_or(u32::MAX))
    }

    fn workspace(&self) -> WorkspaceId {
        match self {
            Self::Input(key)
            | Self::Output(key, _)
            | Self::Edited(key, ..)
            | Self::Message(key, ..)
            | Self::Context(key, ..) => key.workspace,
            Self::Schedule(workspace, _) | Self::Prompt(workspace, ..) => *workspace,
        }
    }

    /// Numbers and fixed lengths alone: no two rows have the same place.
    fn place(&self, data_key: i32) -> ContentPlace {
        let (table, id, step, epoch) = match *self {
            Self::Input(key) => (1, key.workflow.0, 0, 0),
            Self::Output(key, step) => (2, key.workflow.0, step, 0),
            Self::Edited(key, step, epoch) => (3, key.workflow.0, step, epoch),
            Self::Schedule(_, id) => (4, id.0, 0, 0),
            Self::Message(key, step, n) => (5, key.workflow.0, step, u32::from(n)),
            Self::Context(key, step, n) => (6, key.workflow.0, step, u32::from(n)),
            Self::Prompt(_, agent, version) => (7, agent, 0, version),
        };
        ContentPlace { workspace: self.workspace(), table, id, step, epoch, data_key }
    }

    fn unopenable(&self) -> String {
        format!(
            "{self} cannot be opened: it was sealed with another key, moved here from another row, or is damaged"
        )
    }

    fn keyless(&self, why: &str) -> String {
        format!("{self} is sealed, and {why}")
    }
}

/// The data keys of one workspace, unwrapped, or why not.
pub(crate) struct ContentKeys(Vec<(i32, Result<Arc<DataKey>, String>)>);

/// Opens one row with one of these keys.
fn open(keys: &ContentKeys, row: &Row, sealed: &[u8]) -> Result<String, String> {
    let version = envelope::content_key(sealed).ok_or_else(|| row.unopenable())?;
    let (_, key) = keys.0.iter().find(|(known, _)| *known == version).ok_or_else(|| row.unopenable())?;
    let key = key.as_ref().map_err(|why| row.keyless(why))?;
    key.open_content(&row.place(version), sealed).map_err(|_| row.unopenable())
}

fn unwrapped(keyring: Option<&Keyring>, rows: &[galley_store::DataKeyRow]) -> ContentKeys {
    let key = |row| match keyring {
        None => Err(NO_KEYS.to_owned()),
        Some(keyring) => keyring.unwrap(row).map(Arc::new).map_err(|error| match error {
            VaultError::UnknownKey(_) => error.to_string(),
            _ => "the workspace's data key cannot be unwrapped: it is damaged, or another's".to_owned(),
        }),
    };
    ContentKeys(rows.iter().map(|row| (row.version, key(row))).collect())
}

/// Has everything new of a workspace sealed at rest, or nothing new any more;
/// answers whether that is a change. What is stored stays as it is.
///
/// # Errors
/// [`EngineError::NotFound`]; [`EngineError::Conflict`] when there is no key, or
/// not the one that the workspace's data key is wrapped by.
pub async fn seal_workspace(
    store: &Store,
    keyring: Option<&Keyring>,
    workspace: WorkspaceId,
    on: bool,
    actor: &str,
) -> Result<bool, EngineError> {
    if store.workspace(workspace).await?.is_none() {
        return Err(EngineError::NotFound { kind: "workspace", id: workspace.to_string() });
    }
    if on {
        let keyring = keyring.ok_or_else(|| EngineError::Conflict(NO_KEYS.into()))?;
        let row = match store.data_key(workspace).await? {
            Some(row) => row,
            None => {
                let first = new_data_key(keyring, workspace)
                    .map_err(|error| EngineError::Internal(error.to_string()))?;
                store.first_data_key(first).await?
            }
        };
        keyring.unwrap(&row).map_err(|error| EngineError::Conflict(error.to_string()))?;
    }
    Ok(store.seal_workspace(workspace, on, actor.to_owned()).await?)
}

/// Opens the rows of an export.
pub struct Opener {
    workspace: WorkspaceId,
    keys: ContentKeys,
}

impl Opener {
    /// What opens a workspace's rows, with these keys.
    ///
    /// # Errors
    /// Postgres is away.
    pub async fn of(
        store: &Store,
        keyring: Option<&Keyring>,
        workspace: WorkspaceId,
    ) -> Result<Self, EngineError> {
        let rows = store.data_keys_of(workspace).await?;
        Ok(Self { workspace, keys: unwrapped(keyring, &rows) })
    }

    /// A line of an export with its content in the clear.
    ///
    /// # Errors
    /// What cannot be opened, and why.
    pub fn line(&self, line: String) -> Result<String, String> {
        let Ok(mut whole) = serde_json::from_str::<Value>(&line) else { return Ok(line) };
        let table = whole["table"].as_str().unwrap_or_default().to_owned();
        let column = match table.as_str() {
            "workflows" | "step_inputs" => "input",
            "results" => "output",
            "schedules" => "submit",
            "messages" | "prompts" => "content",
            "shared_context" => "value",
            _ => return Ok(line),
        };
        let Some(fields) = whole["row"].as_object_mut() else { return Ok(line) };
        let sealed = fields.remove("sealed").unwrap_or_default();
        if let Some(sealed) = sealed.as_str() {
            let row = self.row(&table, fields).ok_or_else(|| format!("a row of {table} has no id"))?;
            // As Postgres writes bytes in JSON.
            let bytes = sealed.strip_prefix("\\x").and_then(|hex| hex::decode(hex).ok());
            let text = open(&self.keys, &row, &bytes.unwrap_or_default())?;
            let value = serde_json::from_str(&text).map_err(|_| row.unopenable())?;
            fields.insert(column.to_owned(), value);
        }
        Ok(whole.to_string())
    }

    fn row(&self, table: &str, fields: &serde_json::Map<String, Value>) -> Option<Row> {
        let id = |name: &str| fields.get(name)?.as_str()?.parse::<Uuid>().ok();
        let number = |name: &str| fields.get(name)?.as_u64();
        let key =
            |name: &str| Some(WorkflowKey { workspace: self.workspace, workflow: WorkflowId(id(name)?) });
        let step = || StepIndex::try_from(number("step")?).ok();
        Some(match table {
            "workflows" => Row::Input(key("id")?),
            "results" => Row::Output(key("workflow_id")?, step()?),
            "step_inputs" => Row::Edited(key("workflow_id")?, step()?, u32::try_from(number("epoch")?).ok()?),
            "messages" => Row::Message(key("workflow_id")?, step()?, u16::try_from(number("n")?).ok()?),
            "shared_context" => Row::Context(key("workflow_id")?, step()?, u16::try_from(number("n")?).ok()?),
            "prompts" => {
                let agent = AgentType::new(fields.get("agent")?.as_str()?).ok()?;
                Row::prompt(self.workspace, &agent, i64::try_from(number("version")?).ok()?)
            }
            "schedules" => Row::Schedule(self.workspace, ScheduleId(id("id")?)),
            _ => return None,
        })
    }
}

impl Engine {
    /// Whether what is new in a workspace is sealed; as it was at most
    /// [`EngineConfig::policy_memory`](crate::EngineConfig::policy_memory) ago,
    /// read with the policy wherever that is read.
    pub(crate) async fn seals(&self, workspace: WorkspaceId) -> Result<bool, StoreError> {
        let read = async { Ok::<_, StoreError>(self.store().automation(workspace).await?.sealed) };
        fresh(&self.caches().sealing, &workspace, self.config().policy_memory, read).await
    }

    pub(crate) fn note_sealing(&self, workspace: WorkspaceId, sealed: bool) {
        self.caches().sealing.insert(workspace, (sealed, Instant::now()));
    }

    /// A workspace's data keys; those that could be unwrapped are remembered.
    async fn content_keys(
        &self,
        workspace: WorkspaceId,
        version: Option<i32>,
    ) -> Result<Arc<ContentKeys>, StoreError> {
        let usable = |keys: &ContentKeys| match version {
            None => keys.0.last().is_some_and(|(_, key)| key.is_ok()),
            Some(version) => keys.0.iter().any(|(known, key)| *known == version && key.is_ok()),
        };
        if let Some(keys) = self.caches().content_keys.get(&workspace)
            && usable(&keys)
        {
            return Ok(keys);
        }
        let rows = self.store().data_keys_of(workspace).await?;
        let keys = Arc::new(unwrapped(self.config().keyring.as_ref(), &rows));
        if usable(&keys) {
            self.caches().content_keys.insert(workspace, Arc::clone(&keys));
        }
        Ok(keys)
    }

    /// Seals JSON text for its row; `None` when its workspace has it stored in
    /// the clear.
    ///
    /// # Errors
    /// [`StoreError::Sealed`] when this process has no key for it: then it must
    /// not be stored at all.
    pub(crate) async fn seal(&self, row: Row, json: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let workspace = row.workspace();
        if !self.seals(workspace).await? {
            return Ok(None);
        }
        let keys = self.content_keys(workspace, None).await?;
        let refused = |why: &str| StoreError::Sealed(format!("{row} cannot be sealed: {why}"));
        let Some((version, key)) = keys.0.last() else {
            return Err(refused("the workspace has no data key; see `galley workspace encrypt`"));
        };
        let key = key.as_ref().map_err(|why| refused(why))?;
        let sealed = key.seal_content(&row.place(*version), json);
        sealed.map(Some).map_err(|error| refused(&error.to_string()))
    }

    /// Seals what a batch writes.
    ///
    /// # Errors
    /// As [`Engine::seal`].
    pub(crate) async fn seal_batch(&self, batch: &mut SaveBatch) -> Result<(), StoreError> {
        for result in &mut batch.results {
            let row = Row::Output(result.attempt.key, result.attempt.step);
            result.sealed = self.seal(row, &result.output).await?;
        }
        for input in &mut batch.inputs {
            input.sealed = self.seal(Row::Edited(input.key, input.step, input.epoch), &input.input).await?;
        }
        for message in &mut batch.messages {
            let row = Row::Message(message.key, message.step, message.n);
            message.sealed = self.seal(row, &message.content).await?;
        }
        for entry in &mut batch.context {
            let row = Row::Context(entry.key, entry.step, entry.n);
            entry.sealed = self.seal(row, &entry.value).await?;
        }
        Ok(())
    }

    /// JSON text as it was before it was stored; the inner error is for people.
    ///
    /// # Errors
    /// Postgres is away.
    pub(crate) async fn open(
        &self,
        row: Row,
        content: Content,
    ) -> Result<Result<String, String>, StoreError> {
        match content {
            Content::Clear(json) => Ok(Ok(json)),
            Content::Sealed(sealed) => {
                let version = envelope::content_key(&sealed);
                Ok(open(&*self.content_keys(row.workspace(), version).await?, &row, &sealed))
            }
        }
    }

    /// The same for whoever cannot go on without it.
    ///
    /// # Errors
    /// [`StoreError::Sealed`]; Postgres is away.
    pub(crate) async fn opened(&self, row: Row, content: Content) -> Result<String, StoreError> {
        self.open(row, content).await?.map_err(StoreError::Sealed)
    }

    /// The inputs of workflows, read and opened at most once while remembered.
    ///
    /// # Errors
    /// Postgres is away.
    pub(crate) async fn known_inputs(
        &self,
        keys: &[WorkflowKey],
    ) -> Result<Vec<(WorkflowKey, Result<Arc<KnownInput>, String>)>, StoreError> {
        let mut found = Vec::with_capacity(keys.len());
        let mut missing = Vec::new();
        for key in keys {
            match self.caches().inputs.get(key) {
                Some(input) => found.push((*key, Ok(input))),
                None => missing.push(*key),
            }
        }
        if !missing.is_empty() {
            for (key, content, traceparent) in self.store().load_inputs(&missing).await? {
                let known = self.open(Row::Input(key), content).await?;
                let known = known.map(|json| Arc::new(KnownInput { json, traceparent }));
                if let Ok(known) = &known {
                    self.caches().inputs.insert(key, Arc::clone(known));
                }
                found.push((key, known));
            }
        }
        Ok(found)
    }

    /// The outputs of steps, read and opened at most once while remembered.
    /// Results are appended once and never change, so a remembered one is never
    /// stale.
    ///
    /// # Errors
    /// Postgres is away.
    pub(crate) async fn known_outputs(
        &self,
        steps: &[(WorkflowKey, StepIndex)],
    ) -> Result<Vec<((WorkflowKey, StepIndex), Result<Arc<str>, String>)>, StoreError> {
        let mut found = Vec::with_capacity(steps.len());
        let mut missing = Vec::new();
        for step in steps {
            match self.caches().outputs.get(step) {
                Some(json) => found.push((*step, Ok(json))),
                None => missing.push(*step),
            }
        }
        if !missing.is_empty() {
            for (key, step, content) in self.store().load_outputs(&missing).await? {
                let json = self.open(Row::Output(key, step), content).await?.map(Arc::<str>::from);
                if let Ok(json) = &json {
                    self.caches().outputs.insert((key, step), Arc::clone(json));
                }
                found.push(((key, step), json));
            }
        }
        Ok(found)
    }

    /// The input that a person gave a step for one epoch.
    ///
    /// # Errors
    /// Postgres is away.
    pub(crate) async fn edited_input(
        &self,
        key: WorkflowKey,
        step: StepIndex,
        epoch: u32,
    ) -> Result<Option<Result<String, String>>, StoreError> {
        match self.store().edited_input(key, step, epoch).await? {
            Some(content) => Ok(Some(self.open(Row::Edited(key, step, epoch), content).await?)),
            None => Ok(None),
        }
    }
}
