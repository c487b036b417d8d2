//! What an agent defined as data says to others: places in its answer that go
//! out as messages or into the shared context, and how it is told what others
//! said.
//!
//! Whom it tells is in the definition and never in the answer: a model cannot
//! choose whom it speaks to.

use galley_core::ids::AgentType;
use galley_core::message::{
    Inbox, LONGEST_TIMEOUT_S, MOST_BYTES, MOST_ENTRIES, MOST_MESSAGES, Message, MessageType, Remembering,
    Saying, Says, Standing, check_key,
};
use galley_prompts::{fence, shown};
use serde::Deserialize;
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Map, Value, json};

/// Shortest content, in bytes of JSON, that is looked for in results.
const LEAST_KNOWN: usize = 16;

/// `[[says]]`: a message made of what stands at a place of the answer.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Line {
    /// What it is for. A response answers every request that is open to the
    /// step.
    #[serde(rename = "type")]
    kind: MessageType,
    /// The agent it is for; absent: all. A response goes to whoever asked.
    to: Option<AgentName>,
    /// A JSON pointer into the answer. Where nothing stands, or something
    /// empty, nothing is said.
    content: String,
    /// How long a request is open, in seconds.
    timeout_s: Option<u32>,
}

/// `[[remembers]]`: an entry of the shared context, likewise.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Entry {
    /// The entry's key.
    key: String,
    /// A JSON pointer into the answer.
    value: String,
}

/// The name of an agent, checked when it is read.
#[derive(Debug, Deserialize)]
#[serde(try_from = "String")]
struct AgentName(AgentType);

impl TryFrom<String> for AgentName {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        AgentType::new(&text).map(Self).map_err(|error| error.to_string())
    }
}

/// Everything an agent says, as its definition has it.
#[derive(Debug, Default)]
pub(crate) struct Speech {
    lines: Vec<Line>,
    entries: Vec<Entry>,
}

impl Speech {
    /// Checks what can be known before there is an answer.
    ///
    /// # Errors
    /// The key of the definition, and what is wrong there.
    pub(crate) fn new(lines: Vec<Line>, entries: Vec<Entry>) -> Result<Self, (&'static str, String)> {
        if lines.len() > MOST_MESSAGES {
            return Err(("says", format!("{} messages; a step may send {MOST_MESSAGES}", lines.len())));
        }
        if entries.len() > MOST_ENTRIES {
            return Err(("remembers", format!("{} entries; a step may write {MOST_ENTRIES}", entries.len())));
        }
        for line in &lines {
            check_place(&line.content).map_err(|what| ("says.content", what))?;
            match (line.kind, line.timeout_s) {
                (_, None) => {}
                (MessageType::Request, Some(seconds)) if (1..=LONGEST_TIMEOUT_S).contains(&seconds) => {}
                (MessageType::Request, Some(_)) => {
                    return Err(("says.timeout_s", format!("it is 1 to {LONGEST_TIMEOUT_S}")));
                }
                _ => return Err(("says.timeout_s", "only a request has one".into())),
            }
            if line.kind == MessageType::Response && line.to.is_some() {
                return Err(("says.to", "a response goes to whoever asked".into()));
            }
        }
        for (n, entry) in entries.iter().enumerate() {
            check_key(&entry.key).map_err(|what| ("remembers.key", what))?;
            check_place(&entry.value).map_err(|what| ("remembers.value", what))?;
            if entries[..n].iter().any(|other| other.key == entry.key) {
                return Err(("remembers.key", format!("`{}` is there twice", entry.key)));
            }
        }
        Ok(Self { lines, entries })
    }

    /// What an answer says to others.
    pub(crate) fn of(&self, answer: &RawValue, inbox: &Inbox) -> Says {
        let mut says = Says::default();
        if self.lines.is_empty() && self.entries.is_empty() {
            return says;
        }
        let answer: Value = serde_json::from_str(answer.get()).unwrap_or_default();
        for line in &self.lines {
            let Some(content) = found(&answer, &line.content) else { continue };
            if line.kind == MessageType::Response {
                let open = inbox.open_requests().take(MOST_MESSAGES - says.messages.len());
                says.messages.extend(open.map(|request| Saying::answer(request.id, content.clone())));
            } else if says.messages.len() < MOST_MESSAGES {
                says.messages.push(Saying {
                    to_agent: line.to.as_ref().map(|to| to.0.clone()),
                    timeout_s: line.timeout_s,
                    ..Saying::new(line.kind, content)
                });
            }
        }
        for entry in &self.entries {
            if let Some(value) = found(&answer, &entry.value) {
                says.context.push(Remembering::new(entry.key.as_str(), value));
            }
        }
        says
    }
}

fn check_place(place: &str) -> Result<(), String> {
    if place.starts_with('/') {
        return Ok(());
    }
    Err(format!("`{place}` is no place: write a JSON pointer such as /notes"))
}

/// What stands at a place, unless it is nothing or too long to be said.
fn found(answer: &Value, place: &str) -> Option<Box<RawValue>> {
    let value = answer.pointer(place)?;
    let is_nothing = match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    };
    if is_nothing {
        return None;
    }
    let value = to_raw_value(value).ok()?;
    if value.get().len() > MOST_BYTES {
        tracing::warn!(place, "what an agent says is longer than {MOST_BYTES} bytes; it is not said");
        return None;
    }
    Some(value)
}

/// What a model is told of what others said, apart from our own words. Ids and
/// times are left out: the same talk in another workflow is the same question.
///
/// What repeats a part of its sender's result that the prompt shows already is
/// left out, too: everything is told once.
pub(crate) fn heard(inbox: &Inbox, input: &Value, text: &str) -> Option<String> {
    let mut parts = Vec::with_capacity(2);
    let news: Vec<&Message> =
        inbox.messages.iter().filter(|message| !is_known(message, input, text)).collect();
    if !news.is_empty() {
        let told: Vec<Value> = news
            .into_iter()
            .map(|message| {
                let mut told = json!({
                    "from": message.from_agent,
                    "step": message.from_step,
                    "type": message.message_type,
                    "content": message.content,
                });
                if let Some(
                    standing @ (Standing::TimedOut | Standing::Undeliverable | Standing::Unanswered),
                ) = message.state
                {
                    told["state"] = json!(standing);
                }
                told
            })
            .collect();
        parts.push(format!(
            "Other agents of this workflow said:\n\n{}",
            fence("messages", &pretty(&json!(told)))
        ));
    }
    if !inbox.context.is_empty() {
        let known: Map<String, Value> =
            inbox.context.iter().map(|entry| (entry.key.clone(), json!(entry.value))).collect();
        let known = fence("context", &pretty(&Value::Object(known)));
        parts.push(format!("What the agents of this workflow remember together:\n\n{known}"));
    }
    (!parts.is_empty()).then(|| parts.join("\n\n"))
}

/// Whether a message says a part of its sender's result, the input has that, and
/// the prompt shows it: one that prints no results hears the message. What waits for an answer, or is one, always has its place among the messages.
fn is_known(message: &Message, input: &Value, text: &str) -> bool {
    if !matches!(message.message_type, MessageType::Notification | MessageType::Feedback) {
        return false;
    }
    // The parts of an expanded step stand under its name.
    let step = message.from_step.split('.').next().unwrap_or_default();
    let Some(result) = input.get("results").and_then(|results| results.get(step)) else { return false };
    let content: Value = serde_json::from_str(message.content.get()).unwrap_or_default();
    // A word or a number may stand there by chance.
    message.content.get().len() >= LEAST_KNOWN
        && holds(result, &content)
        && squeezed(text).contains(&squeezed(&shown(&content)))
}

/// A text without its spaces: what is inside of more is further to the right.
fn squeezed(text: &str) -> String {
    text.split_whitespace().collect()
}

fn holds(value: &Value, part: &Value) -> bool {
    value == part
        || match value {
            Value::Array(items) => items.iter().any(|item| holds(item, part)),
            Value::Object(fields) => fields.values().any(|field| holds(field, part)),
            _ => false,
        }
}

fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).unwrap_or_else(|_| value.to_string())
}

#[cfg(test)]
#[path = "says_tests.rs"]
mod tests;
