//! What a call has told before it is over: whoever stops waiting for it (a
//! cancelled step, a lost session, a deadline) still knows what it is known to
//! cost.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use galley_core::money::Tokens;
use genai::chat::{ChatFrameSink, FrameCtx, RawFrameRef};
use serde_json::Value;

use crate::remote::Dialect;

/// What was heard so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// The model, as the provider names it.
    pub model: Option<String>,
    /// Tokens so far.
    pub tokens: Tokens,
    /// Whether these are all: the provider counted to the end.
    pub is_whole: bool,
    /// Frames of a stream that had anything in them.
    pub frames: u32,
}

/// The state of one call, shared by whoever makes it and whoever pays for it.
#[derive(Debug, Default)]
pub struct Progress {
    heard: Mutex<Heard>,
    /// Frames that ended, comments and empty ones among them.
    ended: AtomicU64,
}

impl Progress {
    /// What was heard so far.
    pub fn heard(&self) -> Heard {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many frames ended so far, whatever was in them.
    pub(crate) fn ended(&self) -> u64 {
        self.ended.load(Ordering::Relaxed)
    }

    fn hear(&self, hear: impl FnOnce(&mut Heard)) {
        hear(&mut self.heard.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// Listens to the frames of a stream as they come.
#[derive(Debug)]
pub(crate) struct Listener {
    pub(crate) dialect: Dialect,
    pub(crate) progress: Arc<Progress>,
}

impl ChatFrameSink for Listener {
    fn on_frame(&self, _: &FrameCtx, frame: RawFrameRef<'_>) {
        self.progress.ended.fetch_add(1, Ordering::Relaxed);
        self.progress.hear(|heard| {
            // A comment, or what is no event at all.
            if frame.data.is_empty() {
                return;
            }
            heard.frames += 1;
            // Most frames are a word of the answer: they are not read twice.
            let counts = frame.data.contains("\"usage") || frame.data.contains("eval_count");
            if (counts || heard.model.is_none())
                && let Some(value) = frame.json()
            {
                read(self.dialect, &value, heard);
            }
        });
    }
}

/// What a frame says about the call. Each dialect counts in its own words;
/// what a frame does not say stays as it was.
fn read(dialect: Dialect, frame: &Value, heard: &mut Heard) {
    let count = |place: &str| frame.pointer(place).and_then(Value::as_u64).map(|n| n as u32);
    let said = |place: &str| frame.pointer(place).is_some_and(|value| !value.is_null());
    let (model, input, cached, output, whole) = match dialect {
        Dialect::OpenAi => (
            "/model",
            count("/usage/prompt_tokens"),
            count("/usage/prompt_tokens_details/cached_tokens"),
            count("/usage/completion_tokens"),
            said("/usage") && (said("/choices/0/finish_reason") || !said("/choices/0")),
        ),
        Dialect::Anthropic => {
            let places = ["/message/usage", "/usage"];
            let sum = |words: [&str; 3]| {
                let place = places.into_iter().find(|place| said(place))?;
                let first = count(&format!("{place}/{}", words[0]))?;
                let more =
                    words[1..].iter().filter_map(|word| count(&format!("{place}/{word}"))).sum::<u32>();
                Some(first.saturating_add(more))
            };
            let read = "cache_read_input_tokens";
            (
                "/message/model",
                sum(["input_tokens", read, "cache_creation_input_tokens"]),
                places.into_iter().find_map(|place| count(&format!("{place}/{read}"))),
                places.into_iter().find_map(|place| count(&format!("{place}/output_tokens"))),
                said("/delta/stop_reason"),
            )
        }
        Dialect::Gemini => {
            let written = count("/usageMetadata/candidatesTokenCount");
            let thought = count("/usageMetadata/thoughtsTokenCount").unwrap_or(0);
            (
                "/modelVersion",
                count("/usageMetadata/promptTokenCount"),
                count("/usageMetadata/cachedContentTokenCount"),
                written.map(|written| written.saturating_add(thought)),
                said("/candidates/0/finishReason"),
            )
        }
        Dialect::Ollama => (
            "/model",
            count("/prompt_eval_count"),
            count("/prompt_eval_cached_count"),
            count("/eval_count"),
            frame.pointer("/done") == Some(&Value::Bool(true)),
        ),
    };
    if let Some(model) = frame.pointer(model).and_then(Value::as_str) {
        heard.model = Some(model.to_owned());
    }
    heard.tokens.input = input.unwrap_or(heard.tokens.input);
    heard.tokens.cached = cached.unwrap_or(heard.tokens.cached);
    heard.tokens.output = output.unwrap_or(heard.tokens.output);
    heard.is_whole |= whole && heard.tokens != Tokens::default();
}
