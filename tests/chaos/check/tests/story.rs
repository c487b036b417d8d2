//! A hand-made run: real decisions on real plans, with rows as the store would
//! write them.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use galley_core::decide::{Effect as Follows, Event, Facts as Given, Token, decide};
use galley_core::hash;
use galley_core::ids::{
    AccountId, ApprovalId, Nonce, PostId, SessionId, StepIndex, WorkflowId, WorkflowKey, WorkspaceId,
};
use galley_core::plan::Plan;
use galley_core::publish::{Capability, PostContent, PostState};
use galley_core::report::Failure;
use galley_core::retry::RetryPolicy;
use galley_core::run::{Lease, Run};
use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::history::*;

/// A workflow that is told about.
struct Flow {
    plan: Arc<Plan>,
    run: Run,
    seq: u64,
    definition: i64,
    over: Option<(Timestamp, &'static str)>,
    input: Value,
}

pub(super) struct Story {
    pub(super) history: History,
    ms: u64,
    drawn: u128,
    flows: HashMap<(WorkspaceId, WorkflowId), Flow>,
    zones: HashMap<WorkspaceId, TimeZone>,
}

/// A workflow's name in a story.
pub(super) type Key = (WorkspaceId, WorkflowId);

impl Story {
    pub(super) fn new() -> Self {
        let mut story = Self {
            history: History::default(),
            ms: 0,
            drawn: 0,
            flows: HashMap::new(),
            zones: HashMap::new(),
        };
        let facts = &mut story.history.facts;
        facts.seed = 7;
        facts.minutes = 3.0;
        facts.mode = "story".into();
        facts.began_at = "2026-11-26T16:00:00Z".parse().unwrap();
        facts.clock_slack_ms = 50;
        facts.secrets = vec!["tok-4711-secret".into()];
        facts.needed_faults = vec!["kill".into()];
        facts.needed_paths = vec!["reaped".into()];
        facts.needed_sums = vec![NeededSum { what: "kills".into(), kinds: vec!["kill".into()], least: 3 }];
        story.history.seen.faults.insert("kill".into(), 3);
        story.history.seen.paths.insert("reaped".into(), 1);
        story
    }

    fn uuid(&mut self) -> Uuid {
        self.drawn += 1;
        Uuid::from_u128(0x0199_0000_0000_7000_8000_0000_0000_0000 + self.drawn)
    }

    /// The database's time now; each look is a little later.
    fn now(&mut self) -> Timestamp {
        self.ms += 10;
        self.history.facts.began_at + SignedDuration::from_millis(self.ms as i64)
    }

    pub(super) fn workspace(&mut self, name: &str) -> WorkspaceId {
        let id = WorkspaceId(self.uuid());
        let canary = format!("canary-{name}");
        self.history.facts.workspaces.push(Workspace { id, name: name.into(), canary });
        self.zones.insert(id, TimeZone::UTC);
        id
    }

    pub(super) fn account(
        &mut self,
        workspace: WorkspaceId,
        name: &str,
        capability: Capability,
    ) -> AccountId {
        let id = AccountId(self.uuid());
        let (handle, name) = (format!("@{name}"), name.to_owned());
        self.history.dump.accounts.push(AccountRow {
            workspace_id: workspace,
            id,
            name: name.clone(),
            platform: "preview".into(),
            settings: json!({}),
            credential: Bytes::of(b"sealed"),
            time_zone: None,
            max_daily_posts: Some(5),
            removed_at: None,
        });
        self.history.facts.accounts.push(Account { id, workspace, name, handle, capability });
        id
    }

    /// An operation that began a little ago and ends now.
    pub(super) fn op(&mut self, workspace: WorkspaceId, ask: Ask, reply: Reply) {
        let began_ms = self.ms;
        self.ms += 10;
        let id = self.history.ops.len() as u64;
        let actor = format!("op-{id}");
        let op = Op { id, workspace, actor, began_ms, ended_ms: self.ms, ask, reply, canaries: Vec::new() };
        self.history.ops.push(op);
    }

    /// The actor of the next operation.
    fn actor(&self) -> String {
        format!("op-{}", self.history.ops.len())
    }

    fn audit(&mut self, workspace: WorkspaceId, action: &str, object: String, detail: Option<Value>) {
        let (at, actor) = (self.now(), self.actor());
        let id = self.history.dump.audit.len() as i64 + 1;
        let action = action.to_owned();
        self.history.dump.audit.push(AuditRow {
            workspace_id: workspace,
            id,
            at,
            actor,
            action,
            object,
            detail,
        });
    }

    pub(super) fn policy(&mut self, workspace: WorkspaceId, config: Value) {
        let zone = TimeZone::get(config["timeZone"].as_str().unwrap()).unwrap();
        self.zones.insert(workspace, zone);
        self.audit(workspace, "automation.set", "automation".into(), Some(config.clone()));
        // Long ago: its zone is in force.
        let set = self.history.dump.audit.last_mut().unwrap();
        set.at -= SignedDuration::from_hours(72);
        let rows = &mut self.history.dump.automation;
        let version = rows.iter().find(|row| row.workspace_id == workspace).map_or(1, |row| row.version + 1);
        rows.retain(|row| row.workspace_id != workspace);
        rows.push(AutomationRow {
            workspace_id: workspace,
            version,
            config: config.clone(),
            previous_time_zone: None,
            time_zone_since: None,
            updated_by: "someone".into(),
            updated_at: Timestamp::UNIX_EPOCH,
        });
        self.op(workspace, Ask::SetPolicy { config }, Reply::Done(Told::default()));
        // Long enough that the policy before is certainly over.
        self.ms += 1_000;
    }

    pub(super) fn submit(&mut self, workspace: WorkspaceId, key: &str, steps: Value, input: Value) -> Key {
        let id = WorkflowId(self.uuid());
        let definition = serde_json::from_value(json!({ "name": "story", "steps": steps })).unwrap();
        let plan = Arc::new(Plan::compile(definition, |_| Some(RetryPolicy::default())).unwrap());
        let number = self.history.dump.definitions.len() as i64 + 1;
        let body = serde_json::to_value(&plan.definition).unwrap();
        self.history.dump.definitions.push(DefinitionRow { id: number, workspace_id: workspace, body });
        let created_at = self.now();
        self.history.dump.workflows.push(WorkflowRow {
            workspace_id: workspace,
            id,
            definition_id: number,
            name: "story".into(),
            priority: 5,
            idempotency_key: key.into(),
            input: input.clone(),
            created_by: "someone".into(),
            created_at,
        });
        let run = Run::new(&plan, 5);
        let flow = Flow { plan, run, seq: 0, definition: number, over: None, input };
        self.flows.insert((workspace, id), flow);
        self.event((workspace, id), Event::Accepted);
        let told = Told { workflow: Some(id), ..Told::default() };
        let ask = Ask::Submit { key: key.into(), shape: "story".into(), body: 1 };
        self.op(workspace, ask, Reply::Done(told));
        (workspace, id)
    }

    /// A schedule's time comes: what a submit does, and nobody asked.
    pub(super) fn scheduled(&mut self, workspace: WorkspaceId, steps: Value) -> Key {
        let (id, at) = (self.uuid(), self.now());
        let key = self.submit(workspace, &format!("schedule:{id}:{at}"), steps, json!({}));
        self.history.ops.pop();
        let detail = json!({ "at": at.to_string(), "workflowId": key.1 });
        self.audit(workspace, "schedule.run", "daily".into(), Some(detail));
        self.history.dump.audit.last_mut().unwrap().actor = "scheduler".into();
        self.history.dump.schedules.push(ScheduleRow {
            workspace_id: workspace,
            id,
            name: "daily".into(),
            cron: "0 9 * * *".into(),
            time_zone: "UTC".into(),
            missed: "skip".into(),
            version: 1,
            paused_by: None,
            next_at: None,
            last_at: Some(at),
            last_workflow: Some(key.1),
            last_problem: None,
            created_by: "someone".into(),
        });
        key
    }

    pub(super) fn event(&mut self, key: Key, event: Event) {
        let at = self.now();
        let flow = self.flows.get_mut(&key).unwrap();
        flow.seq += 1;
        let facts = Given {
            seq: flow.seq,
            jitter: 0.0,
            rest_ms: 20_000,
            brief: &flow.input,
            result: &|_| None,
            unreadable: None,
        };
        let follows = decide(&flow.plan, &mut flow.run, event, &facts).unwrap();
        let (workspace_id, id) = key;
        let n = self.history.dump.run_journal.len() as i64 + 1;
        let (version, run) = (version(flow.seq), Bytes::of(&flow.run.encode()));
        self.history.dump.run_journal.push(JournalRow { n, workspace_id, id, version, run, at });
        let same = |w: WorkspaceId, f: WorkflowId, s: StepIndex, step| (w, f, s) == (workspace_id, id, step);
        let dump = &mut self.history.dump;
        for follow in follows {
            match follow {
                Follows::Wait { step, epoch, delay_ms } => {
                    dump.timers.retain(|t| !same(t.workspace_id, t.workflow_id, t.step, step));
                    let due_at = at + SignedDuration::from_millis(delay_ms as i64);
                    dump.timers.push(TimerRow { workspace_id, workflow_id: id, step, epoch, due_at });
                }
                // Nobody in these stories has a budget.
                Follows::WaitForMoney { .. } | Follows::MoneyWaitOver { .. } => {}
                Follows::StopWaiting { step } => {
                    dump.timers.retain(|t| !same(t.workspace_id, t.workflow_id, t.step, step));
                }
                Follows::Died { step, why } => dump.dead_letters.push(LetterRow {
                    workspace_id,
                    workflow_id: id,
                    step,
                    step_name: flow.run.step_name(&flow.plan, step),
                    agent: "writer".into(),
                    reason: why.word().into(),
                    class: "bad".into(),
                    message: "bad".into(),
                    attempts: 1,
                    crashes: 0,
                    status: "open".into(),
                    died_at: at,
                    closed_at: None,
                    closed_by: None,
                }),
                Follows::LetterClosed { step, how } => {
                    let letters = dump.dead_letters.iter_mut();
                    for l in letters.filter(|l| same(l.workspace_id, l.workflow_id, l.step, step)) {
                        (l.status, l.closed_at) = (how.word().into(), Some(at));
                    }
                }
                Follows::Finished(state) => flow.over = Some((at, state.word())),
                Follows::Enqueue { .. } | Follows::Interrupt { .. } => {}
            }
        }
    }

    pub(super) fn claim(&mut self, key: Key, step: StepIndex) -> Token {
        self.drawn += 1;
        let lease = Lease { nonce: Nonce(u64::MAX - self.drawn as u64), session: SessionId(1) };
        let epoch = self.flows[&key].run.steps[usize::from(step)].epoch;
        self.event(key, Event::Claim { step, epoch, lease });
        Token { step, epoch: epoch + 1, nonce: lease.nonce }
    }

    /// An agent runs a step: the provider is called, its output is stored.
    pub(super) fn agent(&mut self, key: Key, step: StepIndex) {
        let token = self.claim(key, step);
        let call = format!("call-{}", self.history.calls.len());
        let at_ms = self.ms;
        let (name, saw) = {
            let flow = &self.flows[&key];
            let plan = usize::from(flow.run.steps[usize::from(step)].plan);
            let saw = flow.plan.steps[plan].needs.iter().map(|need| {
                let mut leaves: Vec<_> = flow.run.children(*need).collect();
                if leaves.is_empty() {
                    leaves.push(*need);
                }
                let made = leaves.into_iter().map(|leaf| flow.run.step_name(&flow.plan, leaf)).map(|leaf| {
                    self.history
                        .calls
                        .iter()
                        .rev()
                        .find(|c| c.workflow == key.1 && c.step == leaf)
                        .unwrap()
                        .call
                        .clone()
                });
                (flow.run.step_name(&flow.plan, *need), made.collect())
            });
            (flow.run.step_name(&flow.plan, step), saw.collect::<BTreeMap<_, _>>())
        };
        let of = self.history.facts.workspaces.iter().find(|w| w.id == key.0).unwrap();
        let canaries = vec![of.canary.clone()];
        self.history.calls.push(Call {
            call: call.clone(),
            workflow: key.1,
            step: name,
            key: None,
            at_ms,
            saw,
            heard: self.said_in(key),
            canaries,
        });
        self.ms += 20;
        self.event(key, Event::Succeeded { token });
        let seq = self.flows[&key].run.steps[usize::from(step)].changed;
        let (workspace_id, workflow_id, content) = (key.0, key.1, json!({ "call": call }));
        self.history.dump.messages.push(MessageRow { workspace_id, workflow_id, step, n: 0, seq, content });
        self.result(key, token, json!({ "call": call, "said": call }));
    }

    /// What was said in a workflow so far.
    fn said_in(&self, key: Key) -> Vec<String> {
        let mine = self.history.dump.messages.iter().filter(|row| (row.workspace_id, row.workflow_id) == key);
        mine.filter_map(|row| Some(row.content["call"].as_str()?.to_owned())).collect()
    }

    fn result(&mut self, key: Key, token: Token, output: Value) {
        let finished_at = self.now();
        self.history.dump.results.push(ResultRow {
            workspace_id: key.0,
            workflow_id: key.1,
            step: token.step,
            epoch: token.epoch,
            nonce: token.nonce.0 as i64,
            session: SessionId(1),
            duration_ms: 15,
            finished_at,
            output,
        });
    }

    pub(super) fn fail(&mut self, key: Key, step: StepIndex) {
        let token = self.claim(key, step);
        self.event(key, Event::Failed { token, failure: Failure::Permanent });
        self.attempt(key, token, "failed");
    }

    fn attempt(&mut self, key: Key, token: Token, outcome: &str) {
        let ended_at = self.now();
        self.history.dump.attempts.push(AttemptRow {
            workspace_id: key.0,
            workflow_id: key.1,
            step: token.step,
            epoch: token.epoch,
            nonce: token.nonce.0 as i64,
            session: SessionId(1),
            outcome: outcome.into(),
            class: "bad".into(),
            message: "bad".into(),
            ended_at,
        });
    }

    pub(super) fn cancel(&mut self, key: Key) {
        self.event(key, Event::Cancel);
        self.audit(key.0, "workflow.cancel", key.1.to_string(), None);
        self.op(key.0, Ask::Cancel { workflow: key.1 }, Reply::Done(Told::default()));
    }

    /// A claimed publish step makes its post.
    pub(super) fn post(&mut self, key: Key, step: StepIndex, account: AccountId, text: &str) -> PostId {
        let id = PostId(self.uuid());
        let step_name = self.flows[&key].run.step_name(&self.flows[&key].plan, step);
        let content = content(text);
        self.history.dump.posts.push(PostRow {
            workspace_id: key.0,
            id,
            workflow_id: key.1,
            step,
            step_name,
            account_id: account,
            state: "draft".into(),
            revision: 0,
            content_hash: content.hash(),
            version: 1,
            held: false,
            slot_at: None,
            reason: None,
        });
        self.revise(key.0, id, text, "engine");
        id
    }

    fn revise(&mut self, workspace: WorkspaceId, id: PostId, text: &str, author: &str) {
        let (created_at, content) = (self.now(), content(text));
        let post = self.history.dump.posts.iter_mut().find(|post| post.id == id).unwrap();
        post.revision += 1;
        post.content_hash = content.hash();
        self.history.dump.post_revisions.push(RevisionRow {
            workspace_id: workspace,
            post_id: id,
            revision: post.revision,
            content_hash: content.hash(),
            content: serde_json::to_value(&content).unwrap(),
            author: author.into(),
            created_at,
        });
    }

    /// The claimed step waits for a person.
    pub(super) fn hold(&mut self, key: Key, token: Token, post: PostId) -> ApprovalId {
        self.event(key, Event::Held { token });
        self.ask(key, token.step, post)
    }

    fn ask(&mut self, key: Key, step: StepIndex, post: PostId) -> ApprovalId {
        let (id, asked_at) = (ApprovalId(self.uuid()), self.now());
        let row = self.history.dump.posts.iter().find(|row| row.id == post).unwrap();
        self.history.dump.approvals.push(ApprovalRow {
            workspace_id: key.0,
            id,
            kind: "post".into(),
            workflow_id: key.1,
            step,
            step_name: row.step_name.clone(),
            post_id: Some(post),
            revision: Some(row.revision),
            content_hash: row.content_hash.clone(),
            reason: "every post".into(),
            status: "pending".into(),
            asked_at,
            expires_at: asked_at + SignedDuration::from_hours(1),
            decided_by: None,
            decided_at: None,
            note: None,
        });
        id
    }

    fn answer(&mut self, id: ApprovalId, status: &str) -> ApprovalRow {
        let (at, by) = (self.now(), self.actor());
        let row = self.history.dump.approvals.iter_mut().find(|row| row.id == id).unwrap();
        (row.status, row.decided_at, row.decided_by) = (status.into(), Some(at), Some(by));
        row.clone()
    }

    pub(super) fn approve(&mut self, key: Key, id: ApprovalId) {
        let row = self.answer(id, "approved");
        let (post, hash) = (row.post_id.unwrap(), row.content_hash);
        self.event(key, Event::Approved { step: row.step });
        let object = format!("post {post} revision {}", row.revision.unwrap());
        self.audit(key.0, "approval.approve", object, None);
        let ask = Ask::Approve { approval: id, about: Subject::Post(post), hash };
        self.op(key.0, ask, Reply::Done(Told::default()));
    }

    pub(super) fn reject(&mut self, key: Key, id: ApprovalId) {
        let row = self.answer(id, "rejected");
        let post = row.post_id.unwrap();
        self.event(key, Event::Withdrawn { step: row.step });
        self.history.dump.posts.iter_mut().find(|row| row.id == post).unwrap().state = "rejected".into();
        let object = format!("post {post} revision {}", row.revision.unwrap());
        self.audit(key.0, "approval.reject", object, None);
        let ask = Ask::Reject { approval: id, about: Subject::Post(post) };
        self.op(key.0, ask, Reply::Done(Told::default()));
    }

    /// A person edits a post that waits for an approval; somebody is asked anew.
    pub(super) fn edit(&mut self, key: Key, id: ApprovalId, text: &str) -> ApprovalId {
        let row = self.answer(id, "void");
        let post = row.post_id.unwrap();
        self.event(key, Event::Amended { step: row.step, hold: true });
        let author = self.actor();
        self.revise(key.0, post, text, &author);
        self.audit(key.0, "post.edit", format!("post {post} revision 2"), None);
        let asked = self.ask(key, row.step, post);
        let ask = Ask::Edit { post, hash: content(text).hash(), approve: false };
        self.op(key.0, ask, Reply::Done(Told::default()));
        asked
    }

    pub(super) fn intend(&mut self, key: Key, token: Token, post: PostId, approval: Option<ApprovalId>) {
        self.event(key, Event::Intent { token });
        let at = self.now();
        let row = self.history.dump.posts.iter().find(|row| row.id == post).unwrap().clone();
        let workflow = WorkflowKey { workspace: key.0, workflow: key.1 };
        let effect_key = hash::effect_key(workflow, &row.step_name, "");
        let day = self.zones[&key.0].to_datetime(at).date();
        for account in [AccountId(Uuid::nil()), row.account_id] {
            self.take(key.0, account, day);
        }
        let mut revisions = self.history.dump.post_revisions.iter();
        let payload = revisions.rfind(|r| r.post_id == post).unwrap().content.clone();
        self.history.dump.publications.push(PublicationRow {
            workspace_id: key.0,
            effect_key: effect_key.clone(),
            post_id: post,
            workflow_id: key.1,
            step: token.step,
            account_id: row.account_id,
            state: "intent".into(),
            revision: row.revision,
            content_hash: row.content_hash,
            payload,
            approval_id: approval,
            nonce: token.nonce.0 as i64,
            sends: 1,
            intended_at: at,
            first_sent_at: Some(at),
            not_after: at + SignedDuration::from_secs(10),
            quota_day: Some(day),
            quota_held: true,
            remote_id: None,
            settled_by: None,
        });
        self.happened(key.0, &effect_key, at, "intent");
    }

    fn take(&mut self, workspace_id: WorkspaceId, account_id: AccountId, day: Date) {
        let rows = &mut self.history.dump.day_quota;
        let same = |row: &&mut QuotaRow| {
            (row.workspace_id, row.account_id, row.day) == (workspace_id, account_id, day)
        };
        match rows.iter_mut().find(same) {
            Some(row) => row.used += 1,
            None => rows.push(QuotaRow { workspace_id, account_id, day, used: 1 }),
        }
    }

    fn happened(&mut self, workspace_id: WorkspaceId, key: &str, at: Timestamp, event: &str) {
        let id = self.history.dump.publication_events.len() as i64 + 1;
        let (effect_key, event) = (key.to_owned(), event.to_owned());
        self.history.dump.publication_events.push(EventRow {
            workspace_id,
            effect_key,
            id,
            at,
            event,
            detail: None,
        });
    }

    fn conclude(&mut self, post: PostId, state: &str) -> String {
        let at = self.now();
        let row = self.history.dump.publications.iter_mut().find(|row| row.post_id == post).unwrap();
        row.state = state.into();
        let (workspace, key) = (row.workspace_id, row.effect_key.clone());
        self.happened(workspace, &key, at, state);
        key
    }

    /// The platform shows it, and says so.
    pub(super) fn published(&mut self, key: Key, token: Token, post: PostId) {
        self.show(post);
        self.event(key, Event::Succeeded { token });
        self.conclude(post, "published");
        self.result(key, token, json!({ "post": post }));
    }

    pub(super) fn show(&mut self, post: PostId) {
        let at = self.now();
        let row = self.history.dump.publications.iter().find(|row| row.post_id == post).unwrap();
        let payload: PostContent = serde_json::from_value(row.payload.clone()).unwrap();
        let account = self.history.facts.accounts.iter().find(|a| a.id == row.account_id).unwrap();
        self.history.effects.push(Effect {
            key: row.effect_key.clone(),
            account: account.handle.clone(),
            endpoint: account.capability.word().into(),
            text: payload.text,
            link: payload.link,
            at,
            cost_micros: 0,
        });
    }

    /// Nobody knows, and nobody can find out.
    pub(super) fn doubt(&mut self, key: Key, token: Token, post: PostId) {
        self.event(key, Event::Doubted { token });
        self.attempt(key, token, "unknown");
        self.conclude(post, "in_doubt");
    }

    /// A client reads the workflow.
    pub(super) fn look(&mut self, key: Key) {
        let flow = &self.flows[&key];
        let steps = flow.run.steps.iter().enumerate().map(|(index, step)| {
            (flow.run.step_name(&flow.plan, index as StepIndex), step.state.word().to_owned())
        });
        let told = Told {
            workflow: Some(key.1),
            state: Some(flow.run.state(&flow.plan).word().into()),
            seq: Some(flow.seq),
            steps: steps.collect(),
            ..Told::default()
        };
        self.op(key.0, Ask::Look { workflow: key.1 }, Reply::Done(told));
    }

    /// A follower's connection, resumed behind a number, receives what changed
    /// since another: as the API tells it.
    pub(super) fn stream(&mut self, key: Key, stream: u64, connection: u32, behind: u64, since: u64) {
        let at_ms = self.ms;
        let flow = &self.flows[&key];
        let mut changed: Vec<_> =
            flow.run.steps.iter().enumerate().filter(|(_, s)| s.changed > since).collect();
        changed.sort_by_key(|(_, step)| step.changed);
        let event = |step, state: &str, seq, id| StreamEvent {
            stream,
            connection,
            behind,
            workspace: key.0,
            workflow: key.1,
            at_ms,
            id,
            step,
            state: state.into(),
            seq,
        };
        for (n, (index, step)) in changed.iter().enumerate() {
            let next = changed.get(n + 1).map_or(flow.seq, |(_, next)| next.changed);
            let id = (next != step.changed).then_some(step.changed);
            let name = flow.run.step_name(&flow.plan, *index as StepIndex);
            self.history.events.push(event(Some(name), step.state.word(), step.changed, id));
        }
        let state = flow.run.state(&flow.plan).word();
        self.history.events.push(event(None, state, flow.seq, Some(flow.seq)));
    }

    pub(super) fn seq(&self, key: Key) -> u64 {
        self.flows[&key].seq
    }

    /// Everything comes to rest: the dump is taken.
    pub(super) fn end(mut self) -> History {
        self.history.dump.at = self.now();
        for (key, flow) in &self.flows {
            let (workspace_id, id) = *key;
            let (definition_id, version) = (flow.definition, version(flow.seq));
            let run = Bytes::of(&flow.run.encode());
            for post in self.history.dump.posts.iter_mut().filter(|post| post.workflow_id == id) {
                if let Some(state) = PostState::of(&flow.run.steps[usize::from(post.step)]) {
                    post.state = state.word().into();
                }
            }
            match flow.over {
                None => {
                    let row = RunRow { workspace_id, id, definition_id, version, running: 0, run };
                    self.history.dump.runs.push(row);
                }
                Some((finished_at, state)) => {
                    let state = state.into();
                    let row =
                        FinishedRow { workspace_id, id, definition_id, version, state, finished_at, run };
                    self.history.dump.finished_runs.push(row);
                }
            }
        }
        self.history
    }
}

fn content(text: &str) -> PostContent {
    PostContent { text: text.into(), link: None }
}

/// A version: the change number, and noise in the low bits.
pub(super) fn version(seq: u64) -> i64 {
    ((seq as i64) << 24) | 0x5a_5a5a
}
