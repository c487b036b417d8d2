//! The agents of the harness: what a worker is given to run besides its own.
//! They do what a step's `params` say, and write down every execution in a
//! file that nobody kills: the true ledger of what ran.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use galley_agents::{FnAgent, RegisterError, Registry, StepContext, output};
use galley_core::agent::AgentSpec;
use galley_core::ids::AgentType;
use galley_core::message::{Inbox, MessageType, Saying};
use galley_core::report::{StepError, StepOutput};
use galley_core::retry::RetryPolicy;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::bills;
use crate::history::Call;

/// Names the file that executions are appended to.
pub const EXECUTIONS: &str = "GALLEY_CHAOS_EXECUTIONS";

/// Writes a post, thinks, and breaks as told.
pub const SCRIBE: &str = "scribe";
/// Kills the process it runs in.
pub const POISON: &str = "poison";
/// Answers what no database can store.
pub const GARBAGE: &str = "garbage";

/// What a step of these agents is told to do.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Orders {
    /// Milliseconds it takes.
    slow_ms: u64,
    /// Fails this many attempts before it succeeds.
    fail_first: u16,
    /// Fails for good.
    permanent: bool,
    /// Asks to wait this many milliseconds, on its first attempt.
    throttle_ms: u64,
    /// Items it answers with, for expansions.
    items: u16,
    /// Writes a post with this text.
    text: Option<String>,
    /// Milliseconds it keeps its thread without awaiting anything, the first
    /// time it runs anywhere: nobody can stop it.
    block_ms: u64,
    /// The same for every later time.
    block_again_ms: u64,
    /// Calls it makes that cost something.
    paid: u16,
}

/// Adds the agents.
///
/// # Errors
/// A worker that has such an agent already.
pub fn register(registry: &mut Registry) -> Result<(), RegisterError> {
    for name in [SCRIBE, POISON, GARBAGE] {
        registry.register(FnAgent::new(spec(name), move |step| run(name, step)))?;
    }
    Ok(())
}

fn spec(name: &str) -> AgentSpec {
    AgentSpec {
        agent: AgentType::new(name).unwrap_or_else(|_| unreachable!("{name} is a name")),
        description: "of the fault harness".into(),
        input_schema: Value::Bool(true),
        output_schema: Value::Bool(true),
        retry: RetryPolicy {
            max_attempts: 4,
            max_crashes: if name == POISON { 2 } else { 12 },
            backoff_ms: 100,
            max_backoff_ms: 1_000,
            timeout_ms: 15_000,
        },
        example: None,
        prompt: None,
    }
}

async fn run(name: &'static str, step: StepContext) -> Result<StepOutput, StepError> {
    let call = format!("{:016x}", rand::random::<u64>());
    note(&step, &call);
    act(name, &step, &call).await
}

async fn act(name: &str, step: &StepContext, call: &str) -> Result<StepOutput, StepError> {
    let orders = Orders::deserialize(&step.input["params"]).unwrap_or_default();
    tokio::time::sleep(Duration::from_millis(orders.slow_ms)).await;
    if orders.block_ms > 0 {
        let time = if first_anywhere(step) { orders.block_ms } else { orders.block_again_ms };
        block(Duration::from_millis(time));
    }
    for call in 0..orders.paid {
        bills::pay(step, call).await?;
    }
    if name == POISON {
        // Whoever runs here too dies with it: that is the point.
        let _ = nix::sys::signal::kill(nix::unistd::Pid::this(), nix::sys::signal::Signal::SIGKILL);
    }
    if name == GARBAGE {
        // All that run here end in the same moment, and are written as one batch.
        let now = u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap_or_default();
        tokio::time::sleep(Duration::from_millis(1_500 - now % 1_500)).await;
        // Deeper than PostgreSQL's JSON parser goes.
        let deep = format!("{}{}", "[".repeat(200_000), "]".repeat(200_000));
        return RawValue::from_string(deep)
            .map(StepOutput::new)
            .map_err(|error| StepError::permanent("bad_output", error.to_string()));
    }
    if orders.permanent {
        return Err(StepError::permanent("told_to", "it was told to fail for good"));
    }
    if step.attempt <= orders.fail_first {
        return Err(StepError::transient("told_to", "it was told to fail"));
    }
    if orders.throttle_ms > 0 && step.attempt == 1 && first_time(step) {
        return Err(StepError::throttled("told_to", "it was told to wait", orders.throttle_ms));
    }
    let items: Vec<Value> = (0..orders.items).map(|item| json!({ "n": item })).collect();
    let mut answer = json!({ "call": call, "said": call, "step": step.step_name, "items": items });
    if let Some(text) = orders.text {
        answer["platform"] = json!("preview");
        answer["text"] = json!(text);
    }
    Ok(output(&answer)?.saying(told(call)))
}

/// What a call tells all later steps of its workflow.
pub fn told(call: &str) -> Saying {
    // A text in a map cannot fail to be JSON.
    let content = serde_json::value::to_raw_value(&json!({ "call": call })).unwrap_or_default();
    Saying::new(MessageType::Notification, content)
}

/// The calls of the messages a step is told, in order.
pub fn heard(inbox: &Inbox) -> Vec<String> {
    let call = |content: &RawValue| {
        let content: Value = serde_json::from_str(content.get()).ok()?;
        Some(content["call"].as_str()?.to_owned())
    };
    inbox.messages.iter().filter_map(|message| call(&message.content)).collect()
}

/// Keeps the thread, and nobody can stop it. The others of its worker go on.
fn block(time: Duration) {
    tokio::task::block_in_place(|| {
        #[expect(clippy::disallowed_methods, reason = "an agent that nobody can stop is the point")]
        std::thread::sleep(time);
    });
}

/// Whether no process of the fleet has run this step before: whoever makes the
/// file is the first.
fn first_anywhere(step: &StepContext) -> bool {
    let Some(path) = std::env::var_os(EXECUTIONS) else { return true };
    let mark = Path::new(&path).with_file_name(format!("first-{}", step.effect_key));
    OpenOptions::new().write(true).create_new(true).open(mark).is_ok()
}

/// A throttled attempt does not count, so the attempt's number cannot tell
/// whether it was throttled before; this process' memory can, well enough.
fn first_time(step: &StepContext) -> bool {
    static SEEN: Mutex<Option<std::collections::HashSet<String>>> = Mutex::new(None);
    let mut seen = SEEN.lock().unwrap_or_else(PoisonError::into_inner);
    seen.get_or_insert_default().insert(step.effect_key.clone())
}

/// A call as the file has it: a [`Call`] whose time is still this machine's
/// clock, in milliseconds since 1970.
fn note(step: &StepContext, call: &str) {
    static FILE: Mutex<Option<File>> = Mutex::new(None);
    let Some(path) = std::env::var_os(EXECUTIONS) else { return };
    let saw = step.input["results"].as_object().into_iter().flatten().map(|(name, result)| {
        let parts = result.as_array().map_or_else(|| std::slice::from_ref(result), Vec::as_slice);
        let calls = parts.iter().filter_map(|part| part["call"].as_str().map(str::to_owned));
        (name.clone(), calls.collect())
    });
    let noted = Call {
        call: call.to_owned(),
        workflow: step.workflow,
        step: step.step_name.clone(),
        key: Some(step.effect_key.clone()),
        at_ms: u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap_or_default(),
        saw: saw.collect(),
        heard: heard(&step.inbox),
        canaries: canaries(&step.input.to_string()),
    };
    let Ok(noted) = serde_json::to_vec(&noted) else { return };
    // On a line of its own even behind one that a kill cut off in the middle.
    let line = [b"\n", noted.as_slice(), b"\n"].concat();
    let mut file = FILE.lock().unwrap_or_else(PoisonError::into_inner);
    if file.is_none() {
        *file = OpenOptions::new().create(true).append(true).open(path).ok();
    }
    if let Some(file) = file.as_mut() {
        // One write: a kill rarely cuts it. A full disk ends the run anyway.
        let _ = file.write_all(&line);
    }
}

/// How every canary begins; it goes on with letters, digits and dashes, and
/// ends with a dot.
const CANARY: &str = "canary-";

/// A workspace's canary.
pub fn canary(name: &str, salt: u64) -> String {
    format!("{CANARY}{name}-{salt:08x}.")
}

/// The canaries in a text, each once.
pub fn canaries(text: &str) -> Vec<String> {
    let mut found: Vec<String> = text
        .match_indices(CANARY)
        .filter_map(|(at, _)| {
            let rest = &text[at..];
            let end = rest.find('.')?;
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
            rest.as_bytes()[..end].iter().copied().all(plain).then(|| rest[..=end].to_owned())
        })
        .collect();
    found.sort_unstable();
    found.dedup();
    found
}
