//! `galley bench calls`: thousands of agent calls under way in one worker
//! process. Each is a whole step: claimed, reserved against a budget, streamed
//! from a provider that is slow, settled, recorded.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use anyhow::bail;
use galley_agents::{Definition, LlmAgent, Prices, ProviderConfig, Providers};
use galley_core::money::{Budget, Period, Tokens};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::args::BenchArgs;
use crate::fleet::Fleet;
use crate::provider::{Done, TOKENS_IN, TOKENS_OUT};
use crate::report::BenchReport;
use crate::scenario::{Order, chain, wait_for_all};

/// The agent type whose steps call the provider.
pub(crate) const CALLER: &str = "bench_caller";

/// The most memory a worker process may need, MB.
const MOST_MB: f64 = 300.0;

/// What its model costs, and so that a day's budget is really asked.
const PRICES: &str = "[\"openai:m\"]\ninput = 1.0\noutput = 4.0\nmax_output = 100\n";

const DEFINITION: &str = r#"
name = "bench_caller"
description = "asks a slow provider, for `galley bench calls`"
models = ["openai"]
[sampling]
max_tokens = 100
[limits]
timeout_ms = 300000
max_attempts = 1
[prompt]
system = "Answer."
user = "{{ brief|fence(\"brief\") }}"
[schema]
input = "true"
output = '{"type":"object","required":["ok"]}'
"#;

/// The calling agent, which asks a provider there.
pub(crate) fn agent(base_url: &str, http1: bool) -> anyhow::Result<LlmAgent> {
    let config: ProviderConfig = serde_json::from_value(json!({
        "offline": { "enabled": false },
        "openai": { "base_url": base_url, "model": "m", "http2": !http1 },
    }))?;
    let providers = Providers::new(config, prices()?).map_err(anyhow::Error::msg)?;
    let definition = Definition::parse("bench_caller.toml", CALLER, DEFINITION)?;
    Ok(LlmAgent::new(definition, Arc::new(providers))?)
}

fn prices() -> anyhow::Result<Prices> {
    Ok(Prices::parse("the bench's prices", PRICES)?)
}

/// What was seen of the worker while it worked.
#[derive(Default)]
struct Watched {
    /// The longest time between two renewals of its session.
    gap: Duration,
    sessions: usize,
}

pub(crate) async fn measure(
    args: &BenchArgs,
    fleet: &mut Fleet,
    report: &mut BenchReport,
    done: &Done,
    calls: usize,
    gather: bool,
) -> anyhow::Result<()> {
    let limit = 1_000_000_000;
    let budget = Budget { day_micros: Some(limit), month_micros: Some(limit), ..Budget::default() };
    fleet.api.set_budget(fleet.workspace, budget, None, "bench").await?;
    let order = Order::of(fleet, chain(CALLER, 1)?, args.payload).await?;
    // All are queued before the worker comes: the burst is as hard as it gets.
    order.place_many(fleet, calls, "call").await?;
    fleet.start_workers().await?;
    let idle_mb = fleet.worker_rss_mb();
    let begun = Instant::now();
    let stop = CancellationToken::new();
    let watcher = tokio::spawn(watch(fleet.engine.clone(), stop.clone()));
    let waited = wait_for_all(args, fleet, None).await;
    let took = begun.elapsed();
    stop.cancel();
    let watched = watcher.await?;
    waited?;
    let watched = watched?;

    let price = prices()?.of("openai", "m");
    let tokens = Tokens { input: TOKENS_IN, cached: 0, output: TOKENS_OUT };
    let charged = price.map_or(0, |price| price.of(tokens)) * done.answered.load(Relaxed);
    let view = fleet.engine.budget(fleet.workspace, None).await?;
    // A day may turn while it runs.
    let month = view.counters.iter().map(|row| row.counter).find(|counter| counter.period == Period::Month);
    let Some(counter) = month else { bail!("there is no counter") };
    let finished = fleet.engine.store().count_results(fleet.workspace).await?;
    let ratio = watched.gap.as_secs_f64() / fleet.engine.config().session_ttl.as_secs_f64();
    let peak = fleet.worker_peak_mb();
    let lost = calls as u64 - finished.unsigned_abs().min(calls as u64);
    report.put("calls", calls);
    report.put("most_under_way", done.most.load(Relaxed));
    if let Some(all) = done.gathered.get() {
        report.put_number("begun_per_second", calls as f64 / all.duration_since(begun).as_secs_f64());
    }
    report.put_number("seconds", took.as_secs_f64());
    report.put_number("worker_idle_mb", idle_mb);
    report.put_number("worker_peak_mb", peak);
    report.put_number("kb_per_call", (peak - idle_mb) * 1_024.0 / calls.max(1) as f64);
    report.put_number("renewal_gap_of_ttl", ratio);
    report.put("sessions", watched.sessions);
    report.put("finished", finished);
    report.put("lost", lost);
    report.put("dead", fleet.engine.store().count_open_letters().await?);
    report.put("provider_charged_micros", charged);
    report.put("spent_micros", counter.spent);
    report.put("still_reserved_micros", counter.reserved);
    let aims = [
        peak <= MOST_MB,
        // Two thirds is where a worker gives its session up by itself.
        ratio < 2.0 / 3.0 && watched.sessions == 1,
        counter.spent == charged && counter.reserved == 0,
        done.left.load(Relaxed) == 0,
        !gather || done.most.load(Relaxed) == calls,
    ];
    report.put("missed", aims.iter().filter(|met| !**met).count());
    Ok(())
}

/// Looks at the worker's session until told to stop.
async fn watch(engine: galley_engine::Engine, stop: CancellationToken) -> anyhow::Result<Watched> {
    let mut watched = Watched::default();
    while !stop.is_cancelled() {
        let sessions = engine.store().list_sessions().await?;
        watched.sessions = sessions.len();
        if let Some(session) = sessions.first() {
            // What a reaper would see: how long nothing was heard.
            watched.gap = watched.gap.max(Duration::from_millis(session.silent_ms.unsigned_abs()));
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    Ok(watched)
}
