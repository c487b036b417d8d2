//! Waiting between tries of our own calls to the stores (not of steps: their
//! back-off is `core`'s).

use std::time::Duration;

/// A growing, jittered wait.
#[derive(Debug)]
pub struct Backoff {
    next: Duration,
    longest: Duration,
}

impl Backoff {
    /// For calls that a person or a lease waits on: 20 ms to 1 s.
    pub fn quick() -> Self {
        Self { next: Duration::from_millis(20), longest: Duration::from_secs(1) }
    }

    /// For background duties: 200 ms to 5 s.
    pub fn patient() -> Self {
        Self { next: Duration::from_millis(200), longest: Duration::from_secs(5) }
    }

    /// Waits, and waits longer next time.
    pub async fn wait(&mut self) {
        let jitter = rand::random_range(0.5..1.0);
        tokio::time::sleep(self.next.mul_f64(jitter)).await;
        self.next = (self.next * 2).min(self.longest);
    }
}
