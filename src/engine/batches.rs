//! Group commit: whatever is asked while one transaction is being written is
//! the next one. Nobody waits longer when there is little to do, and a burst
//! costs transactions in tens, not in thousands; nor does it take every
//! connection and let the renewal of a session wait behind it.

use std::sync::Arc;

use futures::future::BoxFuture;
use galley_store::{Store, StoreError};
use tokio::sync::{mpsc, oneshot};

use crate::error::EngineError;

/// Most questions in one transaction.
const BATCH: usize = 256;

/// Questions that wait before whoever asks has to wait to ask.
const WAITING: usize = 4_096;

/// One that waits for its transaction; the error is shared.
type Waiting<Q, A> = (Q, oneshot::Sender<Result<A, Arc<StoreError>>>);

/// Asks the store in batches.
pub(crate) struct Batches<Q, A> {
    ask: mpsc::Sender<Waiting<Q, A>>,
}

impl<Q: Clone + Send + 'static, A: Send + 'static> Batches<Q, A> {
    /// `write` answers every question of a batch, in its order. The task ends
    /// with the last handle.
    pub(crate) fn new<F>(store: Store, write: F) -> Self
    where
        F: Fn(Store, Vec<Q>) -> BoxFuture<'static, Result<Vec<A>, StoreError>> + Send + Sync + 'static,
    {
        let (ask, mut waiting) = mpsc::channel::<Waiting<Q, A>>(WAITING);
        tokio::spawn(async move {
            let mut batch = Vec::with_capacity(BATCH);
            while waiting.recv_many(&mut batch, BATCH).await > 0 {
                answer(&store, &write, std::mem::take(&mut batch)).await;
            }
        });
        Self { ask }
    }

    /// Asks one question. Once asked, it is answered, whether or not anybody
    /// hears it.
    pub(crate) async fn ask(&self, question: Q) -> Result<A, EngineError> {
        let gone = || EngineError::Internal("the task that writes batches has stopped".into());
        let (tell, told) = oneshot::channel();
        self.ask.send((question, tell)).await.map_err(|_| gone())?;
        told.await.map_err(|_| gone())?.map_err(|error| EngineError::shared(&error))
    }
}

/// Writes a batch; a value that Postgres refuses, or a run that this release
/// cannot read, is found by halving, so that its neighbours are answered.
fn answer<'a, Q: Clone + Send + 'static, A: Send + 'static, F>(
    store: &'a Store,
    write: &'a F,
    mut batch: Vec<Waiting<Q, A>>,
) -> BoxFuture<'a, ()>
where
    F: Fn(Store, Vec<Q>) -> BoxFuture<'static, Result<Vec<A>, StoreError>> + Send + Sync,
{
    Box::pin(async move {
        let questions = batch.iter().map(|(question, _)| question.clone()).collect();
        match write(store.clone(), questions).await {
            Ok(answers) => {
                for ((_, tell), answer) in batch.into_iter().zip(answers) {
                    let _ = tell.send(Ok(answer));
                }
            }
            Err(StoreError::Data(_) | StoreError::Corrupt { .. }) if batch.len() > 1 => {
                let rest = batch.split_off(batch.len() / 2);
                answer(store, write, batch).await;
                answer(store, write, rest).await;
            }
            Err(error) => {
                let error = Arc::new(error);
                for (_, tell) in batch {
                    let _ = tell.send(Err(Arc::clone(&error)));
                }
            }
        }
    })
}
