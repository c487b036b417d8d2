//! Where operations meet: workflows brought to a point by hand.

use std::collections::HashMap;
use std::time::Duration;

use galley_core::automation::Mode;
use galley_core::ids::{AgentType, WorkflowKey};
use galley_core::publish::Sent;
use galley_core::report::StepError;
use galley_core::run::StepState;
use galley_core::ticket::Ticket;
use galley_engine::store::SessionOpen;
use galley_engine::{
    Begin, Claimed, Engine, EngineConfig, Outcome, Reaper, Report, Session, queue_due_steps,
};
use serde_json::{Value, json};

use super::operation::Props;
use super::stage::Stage;
use crate::harness::posts::{account, policy, post_of, posts};
use crate::harness::{Agents, Bed, Network, Setup, answer, retry, until};

/// A scene being set.
struct Hand {
    bed: Bed,
    session: Session,
    props: Props,
}

fn agents() -> Agents {
    let mut agents = Agents::default();
    for name in ["alpha", "beta", "gamma", "writer"] {
        agents = agents.with(name, retry(2), |_| async { answer(&Value::Null) });
    }
    agents
}

fn opening() -> SessionOpen {
    SessionOpen {
        worker: "by hand".into(),
        host: "test".into(),
        pid: 0,
        release: "test".into(),
        agents: Vec::new(),
        concurrency: 1,
    }
}

impl Hand {
    /// A workflow that was just accepted.
    async fn new(steps: Value) -> Self {
        let bed = Bed::with(Setup { network: Some(Network::new()), ..Setup::default() }).await;
        // Far from midnight: the places of a day stay those of one day.
        bed.set_clock("2026-06-01T12:00:00Z").await;
        for kind in ["verifiable", "idempotent", "blind"] {
            account(&bed, kind, json!({ "settings": { "kind": kind } })).await;
        }
        bed.engine.store().register_agents(&[galley_core::publish::spec().unwrap()]).await.unwrap();
        bed.register(&agents()).await;
        // Renewed once, and then never: a renewal at any moment would be an
        // operation of its own.
        let day = Duration::from_secs(86_400);
        let config = EngineConfig { renew_every: day, session_ttl: 2 * day, ..bed.engine.config().clone() };
        let engine = Engine::new(bed.engine.store().clone(), bed.engine.queue().clone(), config);
        let session = engine.open_session(opening()).await.unwrap();
        until("the session was renewed", async || {
            bed.count("SELECT count(*) FROM sessions WHERE seq > 0").await == 1
        })
        .await;
        let key = bed.submit(steps, json!({ "text": "as it was written" })).await;
        let props = Props {
            workspace: bed.workspace,
            key,
            session: session.clone(),
            claims: HashMap::new(),
            tickets: HashMap::new(),
            sendings: HashMap::new(),
            questions: HashMap::new(),
            posts: HashMap::new(),
        };
        Self { bed, session, props }
    }

    async fn ticket(&self, key: WorkflowKey, step: &str) -> (AgentType, Ticket) {
        let view = self.bed.api.workflow(key).await.unwrap();
        let index = view.run.find_step(&view.plan, step).unwrap();
        let found = view.run.step(index).unwrap();
        assert_eq!(found.state, StepState::Queued, "{step}");
        let ticket = Ticket {
            workspace: key.workspace,
            workflow: key.workflow,
            step: index,
            epoch: found.epoch,
            crashes: 0,
            priority: view.run.priority,
        };
        (view.agent(index).clone(), ticket)
    }

    async fn claim_in(&self, key: WorkflowKey, step: &str) -> Claimed {
        let ticket = self.ticket(key, step).await;
        self.bed.engine.claim(&self.session, vec![ticket]).await.unwrap().pop().unwrap()
    }

    async fn claim(&mut self, step: &'static str) -> Claimed {
        let claim = self.claim_in(self.props.key, step).await;
        self.props.claims.insert(step, claim.clone());
        claim
    }

    async fn end(&self, claim: &Claimed, outcome: Outcome) {
        self.bed.engine.complete(&[Report::of(claim, 5, outcome)]).await.unwrap();
    }

    async fn write(&self, key: WorkflowKey) {
        let claim = self.claim_in(key, "write").await;
        let text = answer(&json!({ "platform": "network", "text": "as it was written" })).unwrap();
        self.end(&claim, Outcome::Succeeded(text)).await;
    }

    /// Its post waits for an answer.
    async fn ask(&mut self, step: &'static str) {
        let claim = self.claim(step).await;
        assert!(matches!(self.bed.engine.begin_publish(&claim).await.unwrap(), Begin::Nothing));
        let (workspace, workflow) = (self.props.workspace, self.props.key.workflow);
        let all = posts(&self.bed, Default::default()).await;
        let post = all.into_iter().find(|post| post.workflow == workflow && post.step_name == step).unwrap();
        self.props.posts.insert(step, post.id);
        let view = self.bed.api.post_view(workspace, post.id).await.unwrap();
        self.props.questions.insert(step, view.approvals.last().unwrap().id);
    }

    /// Its post was approved, and somebody is about to send it.
    async fn clear(&mut self, step: &'static str) -> Claimed {
        self.ask(step).await;
        let asked = self.props.questions[step];
        self.bed.api.approve(self.props.workspace, asked, None, None, "admin").await.unwrap();
        let ticket = self.ticket(self.props.key, step).await;
        self.props.tickets.insert(step, ticket);
        self.claim(step).await
    }

    /// Its post may be out.
    async fn send(&mut self, step: &'static str) -> Claimed {
        let claim = self.clear(step).await;
        let Begin::Send(sending) = self.bed.engine.begin_publish(&claim).await.unwrap() else {
            panic!("it is not sent")
        };
        self.props.sendings.insert(step, *sending);
        claim
    }

    async fn stage(self) -> Stage {
        Stage::set(self.bed, self.props).await
    }
}

fn publish(name: &str, account: &str) -> Value {
    json!({ "name": name, "agent": "publisher", "needs": ["write"], "input": { "account": account } })
}

fn step(name: &str, agent: &str, needs: &[&str]) -> Value {
    json!({ "name": name, "agent": agent, "needs": needs })
}

/// One workflow in which everything is going on: `ready` is queued, `runs`
/// runs, `broken` is dead, `asked` waits for an answer, `cleared` is about to
/// be sent, `out` was sent.
pub(super) async fn everything() -> Stage {
    let mut hand = Hand::new(json!([
        step("ready", "alpha", &[]),
        step("runs", "beta", &[]),
        step("broken", "gamma", &[]),
        step("write", "writer", &[]),
        publish("asked", "verifiable"),
        publish("cleared", "verifiable"),
        publish("out", "blind"),
    ]))
    .await;
    let broken = hand.claim("broken").await;
    hand.end(&broken, Outcome::Failed(StepError::permanent("broken", "it does not work"))).await;
    hand.write(hand.props.key).await;
    hand.ask("asked").await;
    hand.send("out").await;
    hand.clear("cleared").await;
    hand.claim("runs").await;
    let ticket = hand.ticket(hand.props.key, "ready").await;
    hand.props.tickets.insert("ready", ticket);
    hand.stage().await
}

/// A step runs, another needs it.
pub(super) async fn running() -> Stage {
    let mut hand = Hand::new(json!([step("runs", "alpha", &[]), step("next", "beta", &["runs"])])).await;
    let ticket = hand.ticket(hand.props.key, "runs").await;
    hand.props.tickets.insert("runs", ticket);
    hand.claim("runs").await;
    hand.stage().await
}

/// A step was taken from a worker that is still there, and is queued again.
pub(super) async fn taken_back() -> Stage {
    let mut hand = Hand::new(json!([step("runs", "alpha", &[])])).await;
    hand.claim("runs").await;
    hand.bed.execute("UPDATE sessions SET closed_at = galley_now()").await;
    Reaper::default().run_once(&hand.bed.engine).await.unwrap();
    hand.bed.execute("UPDATE sessions SET closed_at = NULL, swept_at = NULL").await;
    let ticket = hand.ticket(hand.props.key, "runs").await;
    hand.props.tickets.insert("runs", ticket);
    hand.stage().await
}

/// Two branches run in two workers; a third step needs both.
pub(super) async fn branches() -> Stage {
    let steps = json!([
        step("left", "alpha", &[]),
        step("right", "beta", &[]),
        step("join", "gamma", &["left", "right"]),
    ]);
    let mut hand = Hand::new(steps).await;
    hand.claim("left").await;
    hand.claim("right").await;
    hand.stage().await
}

/// A step is dead.
pub(super) async fn dead() -> Stage {
    let mut hand = Hand::new(json!([step("broken", "alpha", &[]), step("next", "beta", &["broken"])])).await;
    let claim = hand.claim("broken").await;
    hand.end(&claim, Outcome::Failed(StepError::permanent("broken", "it does not work"))).await;
    hand.stage().await
}

async fn one_post(account: &str) -> Hand {
    let hand = Hand::new(json!([step("write", "writer", &[]), publish("post", account)])).await;
    hand.write(hand.props.key).await;
    hand
}

/// A post waits for an answer.
pub(super) async fn asked() -> Stage {
    let mut hand = one_post("verifiable").await;
    hand.ask("post").await;
    hand.stage().await
}

/// An approved post is about to be sent.
pub(super) async fn cleared() -> Stage {
    let mut hand = one_post("verifiable").await;
    hand.clear("post").await;
    hand.stage().await
}

/// A post that nobody has to approve is about to be sent.
pub(super) async fn free() -> Stage {
    let mut hand = one_post("verifiable").await;
    policy(&hand.bed, |config| {
        config.mode = Mode::FullAutonomous;
        config.content_approval_required = false;
        // Its slot is another day, so that there is a post and nothing sent.
        config.max_daily_posts = Some(1);
    })
    .await;
    hand.bed
        .execute(&format!(
            "INSERT INTO day_quota (workspace_id, account_id, day, used)
         VALUES ('{}', '00000000-0000-0000-0000-000000000000', (galley_now() AT TIME ZONE 'UTC')::date, 1)",
            hand.props.workspace
        ))
        .await;
    let claim = hand.claim("post").await;
    assert!(matches!(hand.bed.engine.begin_publish(&claim).await.unwrap(), Begin::Nothing));
    let post = post_of(&hand.bed, hand.props.key).await.unwrap();
    hand.props.posts.insert("post", post.id);
    policy(&hand.bed, |config| config.max_daily_posts = None).await;
    hand.bed.execute("DELETE FROM day_quota; UPDATE posts SET slot_at = NULL, slot_by = NULL; UPDATE timers SET due_at = galley_now()").await;
    until("it is time", async || {
        queue_due_steps(&hand.bed.engine).await.unwrap();
        let view = hand.bed.api.workflow(hand.props.key).await.unwrap();
        view.run.steps.last().is_some_and(|step| step.state == StepState::Queued)
    })
    .await;
    hand.claim("post").await;
    hand.stage().await
}

/// A post was sent, and nobody has told yet what became of it.
pub(super) async fn out() -> Stage {
    let mut hand = one_post("verifiable").await;
    hand.send("post").await;
    hand.stage().await
}

/// Nobody knows whether a post is out; somebody is about to send it again with
/// its key, and whoever sent it first still may tell.
pub(super) async fn unknown() -> Stage {
    let mut hand = one_post("idempotent").await;
    let first = hand.send("post").await;
    let sending = hand.props.sendings["post"].clone();
    hand.bed.execute("UPDATE sessions SET closed_at = galley_now()").await;
    Reaper::default().run_once(&hand.bed.engine).await.unwrap();
    hand.bed
        .execute(
            "UPDATE sessions SET closed_at = NULL, swept_at = NULL; UPDATE timers SET due_at = galley_now()",
        )
        .await;
    until("somebody looks", async || queue_due_steps(&hand.bed.engine).await.unwrap() > 0).await;
    hand.claim("post").await;
    hand.props.claims.insert("first", first);
    hand.props.sendings.insert("first", sending);
    hand.stage().await
}

/// Only a person can tell whether a post is out.
pub(super) async fn in_doubt() -> Stage {
    let mut hand = one_post("blind").await;
    let claim = hand.send("post").await;
    let unknown = Sent::Unknown("no answer".into());
    let sending = hand.props.sendings["post"].clone();
    hand.bed.engine.conclude_publish(&claim, &sending, 5, &unknown).await.unwrap();
    hand.bed.execute("UPDATE timers SET due_at = galley_now()").await;
    until("somebody looks", async || queue_due_steps(&hand.bed.engine).await.unwrap() > 0).await;
    let claim = hand.claim("post").await;
    assert!(matches!(hand.bed.engine.begin_publish(&claim).await.unwrap(), Begin::Nothing));
    hand.stage().await
}

/// Two approved posts of two workflows are about to be sent, and there is one
/// place left today. Both have their slot now, and the day is counted already:
/// its first count would make the second wait.
pub(super) async fn one_place() -> Stage {
    let mut hand = one_post("verifiable").await;
    let steps = json!([step("write", "writer", &[]), publish("other", "blind")]);
    let other = hand.bed.submit(steps, Value::Null).await;
    hand.write(other).await;
    hand.clear("post").await;
    let first = std::mem::replace(&mut hand.props.key, other);
    hand.clear("other").await;
    hand.props.key = first;
    policy(&hand.bed, |config| config.max_daily_posts = Some(1)).await;
    hand.bed
        .execute(
            "INSERT INTO day_quota (workspace_id, account_id, day, used)
             SELECT workspace_id, account, (galley_now() AT TIME ZONE 'UTC')::date, 0
               FROM (SELECT workspace_id, id FROM accounts
                     UNION SELECT workspace_id, '00000000-0000-0000-0000-000000000000' FROM accounts)
                    AS all_of (workspace_id, account)",
        )
        .await;
    hand.bed.execute("UPDATE posts SET slot_at = galley_now() - interval '1 minute', slot_by = 'ada'").await;
    hand.stage().await
}
