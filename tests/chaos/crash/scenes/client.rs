//! A client's process dies (the API's, say) between what it does for a request
//! and its answer; the client asks again.

use galley_chaos::history::{Ask, Repair};
use galley_core::ids::{WorkflowId, WorkflowKey};
use galley_core::publish::PostContent;
use galley_core::run::WorkflowState;
use serde_json::{Value, json};

use super::{chain, only, two_posts};
use crate::Case;
use crate::bed::{Bed, approving, definition, submitting, told};
use crate::child::{CLIENT, Child, How, Request, Role, Work};
use crate::end;
use crate::servers::{sure, until};

/// What a client that dies asks for, twice.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wish {
    Submit,
    Approve,
    Edit,
    Cancel,
    Replay,
    Limit,
}

pub(crate) async fn client(bed: &mut Bed, case: Case, wish: Wish) {
    bed.build_queues().await;
    bed.start_duties();
    bed.start_worker();
    let wanted = requests(bed, wish).await;
    let requests = wanted.iter().map(|(request, _)| request.clone()).collect();
    let work = Work::Client { workspace: bed.workspace, requests };
    let mut child = Child::start(&Role { place: bed.place.clone(), work }, case);
    wanted.iter().for_each(|(_, ask)| bed.log.unheard(CLIENT, ask));
    child.came_to(case.point).await;
    if case.how == How::Stop && case.hit == 1 {
        child.wake().await;
    }
    // Nobody answered, so it is asked again; refused is what was done meanwhile.
    for (request, ask) in &wanted {
        let call = async || request.ask(&bed.engine, bed.workspace).await;
        let tell = |workflow: &Option<WorkflowId>| workflow.map(told).unwrap_or_default();
        if let Some(Some(workflow)) = bed.log.ask(CLIENT, ask, call, tell).await {
            let key = WorkflowKey { workspace: bed.workspace, workflow };
            bed.workflows.push((key, WorkflowState::Succeeded));
        }
    }
    if case.how == How::Stop {
        if case.hit == 2 {
            end::settle(bed).await;
            child.wake().await;
        }
        child.end(false).await;
    }
    end::check(bed).await;
}

/// What the client asks for, and how that is called in a log.
async fn requests(bed: &mut Bed, wish: Wish) -> Vec<(Request, Ask)> {
    let mut requests = Vec::new();
    match wish {
        Wish::Submit => {
            for n in 0..2 {
                let (key, submit) = (format!("key-{n}"), Box::new(definition(chain(), json!({ "n": n }))));
                requests.push((Request::Submit { key: key.clone(), submit }, submitting(key)));
            }
        }
        Wish::Approve => {
            bed.people = false;
            two_posts(bed, "verifiable", true).await;
            for question in bed.asked(2).await {
                requests.push((Request::Approve(question.id), approving(&question)));
            }
            bed.audited.push(("approval.approve", 2));
        }
        Wish::Edit => {
            two_posts(bed, "verifiable", true).await;
            bed.asked(2).await;
            bed.texts = vec!["edited 0".into(), "edited 1".into()];
            for (post, text) in bed.posts().await.iter().zip(&bed.texts) {
                let hash = PostContent { text: text.clone(), link: None }.hash();
                let ask = Ask::Edit { post: post.id, hash, approve: false };
                requests.push((Request::Edit(post.id, text.clone()), ask));
            }
            bed.audited.push(("post.edit", 2));
        }
        Wish::Cancel => {
            for _ in 0..2 {
                let key = bed.submit(only("patient"), Value::Null, WorkflowState::Cancelled).await;
                let workflow = key.workflow;
                requests.push((Request::Cancel(workflow), Ask::Cancel { workflow }));
            }
            let running = "SELECT coalesce(sum(running), 0)::int8 FROM runs";
            until("both run", async || bed.count(running).await == 2).await;
            bed.audited.push(("workflow.cancel", 2));
        }
        Wish::Replay => {
            for _ in 0..2 {
                let key = bed.submit(only("hopeless"), Value::Null, WorkflowState::Succeeded).await;
                let ask =
                    Ask::Repair { how: Repair::EditAndRetry, tasks: vec![format!("{}.only", key.workflow)] };
                requests.push((Request::Replay(key.workflow, "only".into()), ask));
            }
            let letters = "SELECT count(*) FROM dead_letters WHERE status = 'open'";
            until("both are dead", async || bed.count(letters).await == 2).await;
            bed.audited.push(("dead.edit_and_retry", 2));
        }
        Wish::Limit => {
            let mut config = sure(async || bed.engine.policy(bed.workspace).await).await.config;
            for posts in [7, 8] {
                config.max_daily_posts = Some(posts);
                let ask = Ask::SetPolicy { config: serde_json::to_value(&config).unwrap() };
                requests.push((Request::Limit(posts), ask));
            }
            bed.submit(chain(), Value::Null, WorkflowState::Succeeded).await;
        }
    }
    requests
}
