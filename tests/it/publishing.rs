//! From draft to published once: what goes out, how often, and what does not.

use galley_core::publish::PostContent;
use galley_core::run::WorkflowState;
use galley_engine::store::PostFilter;
use galley_engine::{EngineError, Resolution};
use serde_json::json;

use crate::harness::posts::{
    KINDS, account, autonomous, bed, in_state, policy, post_of, posts, question, resolve, submit, writer,
};
use crate::harness::{Bed, Fault, Network, Setup, until};

#[tokio::test]
async fn a_post_waits_for_an_approval_and_goes_out_once() {
    let network = Network::new();
    let bed = bed(&network).await;
    let key = submit(&bed, "idempotent", "hello").await;
    let asked = question(&bed, key).await;
    assert_eq!(network.texts(), Vec::<String>::new());
    assert_eq!(bed.api.workflow(key).await.unwrap().state, WorkflowState::Waiting);
    let why = bed.api.why(key, None).await.unwrap().sentence;
    assert!(why.contains(&format!("galley approval approve {}", asked.id)), "{why}");

    bed.api.approve(bed.workspace, asked.id, Some(&asked.content_hash), None, "ada").await.unwrap();
    bed.finish(key, WorkflowState::Succeeded).await;
    assert_eq!(network.texts(), ["hello"]);
    let post = post_of(&bed, key).await.unwrap();
    let view = bed.api.post_view(bed.workspace, post.id).await.unwrap();
    let publication = view.publication.unwrap();
    assert_eq!((post.state.as_str(), publication.state.as_str()), ("published", "published"));
    assert_eq!(publication.content_hash, asked.content_hash);
    assert_eq!(publication.approval, Some(asked.id));
    assert_eq!(publication.remote_id.as_deref(), Some("n0"));
    assert_eq!(view.approvals[0].decided_by.as_deref(), Some("ada"));
    // Once is once.
    let again = bed.api.approve(bed.workspace, asked.id, None, None, "ada").await;
    assert!(matches!(again, Err(EngineError::Conflict(_))), "{again:?}");
    assert!(bed.audited().await.contains(&"approval.approve".to_owned()));
    bed.end().await;
}

#[tokio::test]
async fn a_lost_reply_leads_to_one_post_or_to_a_person() {
    let network = Network::new();
    let bed = bed(&network).await;
    autonomous(&bed).await;
    for fault in [Fault::LoseReply, Fault::HangAfter, Fault::LoseRequest] {
        for kind in &KINDS[..2] {
            network.fail([fault]);
            let text = format!("{kind} {fault:?}");
            let key = submit(&bed, kind, &text).await;
            bed.finish(key, WorkflowState::Succeeded).await;
            assert_eq!(network.texts().iter().filter(|there| **there == text).count(), 1, "{text}");
        }
    }
    assert_eq!(network.duplicates(), 0);
    bed.end().await;
}

#[tokio::test]
async fn a_refusal_after_a_lost_reply_does_not_mean_that_the_post_is_not_there() {
    let network = Network::new();
    let bed = bed(&network).await;
    autonomous(&bed).await;
    for second in [Fault::Refuse, Fault::NotSent] {
        network.fail([Fault::LoseReply, second]);
        let key = submit(&bed, "idempotent", &format!("{second:?}")).await;
        bed.finish(key, WorkflowState::Succeeded).await;
        let post = post_of(&bed, key).await.unwrap();
        let view = bed.api.post_view(bed.workspace, post.id).await.unwrap();
        let told: Vec<&str> = view.events.iter().map(|event| event.event.as_str()).collect();
        // Its place of the day was never given away.
        assert_eq!(told, ["intent", "unknown", "repeated", "unknown", "repeated", "published"]);
    }
    assert_eq!((network.texts().len(), network.duplicates()), (2, 0));
    bed.end().await;
}

#[tokio::test]
async fn a_person_resolves_what_a_blind_platform_cannot_tell() {
    let network = Network::new();
    let bed = bed(&network).await;
    autonomous(&bed).await;
    let there = {
        network.fail([Fault::LoseReply]);
        let key = submit(&bed, "blind", "there").await;
        (key, in_state(&bed, key, "in_doubt").await)
    };
    let why = bed.api.why(there.0, None).await.unwrap().sentence;
    assert!(why.contains("galley post resolve"), "{why}");
    let edit = PostContent { text: "other".into(), link: None };
    let refused = bed.api.edit_post(bed.workspace, there.1.id, &edit, None, false, "ada").await;
    assert!(matches!(refused, Err(EngineError::Conflict(_))), "{refused:?}");
    let found = Resolution::Published { remote_id: Some("seen".into()), link: None };
    resolve(&bed, there.1.id, found).await;
    bed.finish(there.0, WorkflowState::Succeeded).await;

    let lost = {
        network.fail([Fault::LoseRequest]);
        let key = submit(&bed, "blind", "lost").await;
        (key, in_state(&bed, key, "in_doubt").await)
    };
    resolve(&bed, lost.1.id, Resolution::NotThere).await;
    bed.finish(lost.0, WorkflowState::Succeeded).await;

    let given_up = {
        network.fail([Fault::LoseRequest]);
        let key = submit(&bed, "blind", "given up").await;
        (key, in_state(&bed, key, "in_doubt").await)
    };
    resolve(&bed, given_up.1.id, Resolution::GivenUp).await;
    bed.finish(given_up.0, WorkflowState::Failed).await;

    assert_eq!(network.texts(), ["there", "lost"]);
    assert_eq!(
        bed.count(
            "SELECT sum(used)::int8 FROM day_quota WHERE account_id = '00000000-0000-0000-0000-000000000000'"
        )
        .await,
        2
    );
    bed.end().await;
}

#[tokio::test]
async fn what_was_not_sent_is_tried_again_and_what_was_refused_is_a_dead_letter() {
    let network = Network::new();
    let bed = bed(&network).await;
    autonomous(&bed).await;
    network.fail([Fault::NotSent]);
    let key = submit(&bed, "blind", "later").await;
    bed.finish(key, WorkflowState::Succeeded).await;
    network.fail([Fault::Refuse]);
    let key = submit(&bed, "blind", "refused").await;
    bed.finish(key, WorkflowState::Stalled).await;
    assert_eq!(in_state(&bed, key, "failed").await.state, "failed");
    // Replayed by a person, it goes out: it was definitely not there.
    bed.api.repair(key, "publish", galley_engine::Repair::Retry, None, "ada").await.unwrap();
    bed.finish(key, WorkflowState::Succeeded).await;
    assert_eq!(network.texts(), ["later", "refused"]);
    bed.end().await;
}

#[tokio::test]
async fn eight_publishers_never_exceed_the_day_and_overflow_fills_the_next() {
    let network = Network::new();
    let mut bed = bed(&network).await;
    for _ in 0..7 {
        bed.start_worker(&writer(), 4).await;
    }
    autonomous(&bed).await;
    policy(&bed, |config| config.max_daily_posts = Some(3)).await;
    let mut keys = Vec::new();
    for n in 0..10 {
        keys.push(submit(&bed, "idempotent", &format!("post {n}")).await);
    }
    until("three are out and seven have a slot", async || {
        let all = posts(&bed, PostFilter::default()).await;
        let scheduled = all.iter().filter(|post| post.state == "scheduled" && post.slot_at.is_some()).count();
        all.iter().filter(|post| post.state == "published").count() == 3 && scheduled == 7
    })
    .await;
    let mut days: Vec<String> =
        posts(&bed, PostFilter { state: Some("scheduled".into()), ..PostFilter::default() })
            .await
            .iter()
            .map(|post| post.slot_at.clone().unwrap()[..10].to_owned())
            .collect();
    days.sort();
    assert_eq!((days[0] == days[2], days[3] == days[5]), (true, true), "{days:?}");
    assert!(days[2] < days[3] && days[5] < days[6], "three, three and one: {days:?}");
    assert_eq!(network.texts().len(), 3);
    for key in keys {
        let _ = bed.api.cancel(key, "test").await;
    }
    until("all are over", async || bed.engine.store().count_live_runs().await.unwrap() == 0).await;
    assert_eq!(
        posts(&bed, PostFilter { state: Some("cancelled".into()), ..PostFilter::default() }).await.len(),
        7
    );
    bed.end().await;
}

#[tokio::test]
async fn an_edit_voids_the_approval_and_the_bytes_that_go_out_are_those_approved() {
    let network = Network::new();
    let bed = bed(&network).await;
    // Tomorrow's slot keeps the approved post from going out at once.
    let key = submit(&bed, "idempotent", "first").await;
    let asked = question(&bed, key).await;
    let post = post_of(&bed, key).await.unwrap();
    let far = "2999-01-01T00:00:00Z".parse().unwrap();
    bed.api.reschedule_post(bed.workspace, post.id, Some(far), "ada").await.unwrap();
    bed.api.approve(bed.workspace, asked.id, None, None, "ada").await.unwrap();
    in_state(&bed, key, "scheduled").await;
    let edit = PostContent { text: "second".into(), link: None };
    let changed = bed.api.edit_post(bed.workspace, post.id, &edit, Some(1), false, "eve").await.unwrap();
    let second = question(&bed, key).await;
    assert_eq!(Some(second.id), changed.question);
    assert_ne!(second.content_hash, asked.content_hash);
    // The receipt goes on saying who had said yes to what.
    let view = bed.api.post_view(bed.workspace, post.id).await.unwrap();
    let voided = &view.approvals[0];
    assert_eq!((voided.status.as_str(), voided.decided_by.as_deref()), ("void", Some("ada")));
    let revised = &view.revisions[1].created_at;
    assert!(voided.decided_at.as_ref() < Some(revised), "{voided:?} {revised}");
    bed.api.reschedule_post(bed.workspace, post.id, None, "ada").await.unwrap();
    // The old yes is worth nothing.
    assert!(bed.api.approve(bed.workspace, asked.id, None, None, "ada").await.is_err());
    let wrong = bed.api.approve(bed.workspace, second.id, Some(&asked.content_hash), None, "ada").await;
    assert!(matches!(wrong, Err(EngineError::Conflict(_))), "{wrong:?}");
    let third = PostContent { text: "third".into(), link: None };
    bed.api.edit_post(bed.workspace, post.id, &third, Some(2), true, "ada").await.unwrap();
    bed.finish(key, WorkflowState::Succeeded).await;
    assert_eq!(network.texts(), ["third"]);
    bed.end().await;
}

#[tokio::test]
async fn rejected_expired_and_cancelled_posts_stay_at_home() {
    let network = Network::new();
    let bed = bed(&network).await;
    let rejected = submit(&bed, "idempotent", "rejected").await;
    let asked = question(&bed, rejected).await;
    bed.api.reject(bed.workspace, asked.id, Some("too loud".into()), "ada").await.unwrap();
    bed.finish(rejected, WorkflowState::Succeeded).await;
    assert_eq!(post_of(&bed, rejected).await.unwrap().state, "rejected");

    let expired = submit(&bed, "idempotent", "expired").await;
    question(&bed, expired).await;
    bed.execute("UPDATE approvals SET expires_at = now() WHERE status = 'pending'").await;
    bed.finish(expired, WorkflowState::Succeeded).await;
    assert_eq!(post_of(&bed, expired).await.unwrap().state, "expired");

    let cancelled = submit(&bed, "idempotent", "cancelled").await;
    let asked = question(&bed, cancelled).await;
    bed.api.cancel(cancelled, "ada").await.unwrap();
    assert_eq!(post_of(&bed, cancelled).await.unwrap().state, "cancelled");
    assert!(bed.api.approve(bed.workspace, asked.id, None, None, "ada").await.is_err());
    assert_eq!(network.texts(), Vec::<String>::new());
    bed.end().await;
}

#[tokio::test]
async fn loosening_the_policy_releases_nothing_that_waits() {
    let network = Network::new();
    let bed = bed(&network).await;
    let waiting = submit(&bed, "idempotent", "waiting").await;
    let asked = question(&bed, waiting).await;
    autonomous(&bed).await;
    // What comes after is free; what waited still waits, also after an edit.
    let free = submit(&bed, "idempotent", "free").await;
    bed.finish(free, WorkflowState::Succeeded).await;
    let post = post_of(&bed, waiting).await.unwrap();
    assert_eq!(post.state, "waiting_approval");
    let edit = PostContent { text: "edited".into(), link: None };
    bed.api.edit_post(bed.workspace, post.id, &edit, None, false, "eve").await.unwrap();
    let again = question(&bed, waiting).await;
    assert_ne!(again.id, asked.id);
    bed.api.approve(bed.workspace, again.id, None, None, "ada").await.unwrap();
    bed.finish(waiting, WorkflowState::Succeeded).await;
    assert_eq!(network.texts(), ["free", "edited"]);
    bed.end().await;
}

/// Its time is over, and no scheduler has looked yet.
#[tokio::test]
async fn a_yes_after_its_time_is_none() {
    let network = Network::new();
    let mut bed = Bed::with(Setup { network: Some(network.clone()), ..Setup::default() }).await;
    account(&bed, "main", json!({})).await;
    bed.start_worker(&writer(), 4).await;
    let key = submit(&bed, "main", "late").await;
    let asked = question(&bed, key).await;
    bed.execute("UPDATE approvals SET expires_at = galley_now() - interval '1 ms'").await;
    let late = bed.api.approve(bed.workspace, asked.id, None, None, "ada").await;
    assert!(matches!(late, Err(EngineError::Conflict(_))), "{late:?}");
    assert_eq!(post_of(&bed, key).await.unwrap().state, "waiting_approval");
    bed.start_duties();
    bed.finish(key, WorkflowState::Succeeded).await;
    assert_eq!(post_of(&bed, key).await.unwrap().state, "expired");
    assert_eq!(network.texts(), Vec::<String>::new());
    bed.end().await;
}
