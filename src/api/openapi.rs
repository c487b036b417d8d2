//! The API's description, made from the same list as its routes.

use galley_edge::openapi::{Bearer, finish};
use utoipa::OpenApi;

use crate::router::{closed_routes, open_routes};
use crate::views::{ApprovalStatus, LetterStatus, PostState, Problem, ProblemAt, StepEvent, WorkflowEvent};

/// What the description says beside its routes.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Galley",
        description = "Workflows of AI agents: submitted once, run once, shown in full.\n\n\
            Errors are RFC 9457 problems; `type` is stable, `instance` is the request's id, which every \
            answer also carries as `x-request-id`. Lists are pages: hand `nextCursor` back as `cursor`, \
            with the same filter. Money is in millionths of a US dollar, times are RFC 3339."
    ),
    components(schemas(Problem, ProblemAt, StepEvent, WorkflowEvent, LetterStatus, PostState, ApprovalStatus)),
    security(("bearer" = [])),
    modifiers(&Bearer),
    tags(
        (name = "workflows", description = "Submit, list, show, watch and cancel workflows"),
        (name = "templates", description = "Named, versioned definitions"),
        (name = "tasks", description = "The history of steps"),
        (name = "posts", description = "What goes out: show, edit, reschedule, reject, resolve"),
        (name = "approvals", description = "Questions to people: approve, reject, edit and approve"),
        (name = "automation", description = "The workspace's policy"),
        (name = "budget", description = "What may be spent, and what was"),
        (name = "prompts", description = "What agents ask their models with: the deployment's, or the workspace's own"),
        (name = "accounts", description = "Connections to platforms"),
        (name = "schedules", description = "Workflows that are submitted again and again"),
        (name = "agents", description = "Agent types as workers registered them"),
        (name = "queues", description = "One queue per agent type: depth, pause, limits"),
        (name = "workers", description = "The processes that run steps"),
        (name = "dead-letters", description = "Steps that need a person: show, retry, discard"),
        (name = "workspaces", description = "Tenants, and the tokens that open them"),
        (name = "audit", description = "What people and keys did"),
        (name = "why", description = "What something waits for"),
        (name = "health", description = "Whether the process lives and can work"),
    )
)]
struct Description;

/// Everything but the routes.
pub(crate) fn frame() -> utoipa::openapi::OpenApi {
    Description::openapi()
}

/// The description of the whole API.
pub fn openapi() -> utoipa::openapi::OpenApi {
    finish(open_routes().merge(closed_routes()).into_openapi())
}
