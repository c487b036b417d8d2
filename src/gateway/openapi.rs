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
        description = "Workers in any language: connect, lease steps, pay for calls, report what became of it all.\n\n\
            Takes tokens of workers only (`galley token issue --worker --agents a,b`). Every call may be repeated. \
            Errors are RFC 9457 problems as the API's. docs/workers.md tells how to write a worker."
    ),
    components(schemas(Problem, ProblemAt)),
    security(("bearer" = [])),
    modifiers(&Bearer),
    tags(
        (name = "sessions", description = "A worker's lease on everything it runs"),
        (name = "steps", description = "Lease steps, and report what became of them"),
        (name = "money", description = "Reserve what a call may cost, settle what it did cost"),
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

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn described() -> Value {
        serde_json::to_value(openapi()).expect("a description is JSON")
    }

    /// A schema's fields, those that must be there with a star.
    fn fields(schema: &Value) -> String {
        if let Some(words) = schema["enum"].as_array() {
            let words: Vec<_> = words.iter().filter_map(Value::as_str).collect();
            return words.join(" | ");
        }
        let needed = |name: &str| schema["required"].as_array().is_some_and(|all| all.contains(&name.into()));
        let named = schema["properties"].as_object().into_iter().flatten();
        let named: Vec<_> =
            named.map(|(name, _)| format!("{name}{}", if needed(name) { "*" } else { "" })).collect();
        named.join(" ")
    }

    /// What workers in other languages rely on: routes, and the fields of what
    /// goes in and comes out.
    #[test]
    fn the_routes_and_what_they_carry_are_these() {
        let api = described();
        let mut told = Vec::new();
        for (path, item) in api["paths"].as_object().expect("paths") {
            for (method, operation) in item.as_object().expect("operations") {
                let id = operation["operationId"].as_str().unwrap_or("?");
                let problem = &operation["responses"]["default"]["content"]["application/problem+json"];
                assert_eq!(problem["schema"]["$ref"], "#/components/schemas/Problem", "{path}");
                assert!(operation["summary"].as_str().is_some_and(|text| text.ends_with('.')), "{path}");
                told.push(format!("{path} {} {id}", method.to_uppercase()));
            }
        }
        told.sort();
        for (name, schema) in api["components"]["schemas"].as_object().expect("schemas") {
            told.push(format!("{name}: {}", fields(schema)));
        }
        insta::assert_snapshot!(told.join("\n"));
    }
}
