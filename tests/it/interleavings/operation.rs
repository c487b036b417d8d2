//! The operations that meet, each as another process would do it, and what it
//! was told.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use galley_core::ids::{AgentType, ApprovalId, PostId, WorkflowKey, WorkspaceId};
use galley_core::publish::{PostContent, Receipt, Sent};
use galley_core::report::StepError;
use galley_core::ticket::Ticket;
use galley_engine::{
    Begin, Claimed, Engine, EngineConfig, EngineError, Outcome, Reaper, Recorded, Repair, Report, Resolution,
    Sending, Session,
};
use serde_json::json;

use crate::harness::answer;

/// What the operations of a scene are about, by the names the scene gives.
#[derive(Clone)]
pub(crate) struct Props {
    pub(crate) workspace: WorkspaceId,
    pub(crate) key: WorkflowKey,
    pub(crate) session: Session,
    pub(crate) claims: HashMap<&'static str, Claimed>,
    pub(crate) tickets: HashMap<&'static str, (AgentType, Ticket)>,
    pub(crate) sendings: HashMap<&'static str, Sending>,
    pub(crate) questions: HashMap<&'static str, ApprovalId>,
    pub(crate) posts: HashMap<&'static str, PostId>,
}

impl Props {
    /// Of each workflow what its rows are called in statements.
    pub(crate) fn names(&self) -> Vec<Vec<Vec<u8>>> {
        let mut names: BTreeMap<WorkflowKey, Vec<Vec<u8>>> = BTreeMap::new();
        for (step, claim) in &self.claims {
            let of = names.entry(claim.key()).or_default();
            of.push(claim.key().workflow.0.as_bytes().to_vec());
            of.push(claim.effect_key.clone().into_bytes());
            of.extend(self.posts.get(step).map(|post| post.0.as_bytes().to_vec()));
            of.extend(self.questions.get(step).map(|asked| asked.0.as_bytes().to_vec()));
        }
        names.into_values().collect()
    }
}

/// What somebody does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Claim(&'static str),
    Complete(&'static str),
    Fail(&'static str),
    /// Every session is dead.
    Reap,
    Cancel,
    Approve(&'static str),
    /// A person says no to a question.
    Refuse(&'static str),
    Edit(&'static str),
    EditAndApprove(&'static str),
    /// A person says no to a post, asked or not.
    Reject(&'static str),
    /// Up to the permission to send.
    Intent(&'static str),
    Published(&'static str),
    NotSent(&'static str),
    Unsure(&'static str),
    Replay(&'static str),
    Discard(&'static str),
    /// The policy allows the platform no more.
    Forbid,
    /// The policy lets no post out unseen any more.
    Tighten,
    FoundOut(&'static str),
    NotThere(&'static str),
}

impl Operation {
    /// Its name, and what it is about.
    pub(crate) fn name(self) -> String {
        let text = format!("{self:?}").to_lowercase();
        text.replace("(\"", " ").replace("\")", "")
    }

    /// What the audit says of it; `None`: nothing, it is no person's.
    pub(crate) fn audited(self) -> Option<&'static [&'static str]> {
        Some(match self {
            Self::Cancel => &["workflow.cancel"],
            Self::Approve(_) => &["approval.approve"],
            Self::Refuse(_) => &["approval.reject"],
            Self::Edit(_) => &["post.edit"],
            Self::EditAndApprove(_) => &["approval.approve", "post.edit"],
            Self::Reject(_) => &["post.reject"],
            Self::Replay(_) => &["dead.retry"],
            Self::Discard(_) => &["dead.discard"],
            Self::Forbid | Self::Tighten => &["automation.set"],
            Self::FoundOut(_) | Self::NotThere(_) => &["post.resolve"],
            _ => return None,
        })
    }

    /// How its process is configured.
    pub(crate) fn config(self, usual: &EngineConfig) -> EngineConfig {
        let mut config = usual.clone();
        if self == Self::Reap {
            config.session_ttl = Duration::ZERO;
        }
        config
    }

    /// Does it; answers with what whoever asked is told: `no` where nothing
    /// came of it, `nothing` where somebody else may have to do something.
    pub(crate) async fn run(self, engine: Engine, props: Props, actor: String) -> String {
        let workspace = props.workspace;
        let report = |claim: &str, outcome| Report::of(&props.claims[claim], 5, outcome);
        match self {
            Self::Claim(step) => {
                let tickets = vec![props.tickets[step].clone()];
                let claimed = engine.claim(&props.session, tickets).await.unwrap();
                (if claimed.is_empty() { "no" } else { "yes" }).to_owned()
            }
            Self::Complete(claim) => {
                let output = answer(&json!({ "by": "hand" })).unwrap();
                recorded(&engine, report(claim, Outcome::Succeeded(output))).await
            }
            Self::Fail(claim) => {
                let error = StepError::permanent("broken", "it does not work");
                recorded(&engine, report(claim, Outcome::Failed(error))).await
            }
            Self::Reap => {
                let reaped = Reaper::default().run_once(&engine).await.unwrap();
                if reaped.steps == 0 { "no".into() } else { format!("yes, {} steps", reaped.steps) }
            }
            Self::Cancel => told(engine.cancel(props.key, &actor).await),
            Self::Approve(post) => {
                told(engine.approve(workspace, props.questions[post], None, None, &actor).await)
            }
            Self::Refuse(post) => told(engine.reject(workspace, props.questions[post], None, &actor).await),
            Self::Edit(post) | Self::EditAndApprove(post) => {
                let content = PostContent { text: format!("as {actor} wants it"), link: None };
                let approve = matches!(self, Self::EditAndApprove(_));
                told(engine.edit_post(workspace, props.posts[post], &content, None, approve, &actor).await)
            }
            Self::Reject(post) => told(engine.reject_post(workspace, props.posts[post], None, &actor).await),
            Self::Intent(claim) => match engine.begin_publish(&props.claims[claim]).await.unwrap() {
                Begin::Send(_) => "send".into(),
                Begin::Look(_) => "look".into(),
                Begin::Nothing => "nothing".into(),
            },
            Self::Published(claim) => {
                let receipt = Receipt { remote_id: "n1".into(), link: None, cost_micros: None };
                conclude(&engine, &props, claim, Sent::Published(receipt)).await
            }
            Self::NotSent(claim) => {
                let sent = Sent::NotSent { why: "no route".into(), retry_after_ms: None };
                conclude(&engine, &props, claim, sent).await
            }
            Self::Unsure(claim) => conclude(&engine, &props, claim, Sent::Unknown("no answer".into())).await,
            Self::Replay(step) => told(engine.repair(props.key, step, Repair::Retry, None, &actor).await),
            Self::Discard(step) => told(engine.repair(props.key, step, Repair::Discard, None, &actor).await),
            Self::Forbid | Self::Tighten => {
                let mut config = engine.policy(workspace).await.unwrap().config;
                config.content_approval_required = true;
                if self == Self::Forbid {
                    config.allowed_platforms = Some(vec!["elsewhere".into()]);
                }
                told(engine.set_policy(workspace, &config, None, &actor).await)
            }
            // It was sent once.
            Self::FoundOut(post) => {
                let found = Resolution::Published { remote_id: None, link: None };
                told(engine.resolve_post(workspace, props.posts[post], 1, found, &actor).await)
            }
            Self::NotThere(post) => {
                told(engine.resolve_post(workspace, props.posts[post], 1, Resolution::NotThere, &actor).await)
            }
        }
    }
}

async fn recorded(engine: &Engine, report: Report) -> String {
    match engine.complete(&[report]).await.unwrap()[..] {
        [Recorded::Yes] => "yes".into(),
        _ => "no".into(),
    }
}

/// Whoever sent is told nothing: what became of it is in the rows.
async fn conclude(engine: &Engine, props: &Props, claim: &str, sent: Sent) -> String {
    let (claim, sending) = (&props.claims[claim], &props.sendings[claim]);
    engine.conclude_publish(claim, sending, 5, &sent).await.unwrap();
    "nothing".into()
}

fn told<T>(answer: Result<T, EngineError>) -> String {
    match answer {
        Ok(_) => "yes".into(),
        Err(EngineError::Conflict(_) | EngineError::NotFound { .. }) => "no".into(),
        Err(other) => panic!("neither done nor refused: {other}"),
    }
}
