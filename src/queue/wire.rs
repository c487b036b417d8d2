//! How ids are written in queue keys, members and messages: short, because a
//! backlog is as many of them as there are ready steps.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use galley_core::ids::{AgentType, WorkflowId, WorkflowKey, WorkspaceId};
use galley_core::ticket::Ticket;
use uuid::Uuid;

/// Characters of an id in base64url. `scripts/prelude.lua` knows it too.
const ID_LENGTH: usize = 22;

fn id(text: &[u8]) -> Option<Uuid> {
    Uuid::from_slice(&URL_SAFE_NO_PAD.decode(text).ok()?).ok()
}

pub(crate) fn workspace_text(workspace: WorkspaceId) -> String {
    URL_SAFE_NO_PAD.encode(workspace.0.as_bytes())
}

pub(crate) fn workspace(text: &[u8]) -> Option<WorkspaceId> {
    id(text).map(WorkspaceId)
}

/// What the queue holds of a ticket: `workspace|member`. The scripts read the
/// workspace from its front and the priority from its last digit.
pub(crate) fn entry(ticket: &Ticket) -> String {
    format!("{}|{}", workspace_text(ticket.workspace), ticket.member())
}

/// Reads an entry back; `None` if it is not one of ours.
pub(crate) fn read_entry(entry: &[u8]) -> Option<Ticket> {
    let (name, member) = entry.split_at_checked(ID_LENGTH)?;
    let member = std::str::from_utf8(member.strip_prefix(b"|")?).ok()?;
    Ticket::from_member(workspace(name)?, member).ok()
}

/// A message that names workflows.
pub(crate) fn cancel_message(workflows: &[WorkflowKey]) -> String {
    workflows
        .iter()
        .flat_map(|key| [workspace_text(key.workspace), URL_SAFE_NO_PAD.encode(key.workflow.0.as_bytes())])
        .collect()
}

/// Reads such a message; what cannot be read is left out.
pub(crate) fn cancelled(message: &[u8]) -> Vec<WorkflowKey> {
    let key = |pair: &[u8]| {
        let (workspace_id, workflow_id) = pair.split_at(ID_LENGTH);
        Some(WorkflowKey { workspace: workspace(workspace_id)?, workflow: WorkflowId(id(workflow_id)?) })
    };
    message.chunks_exact(2 * ID_LENGTH).filter_map(key).collect()
}

/// Tickets of one workspace, in the order they came.
pub(crate) type Group<'a> = (WorkspaceId, Vec<&'a Ticket>);

/// Sorts tickets into workspaces, in order of first appearance.
pub(crate) fn by_workspace<'a>(tickets: impl IntoIterator<Item = &'a Ticket>) -> Vec<Group<'a>> {
    let mut groups: Vec<Group<'a>> = Vec::new();
    let mut places = std::collections::HashMap::new();
    for ticket in tickets {
        let place = *places.entry(ticket.workspace).or_insert_with(|| {
            groups.push((ticket.workspace, Vec::new()));
            groups.len() - 1
        });
        groups[place].1.push(ticket);
    }
    groups
}

/// Sorts tickets into agents, in order of first appearance.
pub(crate) fn by_agent(tickets: &[(AgentType, Ticket)]) -> Vec<(&AgentType, Vec<&Ticket>)> {
    let mut groups: Vec<(&AgentType, Vec<&Ticket>)> = Vec::new();
    for (agent, ticket) in tickets {
        // A fleet has tens of agent types and a batch a few: a scan is enough.
        match groups.iter_mut().find(|(known, _)| *known == agent) {
            Some((_, of_agent)) => of_agent.push(ticket),
            None => groups.push((agent, vec![ticket])),
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cancel_message_reads_back_and_skips_garbage() {
        let keys: Vec<_> = (1..4)
            .map(|n| WorkflowKey {
                workspace: WorkspaceId(Uuid::from_u128(n)),
                workflow: WorkflowId(Uuid::from_u128(u128::MAX - n)),
            })
            .collect();
        let message = cancel_message(&keys);
        assert_eq!(cancelled(message.as_bytes()), keys);
        let spoilt = message.replacen('A', "%", 1);
        assert_eq!(cancelled(spoilt.as_bytes()), keys[1..]);
        assert_eq!(cancelled(b"short"), []);
    }
}
