//! Connecting: a worker says what it offers, and gets a session.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use galley_agents::Schema;
use galley_core::agent::AgentSpec;
use galley_core::plan::{Problem, check_retry};
use galley_core::retry::RetryPolicy;
use galley_edge::ApiError;
use galley_edge::body::{Body, to_the_end};
use galley_engine::EngineError;
use galley_engine::store::SessionOpen;
use serde_json::Value;

use crate::config::GatewayState;
use crate::door::Pass;
use crate::seal::Carried;
use crate::views::{Connect, Connected, Offer, OfferedRetry};

/// Most agent types of one session.
const MOST_AGENTS: usize = 32;

/// Most steps that one worker runs at once.
const MOST_AT_ONCE: u32 = 1_000;

/// Longest text about a worker, in bytes.
const MAX_TEXT_BYTES: usize = 100;

/// Longest description of an agent, in bytes.
const MAX_DESCRIPTION_BYTES: usize = 500;

/// Opens a session for a worker, and registers the agents it serves.
///
/// What it says about an agent holds for the whole fleet from now on, as it does
/// when a worker of Galley's own starts.
#[utoipa::path(
    post, path = "/v1/connect", operation_id = "connect", tag = "sessions",
    request_body = Connect,
    responses((status = 201, description = "The session, and the times to keep", body = Connected)),
)]
pub(crate) async fn connect(
    State(state): State<GatewayState>,
    pass: Pass,
    Body(wish): Body<Connect>,
) -> Result<(StatusCode, Json<Connected>), ApiError> {
    wish.agents.iter().try_for_each(|offer| pass.allow(&offer.agent))?;
    let problems = problems(&wish);
    if !problems.is_empty() {
        return Err(EngineError::Invalid(problems).into());
    }
    let agents: Vec<_> = wish.agents.iter().map(|offer| offer.agent.clone()).collect();
    let concurrency = wish.concurrency;
    let open = SessionOpen {
        worker: wish.worker,
        host: if wish.host.is_empty() { "outside".into() } else { wish.host },
        pid: wish.pid,
        release: wish.release,
        agents: agents.iter().map(ToString::to_string).collect(),
        concurrency,
    };
    let specs: Vec<AgentSpec> = wish.agents.into_iter().map(spec).collect();
    let engine = state.engine.clone();
    let session = to_the_end(async move { engine.open_outside(&specs, open).await }).await?;
    agents.iter().for_each(|agent| state.schemas.forget(agent));
    tracing::info!(session.id = %session, subject = %pass.subject, "session {session} is open for a worker outside");
    let carried = Carried { session, agents, concurrency: usize::try_from(concurrency).unwrap_or(1) };
    let config = state.engine.config();
    let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let connected = Connected {
        session: state.seal.session(&pass, &carried)?,
        heartbeat_ms: ms(config.renew_every),
        fence_ms: ms(config.session_ttl.saturating_sub(config.renew_every)),
        session_ttl_ms: ms(config.session_ttl),
        longest_wait_ms: ms(state.limits.longest_wait),
        largest_batch: u32::try_from(state.limits.largest_batch).unwrap_or(u32::MAX),
    };
    Ok((StatusCode::CREATED, Json(connected)))
}

fn spec(offer: Offer) -> AgentSpec {
    AgentSpec {
        agent: offer.agent,
        description: offer.description,
        input_schema: offer.input_schema,
        output_schema: offer.output_schema,
        retry: policy(offer.retry),
        example: offer.example,
        prompt: None,
    }
}

fn policy(retry: OfferedRetry) -> RetryPolicy {
    let usual = RetryPolicy::default();
    RetryPolicy {
        max_attempts: retry.max_attempts.unwrap_or(usual.max_attempts),
        max_crashes: retry.max_crashes.unwrap_or(usual.max_crashes),
        backoff_ms: retry.backoff_ms.unwrap_or(usual.backoff_ms),
        max_backoff_ms: retry.max_backoff_ms.unwrap_or(usual.max_backoff_ms),
        timeout_ms: retry.timeout_ms.unwrap_or(usual.timeout_ms),
    }
}

/// Everything that is wrong with an offer.
fn problems(wish: &Connect) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut text = |at: &str, text: &str, least: usize, most: usize| {
        if !(least..=most).contains(&text.len()) || text.chars().any(char::is_control) {
            problems.push(Problem::new(at, format!("{least}-{most} bytes without control characters")));
        }
    };
    text("worker", &wish.worker, 1, MAX_TEXT_BYTES);
    text("host", &wish.host, 0, MAX_TEXT_BYTES);
    text("release", &wish.release, 0, MAX_TEXT_BYTES);
    for (place, offer) in wish.agents.iter().enumerate() {
        text(&format!("agents[{place}].description"), &offer.description, 0, MAX_DESCRIPTION_BYTES);
    }
    if !(1..=MOST_AT_ONCE).contains(&wish.concurrency) {
        problems.push(Problem::new("concurrency", format!("1 to {MOST_AT_ONCE}")));
    }
    if wish.pid > i32::MAX.unsigned_abs() {
        problems.push(Problem::new("pid", "no process has such an id"));
    }
    if !(1..=MOST_AGENTS).contains(&wish.agents.len()) {
        problems.push(Problem::new("agents", format!("1 to {MOST_AGENTS} agent types")));
    }
    for (place, offer) in wish.agents.iter().enumerate() {
        let at = format!("agents[{place}]");
        if wish.agents[..place].iter().any(|other| other.agent == offer.agent) {
            problems.push(Problem::new(format!("{at}.agent"), format!("`{}` is there twice", offer.agent)));
        }
        let schemas: [(&str, &Value); 2] =
            [("inputSchema", &offer.input_schema), ("outputSchema", &offer.output_schema)];
        for (field, schema) in schemas {
            if let Err(why) = Schema::compile(schema) {
                problems.push(Problem::new(format!("{at}.{field}"), format!("not a JSON Schema: {why}")));
            }
        }
        check_retry(&at, &policy(offer.retry), &mut problems);
    }
    problems
}
