//! A worker dies at every single await of the publish path, once and twice:
//! the post is out at most once, a person is asked where nobody can tell, and
//! every place of the day is accounted for.

use std::future::Future;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use galley_core::ids::WorkflowKey;
use galley_core::publish::Sent;
use galley_engine::{Begin, Claimed, Engine, Session};
use galley_publishers::{Account, Outgoing, Publisher};

use crate::harness::posts::{KINDS, account, autonomous, in_state, policy, posts, resolve, submit, writer};
use crate::harness::{Bed, Network, Setup, until};

/// Polls a future until it was pending that often, then drops it: a process
/// that dies there. What it had sent to Postgres happens all the same.
struct Dies<F> {
    inner: Pin<Box<F>>,
    awaits: usize,
}

impl<F: Future> Future for Dies<F> {
    /// What it came to, if it got to its end.
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match self.inner.as_mut().poll(context) {
            Poll::Ready(end) => Poll::Ready(Some(end)),
            Poll::Pending if self.awaits == 0 => Poll::Ready(None),
            Poll::Pending => {
                self.awaits -= 1;
                Poll::Pending
            }
        }
    }
}

/// The publish path of a worker, on a claim; answers whether it was walked to
/// its end.
async fn deliver(engine: &Engine, network: &Network, claim: &Claimed) -> bool {
    let Ok(Begin::Send(sending)) = engine.begin_publish(claim).await else { return false };
    let account = Account {
        name: sending.account.clone(),
        settings: sending.settings.clone(),
        credential: sending.credential.clone(),
    };
    let out = Outgoing {
        key: sending.effect_key.clone(),
        payload: sending.content.clone(),
        intended_at: sending.intended_at.clone(),
        post: sending.post.to_string(),
        workspace: claim.ticket.workspace.to_string(),
    };
    let sent: Sent = network.publish(&account, &out).await;
    engine.conclude_publish(claim, &sending, 1, &sent).await.is_ok()
}

/// Dies at the n-th await; answers whether it got to its end instead.
async fn die_at(bed: &Bed, network: &Network, session: &Session, awaits: usize) -> bool {
    let claim = bed.claim_one(session, "publisher").await;
    let run = Box::pin(deliver(&bed.engine, network, &claim));
    pin!(Dies { inner: run, awaits }).await == Some(true)
}

async fn crash_everywhere(kind: &str) {
    let network = Network::new();
    let mut bed =
        Bed::with(Setup { network: Some(network.clone()), nervous: true, ..Setup::default() }).await;
    account(&bed, "main", serde_json::json!({ "settings": { "kind": kind, "postMicros": 1 } })).await;
    bed.register(&writer()).await;
    let spec = galley_core::publish::spec().unwrap();
    bed.engine.store().register_agents(&[spec]).await.unwrap();
    autonomous(&bed).await;
    policy(&bed, |config| config.max_daily_posts = Some(1_000)).await;
    // Only the writing is served, so that the publish steps wait for us.
    bed.start_worker_without_network(&writer(), 4).await;
    let mut keys: Vec<WorkflowKey> = Vec::new();
    let mut awaits = 0;
    // One workflow per await, and a second one that dies there twice.
    loop {
        let mut whole = true;
        for times in 1..=2 {
            let key = submit(&bed, "main", &format!("{kind} {awaits} {times}")).await;
            keys.push(key);
            let session = bed.session().await;
            whole &= die_at(&bed, &network, &session, awaits).await;
            if times == 2 && !whole {
                // The reaper, by hand: this session is dead.
                bed.engine.store().close_session(session.id(), None, "killed").await.unwrap();
            }
        }
        if whole {
            break;
        }
        awaits += 1;
        assert!(awaits < 500, "the publish path does not end");
    }
    assert!(awaits > 5, "only {awaits} awaits were found on the publish path");
    // What a process remembers is read again every few seconds, so the count of
    // awaits before the intent differs from claim to claim and may step over it:
    // one more worker dies between its intent and its call for certain.
    keys.push(submit(&bed, "main", &format!("{kind} after its intent")).await);
    let session = bed.session().await;
    let claim = bed.claim_one(&session, "publisher").await;
    assert!(matches!(bed.engine.begin_publish(&claim).await, Ok(Begin::Send(_))), "{kind}: an intent");
    drop(session);
    // Now the fleet comes back and settles everything.
    bed.start_duties();
    bed.start_worker(&writer(), 8).await;
    until("every post is out or in doubt", async || {
        let all = posts(&bed, Default::default()).await;
        all.len() == keys.len()
            && all.iter().all(|post| matches!(post.state.as_str(), "published" | "in_doubt"))
    })
    .await;
    assert_eq!(network.duplicates(), 0, "{kind}");
    let all = posts(&bed, Default::default()).await;
    let published = all.iter().filter(|post| post.state == "published").count();
    let texts = network.texts();
    for post in all.iter().filter(|post| post.state == "published") {
        let there = texts.iter().filter(|text| post.content.contains(&format!("\"{text}\""))).count();
        assert_eq!(there, 1, "{kind}: {post:?}");
    }
    if kind == "blind" {
        assert!(published < all.len(), "a blind platform leaves something in doubt");
        for post in all.iter().filter(|post| post.state == "in_doubt") {
            let there = texts.iter().any(|text| post.content.contains(&format!("\"{text}\"")));
            let found = if there {
                galley_engine::Resolution::Published { remote_id: None, link: None }
            } else {
                galley_engine::Resolution::NotThere
            };
            resolve(&bed, post.id, found).await;
        }
    } else {
        assert_eq!(published, all.len(), "{kind}: nothing is left in doubt");
    }
    bed.finish_all().await;
    for key in &keys {
        in_state(&bed, *key, "published").await;
    }
    assert_eq!(network.duplicates(), 0, "{kind}");
    assert_eq!(network.texts().len(), keys.len(), "{kind}: each is there once");
    let used = bed
        .count(
            "SELECT sum(used)::int8 FROM day_quota WHERE account_id = '00000000-0000-0000-0000-000000000000'",
        )
        .await;
    assert_eq!(usize::try_from(used).unwrap(), keys.len(), "{kind}: every place is accounted for");
    // A millionth of a dollar each: nothing is lost, nothing is booked twice.
    for counter in bed.api.budget(bed.workspace, None).await.unwrap().counters {
        let books = (counter.counter.reserved, counter.counter.spent);
        assert_eq!(books, (0, keys.len() as u64), "{kind}: every cent is accounted for");
    }
    bed.end().await;
}

#[tokio::test]
async fn a_death_at_every_await_on_an_idempotent_platform() {
    crash_everywhere(KINDS[0]).await;
}

#[tokio::test]
async fn a_death_at_every_await_on_a_verifiable_platform() {
    crash_everywhere(KINDS[1]).await;
}

#[tokio::test]
async fn a_death_at_every_await_on_a_blind_platform() {
    crash_everywhere(KINDS[2]).await;
}
