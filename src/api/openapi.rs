//! The API's description, made from the same list as its routes.

use axum::body::Bytes;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::openapi::{ContentBuilder, Ref, RefOr, ResponseBuilder};
use utoipa::{Modify, OpenApi};

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

struct Bearer;

impl Modify for Bearer {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        let components = openapi.components.get_or_insert_default();
        let mut http = Http::new(HttpAuthScheme::Bearer);
        http.bearer_format = Some("JWT".into());
        components.add_security_scheme("bearer", SecurityScheme::Http(http));
    }
}

/// Everything but the routes.
pub(crate) fn frame() -> utoipa::openapi::OpenApi {
    Description::openapi()
}

/// The description of the whole API.
pub fn openapi() -> utoipa::openapi::OpenApi {
    finish(open_routes().merge(closed_routes()).into_openapi())
}

/// The description as it is served.
pub(crate) fn render(api: utoipa::openapi::OpenApi) -> Bytes {
    // Maps with text keys and plain values: this cannot fail.
    serde_json::to_vec(&finish(api)).unwrap_or_default().into()
}

/// Every operation can answer with a problem: said once, here.
fn finish(mut api: utoipa::openapi::OpenApi) -> utoipa::openapi::OpenApi {
    let problem = ResponseBuilder::new()
        .description("A problem: what failed, for which id, what to do next")
        .content(
            "application/problem+json",
            ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build(),
        )
        .build();
    for path in api.paths.paths.values_mut() {
        let operations = [&mut path.get, &mut path.put, &mut path.post, &mut path.delete, &mut path.patch];
        for operation in operations.into_iter().flatten() {
            operation.responses.responses.insert("default".into(), RefOr::T(problem.clone()));
        }
    }
    api
}
