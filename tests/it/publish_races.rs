//! An edit, a rejection, a cancel or a change of the policy meets an intent:
//! one of them wins, and the platform shows which.

use std::time::{Duration, Instant};

use galley_core::automation::Mode;
use galley_core::ids::WorkspaceId;
use galley_core::publish::PostContent;
use galley_engine::{Begin, Engine, EngineError};
use sqlx::{Connection, Executor, PgConnection};

use crate::harness::posts::{account, autonomous, in_state, policy, post_of, question, submit, writer};
use crate::harness::{Bed, Network, Setup, until};

/// What meets the intent.
#[derive(Clone, Copy, Debug)]
enum Rival {
    Edit,
    Reject,
    Cancel,
    Policy,
}

/// Both at once, on connections of their own, many times.
async fn meet(rival: Rival) {
    let network = Network::new();
    let mut bed = Bed::with(Setup { network: Some(network.clone()), ..Setup::default() }).await;
    account(&bed, "main", serde_json::json!({})).await;
    bed.register(&writer()).await;
    let spec = galley_core::publish::spec().unwrap();
    bed.engine.store().register_agents(&[spec]).await.unwrap();
    bed.start_worker_without_network(&writer(), 4).await;
    let other = bed.another_engine();
    let (mut intents, mut rivals) = (0, 0);
    for round in 0..24 {
        autonomous(&bed).await;
        let key = submit(&bed, "main", &format!("round {round}")).await;
        let session = bed.session().await;
        // Made and held once, so that there is a post to meet.
        let first = bed.claim_one(&session, "publisher").await;
        policy(&bed, |config| config.content_approval_required = true).await;
        assert!(matches!(bed.engine.begin_publish(&first).await.unwrap(), Begin::Nothing));
        let post = post_of(&bed, key).await.unwrap();
        let asked = question(&bed, key).await;
        bed.api.approve(bed.workspace, asked.id, None, None, "ada").await.unwrap();
        let claim = bed.claim_one(&session, "publisher").await;
        let edit = PostContent { text: format!("edited {round}"), link: None };
        let rival_wins = async {
            // A different head start each time.
            for _ in 0..round {
                tokio::task::yield_now().await;
            }
            match rival {
                Rival::Edit => {
                    other.edit_post(bed.workspace, post.id, &edit, None, false, "eve").await.is_ok()
                }
                Rival::Reject => other.reject_post(bed.workspace, post.id, None, "eve").await.is_ok(),
                Rival::Cancel => other.cancel(key, "eve").await.is_ok(),
                Rival::Policy => {
                    let mut config = other.policy(bed.workspace).await.unwrap().config;
                    config.mode = Mode::Assisted;
                    config.allowed_platforms = Some(vec!["elsewhere".into()]);
                    other.set_policy(bed.workspace, &config, None, "eve").await.is_ok()
                }
            }
        };
        let (begun, rival_won) = tokio::join!(bed.engine.begin_publish(&claim), rival_wins);
        let sends = matches!(begun.unwrap(), Begin::Send(_));
        intents += usize::from(sends);
        rivals += usize::from(!sends);
        match rival {
            // Exactly one of the two.
            Rival::Edit | Rival::Reject => assert_ne!(sends, rival_won, "{rival:?} {round}"),
            // A cancel always gets its way, but not of a post that may be out.
            Rival::Cancel => {
                assert!(rival_won);
                let state = post_of(&bed, key).await.unwrap().state;
                assert_eq!(state, if sends { "publishing" } else { "cancelled" }, "{round}");
            }
            Rival::Policy => {
                assert!(rival_won, "a change of the policy waits for the intent, not for ever");
                let state = post_of(&bed, key).await.unwrap().state;
                assert_eq!(state, if sends { "publishing" } else { "failed" }, "{round}");
            }
        }
        if sends {
            in_state(&bed, key, "publishing").await;
        }
        bed.execute("UPDATE automation SET config = jsonb_set(config::jsonb, '{allowedPlatforms}', 'null')::json, version = version + 1").await;
    }
    assert!(intents > 0 && rivals > 0, "{rival:?}: both must win sometimes: {intents} and {rivals}");
    bed.execute("UPDATE sessions SET closed_at = now()").await;
    bed.start_duties();
    bed.start_worker(&writer(), 8).await;
    until("nothing is on its way any more", async || {
        bed.count("SELECT count(*) FROM posts WHERE state IN ('publishing', 'unknown')").await == 0
    })
    .await;
    assert_eq!(network.duplicates(), 0);
    if matches!(rival, Rival::Cancel) {
        // Whose worker is gone is not sent after all, now that somebody said no:
        // only a person can say what became of it.
        assert_eq!(network.texts(), Vec::<String>::new());
        let doubts = bed.count("SELECT count(*) FROM posts WHERE state = 'in_doubt'").await;
        assert_eq!(usize::try_from(doubts).unwrap(), intents);
    } else {
        assert_eq!(
            network.texts().len(),
            intents,
            "{rival:?}: what had its intent went out, and nothing else"
        );
    }
    bed.end().await;
}

/// A post that was free meets a mode in which it is not: it goes out or it
/// waits for a person, and never both.
#[tokio::test]
async fn a_change_of_the_mode_meets_an_intent() {
    let network = Network::new();
    let mut bed = Bed::with(Setup { network: Some(network.clone()), ..Setup::default() }).await;
    account(&bed, "main", serde_json::json!({})).await;
    bed.register(&writer()).await;
    let spec = galley_core::publish::spec().unwrap();
    bed.engine.store().register_agents(&[spec]).await.unwrap();
    bed.start_worker_without_network(&writer(), 4).await;
    let other = bed.another_engine();
    let (mut intents, mut held) = (0, 0);
    for round in 0..24 {
        autonomous(&bed).await;
        let key = submit(&bed, "main", &format!("round {round}")).await;
        let session = bed.session().await;
        let claim = bed.claim_one(&session, "publisher").await;
        let mut config = other.policy(bed.workspace).await.unwrap().config;
        config.mode = Mode::Assisted;
        let stricter = async {
            // Another head start of the intent each time.
            for _ in 0..round % 12 {
                other.policy(bed.workspace).await.unwrap();
            }
            other.set_policy(bed.workspace, &config, None, "eve").await.unwrap();
        };
        let (begun, ()) = tokio::join!(bed.engine.begin_publish(&claim), stricter);
        let sends = matches!(begun.unwrap(), Begin::Send(_));
        intents += usize::from(sends);
        held += usize::from(!sends);
        in_state(&bed, key, if sends { "publishing" } else { "waiting_approval" }).await;
    }
    assert!(intents > 0 && held > 0, "both must win sometimes: {intents} and {held}");
    bed.execute("UPDATE sessions SET closed_at = now()").await;
    bed.start_duties();
    bed.start_worker(&writer(), 8).await;
    until("nothing is on its way any more", async || {
        bed.count("SELECT count(*) FROM posts WHERE state IN ('publishing', 'unknown')").await == 0
    })
    .await;
    assert_eq!((network.texts().len(), network.duplicates()), (intents, 0));
    bed.end().await;
}

#[tokio::test]
async fn an_edit_meets_an_intent() {
    Box::pin(meet(Rival::Edit)).await;
}

#[tokio::test]
async fn a_rejection_meets_an_intent() {
    Box::pin(meet(Rival::Reject)).await;
}

#[tokio::test]
async fn a_cancel_meets_an_intent() {
    Box::pin(meet(Rival::Cancel)).await;
}

#[tokio::test]
async fn a_change_of_the_policy_meets_an_intent() {
    Box::pin(meet(Rival::Policy)).await;
}

/// A change that is acknowledged while the intent commits would be told to be in
/// force before a post goes out that it forbids: it has to wait.
async fn waits_for_an_intent<F>(change: impl FnOnce(Engine, WorkspaceId) -> F)
where
    F: Future<Output = Result<(), EngineError>> + Send + 'static,
{
    let network = Network::new();
    let mut bed = Bed::with(Setup { network: Some(network.clone()), ..Setup::default() }).await;
    account(&bed, "main", serde_json::json!({})).await;
    bed.register(&writer()).await;
    bed.engine.store().register_agents(&[galley_core::publish::spec().unwrap()]).await.unwrap();
    bed.start_worker_without_network(&writer(), 4).await;
    let key = submit(&bed, "main", "the default policy asks").await;
    let session = bed.session().await;
    let first = bed.claim_one(&session, "publisher").await;
    assert!(matches!(bed.engine.begin_publish(&first).await.unwrap(), Begin::Nothing));
    let asked = question(&bed, key).await;
    bed.api.approve(bed.workspace, asked.id, None, None, "ada").await.unwrap();
    let claim = bed.claim_one(&session, "publisher").await;

    // Holds the intent's transaction where it has seen everything else and not
    // committed yet: it wants the approval next.
    let mut holder = PgConnection::connect(&bed.database_url).await.unwrap();
    holder.execute("BEGIN").await.unwrap();
    holder.execute("SELECT 1 FROM approvals FOR UPDATE").await.unwrap();
    let engine = bed.engine.clone();
    let intent = tokio::spawn(async move { engine.begin_publish(&claim).await });
    let blocked = "SELECT count(*) FROM pg_stat_activity
                    WHERE datname = current_database() AND wait_event_type = 'Lock'";
    until("the intent waits for the approval", async || bed.count(blocked).await == 1).await;
    let change = tokio::spawn(change(bed.another_engine(), bed.workspace));
    until("the change waits, or is made", async || change.is_finished() || bed.count(blocked).await == 2)
        .await;
    assert!(!change.is_finished(), "somebody was told that it is so, and the post goes out after that");
    holder.execute("COMMIT").await.unwrap();
    assert!(matches!(intent.await.unwrap().unwrap(), Begin::Send(_)));
    change.await.unwrap().unwrap();
    holder.close().await.unwrap();
    // This session sends nothing: whoever comes next finds out what became of
    // the post.
    bed.execute("UPDATE sessions SET closed_at = now()").await;
    bed.start_duties();
    bed.start_worker(&writer(), 8).await;
    until("it is out, or a person is asked", async || {
        bed.count("SELECT count(*) FROM posts WHERE state IN ('published', 'in_doubt')").await == 1
    })
    .await;
    assert_eq!(network.duplicates(), 0);
    bed.api.cancel(key, "test").await.ok();
    bed.end().await;
}

/// A workspace whose policy nobody set has no row that an intent could hold.
#[tokio::test]
async fn the_first_policy_waits_for_an_intent() {
    waits_for_an_intent(async |engine: Engine, workspace| {
        let mut config = engine.policy(workspace).await?.config;
        config.allowed_platforms = Some(vec!["elsewhere".into()]);
        engine.set_policy(workspace, &config, None, "eve").await.map(|_| ())
    })
    .await;
}

#[tokio::test]
async fn removing_an_account_waits_for_an_intent() {
    waits_for_an_intent(async |engine: Engine, workspace| {
        engine.remove_account(workspace, "main", "eve").await
    })
    .await;
}

/// A worker that was stopped between its intent and the reply: it may not send
/// for a whole window from the moment it looks again.
#[tokio::test]
async fn an_intent_of_mine_is_as_old_as_it_is() {
    let network = Network::new();
    let mut bed = Bed::with(Setup { network: Some(network), ..Setup::default() }).await;
    account(&bed, "main", serde_json::json!({})).await;
    bed.register(&writer()).await;
    let spec = galley_core::publish::spec().unwrap();
    bed.engine.store().register_agents(&[spec]).await.unwrap();
    autonomous(&bed).await;
    bed.start_worker_without_network(&writer(), 4).await;
    let key = submit(&bed, "main", "once").await;
    let session = bed.session().await;
    let claim = bed.claim_one(&session, "publisher").await;
    let Ok(Begin::Send(_)) = bed.engine.begin_publish(&claim).await else { panic!("no intent") };
    bed.execute("UPDATE publications SET not_after = galley_now() - interval '1 s'").await;
    let asked = Instant::now();
    let Ok(Begin::Send(late)) = bed.engine.begin_publish(&claim).await else { panic!("not mine") };
    assert!(late.not_after <= asked + Duration::from_millis(1), "its window is over");
    let sent = galley_core::publish::Sent::NotSent { why: "too late".into(), retry_after_ms: None };
    bed.engine.conclude_publish(&claim, &late, 0, &sent).await.unwrap();
    in_state(&bed, key, "scheduled").await;
    bed.api.cancel(key, "ada").await.unwrap();
    bed.finish_all().await;
    bed.end().await;
}

/// A cancel ends a publish step before its post is there; the worker that was
/// about to make it is only slow.
#[tokio::test]
async fn a_cancelled_step_makes_no_post_any_more() {
    let network = Network::new();
    let mut bed = Bed::with(Setup { network: Some(network.clone()), ..Setup::default() }).await;
    account(&bed, "main", serde_json::json!({})).await;
    bed.register(&writer()).await;
    let spec = galley_core::publish::spec().unwrap();
    bed.engine.store().register_agents(&[spec]).await.unwrap();
    bed.start_worker_without_network(&writer(), 4).await;
    autonomous(&bed).await;
    let key = submit(&bed, "main", "late").await;
    let session = bed.session().await;
    let claim = bed.claim_one(&session, "publisher").await;
    bed.api.cancel(key, "eve").await.unwrap();
    assert!(matches!(bed.engine.begin_publish(&claim).await.unwrap(), Begin::Nothing));
    assert!(post_of(&bed, key).await.is_none(), "a draft that nothing would ever move");
    assert!(network.texts().is_empty());
    bed.end().await;
}
