//! Signals: the first asks to finish what runs, the second drops it.

use std::time::Duration;

use futures::FutureExt;
use galley_worker::Stop;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::failure::Failure;
use crate::print;

/// Signals this close together are one: a supervisor signals its child and the
/// child's group.
const ONE_SIGNAL: Duration = Duration::from_millis(300);

/// Listens for SIGINT, SIGTERM and SIGHUP (the terminal was closed) for the
/// rest of the process.
///
/// # Errors
/// The operating system refused.
pub(crate) fn on_signals() -> Result<Stop, Failure> {
    let stop = Stop::default();
    let mut signals = Signals {
        interrupt: listen(SignalKind::interrupt())?,
        terminate: listen(SignalKind::terminate())?,
        hang_up: listen(SignalKind::hangup())?,
    };
    let heard = stop.clone();
    tokio::spawn(async move {
        signals.next().await;
        print::say("\nstopping: finishing what runs (once more to stop at once)");
        heard.soft.cancel();
        tokio::time::sleep(ONE_SIGNAL).await;
        while signals.next().now_or_never().is_some() {}
        signals.next().await;
        print::say("\nstopping at once: steps that run are given back to the queue");
        heard.hard.cancel();
    });
    Ok(stop)
}

struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
}

impl Signals {
    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hang_up.recv() => {}
        }
    }
}

fn listen(kind: SignalKind) -> Result<Signal, Failure> {
    signal(kind).map_err(|error| Failure::unexpected("cannot listen for signals").detail(error))
}
