//! Whether accounts work: the API asks through the database, because only a
//! worker that publishes may open a credential.

use std::time::Duration;

use galley_engine::{Backoff, Engine};
use tokio_util::sync::CancellationToken;

/// How often it looks: what a person who asks waits for.
const EVERY: Duration = Duration::from_secs(1);

/// Answers until told to stop.
pub(crate) async fn answer(engine: Engine, stop: CancellationToken) {
    let mut backoff = Backoff::patient();
    loop {
        let answered = tokio::select! {
            answered = engine.answer_checks() => answered,
            () = stop.cancelled() => return,
        };
        let rest = async {
            match answered {
                Ok(_) => {
                    backoff = Backoff::patient();
                    tokio::time::sleep(EVERY).await;
                }
                Err(error) => {
                    tracing::debug!(%error, "could not look whether somebody asks about an account");
                    backoff.wait().await;
                }
            }
        };
        tokio::select! { () = rest => {}, () = stop.cancelled() => return }
    }
}
