//! Who is calling: a worker, by a token that the deployment's secret signed for
//! it. A token of the API is nobody here.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::{FromRequestParts, Request, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::middleware::Next;
use axum::response::Response;
use galley_core::agent::inside_only;
use galley_core::ids::{AgentType, WorkspaceId};
use galley_edge::ApiError;
use galley_edge::auth::{Checker, Ended, KeySet, TokenRules, bearer, refuse};
use galley_edge::error::Kind;
use secrecy::SecretString;

use crate::config::GatewayState;

const CROWDED: Kind =
    Kind::of_its_own("too-many-calls", "Too many calls at once", StatusCode::TOO_MANY_REQUESTS);

/// Checks workers' tokens.
#[derive(Debug)]
pub(crate) struct Door {
    checker: Checker,
    ended: Ended,
    most: usize,
    /// Calls under way, by whose they are.
    calls: Mutex<HashMap<Arc<str>, usize>>,
}

/// A worker that was let in.
#[derive(Clone, Debug)]
pub(crate) struct Pass {
    /// Whom its token names.
    pub(crate) subject: Arc<str>,
    /// The workspace its token is kept in. It does not bound what it runs.
    pub(crate) workspace: WorkspaceId,
    /// The agent types it may serve.
    agents: Arc<[AgentType]>,
}

impl Pass {
    /// Refuses the call unless the token is for this agent.
    pub(crate) fn allow(&self, agent: &AgentType) -> Result<(), ApiError> {
        if let Some(why) = inside_only(agent) {
            return Err(ApiError::forbidden(why.into()));
        }
        if self.agents.contains(agent) {
            return Ok(());
        }
        let named: Vec<_> = self.agents.iter().map(AgentType::as_str).collect();
        Err(ApiError::forbidden(format!(
            "this token is not for the agent `{agent}`; it is for {}: `galley token issue --worker --agents` issues another",
            named.join(", ")
        )))
    }
}

impl Door {
    pub(crate) fn new(secret: &SecretString, rules: &TokenRules, ended: Ended, most: usize) -> Self {
        // The deployment's own secret alone: what an identity provider lets its
        // users put into a token must not reach all workspaces.
        let checker = Checker::new(secret, KeySet::default(), None, rules.of_workers());
        Self { checker, ended, most: most.max(1), calls: Mutex::default() }
    }

    async fn pass(&self, token: &str) -> Result<Pass, ApiError> {
        let claims = self.checker.check(token).await.map_err(refuse)?;
        let agents: Vec<AgentType> = claims.agents.iter().filter_map(|agent| agent.parse().ok()).collect();
        if agents.is_empty() {
            return Err(refuse("it names no agent".into()));
        }
        let (workspace, id, issued) = (claims.workspace, claims.jti.as_deref(), claims.issued());
        if self.ended.is_revoked(workspace, id, &claims.sub, issued).await? {
            return Err(refuse("it was revoked".into()));
        }
        Ok(Pass { subject: claims.sub.into(), workspace, agents: agents.into() })
    }

    fn begin(self: &Arc<Self>, subject: &Arc<str>) -> Result<UnderWay, ApiError> {
        let mut calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        let count = calls.entry(Arc::clone(subject)).or_default();
        if *count >= self.most {
            let told = format!(
                "{count} calls of this token are under way already; nothing was done, repeat the call later"
            );
            return Err(ApiError::new(CROWDED, told));
        }
        *count += 1;
        Ok(UnderWay { door: Arc::clone(self), subject: Arc::clone(subject) })
    }
}

/// A call that is under way.
struct UnderWay {
    door: Arc<Door>,
    subject: Arc<str>,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let mut calls = self.door.calls.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = calls.get_mut(&self.subject) {
            *count -= 1;
            if *count == 0 {
                calls.remove(&self.subject);
            }
        }
    }
}

/// Lets a worker's call pass. Whoever has no good token has cost a signature
/// check: the body is not read.
pub(crate) async fn require_worker(
    State(state): State<GatewayState>,
    mut request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let token = bearer(request.headers()).ok_or_else(|| refuse("no bearer token".into()))?;
    let pass = state.door.pass(token).await?;
    let _under_way = state.door.begin(&pass.subject)?;
    // Beside what the same name may ask of the API.
    let standing = state.gate.pass(pass.workspace, &format!("worker {}", pass.subject)).await?;
    request.extensions_mut().insert(pass);
    let mut response = next.run(request).await;
    response.headers_mut().extend(standing.map(|standing| standing.headers()).unwrap_or_default());
    Ok(response)
}

impl<S: Sync> FromRequestParts<S> for Pass {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        // A route that was put outside the token check is closed, not open.
        parts.extensions.get::<Self>().cloned().ok_or_else(ApiError::unauthenticated)
    }
}
