//! Short names for what the tests push about.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::BoxStream;
use galley_core::ids::{AgentType, WorkflowId, WorkflowKey, WorkspaceId};
use galley_core::ticket::{DEFAULT_PRIORITY, Priority, Ticket};
use galley_queue::{AgentControl, Controls, DispatchQueue, Popped, Unbuilt, Wake};

pub(crate) type Queue = Arc<dyn DispatchQueue>;

/// A deadline that does not pass during a test.
pub(crate) const LATER: Duration = Duration::from_secs(3600);
/// A deadline that has passed already.
pub(crate) const NOW: Duration = Duration::ZERO;

pub(crate) fn agent(name: &str) -> AgentType {
    AgentType::new(name).unwrap()
}

pub(crate) fn writer() -> AgentType {
    agent("writer")
}

pub(crate) fn workspace(n: u128) -> WorkspaceId {
    // Spread, so that the order of texts is not the order of numbers.
    WorkspaceId(uuid::Uuid::from_u128(n.wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835)))
}

pub(crate) fn ticket(of: u128, n: u128) -> Ticket {
    urgent(of, n, DEFAULT_PRIORITY)
}

pub(crate) fn urgent(of: u128, n: u128, priority: Priority) -> Ticket {
    Ticket {
        workspace: workspace(of),
        workflow: WorkflowId(uuid::Uuid::from_u128(n)),
        step: 0,
        epoch: 1,
        crashes: 0,
        priority,
    }
}

pub(crate) fn tickets(of: u128, numbers: std::ops::Range<u128>) -> Vec<Ticket> {
    numbers.map(|n| ticket(of, n)).collect()
}

pub(crate) fn workflow(n: u128) -> WorkflowKey {
    ticket(1, n).key()
}

/// Each ticket with the one agent most tests use.
pub(crate) fn for_writer(tickets: &[Ticket]) -> Vec<(AgentType, Ticket)> {
    tickets.iter().map(|ticket| (writer(), *ticket)).collect()
}

pub(crate) async fn push(queue: &Queue, tickets: &[Ticket]) -> u64 {
    queue.push(&for_writer(tickets)).await.unwrap()
}

/// Pops in spite of "not built": most tests are not about rebuilding.
pub(crate) async fn pop(queue: &Queue, max: usize) -> Vec<Ticket> {
    popped(queue, max).await.tickets
}

pub(crate) async fn popped(queue: &Queue, max: usize) -> Popped {
    queue.pop(&writer(), max, LATER, Unbuilt::Serve).await.unwrap()
}

pub(crate) async fn done(queue: &Queue, tickets: &[Ticket]) {
    queue.settle(&for_writer(tickets), &[]).await.unwrap();
}

pub(crate) async fn control(queue: &Queue, control: AgentControl) {
    queue.mirror(&Controls { agents: vec![(writer(), control)], weights: vec![] }).await.unwrap();
}

pub(crate) fn at_most(max_running: u32) -> AgentControl {
    AgentControl { max_running: Some(max_running), ..AgentControl::default() }
}

pub(crate) fn at_most_each(per_workspace: u32) -> AgentControl {
    AgentControl { max_running_per_workspace: Some(per_workspace), ..AgentControl::default() }
}

pub(crate) fn of(workspace_number: u128, tickets: &[Ticket]) -> usize {
    tickets.iter().filter(|ticket| ticket.workspace == workspace(workspace_number)).count()
}

/// The next wake-up; a test that never gets one fails instead of hanging.
pub(crate) async fn next(wakes: &mut BoxStream<'static, Wake>) -> Wake {
    tokio::time::timeout(Duration::from_secs(30), wakes.next()).await.expect("no wake-up came").unwrap()
}
