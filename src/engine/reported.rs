//! What an attempt of a worker outside says it cost.
//!
//! Galley sees nothing of its calls but what it is told. So what an attempt
//! reports is the whole of it: calls that were settled are among it and are not
//! booked again; what it is beyond them was never reserved, and is booked when
//! it is reported. History has what the ledger has.

use galley_core::money::Tokens;
use galley_core::report::Usage;
use galley_store::{CounterRow, OnLedger, ReportedWrite};

use crate::budgets::{attempt_of, tell_nearly_used};
use crate::claim::Claimed;
use crate::engine::Engine;
use crate::error::EngineError;

/// Whoever was asked, where nobody says so.
const SOMEBODY: &str = "unknown";

/// Longest name that is kept, in letters.
const LONGEST_NAME: usize = 200;

impl Engine {
    /// Books what an attempt cost beyond its settled calls; answers its bill as
    /// history should have it. Not fenced, and repeatable: the first report
    /// that says a cost stands.
    ///
    /// # Errors
    /// Postgres is away: nobody knows what was committed; repeat.
    pub async fn book_reported(&self, claim: &Claimed, mut usage: Usage) -> Result<Usage, EngineError> {
        let policy = self.recent_policy(claim.ticket.workspace).await?;
        let named = |name: Option<&String>| {
            let name = name.map_or(SOMEBODY, String::as_str);
            name.chars().filter(|letter| *letter != '\0').take(LONGEST_NAME).collect()
        };
        let write = ReportedWrite {
            attempt: attempt_of(claim),
            step_name: claim.step_name.clone(),
            agent: claim.agent.to_string(),
            provider: named(usage.provider.as_ref()),
            model: named(usage.model.as_ref()),
            micros: usage.cost_micros,
            tokens: Tokens { input: usage.tokens_in, cached: 0, output: usage.tokens_out },
            day: policy.day_rule(),
        };
        let OnLedger { micros, tokens, asked, beyond_micros, warnings } =
            self.till().reported.ask(write).await?;
        if beyond_micros > 0 {
            metrics::counter!("galley_calls_total", "bill" => "unreserved").increment(1);
            metrics::counter!("galley_spend_micros_total").increment(beyond_micros);
            tracing::warn!(
                workspace.id = %claim.ticket.workspace,
                micros = beyond_micros,
                "a worker outside paid for calls of `{}` that it had not reserved",
                claim.agent
            );
        }
        warnings.iter().for_each(|warning: &CounterRow| tell_nearly_used(claim.ticket.workspace, warning));
        usage.cost_micros = usage.cost_micros.max(micros);
        usage.tokens_in = usage.tokens_in.max(tokens.input);
        usage.tokens_out = usage.tokens_out.max(tokens.output);
        if let Some((provider, model)) = asked {
            usage.provider.get_or_insert(provider);
            usage.model.get_or_insert(model);
        }
        Ok(usage)
    }
}
