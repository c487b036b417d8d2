//! Every route, on one page. A line here is also a line in `/openapi.json`.

use axum::http::header::CONTENT_TYPE;
use axum::middleware::from_fn_with_state;
use axum::routing::get;
use galley_edge::{health, layered};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::auth::require_token;
use crate::config::ApiState;
use crate::openapi;
use crate::rate::limit_rate;
use crate::resources::{
    accounts, agents, approvals, audit, automation, budgets, dead_letters, events, keys, messages, posts,
    prompts, providers, queues, schedules, tasks, templates, tokens, why, workers, workflows, workspaces,
};

/// Routes that take a token.
pub(crate) fn closed_routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new()
        .routes(routes!(workflows::list, workflows::submit))
        .routes(routes!(workflows::show))
        .routes(routes!(workflows::cancel))
        .routes(routes!(events::stream))
        .routes(routes!(messages::list))
        .routes(routes!(messages::follow))
        .routes(routes!(messages::context))
        .routes(routes!(templates::list, templates::store))
        .routes(routes!(templates::show))
        .routes(routes!(tasks::list))
        .routes(routes!(tasks::show))
        .routes(routes!(posts::list))
        .routes(routes!(posts::show, posts::edit))
        .routes(routes!(posts::reschedule))
        .routes(routes!(posts::reject))
        .routes(routes!(posts::resolve))
        .routes(routes!(approvals::list))
        .routes(routes!(approvals::show))
        .routes(routes!(approvals::approve))
        .routes(routes!(approvals::reject))
        .routes(routes!(approvals::edit))
        .routes(routes!(automation::get, automation::set))
        .routes(routes!(budgets::get, budgets::set))
        .routes(routes!(budgets::set_workflow))
        .routes(routes!(budgets::spend))
        .routes(routes!(providers::list))
        .routes(routes!(providers::set, providers::remove))
        .routes(routes!(prompts::list))
        .routes(routes!(prompts::show, prompts::set, prompts::reset))
        .routes(routes!(prompts::preview))
        .routes(routes!(accounts::list, accounts::add))
        .routes(routes!(accounts::remove))
        .routes(routes!(accounts::test))
        .routes(routes!(schedules::list, schedules::add))
        .routes(routes!(schedules::show, schedules::set, schedules::remove))
        .routes(routes!(schedules::pause))
        .routes(routes!(schedules::resume))
        .routes(routes!(schedules::run))
        .routes(routes!(agents::list))
        .routes(routes!(messages::patterns))
        .routes(routes!(agents::show))
        .routes(routes!(queues::list))
        .routes(routes!(queues::pause))
        .routes(routes!(queues::resume))
        .routes(routes!(queues::limit))
        .routes(routes!(workers::list))
        .routes(routes!(dead_letters::list))
        .routes(routes!(dead_letters::groups))
        .routes(routes!(dead_letters::retry_matching))
        .routes(routes!(dead_letters::discard_matching))
        .routes(routes!(dead_letters::show))
        .routes(routes!(dead_letters::retry))
        .routes(routes!(dead_letters::discard))
        .routes(routes!(workspaces::list, workspaces::create))
        .routes(routes!(tokens::issue))
        .routes(routes!(tokens::revoke))
        .routes(routes!(keys::list, keys::create))
        .routes(routes!(keys::revoke))
        .routes(routes!(audit::list))
        .routes(routes!(audit::export))
        .routes(routes!(audit::checkpoint))
        .routes(routes!(why::show))
}

/// Routes that take none: they say nothing about any workspace.
pub(crate) fn open_routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::with_openapi(openapi::frame())
        .routes(routes!(health::health))
        .routes(routes!(health::ready))
}

/// The API as a service.
pub fn router(state: ApiState) -> axum::Router {
    let closed = closed_routes().route_layer(from_fn_with_state(state.clone(), limit_rate));
    let closed = closed.route_layer(from_fn_with_state(state.clone(), require_token));
    let (router, api) = open_routes().merge(closed).split_for_parts();
    let description = galley_edge::openapi::render(api);
    let describe = move || std::future::ready(([(CONTENT_TYPE, "application/json")], description));
    layered(router.route("/openapi.json", get(describe)), state.limits.http()).with_state(state)
}
