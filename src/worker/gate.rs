//! How many steps run at once in this process, and how few while a step that
//! may be poison is among them.
//!
//! A slot is held from before the pop until the outcome is recorded, so a
//! database that is away cannot make results pile up.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// The slots of one worker process.
#[derive(Debug)]
pub(crate) struct Gate {
    capacity: usize,
    state: Mutex<State>,
    freed: Notify,
}

#[derive(Debug, Default)]
struct State {
    used: usize,
    /// Suspects that run, or wait to run, by how many steps may run with them.
    caps: BTreeMap<usize, usize>,
}

/// The right to run one step; given back when dropped.
#[derive(Debug)]
pub(crate) struct Slot {
    gate: Arc<Gate>,
    _cap: Option<Arc<Cap>>,
}

/// A limit on the whole process while a suspect is here.
#[derive(Debug)]
pub(crate) struct Cap {
    gate: Arc<Gate>,
    most: usize,
}

impl Gate {
    pub(crate) fn new(capacity: usize) -> Arc<Self> {
        Arc::new(Self { capacity: capacity.max(1), state: Mutex::default(), freed: Notify::new() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics while holding it; counts stay right in any case.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn capacity(&self) -> usize {
        self.capacity
    }

    pub(crate) fn used(&self) -> usize {
        self.state().used
    }

    fn free_in(&self, state: &State) -> usize {
        let most = state.caps.keys().next().copied().unwrap_or(self.capacity).min(self.capacity);
        most.saturating_sub(state.used)
    }

    pub(crate) fn free(&self) -> usize {
        self.free_in(&self.state())
    }

    /// Up to `wanted` slots, at once, perhaps none.
    pub(crate) fn take(self: &Arc<Self>, wanted: usize, cap: Option<&Arc<Cap>>) -> Vec<Slot> {
        let mut state = self.state();
        let granted = self.free_in(&state).min(wanted);
        state.used += granted;
        drop(state);
        (0..granted).map(|_| Slot { gate: Arc::clone(self), _cap: cap.cloned() }).collect()
    }

    /// Limits the process from now on, until the cap and all slots taken under
    /// it are dropped.
    pub(crate) fn cap(self: &Arc<Self>, most: usize) -> Arc<Cap> {
        *self.state().caps.entry(most).or_default() += 1;
        Arc::new(Cap { gate: Arc::clone(self), most })
    }

    /// Waits until at least `wanted` slots (or as many as there can be) are
    /// free.
    pub(crate) async fn room(&self, wanted: usize) {
        loop {
            // Registered before looking, so that no release is missed.
            let freed = self.freed.notified();
            tokio::pin!(freed);
            freed.as_mut().enable();
            if self.free() >= wanted.clamp(1, self.capacity) {
                return;
            }
            freed.await;
        }
    }

    /// Waits until nothing holds a slot.
    pub(crate) async fn empty(&self) {
        loop {
            let freed = self.freed.notified();
            tokio::pin!(freed);
            freed.as_mut().enable();
            if self.used() == 0 {
                return;
            }
            freed.await;
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.gate.state().used -= 1;
        self.gate.freed.notify_waiters();
    }
}

impl Drop for Cap {
    fn drop(&mut self) {
        let mut state = self.gate.state();
        if let Some(count) = state.caps.get_mut(&self.most) {
            *count -= 1;
            if *count == 0 {
                state.caps.remove(&self.most);
            }
        }
        drop(state);
        self.gate.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_bounded_and_come_back() {
        let gate = Gate::new(3);
        let slots = gate.take(5, None);
        assert_eq!((slots.len(), gate.free()), (3, 0));
        drop(slots);
        assert_eq!((gate.used(), gate.free()), (0, 3));
    }

    #[test]
    fn a_suspect_limits_everybody_until_it_is_gone() {
        let gate = Gate::new(8);
        let innocent = gate.take(3, None);
        let cap = gate.cap(4);
        assert_eq!(gate.free(), 1, "three run, four may");
        let suspect = gate.take(5, Some(&cap));
        drop(cap);
        assert_eq!(suspect.len(), 1);
        drop(innocent);
        assert_eq!(gate.free(), 3, "the suspect still runs, so four may");
        drop(suspect);
        assert_eq!(gate.free(), 8);
    }

    #[test]
    fn the_last_try_waits_until_it_is_alone() {
        let gate = Gate::new(8);
        let innocent = gate.take(1, None);
        let cap = gate.cap(1);
        assert!(gate.take(1, Some(&cap)).is_empty());
        assert!(gate.take(1, None).is_empty(), "nobody new starts while it waits");
        drop(innocent);
        assert_eq!(gate.take(1, Some(&cap)).len(), 1);
    }

    #[tokio::test]
    async fn whoever_waits_for_room_is_woken() {
        let gate = Gate::new(2);
        let slots = gate.take(2, None);
        let waiter = tokio::spawn({
            let gate = Arc::clone(&gate);
            async move { gate.room(2).await }
        });
        drop(slots);
        waiter.await.expect("woken");
    }
}
