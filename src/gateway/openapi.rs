//! The gateway's description, made from the same list as its routes.

use galley_edge::openapi::{Bearer, finish};
use galley_edge::{Problem, ProblemAt};
use utoipa::OpenApi;

use crate::router::{closed_routes, open_routes};

/// What the description says beside its routes.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Galley gateway",
        description = "Workers in any language: connect, lease steps, report what became of them.\n\n\
            Takes tokens of workers only (`galley token issue --worker --agents a,b`). Every call may be repeated. \
            Errors are RFC 9457 problems as the API's. docs/workers.md tells how to write a worker."
    ),
    components(schemas(Problem, ProblemAt)),
    security(("bearer" = [])),
    modifiers(&Bearer),
    tags(
        (name = "sessions", description = "A worker's lease on everything it runs"),
        (name = "steps", description = "Lease steps, and report what became of them"),
        (name = "health", description = "Whether the process lives and can work"),
    )
)]
struct Description;

/// Everything but the routes.
pub(crate) fn frame() -> utoipa::openapi::OpenApi {
    Description::openapi()
}

/// The description of the whole gateway.
pub fn openapi() -> utoipa::openapi::OpenApi {
    finish(open_routes().merge(closed_routes()).into_openapi())
}
