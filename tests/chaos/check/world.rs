//! A history, indexed: what belongs together is found together.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use galley_core::ids::{PostId, StepIndex, WorkflowId, WorkspaceId};
use galley_core::plan::{Plan, PlanStep};
use galley_core::run::{Run, StepRun};
use jiff::{SignedDuration, Timestamp};

use crate::history::{
    Account, AccountRow, ApprovalRow, Bytes, Effect, EventRow, FinishedRow, History, Op, PostRow,
    PublicationRow, Reply, ResultRow, RunRow, Told, WorkflowRow,
};

/// Names a workflow.
pub(super) type Key = (WorkspaceId, WorkflowId);

/// The low bits of a version are random, the others count its changes.
const VERSION_NOISE_BITS: u32 = 24;

/// A workflow's last state, decoded.
pub(super) struct Flow<'h> {
    pub(super) key: Key,
    pub(super) run: Run,
    pub(super) plan: Arc<Plan>,
    pub(super) seq: u64,
    /// Its row in history, if it is over.
    pub(super) finished: Option<&'h FinishedRow>,
    /// Its live row, if it is not.
    pub(super) live: Option<&'h RunRow>,
}

/// A history and what was looked up in it.
pub(super) struct World<'h> {
    pub(super) history: &'h History,
    pub(super) workflows: HashMap<Key, &'h WorkflowRow>,
    /// Decoded runs; live ones first where a workflow is wrongly in both.
    pub(super) flows: BTreeMap<Key, Flow<'h>>,
    /// Runs and definitions that cannot be read.
    pub(super) unreadable: Vec<String>,
    plans: HashMap<i64, Arc<Plan>>,
    /// Results by workflow and step.
    pub(super) results: HashMap<(Key, StepIndex), Vec<&'h ResultRow>>,
    posts: HashMap<(WorkspaceId, PostId), &'h PostRow>,
    pub(super) posts_of: HashMap<(Key, StepIndex), Vec<&'h PostRow>>,
    publications: HashMap<(WorkspaceId, PostId), Vec<&'h PublicationRow>>,
    by_effect_key: HashMap<(WorkspaceId, &'h str), &'h PublicationRow>,
    happened: HashMap<(WorkspaceId, &'h str), Vec<&'h EventRow>>,
    pub(super) approvals_of: HashMap<(Key, StepIndex), Vec<&'h ApprovalRow>>,
    accounts: HashMap<(WorkspaceId, galley_core::ids::AccountId), &'h AccountRow>,
    by_handle: HashMap<&'h str, &'h Account>,
    effects: HashMap<(&'h str, &'h str), Vec<&'h Effect>>,
}

impl<'h> World<'h> {
    pub(super) fn of(history: &'h History) -> Self {
        let dump = &history.dump;
        let mut unreadable = Vec::new();
        let plans = plans(history, &mut unreadable);
        let mut world = Self {
            history,
            workflows: dump.workflows.iter().map(|row| ((row.workspace_id, row.id), row)).collect(),
            flows: BTreeMap::new(),
            unreadable,
            plans,
            results: HashMap::new(),
            posts: dump.posts.iter().map(|row| ((row.workspace_id, row.id), row)).collect(),
            posts_of: HashMap::new(),
            publications: HashMap::new(),
            by_effect_key: HashMap::new(),
            happened: HashMap::new(),
            approvals_of: HashMap::new(),
            accounts: dump.accounts.iter().map(|row| ((row.workspace_id, row.id), row)).collect(),
            by_handle: history.facts.accounts.iter().map(|a| (a.handle.as_str(), a)).collect(),
            effects: HashMap::new(),
        };
        world.read_runs();
        for row in &dump.results {
            let key = ((row.workspace_id, row.workflow_id), row.step);
            world.results.entry(key).or_default().push(row);
        }
        for row in &dump.posts {
            let key = ((row.workspace_id, row.workflow_id), row.step);
            world.posts_of.entry(key).or_default().push(row);
        }
        for row in &dump.approvals {
            let key = ((row.workspace_id, row.workflow_id), row.step);
            world.approvals_of.entry(key).or_default().push(row);
        }
        for row in &dump.publications {
            world.publications.entry((row.workspace_id, row.post_id)).or_default().push(row);
            world.by_effect_key.insert((row.workspace_id, row.effect_key.as_str()), row);
        }
        for row in &dump.publication_events {
            world.happened.entry((row.workspace_id, row.effect_key.as_str())).or_default().push(row);
        }
        for events in world.happened.values_mut() {
            events.sort_by_key(|event| event.id);
        }
        for effect in &history.effects {
            let key = (effect.account.as_str(), effect.key.as_str());
            world.effects.entry(key).or_default().push(effect);
        }
        world
    }

    fn read_runs(&mut self) {
        let dump = &self.history.dump;
        for row in &dump.runs {
            let key = (row.workspace_id, row.id);
            if let Some(flow) = self.flow(key, row.definition_id, row.version, &row.run) {
                self.flows.insert(key, Flow { live: Some(row), ..flow });
            }
        }
        for row in &dump.finished_runs {
            let key = (row.workspace_id, row.id);
            let Some(flow) = self.flow(key, row.definition_id, row.version, &row.run) else { continue };
            self.flows.entry(key).or_insert(flow).finished = Some(row);
        }
    }

    fn flow(&mut self, key: Key, definition: i64, version: i64, bytes: &Bytes) -> Option<Flow<'h>> {
        let Some(plan) = self.plans.get(&definition).cloned() else {
            self.unreadable.push(format!("{}: its definition {definition} is not there", name(key)));
            return None;
        };
        match bytes.run() {
            Ok(run) => Some(Flow { key, run, plan, seq: seq_of(version), finished: None, live: None }),
            Err(bad) => {
                self.unreadable.push(format!("{}: {bad}", name(key)));
                None
            }
        }
    }

    /// The post of an id.
    pub(super) fn post(&self, workspace: WorkspaceId, post: PostId) -> Option<&'h PostRow> {
        self.posts.get(&(workspace, post)).copied()
    }

    /// The publications of a post; more than one is a violation.
    pub(super) fn publications(&self, workspace: WorkspaceId, post: PostId) -> &[&'h PublicationRow] {
        self.publications.get(&(workspace, post)).map_or(&[], Vec::as_slice)
    }

    /// What happened to a publication, in order.
    pub(super) fn happened(&self, publication: &'h PublicationRow) -> &[&'h EventRow] {
        let key = (publication.workspace_id, publication.effect_key.as_str());
        self.happened.get(&key).map_or(&[], Vec::as_slice)
    }

    /// When the transaction of a publication's newest intent began.
    pub(super) fn intended_at(&self, publication: &'h PublicationRow) -> Option<Timestamp> {
        self.happened(publication).iter().rev().find(|event| event.event == "intent").map(|event| event.at)
    }

    /// The account of a row.
    pub(super) fn account(&self, publication: &PublicationRow) -> Option<&'h AccountRow> {
        self.accounts.get(&(publication.workspace_id, publication.account_id)).copied()
    }

    /// The account that a platform knows by that name.
    pub(super) fn by_handle(&self, handle: &str) -> Option<&'h Account> {
        self.by_handle.get(handle).copied()
    }

    /// The publication that an effect belongs to: the same key, and the account
    /// it was meant for.
    pub(super) fn publication_of(&self, effect: &Effect) -> Option<&'h PublicationRow> {
        let account = self.by_handle(&effect.account)?;
        let publication = self.by_effect_key.get(&(account.workspace, effect.key.as_str())).copied();
        publication.filter(|publication| publication.account_id == account.id)
    }

    /// What a platform shows of a publication.
    pub(super) fn effects(&self, publication: &'h PublicationRow) -> &[&'h Effect] {
        let account = self.history.facts.accounts.iter().find(|account| {
            account.id == publication.account_id && account.workspace == publication.workspace_id
        });
        let Some(account) = account else { return &[] };
        let key = (account.handle.as_str(), publication.effect_key.as_str());
        self.effects.get(&key).map_or(&[], Vec::as_slice)
    }

    /// The database's time at a millisecond of the log.
    pub(super) fn time(&self, ms: u64) -> Timestamp {
        let passed = SignedDuration::from_millis(i64::try_from(ms).unwrap_or(i64::MAX));
        self.history.facts.began_at.checked_add(passed).unwrap_or(Timestamp::MAX)
    }

    /// How far clocks may be apart.
    pub(super) fn slack(&self) -> SignedDuration {
        SignedDuration::from_millis(i64::try_from(self.history.facts.clock_slack_ms).unwrap_or(i64::MAX))
    }

    /// Requests that were answered with a success.
    pub(super) fn done(&self) -> impl Iterator<Item = (&'h Op, &'h Told)> {
        self.history.ops.iter().filter_map(|op| match &op.reply {
            Reply::Done(told) => Some((op, told)),
            Reply::Refused { .. } | Reply::Unknown { .. } => None,
        })
    }

    /// Requests that were done, or may have been.
    pub(super) fn perhaps(&self) -> impl Iterator<Item = &'h Op> {
        self.history.ops.iter().filter(|op| !matches!(op.reply, Reply::Refused { .. }))
    }
}

impl Flow<'_> {
    /// The steps with their definitions.
    pub(super) fn steps(&self) -> impl Iterator<Item = (StepIndex, &StepRun, &PlanStep)> {
        self.run.steps.iter().enumerate().filter_map(|(index, step)| {
            Some((index as StepIndex, step, self.plan.steps.get(usize::from(step.plan))?))
        })
    }

    /// Whether a step stands for its children: it has no result of its own.
    pub(super) fn is_group(step: &StepRun, plan: &PlanStep) -> bool {
        plan.for_each.is_some() && step.item.is_none()
    }

    /// A step's name.
    pub(super) fn step_name(&self, step: StepIndex) -> String {
        self.run.step_name(&self.plan, step)
    }

    /// A step's task id, as the API writes it.
    pub(super) fn task(&self, step: StepIndex) -> String {
        format!("{}.{}", self.key.1, self.step_name(step))
    }
}

/// A workflow as violations name it.
pub(super) fn name(key: Key) -> String {
    format!("workflow {}", key.1)
}

/// The change number in a version.
pub(super) fn seq_of(version: i64) -> u64 {
    (version >> VERSION_NOISE_BITS) as u64
}

fn plans(history: &History, unreadable: &mut Vec<String>) -> HashMap<i64, Arc<Plan>> {
    let mut plans = HashMap::new();
    for row in &history.dump.definitions {
        let plan = serde_json::from_value(row.body.clone())
            .map_err(|error| error.to_string())
            .and_then(|definition| Plan::from_frozen(definition).map_err(|problems| format!("{problems:?}")));
        match plan {
            Ok(plan) => {
                plans.insert(row.id, Arc::new(plan));
            }
            Err(problem) => unreadable.push(format!("definition {}: {problem}", row.id)),
        }
    }
    plans
}
