//! A day is the workspace's own: with 25 hours, without a midnight, in a zone
//! that changed; and its limit holds when it is lowered or raised.

use galley_core::ids::WorkflowKey;
use galley_core::run::WorkflowState;
use galley_engine::store::PostFilter;
use serde_json::json;

use crate::harness::posts::{account, autonomous, bed, policy, post_of, posts, submit, writer};
use crate::harness::{Bed, Network, until};

/// How many posts are known to be out. The network has one earlier; but a clock
/// that jumps days before its reply is recorded makes the call one of long ago,
/// of which nobody knows any more whether it was heard.
async fn published(bed: &Bed) -> usize {
    posts(bed, PostFilter { state: Some("published".into()), ..PostFilter::default() }).await.len()
}

/// Waits until each post is out or waits for its slot.
async fn settled(bed: &Bed, expected: usize) -> usize {
    let mut published = 0;
    until("every post is out or has a slot", async || {
        let all = posts(bed, PostFilter::default()).await;
        published = all.iter().filter(|post| post.state == "published").count();
        // One that waits for its slot has no worker. On a slow machine another
        // timer may be a retry of what could not be sent in time.
        let waiting = bed
            .count(
                "SELECT count(*) FROM timers JOIN posts USING (workspace_id, workflow_id, step)
                  WHERE slot_at > galley_now()",
            )
            .await;
        all.len() == expected && published + usize::try_from(waiting).unwrap() == expected
    })
    .await;
    published
}

async fn days(bed: &Bed) -> String {
    let query = "SELECT coalesce(string_agg(day::text || ':' || used, ' ' ORDER BY day), '') FROM day_quota
                  WHERE account_id = '00000000-0000-0000-0000-000000000000' AND used > 0";
    bed.text(query).await
}

async fn limited(network: &Network, zone: &str, limit: u32, at: &str) -> Bed {
    let bed = bed(network).await;
    bed.set_clock(at).await;
    autonomous(&bed).await;
    policy(&bed, |config| {
        config.time_zone = zone.into();
        config.max_daily_posts = Some(limit);
    })
    .await;
    // The change of the zone is not what this bed is about.
    bed.execute(
        "UPDATE automation SET previous_time_zone = NULL, time_zone_since = NULL, version = version + 1",
    )
    .await;
    bed
}

async fn submit_some(bed: &Bed, count: usize) -> Vec<WorkflowKey> {
    let mut keys = Vec::new();
    for n in 0..count {
        keys.push(submit(bed, "idempotent", &format!("post {n}")).await);
    }
    keys
}

#[tokio::test]
async fn a_day_of_25_hours_has_one_limit() {
    let network = Network::new();
    let bed = limited(&network, "Europe/Berlin", 2, "2026-10-24T22:30:00Z").await;
    submit_some(&bed, 5).await;
    assert_eq!(settled(&bed, 5).await, 2);
    // 24 hours and a quarter after its beginning it is still the same day.
    bed.set_clock("2026-10-25T22:15:00Z").await;
    assert_eq!(settled(&bed, 5).await, 2);
    assert_eq!(days(&bed).await, "2026-10-25:2");
    bed.set_clock("2026-10-25T23:00:05Z").await;
    until("the next day's are out", async || published(&bed).await == 4).await;
    assert_eq!(settled(&bed, 5).await, 4);
    bed.set_clock("2026-10-26T23:00:05Z").await;
    bed.finish_all().await;
    assert_eq!(days(&bed).await, "2026-10-25:2 2026-10-26:2 2026-10-27:1");
    bed.end().await;
}

#[tokio::test]
async fn a_day_without_midnight_begins_when_its_date_does() {
    let network = Network::new();
    let bed = limited(&network, "Asia/Beirut", 1, "2024-03-30T20:00:00Z").await;
    let keys = submit_some(&bed, 2).await;
    assert_eq!(settled(&bed, 2).await, 1);
    let mut slot = None;
    for key in keys {
        slot = slot.or(post_of(&bed, key)
            .await
            .filter(|post| post.state == "scheduled")
            .and_then(|post| post.slot_at));
    }
    assert!(slot.as_ref().is_some_and(|slot| slot.starts_with("2024-03-30T22:00:00")), "{slot:?}");
    bed.set_clock("2024-03-30T22:00:05Z").await;
    bed.finish_all().await;
    assert_eq!(days(&bed).await, "2024-03-30:1 2024-03-31:1");
    bed.end().await;
}

#[tokio::test]
async fn a_zone_that_changes_in_the_middle_of_a_day_gives_no_second_day() {
    let network = Network::new();
    let bed = limited(&network, "Asia/Tokyo", 1, "2026-05-05T10:00:00Z").await;
    submit_some(&bed, 1).await;
    assert_eq!(settled(&bed, 1).await, 1);
    // In New York the day of Tokyo's post is the same date, in Auckland it is
    // not: neither gives another place today.
    for zone in ["America/New_York", "Pacific/Auckland"] {
        policy(&bed, |config| config.time_zone = zone.into()).await;
        let key = submit(&bed, "idempotent", zone).await;
        until("it has a slot", async || post_of(&bed, key).await.is_some_and(|post| post.slot_at.is_some()))
            .await;
        assert_eq!(days(&bed).await, "2026-05-05:1", "{zone}");
    }
    // What a person sees says from when the new zone counts.
    let row = bed.api.policy(bed.workspace).await.unwrap().row;
    let (counting, since) = row.previous.unwrap();
    assert_eq!(counting, "Asia/Tokyo");
    assert!(since.as_str() > "2026-05-05T15:00", "{since}");
    // One per day, also when both waited for long.
    bed.set_clock("2026-05-09T12:00:00Z").await;
    until("one of the two is out", async || published(&bed).await == 2).await;
    bed.set_clock("2026-05-11T12:00:00Z").await;
    bed.finish_all().await;
    let limit_kept = days(&bed).await.split(' ').all(|day| day.ends_with(":1"));
    assert!(limit_kept, "{}", days(&bed).await);
    bed.end().await;
}

#[tokio::test]
async fn a_limit_can_be_lowered_and_raised_while_the_day_runs() {
    let network = Network::new();
    let bed = limited(&network, "UTC", 2, "2026-06-01T08:00:00Z").await;
    submit_some(&bed, 2).await;
    assert_eq!(settled(&bed, 2).await, 2);
    policy(&bed, |config| config.max_daily_posts = Some(1)).await;
    submit(&bed, "idempotent", "one too many").await;
    assert_eq!(settled(&bed, 3).await, 2);
    policy(&bed, |config| config.max_daily_posts = Some(3)).await;
    submit(&bed, "idempotent", "now there is room").await;
    assert_eq!(settled(&bed, 4).await, 3);
    assert_eq!(days(&bed).await, "2026-06-01:3");
    bed.set_clock("2026-06-02T00:00:05Z").await;
    bed.finish_all().await;
    assert_eq!(days(&bed).await, "2026-06-01:3 2026-06-02:1");
    bed.end().await;
}

#[tokio::test]
async fn a_raised_limit_moves_waiting_posts_forward_in_order_and_leaves_a_persons_slot() {
    let network = Network::new();
    let bed = limited(&network, "UTC", 1, "2026-06-01T08:00:00Z").await;
    // One after the other, so that their order is known.
    let mut keys = Vec::new();
    for n in 0..6 {
        keys.push(submit(&bed, "idempotent", &format!("post {n}")).await);
        settled(&bed, n + 1).await;
    }
    let persons = post_of(&bed, keys[5]).await.unwrap();
    let noon = "2026-06-20T12:00:00Z".parse().unwrap();
    bed.api.reschedule_post(bed.workspace, persons.id, Some(noon), "ada").await.unwrap();
    settled(&bed, 6).await;
    // Less room, or the same, moves nobody.
    policy(&bed, |config| config.min_spacing_minutes = 1).await;
    assert_eq!(settled(&bed, 6).await, 1);
    policy(&bed, |config| {
        config.max_daily_posts = Some(3);
        config.min_spacing_minutes = 0;
    })
    .await;
    until("two more are out today", async || published(&bed).await == 3).await;
    assert_eq!(settled(&bed, 6).await, 3);
    let mut today = network.texts();
    today.sort();
    assert_eq!(today, ["post 0", "post 1", "post 2"], "those that would have come next");
    assert_eq!(days(&bed).await, "2026-06-01:3");
    for key in &keys[3..5] {
        let post = post_of(&bed, *key).await.unwrap();
        assert!(post.slot_at.as_deref().unwrap().starts_with("2026-06-02T00:00:00"), "{post:?}");
        assert!(post.reason.as_deref().unwrap().contains("moved to an earlier slot"), "{post:?}");
    }
    let persons = post_of(&bed, keys[5]).await.unwrap();
    assert!(persons.slot_at.unwrap().starts_with("2026-06-20T12:00:00"));
    assert_eq!(bed.audited().await.iter().filter(|action| *action == "post.reschedule").count(), 5);
    bed.set_clock("2026-06-02T00:00:05Z").await;
    until("the next two are out", async || published(&bed).await == 5).await;
    assert_eq!(settled(&bed, 6).await, 5);
    bed.set_clock("2026-06-20T12:00:05Z").await;
    bed.finish_all().await;
    assert_eq!(days(&bed).await, "2026-06-01:3 2026-06-02:2 2026-06-20:1");
    assert_eq!(network.duplicates(), 0);
    bed.end().await;
}

/// Ten posts, three a day, eight publishers at once: on a day of 23 hours, one
/// without a midnight and a plain one.
#[tokio::test]
async fn eight_publishers_fill_day_after_day_and_no_day_too_much() {
    for (zone, at, days_of) in [
        ("UTC", "2026-06-01T08:00:00Z", ["2026-06-01", "2026-06-02", "2026-06-03", "2026-06-04"]),
        ("Europe/Berlin", "2026-03-28T23:30:00Z", ["2026-03-29", "2026-03-30", "2026-03-31", "2026-04-01"]),
        ("Asia/Beirut", "2024-03-30T20:00:00Z", ["2024-03-30", "2024-03-31", "2024-04-01", "2024-04-02"]),
    ] {
        let network = Network::new();
        let mut bed = limited(&network, zone, 3, at).await;
        for _ in 0..7 {
            bed.start_worker(&writer(), 4).await;
        }
        submit_some(&bed, 10).await;
        until("the first day's are out", async || published(&bed).await == 3).await;
        assert_eq!(settled(&bed, 10).await, 3, "{zone}");
        assert_eq!(days(&bed).await, format!("{}:3", days_of[0]));
        let starts_of = bed.text(
            "SELECT string_agg(at || ':' || posts, ' ' ORDER BY at) FROM (
                SELECT to_char(slot_at AT TIME ZONE (SELECT config->>'timeZone' FROM automation), 'YYYY-MM-DD') AS at,
                       count(*) AS posts
                  FROM posts WHERE state = 'scheduled' GROUP BY 1) planned",
        );
        let [_, second, third, fourth] = days_of;
        assert_eq!(starts_of.await, format!("{second}:3 {third}:3 {fourth}:1"), "{zone}: in order");
        for (day, out) in [(second, 6), (third, 9), (fourth, 10)] {
            // In none of the zones is that another day.
            bed.set_clock(&format!("{day}T12:00:00Z")).await;
            until("that day's are out", async || published(&bed).await == out).await;
            if out < 10 {
                assert_eq!(settled(&bed, 10).await, out, "{zone}");
            }
        }
        bed.finish_all().await;
        assert_eq!(days(&bed).await, format!("{}:3 {second}:3 {third}:3 {fourth}:1", days_of[0]), "{zone}");
        assert_eq!((network.texts().len(), network.duplicates()), (10, 0), "{zone}");
        bed.end().await;
    }
}

#[tokio::test]
async fn an_account_has_a_limit_times_and_a_zone_of_its_own() {
    let network = Network::new();
    let bed = limited(&network, "UTC", 10, "2026-06-01T08:00:00Z").await;
    let more = json!({ "timeZone": "Asia/Tokyo", "slots": ["18:00", "09:30"], "maxDailyPosts": 1 });
    account(&bed, "tokyo", more).await;
    let mut slots = Vec::new();
    for n in 0..3 {
        let key = submit(&bed, "tokyo", &format!("tokyo {n}")).await;
        until("it has a slot", async || {
            let slot = post_of(&bed, key).await.and_then(|post| post.slot_at);
            slots.extend(slot.clone().filter(|slot| !slots.contains(slot)));
            slot.is_some()
        })
        .await;
    }
    // 18:00 in Tokyo is 09:00 UTC; one per day of the workspace.
    let begins: Vec<&str> = slots.iter().map(|slot| &slot[..16]).collect();
    assert_eq!(begins, ["2026-06-01T09:00", "2026-06-02T00:30", "2026-06-03T00:30"]);
    bed.set_clock("2026-06-01T09:00:05Z").await;
    until("the first is out", async || published(&bed).await == 1).await;
    for key in bed.live().await {
        // The first may be over by now.
        let _ = bed.api.cancel(key, "test").await;
    }
    bed.finish_all().await;
    bed.end().await;
}

#[tokio::test]
async fn nothing_is_sent_in_the_last_moments_of_a_day() {
    let network = Network::new();
    let bed = limited(&network, "UTC", 1, "2026-06-01T12:00:00Z").await;
    // Two seconds are the tests' window for sending.
    bed.set_clock("2026-06-01T23:59:58.5Z").await;
    let key = submit(&bed, "idempotent", "late").await;
    bed.finish(key, WorkflowState::Succeeded).await;
    assert_eq!(days(&bed).await, "2026-06-02:1");
    bed.end().await;
}
