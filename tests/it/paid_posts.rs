//! Posts that cost something: no money, no post; every outcome is booked as it
//! was; and the platform's own ledger says the same to the cent.

use galley_api::views::{Role, SpanKind, WorkflowDetail};
use galley_core::ids::WorkflowKey;
use galley_core::money::Budget;
use galley_core::publish::PostContent;
use galley_core::run::{StepState, WorkflowState};
use galley_engine::store::{SpendBy, SpendRow};
use galley_engine::{Begin, Resolution, charge_lost};
use galley_preview::{PreviewNetwork, PreviewOptions, Price, SeedAccount};
use galley_publishers::{Options, Publishers};
use serde_json::json;
use tokio::net::TcpListener;

use crate::harness::posts::{
    KINDS, account, autonomous, bed, in_state, policy, post_of, resolve, submit, writer,
};
use crate::harness::{Api, Bed, Fault, Network, Setup, until};

/// What a post costs in these tests, and what one with a link does.
const POST: u64 = 10_000;
const LINK: u64 = 200_000;

async fn paid_account(bed: &Bed, kind: &str) {
    let settings = json!({ "kind": kind, "postMicros": POST, "linkMicros": LINK });
    account(bed, &format!("paid_{kind}"), json!({ "settings": settings })).await;
}

async fn day_limit(bed: &Bed, micros: Option<u64>) {
    let budget = Budget { day_micros: micros, ..Budget::default() };
    bed.api.set_budget(bed.workspace, budget, None, "admin").await.unwrap();
}

/// What is reserved and spent, in the day's and the month's counter alike.
async fn books(bed: &Bed) -> (u64, u64) {
    let view = bed.api.budget(bed.workspace, None).await.unwrap();
    let both: Vec<_> = view.counters.iter().map(|row| (row.counter.reserved, row.counter.spent)).collect();
    assert_eq!(both[0], both[1], "day and month");
    both[0]
}

async fn by_account(bed: &Bed) -> Vec<SpendRow> {
    bed.api.spend(bed.workspace, SpendBy::Account, None, None).await.unwrap().3
}

async fn publish_step(bed: &Bed, key: WorkflowKey) -> StepState {
    bed.api.workflow(key).await.unwrap().run.steps[1].state
}

/// However a call ends, what is booked is what the platform took.
#[tokio::test]
async fn every_outcome_is_booked_as_it_was() {
    let network = Network::new();
    let bed = bed(&network).await;
    autonomous(&bed).await;
    for kind in KINDS {
        paid_account(&bed, kind).await;
    }
    let mut expected = 0;
    for (kind, fault, found) in [
        ("idempotent", None, None),
        ("idempotent", Some(Fault::LoseReply), None),
        ("idempotent", Some(Fault::LoseRequest), None),
        ("idempotent", Some(Fault::NotSent), None),
        ("verifiable", Some(Fault::LoseReply), None),
        ("verifiable", Some(Fault::LoseRequest), None),
        ("blind", Some(Fault::LoseReply), Some(Resolution::Published { remote_id: None, link: None })),
        ("blind", Some(Fault::LoseRequest), Some(Resolution::NotThere)),
        ("blind", Some(Fault::LoseRequest), Some(Resolution::GivenUp)),
        ("blind", Some(Fault::Refuse), None),
    ] {
        let told = format!("{kind} {fault:?} {found:?}");
        network.fail(fault);
        let key = submit(&bed, &format!("paid_{kind}"), &told).await;
        let mut goes_out = fault != Some(Fault::Refuse);
        let mut end = if goes_out { WorkflowState::Succeeded } else { WorkflowState::Stalled };
        if let Some(found) = found {
            let post = in_state(&bed, key, "in_doubt").await;
            // It may have cost that: charged until somebody knows, and no
            // reservation is left.
            assert_eq!(books(&bed).await, (0, expected + POST), "{told}");
            if matches!(found, Resolution::GivenUp) {
                (goes_out, end) = (false, WorkflowState::Failed);
            }
            resolve(&bed, post.id, found).await;
        }
        bed.finish(key, end).await;
        expected += if goes_out { POST } else { 0 };
        assert_eq!(books(&bed).await, (0, expected), "{told}");
        assert_eq!(network.texts().len() as u64 * POST, expected, "{told}: what the platform took");
    }
    let key = submit(&bed, "paid_blind", "see https://example.com").await;
    let history = bed.finish(key, WorkflowState::Succeeded).await;
    assert_eq!(books(&bed).await, (0, expected + LINK));
    assert_eq!(history.results[&1].usage.cost_micros, LINK, "part of what the workflow cost");

    let rows = by_account(&bed).await;
    let named: Vec<_> = rows.iter().map(|row| (row.name.as_str(), row.cost_micros)).collect();
    assert_eq!(
        named,
        [("paid_blind", LINK + 2 * POST), ("paid_idempotent", 4 * POST), ("paid_verifiable", 2 * POST)]
    );
    assert!(rows.iter().all(|row| row.estimated_micros == 0 && row.reserved_micros == 0), "{rows:?}");
    bed.end().await;
}

/// What there is no money for stays unsent, says why, takes no place of the
/// day, and goes out when there is room.
#[tokio::test]
async fn a_post_without_money_waits_unsent() {
    let network = Network::new();
    let bed = bed(&network).await;
    autonomous(&bed).await;
    paid_account(&bed, "idempotent").await;
    day_limit(&bed, Some(POST + LINK - 1)).await;
    let first = submit(&bed, "paid_idempotent", "first").await;
    bed.finish(first, WorkflowState::Succeeded).await;
    let linked = submit(&bed, "paid_idempotent", "see https://example.com").await;
    until("it waits for money", async || publish_step(&bed, linked).await == StepState::WaitingBudget).await;
    let post = in_state(&bed, linked, "scheduled").await;
    let why = bed.api.why(linked, None).await.unwrap().sentence;
    assert!(
        why.contains("waits for money: the post may cost $0.20, and of the $0.209999 for the day"),
        "{why}"
    );
    assert!(post.reason.as_deref().is_some_and(|told| told.contains("the post may cost $0.20")), "{post:?}");
    assert_eq!(network.texts(), ["first"]);
    let used =
        "SELECT sum(used)::int8 FROM day_quota WHERE account_id = '00000000-0000-0000-0000-000000000000'";
    assert_eq!((bed.count(used).await, bed.count("SELECT count(*) FROM publications").await), (1, 1));
    assert_eq!(books(&bed).await, (0, POST));

    // An edit that makes it cheaper lets it on at once, approved along with it
    // or not; what is left is still too little for the first.
    for (text, approve) in [("shorter", false), ("short", true)] {
        let cheaper = submit(&bed, "paid_idempotent", "see https://c.example").await;
        until("it waits for money", async || publish_step(&bed, cheaper).await == StepState::WaitingBudget)
            .await;
        let post = in_state(&bed, cheaper, "scheduled").await;
        let content = PostContent { text: text.into(), link: None };
        bed.api.edit_post(bed.workspace, post.id, &content, None, approve, "ada").await.unwrap();
        bed.finish(cheaper, WorkflowState::Succeeded).await;
    }
    assert_eq!(
        (network.texts(), publish_step(&bed, linked).await),
        (vec!["first".into(), "shorter".into(), "short".into()], StepState::WaitingBudget)
    );

    // A cancel ends the wait; a raise lets the others on.
    let poor = [linked, submit(&bed, "paid_idempotent", "https://b.example").await];
    for key in poor {
        until("it waits for money", async || publish_step(&bed, key).await == StepState::WaitingBudget).await;
    }
    bed.api.cancel(poor[0], "ada").await.unwrap();
    day_limit(&bed, Some(10 * LINK)).await;
    bed.finish(poor[0], WorkflowState::Cancelled).await;
    let history = bed.finish(poor[1], WorkflowState::Succeeded).await;
    assert_eq!(history.workflow.run.steps[1].attempts, 1, "waiting for money is no attempt");
    // Where the time went says so: it was not queueing, and nothing failed.
    let api = Api::of(&bed, Role::Operator).await;
    let (status, detail) = api.get(&format!("/v1/workflows/{}", poor[1].workflow)).await;
    assert_eq!(status, 200, "{detail}");
    let detail: WorkflowDetail = serde_json::from_value(detail).unwrap();
    let kinds: Vec<_> = detail.result.contributions[1].timeline.iter().map(|span| span.kind).collect();
    assert!(kinds.contains(&SpanKind::Money) && !kinds.contains(&SpanKind::Retry), "{kinds:?}");
    let together = detail.result.collaboration.unwrap();
    assert!(together.losses.iter().any(|loss| loss.kind == SpanKind::Money), "{together:?}");
    drop(api);
    assert_eq!(network.texts(), ["first", "shorter", "short", "https://b.example"]);
    assert_eq!(books(&bed).await, (0, 3 * POST + LINK));
    bed.end().await;
}

/// A worker that dies between its intent and its call leaves the money reserved
/// for as long as nobody knows: that its session is over says nothing about the
/// post.
#[tokio::test]
async fn the_money_follows_the_post_and_not_the_worker() {
    let network = Network::new();
    let mut bed =
        Bed::with(Setup { network: Some(network.clone()), nervous: true, ..Setup::default() }).await;
    paid_account(&bed, "verifiable").await;
    bed.register(&writer()).await;
    let spec = galley_core::publish::spec().unwrap();
    bed.engine.store().register_agents(&[spec]).await.unwrap();
    autonomous(&bed).await;
    bed.start_worker_without_network(&writer(), 2).await;
    let key = submit(&bed, "paid_verifiable", "whose is it").await;
    let session = bed.session().await;
    let claim = bed.claim_one(&session, "publisher").await;
    assert!(matches!(bed.engine.begin_publish(&claim).await, Ok(Begin::Send(_))));
    // Told twice, its own intent is found, and reserved once.
    assert!(matches!(bed.engine.begin_publish(&claim).await, Ok(Begin::Send(_))));
    assert_eq!(books(&bed).await, (POST, 0));
    bed.engine.store().close_session(session.id(), None, "killed").await.unwrap();
    drop(session);
    assert_eq!(charge_lost(&bed.engine).await.unwrap(), 0);
    assert_eq!(books(&bed).await, (POST, 0));
    bed.start_duties();
    bed.start_worker(&writer(), 2).await;
    bed.finish(key, WorkflowState::Succeeded).await;
    assert_eq!(network.texts(), ["whose is it"]);
    assert_eq!(books(&bed).await, (0, POST));
    bed.end().await;
}

/// Eight publishers, forty posts, and money for a few of them: on the preview
/// network, whose ledger says what it took.
#[tokio::test(flavor = "multi_thread")]
async fn eight_publishers_race_for_the_last_cent() {
    let token = "token-of-news".to_owned();
    let seed = SeedAccount { handle: "news".into(), display_name: "News".into(), token: token.clone() };
    let options = PreviewOptions { accounts: vec![seed], ..PreviewOptions::default() };
    let network = PreviewNetwork::start(TcpListener::bind("127.0.0.1:0").await.unwrap(), options).unwrap();
    network.set_price(Price { post_micros: POST, link_micros: Some(LINK) }).unwrap();
    let options = Options { allow_private_targets: true, ..Options::default() };
    let publishers = Publishers::built_in(options).unwrap();
    let mut bed = Bed::with(Setup { nervous: true, publishers, ..Setup::default() }).await;
    let new = json!({
        "name": "news", "platform": "preview", "contentPlatform": "network", "credential": token,
        "settings": { "url": network.url(), "postMicros": POST, "linkMicros": LINK },
    });
    bed.api.add_account(bed.workspace, serde_json::from_value(new).unwrap(), "admin").await.unwrap();
    bed.start_duties();
    for _ in 0..8 {
        bed.start_worker(&writer(), 4).await;
    }
    autonomous(&bed).await;
    policy(&bed, |config| config.max_daily_posts = Some(1_000)).await;
    day_limit(&bed, Some(5 * POST + LINK + 1)).await;
    let mut keys = Vec::new();
    for n in 0..40 {
        let text = if n % 10 == 0 { format!("{n} https://example.com") } else { format!("{n}") };
        keys.push(submit(&bed, "news", &text).await);
    }
    until("every post is out or waits for money", async || {
        let mut still = 0;
        for key in &keys {
            let step = publish_step(&bed, *key).await;
            still += usize::from(!matches!(step, StepState::Succeeded | StepState::WaitingBudget));
        }
        still == 0
    })
    .await;
    let counts = network.ledger().counts;
    assert!(counts.cost_micros <= 5 * POST + LINK, "the network took {}", counts.cost_micros);
    assert!(counts.cost_micros > 5 * POST, "the money that is there is used");
    assert_eq!(books(&bed).await, (0, counts.cost_micros));

    day_limit(&bed, Some(10 * (POST + LINK) * 40)).await;
    for key in &keys {
        bed.finish(*key, WorkflowState::Succeeded).await;
    }
    let counts = network.ledger().counts;
    assert_eq!((counts.posts, counts.duplicates, counts.cost_micros), (40, 0, 36 * POST + 4 * LINK));
    assert_eq!(books(&bed).await, (0, counts.cost_micros));
    let rows = by_account(&bed).await;
    assert_eq!((rows[0].name.as_str(), rows[0].cost_micros), ("news", counts.cost_micros));

    // The network became dearer than the account says. What it took is booked,
    // beyond the limit if need be, and then nothing more is begun.
    network.set_price(Price { post_micros: 3 * POST, link_micros: None }).unwrap();
    day_limit(&bed, Some(counts.cost_micros + POST)).await;
    let dear = submit(&bed, "news", "dear").await;
    bed.finish(dear, WorkflowState::Succeeded).await;
    let took = network.ledger().counts.cost_micros;
    assert_eq!((took, books(&bed).await), (counts.cost_micros + 3 * POST, (0, took)));
    let none = submit(&bed, "news", "none").await;
    until("it waits for money", async || publish_step(&bed, none).await == StepState::WaitingBudget).await;
    assert!(post_of(&bed, none).await.is_some_and(|post| post.state == "scheduled"));
    assert_eq!(network.ledger().counts.posts, 41);
    bed.end().await;
    network.stop().await;
}
