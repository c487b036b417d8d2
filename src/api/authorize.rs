//! Who may do what: one table, everything else is denied.
//!
//! A handler learns the caller's workspace only from a [`May`], which it only
//! gets when the table allows its action: a route that forgets to ask does not
//! compile into one that works.

use std::marker::PhantomData;
use std::ops::Deref;
use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use galley_core::ids::{WorkflowId, WorkflowKey, WorkspaceId};

use crate::error::ApiError;
use crate::views::Role;

/// What can be allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Read,
    SubmitWorkflow,
    CancelWorkflow,
    StoreTemplate,
    ControlQueue,
    RepairDeadLetter,
    ReadAudit,
    MakeWorkspace,
    IssueToken,
    ManageKeys,
    ReadKeys,
    EditPost,
    ApprovePost,
    ResolvePost,
    SetAutomation,
    SetBudget,
    SetProviders,
    SetPrompts,
    ManageAccounts,
    ManageSchedules,
}

impl Action {
    /// The action, after "may not".
    fn phrase(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::SubmitWorkflow => "submit workflows",
            Self::CancelWorkflow => "cancel workflows",
            Self::StoreTemplate => "store templates",
            Self::ControlQueue => "control queues",
            Self::RepairDeadLetter => "repair dead letters",
            Self::ReadAudit => "read the audit log",
            Self::MakeWorkspace => "make workspaces",
            Self::IssueToken => "issue or revoke tokens",
            Self::ManageKeys => "make or revoke keys",
            Self::ReadKeys => "list keys",
            Self::EditPost => "edit or reschedule posts",
            Self::ApprovePost => "approve or reject posts",
            Self::ResolvePost => "resolve posts in doubt",
            Self::SetAutomation => "set the automation config",
            Self::SetBudget => "set budgets",
            Self::SetProviders => "set or remove providers",
            Self::SetPrompts => "set or reset prompts",
            Self::ManageAccounts => "add, remove or try accounts",
            Self::ManageSchedules => "add, change, pause, run or remove schedules",
        }
    }

    /// The table.
    fn allowed(self) -> &'static [Role] {
        match self {
            Self::Read => &Role::ALL,
            // A schedule is submits made in advance.
            Self::SubmitWorkflow | Self::CancelWorkflow | Self::StoreTemplate | Self::ManageSchedules => {
                &[Role::Producer, Role::Operator, Role::Admin]
            }
            Self::EditPost => &[Role::Producer, Role::Approver, Role::Admin],
            Self::ApprovePost => &[Role::Approver, Role::Admin],
            Self::ResolvePost => &[Role::Approver, Role::Operator, Role::Admin],
            Self::ControlQueue | Self::RepairDeadLetter | Self::ManageAccounts => {
                &[Role::Operator, Role::Admin]
            }
            Self::ReadAudit | Self::ReadKeys => &[Role::Auditor, Role::Admin],
            Self::MakeWorkspace
            | Self::IssueToken
            | Self::ManageKeys
            | Self::SetAutomation
            | Self::SetBudget
            | Self::SetProviders
            | Self::SetPrompts => &[Role::Admin],
        }
    }

    /// Whether it reaches beyond the caller's workspace: then no role of a
    /// workspace suffices.
    fn is_of_deployment(self) -> bool {
        match self {
            // The queues are the fleet's: a pause holds for all workspaces.
            Self::MakeWorkspace | Self::ControlQueue => true,
            Self::Read
            | Self::SubmitWorkflow
            | Self::CancelWorkflow
            | Self::StoreTemplate
            | Self::RepairDeadLetter
            | Self::ReadAudit
            | Self::IssueToken
            | Self::ManageKeys
            | Self::ReadKeys
            | Self::EditPost
            | Self::ApprovePost
            | Self::ResolvePost
            | Self::SetAutomation
            | Self::SetBudget
            | Self::SetProviders
            | Self::SetPrompts
            | Self::ManageAccounts
            | Self::ManageSchedules => false,
        }
    }

    /// Whether no key may do it: what somebody made with a stolen one would
    /// outlive its revocation.
    fn is_of_people(self) -> bool {
        matches!(self, Self::IssueToken | Self::ManageKeys | Self::MakeWorkspace)
    }
}

/// Whether the caller may.
pub(crate) fn authorize(caller: &Caller, action: Action) -> Result<(), ApiError> {
    let allowed = action.allowed();
    let role = caller.roles.iter().any(|role| allowed.contains(role));
    let reach = caller.deployment || !action.is_of_deployment();
    let person = !caller.key || !action.is_of_people();
    if role && reach && person {
        return Ok(());
    }
    tracing::info!(actor = %caller.subject, ?action, "denied");
    if role && caller.key && action.is_of_people() {
        let told = "a key makes no other way in, and ends none; that takes a token of an admin";
        return Err(ApiError::forbidden(told.into()));
    }
    if role {
        let detail = format!(
            "this token may not {}: that reaches beyond its workspace and takes a token of the deployment \
             (`galley token issue --deployment`)",
            action.phrase()
        );
        return Err(ApiError::forbidden(detail));
    }
    let needed: Vec<_> = allowed.iter().map(|role| role.word()).collect();
    let detail = format!(
        "this token may not {}; that takes one of the roles {}: ask an admin for a token that has one",
        action.phrase(),
        needed.join(", ")
    );
    Err(ApiError::forbidden(detail))
}

/// Whom the token named. Says nothing about what it may do.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    workspace: WorkspaceId,
    subject: Arc<str>,
    roles: Arc<[Role]>,
    deployment: bool,
    /// Whether it came with an API key.
    key: bool,
}

impl Caller {
    pub(crate) fn new(workspace: WorkspaceId, subject: String, roles: Vec<Role>) -> Self {
        Self { workspace, subject: subject.into(), roles: roles.into(), deployment: false, key: false }
    }

    /// The same, reaching beyond its workspace or not.
    #[must_use]
    pub(crate) fn of_deployment(self, deployment: bool) -> Self {
        Self { deployment, ..self }
    }

    /// The same, come with an API key.
    #[must_use]
    pub(crate) fn of_key(self) -> Self {
        Self { key: true, ..self }
    }

    /// Whom it names.
    pub(crate) fn subject(&self) -> &str {
        &self.subject
    }

    /// What it was let in with.
    pub(crate) fn roles(&self) -> &[Role] {
        &self.roles
    }

    /// For the request's span.
    pub(crate) fn workspace(&self) -> WorkspaceId {
        self.workspace
    }
}

/// Permission for one action, in one workspace.
#[derive(Clone, Debug)]
pub(crate) struct Grant {
    /// The tenant it holds for.
    pub(crate) workspace: WorkspaceId,
    /// Who acts: for audit lines.
    pub(crate) actor: Arc<str>,
    caller: Caller,
}

impl Grant {
    /// A workflow of the caller's own workspace.
    pub(crate) fn key(&self, workflow: WorkflowId) -> WorkflowKey {
        WorkflowKey { workspace: self.workspace, workflow }
    }

    /// Whether the caller reaches beyond its workspace.
    pub(crate) fn is_of_deployment(&self) -> bool {
        self.caller.deployment
    }

    /// The workspace that a request names: the caller's own when it names none.
    /// A foreign one is not there, unless the caller is the deployment's.
    pub(crate) fn enter(&self, named: Option<WorkspaceId>) -> Result<WorkspaceId, ApiError> {
        match named {
            Some(id) if id != self.workspace && !self.caller.deployment => {
                Err(ApiError::not_found("workspace", &id.to_string()))
            }
            named => Ok(named.unwrap_or(self.workspace)),
        }
    }

    /// Refuses the request unless the caller may hand these roles on: those that
    /// it has. An admin, who may do everything, has all.
    pub(crate) fn hand_on(&self, roles: &[Role]) -> Result<(), ApiError> {
        if roles.is_empty() {
            let told = "at least one of producer, approver, operator, auditor, admin";
            return Err(ApiError::invalid("roles", told));
        }
        let own = &self.caller.roles;
        match roles.iter().find(|role| !own.contains(role) && !own.contains(&Role::Admin)) {
            Some(role) => Err(ApiError::forbidden(format!("this token has not the role {role} itself"))),
            None => Ok(()),
        }
    }

    /// Refuses the request unless its caller may do this, too: for what only
    /// the body asks for.
    pub(crate) fn also(&self, action: Action) -> Result<(), ApiError> {
        authorize(&self.caller, action)
    }
}

/// An action as a type, so that a handler's signature says what it takes.
pub(crate) trait Permission {
    const ACTION: Action;
}

macro_rules! permissions {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        $($(#[$doc])*
        #[derive(Debug)]
        pub(crate) enum $name {}

        impl Permission for $name {
            const ACTION: Action = Action::$name;
        })*
    };
}

permissions! {
    Read, SubmitWorkflow, CancelWorkflow, StoreTemplate, ControlQueue, RepairDeadLetter, ReadAudit,
    MakeWorkspace, IssueToken, ManageKeys, ReadKeys, EditPost, ApprovePost, ResolvePost, SetAutomation, SetBudget, SetProviders, SetPrompts,
    ManageAccounts, ManageSchedules,
}

/// Extracts the permission for `P`, or refuses the request.
#[derive(Debug)]
pub(crate) struct May<P>(Grant, PhantomData<P>);

impl<P> Deref for May<P> {
    type Target = Grant;

    fn deref(&self) -> &Grant {
        &self.0
    }
}

impl<S: Sync, P: Permission> FromRequestParts<S> for May<P> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        // A route that was put outside the token check is closed, not open.
        let caller = parts.extensions.get::<Caller>().ok_or_else(ApiError::unauthenticated)?;
        authorize(caller, P::ACTION)?;
        let (workspace, actor) = (caller.workspace, Arc::clone(&caller.subject));
        Ok(Self(Grant { workspace, actor, caller: caller.clone() }, PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use galley_core::ids::WorkspaceId;
    use uuid::Uuid;

    use super::*;

    /// Rows: actions; columns: producer, approver, operator, auditor, admin.
    const TABLE: [(Action, [bool; 5]); 20] = [
        (Action::SetBudget, [false, false, false, false, true]),
        (Action::SetProviders, [false, false, false, false, true]),
        (Action::SetPrompts, [false, false, false, false, true]),
        (Action::Read, [true, true, true, true, true]),
        (Action::SubmitWorkflow, [true, false, true, false, true]),
        (Action::CancelWorkflow, [true, false, true, false, true]),
        (Action::StoreTemplate, [true, false, true, false, true]),
        (Action::ControlQueue, [false, false, true, false, true]),
        (Action::RepairDeadLetter, [false, false, true, false, true]),
        (Action::ReadAudit, [false, false, false, true, true]),
        (Action::MakeWorkspace, [false, false, false, false, true]),
        (Action::IssueToken, [false, false, false, false, true]),
        (Action::ManageKeys, [false, false, false, false, true]),
        (Action::ReadKeys, [false, false, false, true, true]),
        (Action::EditPost, [true, true, false, false, true]),
        (Action::ApprovePost, [false, true, false, false, true]),
        (Action::ResolvePost, [false, true, true, false, true]),
        (Action::SetAutomation, [false, false, false, false, true]),
        (Action::ManageAccounts, [false, false, true, false, true]),
        (Action::ManageSchedules, [true, false, true, false, true]),
    ];

    #[test]
    fn each_role_may_what_the_table_says() {
        for (action, expected) in TABLE {
            for (role, expected) in Role::ALL.into_iter().zip(expected) {
                let caller = Caller::new(WorkspaceId(Uuid::nil()), "a".into(), vec![role]);
                let wide = ["MakeWorkspace", "ControlQueue"].contains(&format!("{action:?}").as_str());
                let allowed = authorize(&caller, action).is_ok();
                assert_eq!(allowed, expected && !wide, "{role} {action:?}");
                let allowed = authorize(&caller.of_deployment(true), action).is_ok();
                assert_eq!(allowed, expected, "the deployment's {role} {action:?}");
                let key = Caller::new(WorkspaceId(Uuid::nil()), "key:a".into(), vec![role]).of_key();
                let inner = ["IssueToken", "ManageKeys"].contains(&format!("{action:?}").as_str());
                assert_eq!(
                    authorize(&key, action).is_ok(),
                    expected && !wide && !inner,
                    "a key's {role} {action:?}"
                );
            }
            let nobody = Caller::new(WorkspaceId(Uuid::nil()), "a".into(), vec![]);
            assert!(authorize(&nobody, action).is_err(), "no role, {action:?}");
        }
    }
}
