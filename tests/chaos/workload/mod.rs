//! What people and programs do with a fleet while it is being broken: all of
//! it over the HTTP API, all of it written down with its outcome.
//!
//! Nobody here may know what breaks when: a client sees an answer, a refusal,
//! or nothing.

mod calendars;
mod operators;
mod people;
mod producers;
mod shapes;
mod treasurer;
mod watchers;

use std::sync::Arc;

use tokio::task::JoinSet;

use crate::world::World;

pub use operators::set_policy;
pub use people::answer_everything;
pub use shapes::{Policy, publish_of};
pub use treasurer::{POST_MICROS, lift_budget, set_first_budget};

/// Everybody who is at work.
#[derive(Debug)]
pub struct Workload {
    crowd: JoinSet<()>,
}

impl Workload {
    /// Sends everybody to work.
    pub fn start(world: &Arc<World>) -> Self {
        let mut crowd = JoinSet::new();
        for producer in 0..4 {
            crowd.spawn(producers::produce(Arc::clone(world), producer));
        }
        for (desk, producer) in shapes::DESKS.iter().zip(10..) {
            crowd.spawn(producers::repeat(Arc::clone(world), producer, desk));
        }
        crowd.spawn(producers::cancel(Arc::clone(world)));
        for late in world.kept() {
            crowd.spawn(people::answer_late(Arc::clone(world), late));
        }
        for tenant in 0..world.tenants.len() {
            crowd.spawn(people::approve(Arc::clone(world), tenant));
            crowd.spawn(people::meddle(Arc::clone(world), tenant));
            crowd.spawn(people::settle(Arc::clone(world), tenant));
            crowd.spawn(producers::cancel_what_goes_out(Arc::clone(world), tenant));
            if Policy::of(tenant).is_limited() {
                crowd.spawn(people::rush(Arc::clone(world), tenant));
            } else {
                crowd.spawn(operators::govern(Arc::clone(world), tenant));
            }
            crowd.spawn(calendars::keep(Arc::clone(world), tenant));
            crowd.spawn(operators::repair(Arc::clone(world), tenant));
        }
        crowd.spawn(operators::run_queues(Arc::clone(world)));
        crowd.spawn(treasurer::raise(Arc::clone(world)));
        for watcher in 0..3 {
            crowd.spawn(watchers::watch(Arc::clone(world), watcher));
        }
        crowd.spawn(watchers::measure(Arc::clone(world)));
        crowd.spawn(watchers::look(Arc::clone(world)));
        Self { crowd }
    }

    /// Waits until everybody has ended what they had begun. The world's stop
    /// was told before.
    pub async fn ended(mut self) {
        while let Some(ended) = self.crowd.join_next().await {
            if let Err(error) = ended {
                tracing::error!(%error, "somebody of the workload fell over");
            }
        }
    }
}
