//! The scenarios: submit, wait until all is recorded, count what ran.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use futures::StreamExt;
use galley_core::definition::{Definition, StepDefinition};
use galley_core::ids::{AgentType, WorkflowId, WorkflowKey};
use galley_engine::{Ready, Submit, SubmitContext};
use serde_json::Value;
use tokio::time::MissedTickBehavior;

use crate::agent::{IDLE, NOOP, payload};
use crate::args::{BenchArgs, Scenario};
use crate::fleet::Fleet;
use crate::ledger::Ran;
use crate::provider::{self, Done};
use crate::report::BenchReport;
use crate::{calls, choice, floor, recovery};

/// Submits in flight at once: what a busy API would have.
const CLIENTS: usize = 512;

/// Workflows that run before anything is measured.
const WARM: usize = 20;

/// Runs one scenario.
///
/// # Errors
/// Servers, workers or the engine failed; or it took too long.
pub async fn run(args: &BenchArgs) -> anyhow::Result<BenchReport> {
    if let Scenario::Choice { seeds, steps } = args.scenario {
        return Ok(choice::measure(seeds.into(), steps as usize));
    }
    let (mut args, done) = (args.clone(), Arc::new(Done::default()));
    let mut provider = None;
    if let Scenario::Calls { calls, seconds, gather, http1 } = args.scenario {
        (args.workers, args.concurrency) = (1, calls as usize);
        // The provider of the bench is this process.
        let room = galley_worker::allow_connections(args.concurrency);
        if room < args.concurrency {
            bail!(
                "this machine lets a process hold {room} connections; raise its limit of open files (`ulimit -n`)"
            );
        }
        let length = Duration::from_secs(seconds.into());
        let gather = gather.then_some(calls as usize);
        provider = Some((provider::serve(length, gather, http1, Arc::clone(&done)).await?, http1));
    }
    let mut fleet = Fleet::start(&args, provider).await?;
    let measured = measure(&args, &mut fleet, &done).await;
    let stopped = fleet.stop().await;
    let report = measured?;
    stopped?;
    Ok(report)
}

async fn measure(args: &BenchArgs, fleet: &mut Fleet, done: &Done) -> anyhow::Result<BenchReport> {
    let mut report = BenchReport::default();
    match args.scenario {
        Scenario::Chain { workflows, steps } => {
            report.put("scenario", "chain");
            let definition = chain(NOOP, steps)?;
            throughput(args, fleet, &mut report, definition, workflows, None).await?;
        }
        Scenario::Drain { workflows } => {
            report.put("scenario", "drain");
            let definition = chain(NOOP, 1)?;
            throughput(args, fleet, &mut report, definition, workflows, None).await?;
        }
        Scenario::Wide { workflows, width } => {
            report.put("scenario", "wide");
            let definition = wide(width)?;
            throughput(args, fleet, &mut report, definition, workflows, None).await?;
        }
        Scenario::Backlog { queued, workflows, steps } => {
            report.put("scenario", "backlog");
            let waiting = backlog(args, fleet, &mut report, queued).await?;
            let definition = chain(NOOP, steps)?;
            throughput(args, fleet, &mut report, definition, workflows, Some(waiting)).await?;
        }
        Scenario::Latency { samples } => {
            report.put("scenario", "latency");
            latency(args, fleet, &mut report, samples).await?;
        }
        Scenario::Recovery { queued, kills, running } => {
            report.put("scenario", "recovery");
            recovery::measure(args, fleet, &mut report, &recovery::Blows { queued, kills, running }).await?;
        }
        Scenario::Calls { calls, seconds, gather, http1 } => {
            report.put("scenario", "calls");
            report.put("http", if http1 { "1.1" } else { "2" });
            report.put("seconds_each", seconds);
            report.put("gathered", gather);
            calls::measure(args, fleet, &mut report, done, calls as usize, gather).await?;
        }
        Scenario::Choice { .. } => bail!("`choice` has no fleet to measure"),
    }
    report.put_all(&floor::measure(&fleet.owner, args.payload).await?);
    Ok(report)
}

fn step(agent: &str, index: usize, needs: Option<Vec<String>>) -> anyhow::Result<StepDefinition> {
    Ok(StepDefinition {
        name: format!("s{index}"),
        agent: AgentType::new(agent)?,
        needs,
        input: Value::Null,
        for_each: None,
        when: None,
        optional: false,
        retry: None,
    })
}

fn definition(steps: Vec<StepDefinition>) -> Definition {
    Definition { name: "bench".into(), description: String::new(), input_schema: None, steps }
}

pub(crate) fn chain(agent: &str, steps: usize) -> anyhow::Result<Definition> {
    Ok(definition((0..steps).map(|index| step(agent, index, None)).collect::<anyhow::Result<_>>()?))
}

fn wide(width: usize) -> anyhow::Result<Definition> {
    let mut steps: Vec<_> =
        (0..width).map(|index| step(NOOP, index, Some(vec![]))).collect::<anyhow::Result<_>>()?;
    let all = steps.iter().map(|step| step.name.clone()).collect();
    steps.push(step(NOOP, width, Some(all))?);
    Ok(definition(steps))
}

/// A submit of the bench, ready to be repeated.
pub(crate) struct Order {
    submit: Submit,
    pub(crate) ready: Ready,
}

impl Order {
    pub(crate) async fn of(
        fleet: &Fleet,
        definition: Definition,
        payload_bytes: usize,
    ) -> anyhow::Result<Self> {
        let input = serde_json::from_str(&payload(payload_bytes))?;
        let submit = Submit { template: None, definition: Some(definition), input, priority: None };
        let ready = fleet.api.ready(fleet.workspace, &submit).await?;
        Ok(Self { submit, ready })
    }

    async fn place(&self, fleet: &Fleet, key: String) -> anyhow::Result<WorkflowId> {
        let context = SubmitContext {
            workspace: fleet.workspace,
            actor: "bench".into(),
            idempotency_key: key,
            traceparent: None,
        };
        loop {
            match fleet.api.submit_ready(&context, &self.submit, &self.ready).await {
                Ok(submitted) => return Ok(submitted.workflow),
                // The client of a server that was stopped on purpose.
                Err(error) if error.is_transient() => tokio::time::sleep(Duration::from_millis(50)).await,
                Err(error) => return Err(error.into()),
            }
        }
    }

    pub(crate) async fn place_many(
        &self,
        fleet: &Fleet,
        count: usize,
        tag: &str,
    ) -> anyhow::Result<Vec<WorkflowId>> {
        let mut placed = Vec::with_capacity(count);
        let mut orders = futures::stream::iter(0..count)
            .map(|index| self.place(fleet, format!("{tag}-{index}")))
            .buffer_unordered(CLIENTS);
        while let Some(workflow) = orders.next().await {
            placed.push(workflow?);
        }
        Ok(placed)
    }
}

async fn throughput(
    args: &BenchArgs,
    fleet: &mut Fleet,
    report: &mut BenchReport,
    definition: Definition,
    workflows: usize,
    waiting: Option<i64>,
) -> anyhow::Result<()> {
    let steps = definition.steps.len();
    let order = Order::of(fleet, definition, args.payload).await?;
    fleet.start_workers().await?;
    // Everything warm: connections, plans, prepared statements.
    order.place_many(fleet, WARM, "warm").await?;
    wait_for_all(args, fleet, waiting).await?;

    let cpu = fleet.cpu_seconds();
    let begun = Instant::now();
    let placed = order.place_many(fleet, workflows, "run").await?;
    let enqueued = begun.elapsed().as_secs_f64();
    let trouble = wait_for_all(args, fleet, waiting).await?;
    let took = begun.elapsed().as_secs_f64();
    let cpu = fleet.cpu_seconds() - cpu;

    let total = (workflows * steps) as f64;
    report.put("workflows", workflows);
    report.put("steps", workflows * steps);
    report.put("worker_processes", args.workers);
    report.put_number("seconds", took);
    report.put_number("steps_per_second", total / took);
    report.put_number("workflows_per_second", workflows as f64 / took);
    report.put_number("enqueue_per_second", workflows as f64 / enqueued);
    report.put_number("cpu_seconds_per_1k_steps", cpu / total * 1_000.0);
    report.put_number("worker_rss_mb", fleet.worker_rss_mb());
    if args.kill_every.is_some() || args.flush_every.is_some() {
        report.put("kills", trouble.kills);
        report.put("flushes", trouble.flushes);
    }
    count_what_ran(fleet, report, &placed, steps).await
}

async fn count_what_ran(
    fleet: &Fleet,
    report: &mut BenchReport,
    placed: &[WorkflowId],
    steps: usize,
) -> anyhow::Result<()> {
    let ran = Ran::read(&fleet.ledger_folder())?;
    let (mut lost, mut duplicated, mut reexecuted) = (0_u64, 0_u64, 0_u64);
    for workflow in placed {
        for step in 0..steps {
            let (runs, recorded) = ran.steps.get(&(*workflow, step as u16)).copied().unwrap_or_default();
            lost += u64::from(runs == 0);
            duplicated += u64::from(recorded.saturating_sub(1));
            reexecuted += u64::from(runs.saturating_sub(1));
        }
    }
    // A step that ran but has no result is lost, too.
    let results = fleet.engine.store().count_results(fleet.workspace).await?.unsigned_abs();
    lost += ((placed.len() + WARM) * steps) as u64 - results.min(((placed.len() + WARM) * steps) as u64);
    report.put("lost", lost);
    report.put("duplicated", duplicated);
    report.put("reexecuted", reexecuted);
    report.put("dead", fleet.engine.store().count_open_letters().await?);
    Ok(())
}

/// What was done to the fleet while it ran.
#[derive(Default)]
pub(crate) struct Trouble {
    kills: usize,
    flushes: usize,
}

/// Waits until no workflow is live but those of the definition that nobody
/// serves.
pub(crate) async fn wait_for_all(
    args: &BenchArgs,
    fleet: &mut Fleet,
    waiting: Option<i64>,
) -> anyhow::Result<Trouble> {
    let mut trouble = Trouble::default();
    let mut look = tokio::time::interval(Duration::from_millis(20));
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let never = Duration::from_secs(365 * 24 * 3_600);
    let mut kill = tokio::time::interval(args.kill_every.unwrap_or(never));
    let mut flush = tokio::time::interval(args.flush_every.unwrap_or(never));
    kill.reset();
    flush.reset();
    let begun = Instant::now();
    loop {
        if begun.elapsed() > args.give_up_after {
            bail!("not all workflows are finished after {:?}", args.give_up_after);
        }
        tokio::select! {
            _ = look.tick() => {
                if !fleet.engine.store().any_live_run(waiting).await.context("cannot look at the runs")? {
                    return Ok(trouble);
                }
            }
            _ = kill.tick() => {
                fleet.kill_one().await?;
                trouble.kills += 1;
            }
            _ = flush.tick() => {
                fleet.flush().await?;
                trouble.flushes += 1;
            }
        }
    }
}

async fn backlog(
    args: &BenchArgs,
    fleet: &mut Fleet,
    report: &mut BenchReport,
    queued: usize,
) -> anyhow::Result<i64> {
    let order = Order::of(fleet, chain(IDLE, 1)?, args.payload).await?;
    let before = galley_engine::queue::used_memory(fleet.redis_url()).await?;
    let begun = Instant::now();
    order.place_many(fleet, queued, "idle").await?;
    let after = galley_engine::queue::used_memory(fleet.redis_url()).await?;
    report.put("queued", queued);
    report.put_number("queued_per_second", queued as f64 / begun.elapsed().as_secs_f64());
    report.put_number(
        "redis_bytes_per_queued_step",
        (after.saturating_sub(before)) as f64 / queued.max(1) as f64,
    );
    Ok(order.ready.definition_id())
}

async fn latency(
    args: &BenchArgs,
    fleet: &mut Fleet,
    report: &mut BenchReport,
    samples: usize,
) -> anyhow::Result<()> {
    let order = Order::of(fleet, chain(NOOP, 5)?, args.payload).await?;
    fleet.start_workers().await?;
    order.place_many(fleet, WARM, "warm").await?;
    wait_for_all(args, fleet, None).await?;
    let mut times = Vec::with_capacity(samples);
    for sample in 0..samples {
        let workflow = order.place(fleet, format!("sample-{sample}")).await?;
        let key = WorkflowKey { workspace: fleet.workspace, workflow };
        loop {
            // On the database's own clock, from accept to the last result.
            let view = fleet.api.workflow(key).await?;
            if view.row.finished_at.is_some() {
                times.push(view.row.age_us as f64 / 1_000.0);
                break;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    times.sort_by(f64::total_cmp);
    let at = |share: f64| times[((times.len() - 1) as f64 * share).round() as usize];
    if times.is_empty() {
        bail!("no samples were asked for");
    }
    report.put("samples", samples);
    report.put_number("p50_ms", at(0.5));
    report.put_number("p90_ms", at(0.9));
    report.put_number("p99_ms", at(0.99));
    report.put_number("max_ms", at(1.0));
    report.put_number("worker_rss_mb", fleet.worker_rss_mb());
    Ok(())
}
