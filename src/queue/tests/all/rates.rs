//! Rate limits: one behaviour for Redis and its twin, and what only Redis has.

use std::time::{Duration, Instant};

use galley_queue::{Bucket, Level, MemoryRates, Rates, RedisConfig, RedisRates};

use crate::server::Server;
use crate::tickets::workspace;

fn bucket(name: &str, per_minute: u32) -> Bucket {
    Bucket { name: name.into(), per_minute }
}

fn took(levels: &[Level]) -> bool {
    levels.iter().all(|level| level.retry_in.is_zero())
}

async fn behaves(rates: &dyn Rates) {
    let (all, ada, bob) = (bucket("all", 5), bucket("ada", 3), bucket("bob", 3));
    let take = async |of: u128, buckets: &[&Bucket]| {
        let buckets: Vec<_> = buckets.iter().map(|bucket| (*bucket).clone()).collect();
        rates.take(workspace(of), &buckets).await.unwrap()
    };
    let first = take(1, &[&all, &ada]).await;
    assert!(took(&first));
    assert_eq!((first[0].remaining, first[1].remaining), (4, 2));
    assert!(first[1].empty_in > Duration::from_secs(19) && first[1].empty_in <= Duration::from_secs(20));
    for _ in 0..2 {
        assert!(took(&take(1, &[&all, &ada]).await));
    }
    // Hers is full: a request of hers fills the shared one no further.
    for _ in 0..4 {
        let refused = take(1, &[&all, &ada]).await;
        assert_eq!(refused[0].retry_in, Duration::ZERO);
        assert!(refused[1].retry_in > Duration::ZERO && refused[1].retry_in <= Duration::from_secs(20));
        assert_eq!((refused[0].remaining, refused[1].remaining), (2, 0));
    }
    for expected in [true, true, false] {
        assert_eq!(took(&take(1, &[&all, &bob]).await), expected);
    }
    // Another workspace has buckets of its own, whatever they are called.
    assert_eq!(take(2, &[&all, &ada]).await[1].remaining, 2);
    // A bucket runs empty as time passes: this one within a millisecond.
    let quick = bucket("quick", 60_000);
    assert!(took(&take(1, &[&quick]).await));
    let asked = Instant::now();
    while asked.elapsed() < Duration::from_millis(2) {
        tokio::task::yield_now().await;
    }
    assert_eq!(take(1, &[&quick]).await[0].remaining, 59_999);
}

#[tokio::test]
async fn the_twin_counts() {
    behaves(&MemoryRates::default()).await;
}

#[tokio::test]
async fn redis_counts_and_forgets_nothing_but_what_ran_empty() {
    let mut server = Server::start();
    let rates = RedisRates::new(RedisConfig::new(server.url()).with_prefix("t")).unwrap();
    behaves(&rates).await;
    let keys: Vec<String> = server.say::<Vec<String>>("KEYS t:rate:*").await;
    assert!(keys.len() >= 4, "{keys:?}");
    for key in &keys {
        // -1: it stays for ever; -2: it is gone already.
        assert_ne!(server.say::<i64>(&format!("PTTL {key}")).await, -1, "{key}");
    }

    // Emptied, without its script, or with garbage in a key: it counts on.
    let ada = [bucket("ada", 3)];
    server.say::<()>("FLUSHALL").await;
    server.say::<()>("SCRIPT FLUSH").await;
    assert_eq!(rates.take(workspace(1), &ada).await.unwrap()[0].remaining, 2);
    let key = server.say::<Vec<String>>("KEYS t:rate:*").await.pop().unwrap();
    for garbage in [format!("SET {key} hello"), format!("SET {key} 99999999999999999")] {
        server.say::<()>(&garbage).await;
        // The second is a clock that was set back: full, and not for long.
        let level = rates.take(workspace(1), &ada).await.unwrap()[0];
        assert!(level.retry_in <= Duration::from_secs(20), "{level:?}");
    }
    server.say::<()>(&format!("DEL {key}")).await;
    server.say::<i64>(&format!("LPUSH {key} x")).await;
    assert!(took(&rates.take(workspace(1), &ada).await.unwrap()));

    server.kill();
    assert!(rates.take(workspace(1), &ada).await.is_err());
}
