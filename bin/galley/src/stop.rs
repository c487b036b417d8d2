//! Signals: the first asks to finish what runs, the second drops it.

use galley_worker::Stop;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::failure::Failure;
use crate::print;

/// Listens for SIGINT and SIGTERM for the rest of the process.
///
/// # Errors
/// The operating system refused.
pub(crate) fn on_signals() -> Result<Stop, Failure> {
    let stop = Stop::default();
    let mut interrupt = listen(SignalKind::interrupt())?;
    let mut terminate = listen(SignalKind::terminate())?;
    let heard = stop.clone();
    tokio::spawn(async move {
        for ask in [&heard.soft, &heard.hard] {
            tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} }
            if heard.soft.is_cancelled() {
                print::say("\nstopping at once: steps that run are given back to the queue");
            } else {
                print::say("\nstopping: finishing what runs (once more to stop at once)");
            }
            ask.cancel();
        }
    });
    Ok(stop)
}

fn listen(kind: SignalKind) -> Result<Signal, Failure> {
    signal(kind).map_err(|error| Failure::unexpected("cannot listen for signals").detail(error))
}
