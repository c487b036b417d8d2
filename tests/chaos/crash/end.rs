//! How a case has to end: everything that was promised, once, and nothing left.

use galley_chaos::bills;
use galley_chaos::history::{Ask, Facts, History, Resolution as Said, Told, Workspace};
use galley_chaos::rest::{dumped, effects};
use galley_core::ids::{WorkflowId, WorkflowKey};
use galley_core::publish::PostContent;
use galley_core::run::WorkflowState;
use galley_engine::Resolution;
use galley_engine::queue::QueueDepth;
use galley_engine::store::PostRow;
use sqlx::Row;

use crate::bed::{Bed, approving};
use crate::fleet::{seal_key, specs};
use crate::servers::{sure, until};

/// Who answers.
const PERSON: &str = "ada";

/// Plays the people until nothing lives any more.
pub(crate) async fn settle(bed: &Bed) {
    until("every workflow is over", async || {
        if bed.people {
            for question in bed.questions().await {
                let (id, hash) = (question.id, Some(question.content_hash.as_str()));
                let call = async || bed.engine.approve(bed.workspace, id, hash, None, PERSON).await;
                bed.log.ask(PERSON, &approving(&question), call, |_| Told::default()).await;
            }
        }
        for post in bed.posts().await.iter().filter(|post| post.state == "in_doubt") {
            resolve(bed, post).await;
        }
        let over = "SELECT (SELECT count(*) FROM runs) +
                           (SELECT count(*) FROM schedules WHERE next_at <= galley_now())";
        bed.count(over).await == 0
    })
    .await;
}

/// A person looks at the platform and says what became of a post.
async fn resolve(bed: &Bed, post: &PostRow) {
    let looked = sure(async || bed.engine.post_view(bed.workspace, post.id).await).await;
    let sends = looked.publication.map_or(0, |publication| publication.sends.unsigned_abs());
    let content: PostContent = serde_json::from_str(&post.content).unwrap();
    let there = bed.network.ledger().posts.iter().filter(|there| there.text == content.text).count();
    let (said, found) = match there {
        0 => (Said::NotThere, Resolution::NotThere),
        _ => (Said::Published, Resolution::Published { remote_id: None, link: None }),
    };
    let ask = Ask::Resolve { post: post.id, said, ledger: there as u32 };
    let call = async || bed.engine.resolve_post(bed.workspace, post.id, sends, found.clone(), PERSON).await;
    bed.log.ask(PERSON, &ask, call, |_| Told::default()).await;
}

/// Ends the fleet, and accuses whoever lost, doubled or left something.
pub(crate) async fn check(bed: &mut Bed) {
    settle(bed).await;
    until("the queues are empty", async || {
        depths(bed).await.iter().all(|depth| depth.ready == 0 && depth.in_flight == 0)
    })
    .await;
    bed.stop_worker().await;
    until("every session is swept", async || {
        bed.count("SELECT count(*) FROM sessions WHERE swept_at IS NULL").await == 0
    })
    .await;
    // What an attempt that ran out of time left reserved is charged when its
    // session is over.
    until("no call is reserved", async || {
        bed.count("SELECT count(*) FROM spend WHERE state = 'reserved'").await == 0
    })
    .await;
    bed.stop_duties().await;
    let idle = "SELECT count(*) FROM pg_stat_activity
                 WHERE datname = current_database() AND state LIKE 'idle in transaction%'";
    until("nothing is idle in a transaction", async || bed.count(idle).await == 0).await;

    let made = sqlx::query("SELECT id FROM workflows WHERE created_by LIKE 'schedule:%'");
    for row in made.fetch_all(&bed.database.sql).await.unwrap() {
        let key = WorkflowKey { workspace: bed.workspace, workflow: WorkflowId(row.try_get(0).unwrap()) };
        bed.workflows.push((key, WorkflowState::Succeeded));
    }
    let accepted = bed.count("SELECT count(*) FROM workflows").await;
    assert_eq!(accepted, bed.workflows.len() as i64, "every workflow is there once");
    for (key, state) in &bed.workflows {
        let history = sure(async || bed.engine.history(*key).await).await;
        assert_eq!(history.workflow.state, *state, "{key:?}");
    }
    posts(bed).await;
    for (action, times) in &bed.audited {
        let told = format!("SELECT count(*) FROM audit WHERE action = '{action}'");
        assert_eq!(bed.count(&told).await, *times, "audit lines of {action}");
    }
    for (what, query) in [
        ("timers of nobody", "SELECT count(*) FROM timers"),
        ("open dead letters", "SELECT count(*) FROM dead_letters WHERE status = 'open'"),
        ("open questions", "SELECT count(*) FROM approvals WHERE status = 'pending'"),
    ] {
        assert_eq!(bed.count(query).await, 0, "{what}");
    }
    let history = history(bed).await;
    let broken = tokio::task::spawn_blocking(move || galley_chaos::check::check(&history)).await.unwrap();
    let told: Vec<_> = broken.iter().map(ToString::to_string).collect();
    assert!(told.is_empty(), "the checker of the fault runs says:\n  {}", told.join("\n  "));
}

/// Each post is out once.
async fn posts(bed: &Bed) {
    let ledger = bed.network.ledger();
    assert!(ledger.duplicates.is_empty(), "twice on the platform: {:?}", ledger.duplicates);
    let mut there: Vec<_> = ledger.posts.iter().map(|post| post.text.clone()).collect();
    let mut wanted = bed.texts.clone();
    there.sort();
    wanted.sort();
    assert_eq!(there, wanted, "what is on the platform");
    let published = bed.count("SELECT count(*) FROM publications WHERE state = 'published'").await;
    assert_eq!(published, there.len() as i64, "what Galley says is published");
}

/// Everything that is known in the end, as the checker reads it.
async fn history(bed: &Bed) -> History {
    let mut secrets = bed.secrets.clone();
    secrets.push(seal_key());
    let workspace = Workspace { id: bed.workspace, name: "acme".into(), canary: "acme's canary".into() };
    let facts = Facts {
        mode: "crash".into(),
        began_at: bed.log.began_at,
        clock_slack_ms: 200,
        workspaces: vec![workspace],
        accounts: bed.accounts.clone(),
        secrets,
        ..Facts::default()
    };
    let ops = bed.log.ops();
    let effects = effects(&bed.network).unwrap();
    let ledger = bills::ledger_of(bed.workspace);
    let bills = bills::read(&ledger);
    // Not there where nothing was paid.
    let _ = std::fs::remove_file(ledger);
    let mut history = History { facts, ops, effects, bills, ..History::default() };
    let mut connection = bed.database.sql.acquire().await.unwrap();
    for line in dumped(&mut connection).await.unwrap() {
        history.add(line).unwrap();
    }
    for depth in depths(bed).await {
        history.leftovers.ready.insert(depth.agent.to_string(), depth.ready);
        history.leftovers.in_flight.insert(depth.agent.to_string(), depth.in_flight);
    }
    history
}

async fn depths(bed: &Bed) -> Vec<QueueDepth> {
    let agents: Vec<_> = specs().into_iter().map(|spec| spec.agent).collect();
    sure(async || Ok(bed.engine.queue().depths(&agents).await?)).await
}
