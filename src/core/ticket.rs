//! The reference a queue holds: which step may run, and for which epoch.
//!
//! A ticket never carries a payload. It is a hint: the claim decides against
//! the run in Postgres whether the ticket is still good.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use uuid::Uuid;

use crate::ids::{Epoch, StepIndex, WorkflowId, WorkflowKey, WorkspaceId};

/// How urgent a step is within its workspace: 0 (first) to 9 (last).
pub type Priority = u8;

/// Priority of a workflow that does not name one.
pub const DEFAULT_PRIORITY: Priority = 5;

/// The largest (least urgent) priority.
pub const LAST_PRIORITY: Priority = 9;

/// One dispatchable step.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Ticket {
    /// The tenant: fairness is across workspaces.
    pub workspace: WorkspaceId,
    /// The workflow the step belongs to.
    pub workflow: WorkflowId,
    /// Which step.
    pub step: StepIndex,
    /// The epoch at which the step was queued.
    pub epoch: Epoch,
    /// How many workers died while they held this step: a suspect runs with
    /// fewer neighbours.
    pub crashes: u16,
    /// Order within the workspace.
    pub priority: Priority,
}

/// Why a queue member could not be read. Such a member is dropped and counted:
/// the reconciler pushes the true one again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a queue member: {0}")]
pub struct BadMember(pub &'static str);

impl Ticket {
    /// The key of the run this ticket points into.
    pub fn key(&self) -> WorkflowKey {
        WorkflowKey { workspace: self.workspace, workflow: self.workflow }
    }

    /// The text under which a queue keeps this ticket *inside its workspace*:
    /// `workflow.step.epoch.crashes.priority`, the id in base64url (22
    /// characters). Equal tickets have equal members.
    pub fn member(&self) -> String {
        let mut text = String::with_capacity(40);
        URL_SAFE_NO_PAD.encode_string(self.workflow.0.as_bytes(), &mut text);
        use std::fmt::Write as _;
        let _ = write!(text, ".{}.{}.{}.{}", self.step, self.epoch, self.crashes, self.priority);
        text
    }

    /// Reads a member of the given workspace back.
    pub fn from_member(workspace: WorkspaceId, member: &str) -> Result<Self, BadMember> {
        let mut parts = member.split('.');
        let id = parts.next().ok_or(BadMember("empty"))?;
        let bytes = URL_SAFE_NO_PAD.decode(id).map_err(|_| BadMember("workflow id is not base64url"))?;
        let workflow = Uuid::from_slice(&bytes).map_err(|_| BadMember("workflow id is not 16 bytes"))?;
        let mut number = |what| parts.next().ok_or(BadMember(what));
        let step = number("step missing")?.parse().map_err(|_| BadMember("bad step"))?;
        let epoch = number("epoch missing")?.parse().map_err(|_| BadMember("bad epoch"))?;
        let crashes = number("crashes missing")?.parse().map_err(|_| BadMember("bad crashes"))?;
        let priority: Priority =
            number("priority missing")?.parse().map_err(|_| BadMember("bad priority"))?;
        if priority > LAST_PRIORITY {
            return Err(BadMember("priority over 9"));
        }
        if parts.next().is_some() {
            return Err(BadMember("too many parts"));
        }
        Ok(Self { workspace, workflow: WorkflowId(workflow), step, epoch, crashes, priority })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_reads_back_as_its_ticket() {
        let ticket = Ticket {
            workspace: WorkspaceId(Uuid::from_u128(7)),
            workflow: WorkflowId(Uuid::from_u128(u128::MAX)),
            step: 1023,
            epoch: u32::MAX,
            crashes: 3,
            priority: 9,
        };
        assert_eq!(Ticket::from_member(ticket.workspace, &ticket.member()), Ok(ticket));
    }

    #[test]
    fn garbage_is_refused_with_a_reason() {
        let ws = WorkspaceId(Uuid::nil());
        for (text, why) in [
            ("", "workflow id is not 16 bytes"),
            ("%%.1.1.0.5", "workflow id is not base64url"),
            ("AAAA.1.1.0.5", "workflow id is not 16 bytes"),
            ("AAAAAAAAAAAAAAAAAAAAAA", "step missing"),
            ("AAAAAAAAAAAAAAAAAAAAAA.x.1.0.5", "bad step"),
            ("AAAAAAAAAAAAAAAAAAAAAA.1.-1.0.5", "bad epoch"),
            ("AAAAAAAAAAAAAAAAAAAAAA.1.1.0.10", "priority over 9"),
            ("AAAAAAAAAAAAAAAAAAAAAA.1.1.0.5.6", "too many parts"),
        ] {
            assert_eq!(Ticket::from_member(ws, text), Err(BadMember(why)), "{text}");
        }
    }
}
