//! Leasing: a worker waits for steps that it can start now.
//!
//! The wait is a task of its own. What it claimed is handed out, or goes back:
//! also when the worker hung up meanwhile. A reply that was written and never
//! arrived is found by the worker's heartbeats.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use galley_edge::ApiError;
use galley_edge::body::Body;
use galley_engine::{Claimed, Lease, Outcome, Report, Room};
use serde_json::value::to_raw_value;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::config::GatewayState;
use crate::door::Pass;
use crate::report::give_claims_back;
use crate::seal::{Carried, session_over};
use crate::session::{hear, held};
use crate::views::{LeaseSteps, LeasedStep, LeasedSteps};

/// Whoever waits looks this often although nobody woke it.
const LOOK_EVERY: Duration = Duration::from_secs(3);

/// How long a call waits at most for a step that may not run beside what runs:
/// only the worker can tell that it runs less.
const CROWDED_WAIT: Duration = Duration::from_millis(500);

/// Leases steps that can start now; waits for the first one.
///
/// The worker begins at once with what it gets. A call whose reply is lost is
/// simply made again.
#[utoipa::path(
    post, path = "/v1/lease", operation_id = "lease", tag = "steps",
    request_body = LeaseSteps,
    responses((status = 200, description = "The steps; none when nothing came in time", body = LeasedSteps)),
)]
pub(crate) async fn lease(
    State(state): State<GatewayState>,
    pass: Pass,
    Body(wish): Body<LeaseSteps>,
) -> Result<Json<LeasedSteps>, ApiError> {
    let carried = state.seal.read_session(&pass, &wish.session)?;
    let holding = held(&state, &pass, &carried, &wish.holding)?;
    if wish.max == Some(0) {
        return Err(ApiError::invalid("max", "at least 1"));
    }
    let stop = hear(&state, &carried, &wish.holding, &holding).await?;
    let room = carried.concurrency.saturating_sub(holding.len());
    let asked = wish.max.map_or(usize::MAX, |max| usize::try_from(max).unwrap_or(usize::MAX));
    let most = room.min(asked).min(state.limits.largest_batch);
    if most == 0 {
        return Ok(Json(LeasedSteps { steps: Vec::new(), stop }));
    }
    let wait = wish.wait_ms.map_or(state.limits.longest_wait, Duration::from_millis);
    let until = Instant::now() + wait.min(state.limits.longest_wait);
    let (reply, answer) = oneshot::channel();
    let wait = Wait { state: state.clone(), carried, holding, most, until };
    tokio::spawn(wait.answer(reply));
    let claims = answer.await.map_err(|_| ApiError::internal("a wait for steps ended early"))??;
    let steps = claims.into_iter().map(|claim| step(&state, &pass, claim)).collect::<Result<_, _>>()?;
    Ok(Json(LeasedSteps { steps, stop }))
}

fn step(state: &GatewayState, pass: &Pass, claim: Claimed) -> Result<LeasedStep, ApiError> {
    let lease = state.seal.lease(pass, &Lease::of(&claim))?;
    let inbox = to_raw_value(&*claim.inbox)
        .map_err(|error| ApiError::internal(format!("an inbox does not serialize: {error}")))?;
    Ok(LeasedStep {
        lease,
        agent: claim.agent.to_string(),
        workspace_id: claim.ticket.workspace.to_string(),
        workflow_id: claim.ticket.workflow.to_string(),
        attempt: claim.attempt,
        timeout_ms: u64::try_from(claim.timeout.as_millis()).unwrap_or(u64::MAX),
        traceparent: claim.traceparent.as_deref().map(str::to_owned),
        input: (*claim.input).clone(),
        inbox,
        effect_key: claim.effect_key,
        step: claim.step_name,
    })
}

type Answer = Result<Vec<Claimed>, ApiError>;

/// One wait for steps.
struct Wait {
    state: GatewayState,
    carried: Carried,
    holding: Vec<Lease>,
    most: usize,
    until: Instant,
}

impl Wait {
    async fn answer(self, mut reply: oneshot::Sender<Answer>) {
        let found = self.wait(&mut reply).await;
        if let Err(Ok(claims)) = reply.send(found) {
            self.give_back(&claims).await;
        }
    }

    /// Looks until there is something, or time is up.
    async fn wait(&self, reply: &mut oneshot::Sender<Answer>) -> Answer {
        let agents = &self.carried.agents;
        // Not always the same one first.
        let mut first = rand::random_range(0..agents.len().max(1));
        loop {
            let woken = self.state.hub.woken(agents);
            let (claims, crowded) = self.look(first).await?;
            let claims = self.check_inputs(claims).await?;
            if !claims.is_empty() {
                return self.hand_out(claims).await;
            }
            let patience =
                if crowded { CROWDED_WAIT } else { LOOK_EVERY.mul_f64(rand::random_range(0.75..1.25)) };
            tokio::select! {
                () = woken => {}
                () = tokio::time::sleep(patience) => {
                    if crowded {
                        return Ok(Vec::new());
                    }
                }
                () = tokio::time::sleep_until(self.until) => return Ok(Vec::new()),
                () = reply.closed() => return Ok(Vec::new()),
                () = self.state.closing.cancelled() => return Ok(Vec::new()),
            }
            first += 1;
        }
    }

    /// One look into the queues of all agents, from the `first` one; what was
    /// claimed, and whether something waits until the worker runs less.
    async fn look(&self, first: usize) -> Result<(Vec<Claimed>, bool), ApiError> {
        let agents = &self.carried.agents;
        let (mut claims, mut holding, mut crowded) = (Vec::new(), self.holding.clone(), false);
        for agent in agents.iter().cycle().skip(first % agents.len().max(1)).take(agents.len()) {
            let most = self.most - claims.len();
            if most == 0 {
                break;
            }
            let room = Room { concurrency: self.carried.concurrency, holding: &holding };
            match self.state.engine.lease_outside(self.carried.session, agent, &room, most).await {
                Ok(leased) => {
                    if leased.more {
                        self.state.hub.pass_on(agent);
                    }
                    crowded |= leased.crowded;
                    holding.extend(leased.claims.iter().map(Lease::of));
                    claims.extend(leased.claims);
                }
                Err(error) if claims.is_empty() => return Err(error.into()),
                Err(error) => {
                    tracing::debug!(%error, "a queue cannot be looked into; what was found goes out");
                    break;
                }
            }
        }
        Ok((claims, crowded))
    }

    /// Those whose input fits; the others fail for good, and nobody sees them.
    async fn check_inputs(&self, claims: Vec<Claimed>) -> Answer {
        let mut good = Vec::with_capacity(claims.len());
        let mut rest = claims.into_iter();
        while let Some(claim) = rest.next() {
            let refused = match self.schemas_refuse(&claim).await {
                Ok(None) => {
                    good.push(claim);
                    continue;
                }
                Ok(Some(report)) => self.state.committer.record(report).await.map(drop),
                Err(error) => Err(error),
            };
            if let Err(error) = refused {
                // All of them: what nobody gives back is held by a worker that
                // never hears of it. One that was recorded after all stays so.
                good.push(claim);
                good.extend(rest);
                self.give_back(&good).await;
                return Err(error);
            }
        }
        Ok(good)
    }

    async fn schemas_refuse(&self, claim: &Claimed) -> Result<Option<Report>, ApiError> {
        let schemas = self.state.schemas.of(&claim.agent).await?;
        Ok(schemas.refuse(claim).map(|error| Report::of(claim, 0, Outcome::Failed(error))))
    }

    /// The last look before a worker hears of its steps: is its session open
    /// still?
    async fn hand_out(&self, claims: Vec<Claimed>) -> Answer {
        match self.state.engine.hand_out(self.carried.session, &claims).await {
            Ok(true) => Ok(claims),
            Ok(false) => {
                self.give_back(&claims).await;
                Err(session_over())
            }
            Err(error) => {
                // They are the worker's. If the reply is lost, too, they are
                // overdue some time.
                tracing::debug!(%error, "could not write down what was handed out");
                Ok(claims)
            }
        }
    }

    async fn give_back(&self, claims: &[Claimed]) {
        if let Err(error) = give_claims_back(&self.state, claims).await {
            tracing::warn!(
                ?error,
                "could not give steps back that nobody waits for; they are overdue some time"
            );
        }
    }
}
