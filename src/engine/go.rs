//! In the mode `manual` a step waits for a person's go before it runs, bound to
//! the hash of the input it would run with. A publish step does not: the
//! approval of its post is its go.

use galley_core::decide::Event;
use galley_core::hash;
use galley_core::ids::{AgentType, ApprovalId};
use galley_core::run::StepState;
use galley_core::ticket::Ticket;
use galley_probe::{Point, point};
use galley_store::PostOp;
use uuid::Uuid;

use crate::engine::Engine;
use crate::error::EngineError;
use crate::policy::Policy;
use crate::transition::{Command, PostRecord, Record, Verdict};

impl Engine {
    /// Holds the tickets whose steps need a go they do not have; answers with
    /// the others. What cannot be looked at now returns at its deadline.
    pub(crate) async fn hold_for_go(
        &self,
        tickets: Vec<(AgentType, Ticket)>,
    ) -> Result<Vec<(AgentType, Ticket)>, EngineError> {
        let mut free = Vec::with_capacity(tickets.len());
        for (agent, ticket) in tickets {
            let policy = self.recent_policy(ticket.workspace).await?;
            if !policy.config.needs_go(&agent) || !self.held_for_go(&agent, &ticket, &policy).await? {
                free.push((agent, ticket));
            }
        }
        Ok(free)
    }

    async fn held_for_go(
        &self,
        agent: &AgentType,
        ticket: &Ticket,
        policy: &Policy,
    ) -> Result<bool, EngineError> {
        let history = match self.history(ticket.key()).await {
            Ok(history) => history,
            // The claim finds out that it is over, or tells what cannot be opened.
            Err(EngineError::NotFound { .. } | EngineError::Sealed(_)) => return Ok(false),
            Err(error) => return Err(error),
        };
        let run = &history.workflow.run;
        let Some(step) = run.step(ticket.step) else { return Ok(false) };
        if step.go || step.state != StepState::Queued || step.epoch != ticket.epoch {
            return Ok(false);
        }
        let input = history.step_input(ticket.step);
        let op = PostOp::Ask {
            approval: ApprovalId(Uuid::now_v7()),
            kind: "go",
            step_name: run.step_name(&history.workflow.plan, ticket.step),
            post: None,
            content_hash: hex::encode(hash::of_value(&input)),
            reason: "in the mode `manual` every step waits for a person's go".into(),
            expires_s: i64::from(policy.config.approval_expiry_hours) * 3_600,
        };
        let record = PostRecord { ops: vec![op], ..PostRecord::default() };
        let event = Event::NeedsGo { step: ticket.step, epoch: ticket.epoch };
        let command = Command { key: ticket.key(), event, record: Record::Post(Box::new(record)) };
        let applied = self.apply(&[command]).await?;
        // Refused: somebody was faster; the claim finds out.
        let held = matches!(applied.verdicts[0], Verdict::Done);
        if held {
            point(Point::ClaimHeld);
            self.push(&[(agent.clone(), *ticket)], &applied).await;
        }
        Ok(held)
    }
}
