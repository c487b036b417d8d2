//! apalis' worker over our own backend: the only file that names apalis.
//!
//! What is used: its worker loop, its task type and its tower layers
//! (`ParallelizeLayer` spawns every attempt). What is ours: the source of
//! tasks (a channel that the fetcher fills) and [`RecordLayer`], which takes
//! the outcome from the handler's own result and hands it to the committer.
//!
//! Rules learnt by running it: never an `Err` from `poll_next` (it is fatal and
//! drops everything in flight), `None` only together with a stop, no I/O in
//! here, no waiting for the committer in `poll_close`.

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use apalis_core::backend::finalize::Ephemeral;
use apalis_core::backend::{Backend, BackendConfig};
use apalis_core::error::BoxDynError;
use apalis_core::task::Task;
use apalis_core::task::task_id::RandomId;
use apalis_core::worker::Worker;
use apalis_core::worker::context::WorkerContext;
use apalis_core::worker::ext::parallelize::ParallelizeLayer;
use futures::TryFutureExt;
use futures::future::BoxFuture;
use galley_core::report::StepError;
use galley_engine::Outcome;
use tokio::sync::mpsc;
use tower::{Layer, Service};

use crate::attempt::{Attempt, Ended, Finished, Runner, Running};

/// Runs attempts from `source` until it is closed and drained, and hands every
/// outcome to `finished`.
pub(crate) fn run_attempts(
    name: &str,
    source: mpsc::UnboundedReceiver<Attempt>,
    runner: Arc<Runner>,
    running: Arc<Running>,
    finished: mpsc::UnboundedSender<Finished>,
) -> BoxFuture<'static, Result<(), String>> {
    let backend = Source { attempts: source, record: RecordLayer { finished, running } };
    let spawn: Spawn = |attempt| tokio::spawn(attempt);
    let layer = ParallelizeLayer::new(spawn);
    let worker =
        Worker::<Attempt, _, _, _>::new(WorkerContext::new(name), backend, RunAttempt { runner }, layer);
    // Boxed with its concrete types: inside an `async fn` rustc does not see
    // that it is `Send`.
    Box::pin(worker.run().map_err(|error| error.to_string()))
}

type LifecycleFuture = apalis_core::worker::lifecycle::LifecycleFuture<RunFuture>;
type RunFuture = BoxFuture<'static, Result<Ended, Infallible>>;
type Spawn = fn(LifecycleFuture) -> tokio::task::JoinHandle<Result<Ended, BoxDynError>>;

/// Where the worker gets its tasks: what the fetcher claimed.
struct Source {
    attempts: mpsc::UnboundedReceiver<Attempt>,
    record: RecordLayer,
}

impl Backend for Source {
    type Task = Task<Attempt>;
    type Error = Infallible;

    fn poll_ready(&mut self, _: &mut Context<'_>, _: &WorkerContext) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn poll_next(
        &mut self,
        context: &mut Context<'_>,
        worker: &WorkerContext,
    ) -> Poll<Option<Result<Task<Attempt>, Infallible>>> {
        let attempt = ready!(self.attempts.poll_recv(context));
        if attempt.is_none() {
            // The end of its source alone parks apalis' worker for ever: it
            // leaves only when it was stopped, too. Running already, it can be.
            let _ = worker.stop();
        }
        Poll::Ready(attempt.map(|attempt| Ok(Task::new(attempt))))
    }

    fn poll_close(&mut self, _: &mut Context<'_>, _: &WorkerContext) -> Poll<Result<(), Infallible>> {
        // The committer outlives the worker and is awaited after it.
        Poll::Ready(Ok(()))
    }
}

impl BackendConfig for Source {
    type Args = Attempt;
    type Id = RandomId;
    type Kind = Ephemeral;
    type Config = ();
    type Layer = RecordLayer;

    fn config(&self) -> &() {
        &()
    }

    fn middleware(&mut self, _: &mut WorkerContext) -> RecordLayer {
        self.record.clone()
    }
}

/// The innermost service: one attempt.
#[derive(Clone)]
struct RunAttempt {
    runner: Arc<Runner>,
}

impl Service<Task<Attempt>> for RunAttempt {
    type Response = Ended;
    type Error = Infallible;
    type Future = RunFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, task: Task<Attempt>) -> RunFuture {
        let runner = Arc::clone(&self.runner);
        let (attempt, _) = task.take();
        Box::pin(async move { Ok(runner.run(&attempt).await) })
    }
}

/// The outermost layer: every outcome reaches the committer, also that of a
/// handler that apalis or the runtime ended.
#[derive(Clone)]
struct RecordLayer {
    finished: mpsc::UnboundedSender<Finished>,
    running: Arc<Running>,
}

impl<S> Layer<S> for RecordLayer {
    type Service = Record<S>;

    fn layer(&self, inner: S) -> Record<S> {
        Record { inner, layer: self.clone() }
    }
}

#[derive(Clone)]
struct Record<S> {
    inner: S,
    layer: RecordLayer,
}

impl<S> Service<Task<Attempt>> for Record<S>
where
    S: Service<Task<Attempt>, Response = Ended>,
    S::Future: Future<Output = Result<Ended, S::Error>> + Send + 'static,
    S::Error: Into<BoxDynError>,
{
    type Response = ();
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<(), Infallible>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // The services inside never fail to be ready.
        self.inner.poll_ready(context).map(|_| Ok(()))
    }

    fn call(&mut self, task: Task<Attempt>) -> Self::Future {
        let (attempt, context) = task.take();
        let RecordLayer { finished, running } = self.layer.clone();
        let run = self.inner.call(Task::new_with_ctx(attempt.clone(), context));
        Box::pin(async move {
            let ended = run.await.unwrap_or_else(|error| {
                let error: BoxDynError = error.into();
                let error =
                    StepError::transient("worker_error", format!("the worker ended the attempt: {error}"));
                Ended { outcome: Some(Outcome::Failed(error)), took: std::time::Duration::ZERO }
            });
            running.remove(attempt.claim.key(), attempt.claim.token.nonce.0);
            // The receiver is gone only when the process ends: the reaper
            // returns the step.
            if let Some(report) = attempt.finished(ended) {
                let _ = finished.send(report);
            }
            Ok(())
        })
    }
}
