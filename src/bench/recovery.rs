//! How long Galley stands still after a blow: Redis emptied, a worker killed.

use std::time::{Duration, Instant};

use anyhow::bail;
use galley_core::ids::AgentType;

use crate::agent::{IDLE, STUCK};
use crate::args::BenchArgs;
use crate::fleet::Fleet;
use crate::report::BenchReport;
use crate::scenario::{Order, chain, wait_for_all};

/// What is done to the fleet.
pub(crate) struct Blows {
    pub(crate) queued: usize,
    pub(crate) kills: usize,
    pub(crate) running: usize,
}

pub(crate) async fn measure(
    args: &BenchArgs,
    fleet: &mut Fleet,
    report: &mut BenchReport,
    blows: &Blows,
) -> anyhow::Result<()> {
    let waiting = flush(args, fleet, report, blows.queued).await?;
    fleet.start_workers().await?;
    let order = Order::of(fleet, chain(STUCK, 1)?, args.payload).await?;
    let mut times = Vec::with_capacity(blows.kills);
    for kill in 0..blows.kills {
        order.place_many(fleet, blows.running, &format!("stuck-{kill}")).await?;
        let all = blows.running;
        poll(args, "the steps run", async || Ok(fleet.engine.store().running_runs().await?.len() == all))
            .await?;
        let begun = Instant::now();
        for _ in 0..args.workers {
            fleet.kill_one().await?;
        }
        // Until the last of them ran again and its result is durable.
        wait_for_all(args, fleet, Some(waiting)).await?;
        times.push(begun.elapsed().as_secs_f64() * 1_000.0);
    }
    times.sort_by(f64::total_cmp);
    let ttl = fleet.engine.config().session_ttl;
    report.put("kills", blows.kills);
    report.put("running_when_killed", blows.running);
    report.put("session_ttl_ms", u64::try_from(ttl.as_millis())?);
    if let (Some(median), Some(last)) = (times.get(times.len() / 2), times.last()) {
        report.put_number("kill_to_all_run_again_p50_ms", *median);
        report.put_number("kill_to_all_run_again_max_ms", *last);
    }
    report.put("dead", fleet.engine.store().count_open_letters().await?);
    Ok(())
}

/// Queues steps nobody serves, empties Redis, and waits until each of them
/// could be popped again.
async fn flush(
    args: &BenchArgs,
    fleet: &Fleet,
    report: &mut BenchReport,
    queued: usize,
) -> anyhow::Result<i64> {
    let order = Order::of(fleet, chain(IDLE, 1)?, args.payload).await?;
    order.place_many(fleet, queued, "idle").await?;
    let agents = [AgentType::new(IDLE)?];
    let all_ready = async || {
        let depths = fleet.engine.queue().depths(&agents).await?;
        Ok(depths.iter().map(|depth| depth.ready).sum::<u64>() == queued as u64)
    };
    poll(args, "all is queued", &all_ready).await?;
    let begun = Instant::now();
    fleet.flush().await?;
    poll(args, "all is queued again", &all_ready).await?;
    report.put("queued", queued);
    report.put_number("flush_to_dispatchable_ms", begun.elapsed().as_secs_f64() * 1_000.0);
    Ok(order.ready.definition_id())
}

async fn poll(
    args: &BenchArgs,
    what: &str,
    holds: impl AsyncFn() -> anyhow::Result<bool>,
) -> anyhow::Result<()> {
    let begun = Instant::now();
    while !holds().await? {
        if begun.elapsed() > args.give_up_after {
            bail!("waited {:?} in vain until {what}", args.give_up_after);
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}
