//! A workspace's own figures over a period, summed up from what is on record.

use std::collections::HashMap;

use galley_core::figures::{Decisions, Figures, Made, Period, Posts, Spend, Tally, rate};
use galley_core::ids::{WorkflowId, WorkspaceId};
use galley_core::run::Run;
use galley_store::{FinishedRow, Stretch};
use jiff::ToSpan;

use crate::engine::Engine;
use crate::error::EngineError;

/// Workflows that are added up at a time: what bounds the memory this takes.
const PAGE: i64 = 500;

impl Engine {
    /// The figures of the days that end now, by the database's clock.
    ///
    /// # Errors
    /// Postgres is away.
    pub async fn figures(&self, workspace: WorkspaceId, days: u16) -> Result<Figures, EngineError> {
        let policy = self.policy(workspace).await?;
        let zone = policy.config.time_zone.clone();
        let until = policy.now()?;
        let from = until
            .checked_sub((i64::from(days) * 24).hours())
            .map_err(|error| EngineError::Internal(format!("{days} days back: {error}")))?;
        let stretch = Stretch { from: from.to_string(), until: until.to_string() };

        let posts = Posts::of(&self.store().published_counts(workspace, &stretch, &zone).await?);
        let counts = self.store().post_counts(workspace, &stretch).await?;
        let (micros, estimated_micros) = self.store().spent(workspace, &stretch).await?;
        let savings = self.store().savings(workspace).await?;
        let (workflows, agents, models) = self.tally(workspace, &stretch).await?.into_figures();
        Ok(Figures {
            decisions: Decisions {
                made: counts.made,
                approved: counts.approved,
                rejected: counts.rejected,
                expired: counts.expired,
                edited: counts.edited,
                approval_rate: rate(counts.approved, counts.approved + counts.rejected + counts.expired),
            },
            spend: Spend {
                micros,
                estimated_micros,
                per_post_micros: micros.checked_div(posts.published),
                kept_saved_micros: savings.saved_micros,
            },
            period: Period { from: stretch.from, until: stretch.until, days, time_zone: zone },
            posts,
            workflows,
            agents,
            models,
        })
    }

    /// Adds up the workflows that ended in a stretch, page by page.
    async fn tally(&self, workspace: WorkspaceId, stretch: &Stretch) -> Result<Tally, EngineError> {
        let mut tally = Tally::default();
        let mut last: Option<FinishedRow> = None;
        loop {
            let page = self.store().finished_page(workspace, stretch, last.as_ref(), PAGE).await?;
            let ids: Vec<WorkflowId> = page.iter().map(|row| row.workflow).collect();
            let mut results: HashMap<WorkflowId, Vec<Made>> = HashMap::new();
            for (workflow, made) in self.store().made(workspace, &ids).await? {
                results.entry(workflow).or_default().push(made);
            }
            for row in &page {
                let plan = self.caches().plan(self.store(), workspace, row.definition).await?;
                let run = Run::decode(&row.run)
                    .map_err(|error| EngineError::Internal(format!("workflow {}: {error}", row.workflow)))?;
                let results = results.remove(&row.workflow).unwrap_or_default();
                tally.add(&plan, &run, &results);
            }
            if page.len() < PAGE as usize {
                return Ok(tally);
            }
            last = page.into_iter().next_back();
        }
    }
}
