//! Every JSON shape that crosses the gateway's edge. Fields are camelCase, times
//! are milliseconds, money is millionths of a US dollar. Requests refuse fields
//! they do not know, answers may gain fields.

use galley_core::ids::AgentType;
use galley_core::message::Says;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;
use utoipa::ToSchema;

/// A worker, and what it offers.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Connect {
    /// Its name among workers, 1-100 bytes: what `galley worker list` shows.
    pub worker: String,
    /// The agents it serves, 1-32; the token has to be for each of them.
    pub agents: Vec<Offer>,
    /// Steps it runs at once, 1-1000.
    #[serde(default = "one")]
    #[schema(minimum = 1, maximum = 1000, default = 1)]
    pub concurrency: u32,
    /// The machine it runs on, for people.
    #[serde(default)]
    pub host: String,
    /// Its process id there, for people.
    #[serde(default)]
    pub pid: u32,
    /// What it runs, for people: `summariser 1.4, Python 3.13`.
    #[serde(default)]
    pub release: String,
}

fn one() -> u32 {
    1
}

/// An agent type, as its worker defines it.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Offer {
    /// The agent type: 1-48 of a-z, 0-9 and _, beginning with a letter.
    #[schema(value_type = String)]
    pub agent: AgentType,
    /// One line for people.
    #[serde(default)]
    pub description: String,
    /// JSON Schema of a step's input, `{brief, params, results, item?}`;
    /// anything when absent. A step whose input does not fit is a dead letter,
    /// and no worker sees it.
    #[serde(default = "anything")]
    #[schema(value_type = Object)]
    pub input_schema: Value,
    /// JSON Schema of the output; anything when absent.
    #[serde(default = "anything")]
    #[schema(value_type = Object)]
    pub output_schema: Value,
    /// How steps of this agent are retried, unless a workflow says otherwise.
    #[serde(default)]
    pub retry: OfferedRetry,
    /// An input to try it with, for people.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    pub example: Option<Value>,
}

fn anything() -> Value {
    Value::Bool(true)
}

/// How steps are retried; what is absent is as usual.
#[derive(Clone, Copy, Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct OfferedRetry {
    /// Attempts before a step is dead; 5 when absent.
    pub max_attempts: Option<u16>,
    /// Crashes of workers before a step is dead; 4 when absent.
    pub max_crashes: Option<u16>,
    /// First back-off, milliseconds; 500 when absent.
    pub backoff_ms: Option<u64>,
    /// Largest back-off, milliseconds; 60000 when absent.
    pub max_backoff_ms: Option<u64>,
    /// Longest run of one attempt, milliseconds; 300000 when absent.
    pub timeout_ms: Option<u64>,
}

/// An open session, and the times to keep.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Connected {
    /// The session: hand it back with every heartbeat and lease.
    pub session: String,
    /// Send a heartbeat at least this often, milliseconds.
    pub heartbeat_ms: u64,
    /// When no heartbeat was answered for this long, milliseconds: stop every
    /// step, drop its result, and connect anew. The steps are about to be
    /// somebody else's.
    pub fence_ms: u64,
    /// After this long without a sign of life the session is over.
    pub session_ttl_ms: u64,
    /// The longest that a lease call waits for steps, milliseconds.
    pub longest_wait_ms: u64,
    /// The most steps of one lease call.
    pub largest_batch: u32,
}

/// A sign of life, with what the worker runs.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Heartbeat {
    /// The session.
    pub session: String,
    /// The leases of all steps that run.
    pub holding: Vec<String>,
}

/// What a worker should know.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Heard {
    /// The leases among those held that nobody waits for any more: cancelled,
    /// overtaken, or reported. Stop working on them.
    pub stop: Vec<String>,
}

/// A wish for steps.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LeaseSteps {
    /// The session.
    pub session: String,
    /// The leases of all steps that run: what is handed out can start beside
    /// them, now.
    #[serde(default)]
    pub holding: Vec<String>,
    /// At most so many steps; as many as there is room for when absent.
    #[serde(default)]
    #[schema(minimum = 1)]
    pub max: Option<u32>,
    /// How long to wait for the first one, milliseconds; as long as a call may
    /// when absent, not at all when 0.
    #[serde(default)]
    pub wait_ms: Option<u64>,
}

/// Steps, leased; none when nothing came in time.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct LeasedSteps {
    /// The steps.
    pub steps: Vec<LeasedStep>,
    /// As a heartbeat's.
    pub stop: Vec<String>,
}

/// A step to run: all that an attempt knows.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct LeasedStep {
    /// What every report about this attempt carries.
    pub lease: String,
    /// The agent type.
    pub agent: String,
    /// The workspace.
    pub workspace_id: String,
    /// The workflow.
    pub workflow_id: String,
    /// The step's name.
    pub step: String,
    /// Which attempt this is; the first is 1.
    pub attempt: u16,
    /// The same for every attempt of this step, and for no other step. Give it
    /// to any outside system that can drop a repeated request: an attempt may
    /// run twice.
    pub effect_key: String,
    /// Longest run of this attempt, milliseconds, from now. Past it the step is
    /// taken from it.
    pub timeout_ms: u64,
    /// The W3C trace the workflow was submitted with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
    /// `{brief, params, results, item?}`.
    #[schema(value_type = Object)]
    pub input: Value,
    /// What the workflow's other agents said to this step, and what they
    /// remember together: `{messages, context, dropped}`.
    #[schema(value_type = Object)]
    pub inbox: Box<RawValue>,
}

/// All that an attempt cost, its settled calls among it, and where it ran.
/// What is absent is what its settled calls say.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Bill {
    /// Who answered: `openai`, …
    pub provider: Option<String>,
    /// The model's name at its provider.
    pub model: Option<String>,
    /// Prompt tokens.
    pub tokens_in: u32,
    /// Completion tokens.
    pub tokens_out: u32,
    /// Cost in millionths of a US dollar.
    pub cost_micros: u64,
    /// Whether the answer came from a cache.
    pub cache_hit: bool,
}

/// An attempt that succeeded.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Complete {
    /// Which attempt.
    pub lease: String,
    /// The output, any JSON. It is checked against the agent's output schema.
    #[schema(value_type = Object)]
    pub output: Box<RawValue>,
    /// What it says to the workflow's other agents, and adds to their shared
    /// context: `{messages, context}`. Written with the output or not at all.
    #[serde(default)]
    #[schema(value_type = Object)]
    pub says: Says,
    /// What it cost.
    #[serde(default)]
    pub usage: Bill,
    /// How long it ran on the worker's own monotonic clock, milliseconds.
    #[serde(default)]
    pub duration_ms: u32,
}

/// An attempt that failed.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Fail {
    /// Which attempt.
    pub lease: String,
    /// A short, stable, snake_case name of the kind of error, 1-48 bytes: dead
    /// letters are grouped by it.
    pub class: String,
    /// What happened, for a person.
    pub message: String,
    /// What should follow.
    #[serde(default)]
    pub retry: AfterFailure,
    /// Of `throttled`: not before so many milliseconds from now.
    #[serde(default)]
    pub retry_after_ms: Option<u64>,
    /// Of `unfunded`: what the next call may cost at most, millionths of a US
    /// dollar.
    #[serde(default)]
    pub needed_micros: Option<u64>,
    /// What it cost all the same.
    #[serde(default)]
    pub usage: Bill,
    /// How long it ran on the worker's own monotonic clock, milliseconds.
    #[serde(default)]
    pub duration_ms: u32,
}

/// What should follow a failed attempt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AfterFailure {
    /// Another attempt, after a back-off.
    #[default]
    Transient,
    /// None: the same input will fail again. A dead letter at once.
    Permanent,
    /// Another attempt, later, as somebody asked for (`retryAfterMs`): this one
    /// does not count.
    Throttled,
    /// A budget has no room for the next call (`neededMicros`): the step waits
    /// for money and goes on by itself; this attempt does not count. Where every
    /// budget has room for the call it is as `transient`.
    Unfunded,
}

/// A call that costs something, before it is made.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ReserveCall {
    /// Which attempt makes it.
    pub lease: String,
    /// Which call of the attempt it is: 0, 1, …
    #[schema(maximum = 9999)]
    pub call: u16,
    /// Who is asked, 1-100 bytes: `openai`, …
    pub provider: String,
    /// For which model, 1-100 bytes.
    pub model: String,
    /// The most it can cost, millionths of a US dollar.
    pub bound_micros: u64,
}

/// A call that may be made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct CallReserved {
    /// True: its bound is reserved, by this call or by an earlier one whose
    /// answer was lost.
    pub reserved: bool,
}

/// What a call came to.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SettleCall {
    /// Which attempt made it.
    pub lease: String,
    /// Which call of the attempt it was.
    #[schema(maximum = 9999)]
    pub call: u16,
    /// What it cost, millionths of a US dollar; absent when nobody can know: it
    /// is charged at its bound, until a bill comes.
    #[serde(default)]
    pub cost_micros: Option<u64>,
    /// Prompt tokens.
    #[serde(default)]
    pub tokens_in: u32,
    /// Completion tokens.
    #[serde(default)]
    pub tokens_out: u32,
}

/// What became of a bill.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct CallSettled {
    /// `now`; `before`: an earlier one stands; `late`: in place of an estimate;
    /// `over_bound`: as it is, and it is more than was reserved.
    pub booked: String,
}

/// Attempts that will not run here.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GiveBack {
    /// Which; they do not count, and start elsewhere at once.
    pub leases: Vec<String>,
}

/// The end of a session.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Close {
    /// The session.
    pub session: String,
    /// What it still holds: given back first.
    #[serde(default)]
    pub holding: Vec<String>,
}

/// What was recorded of an attempt, by this call or by an earlier one whose
/// answer was lost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Recorded {
    /// How the attempt of this report ended: `succeeded`, `failed` or
    /// `given_back`. An output that does not fit its schema is a failure.
    pub outcome: String,
    /// Of a failure: its class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
    /// Of a failure: what happened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// That something was done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Done {
    /// How many leases were given back; the others were nobody's any more.
    pub given_back: usize,
}
