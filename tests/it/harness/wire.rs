//! How the services that providers are tried against read and write: the four
//! dialects on the wire, streamed and whole. Shared by the integration tests and
//! those of `galley-agents`; knows nothing of either.

use serde_json::{Value, json};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

/// A dialect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Speaks {
    OpenAi,
    Anthropic,
    Gemini,
    Ollama,
}

/// What a request asks, whatever it speaks.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) speaks: Speaks,
    pub(crate) streamed: bool,
    pub(crate) model: String,
    /// The rules.
    pub(crate) system: String,
    /// The last turn's text.
    pub(crate) prompt: String,
    /// Bytes of all texts.
    pub(crate) bytes: usize,
    /// The key it came with, wherever that dialect carries it.
    pub(crate) key: Option<String>,
}

/// What is charged: four bytes are a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Count {
    pub(crate) input: u32,
    pub(crate) output: u32,
}

impl Asked {
    /// Tokens of this question with that answer.
    pub(crate) fn count(&self, text: &str) -> Count {
        Count { input: self.bytes.div_ceil(4) as u32, output: text.len().div_ceil(4) as u32 }
    }
}

/// Reads one request; `None`: the caller hung up.
pub(crate) async fn read(connection: &mut TcpStream) -> Option<Asked> {
    let mut bytes = Vec::new();
    loop {
        if connection.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
        let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let low = head.to_lowercase();
        let length = low.lines().find_map(|line| line.strip_prefix("content-length: "))?;
        let body = &bytes[end + 4..];
        if body.len() == length.parse::<usize>().ok()? {
            return Some(asked(&head, &serde_json::from_slice(body).ok()?));
        }
    }
}

fn asked(head: &str, body: &Value) -> Asked {
    let path = head.split_whitespace().nth(1).unwrap_or_default();
    let header = |name: &str| {
        let line = head.lines().find(|line| line.to_lowercase().starts_with(&format!("{name}: ")))?;
        line.split_once(": ").map(|(_, value)| value.trim_start_matches("Bearer ").to_owned())
    };
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        Value::Array(parts) => parts.iter().filter_map(|part| part["text"].as_str()).collect(),
        _ => String::new(),
    };
    let (speaks, key, turns): (_, _, Vec<(String, String)>) =
        if path.contains("generateContent") || path.contains("streamGenerateContent") {
            let turns = body["contents"].as_array().into_iter().flatten();
            let turns = turns.map(|turn| (text(&turn["role"]), text(&turn["parts"]))).collect();
            (Speaks::Gemini, header("x-goog-api-key"), turns)
        } else {
            let turns = body["messages"].as_array().into_iter().flatten();
            let turns = turns.map(|turn| (text(&turn["role"]), text(&turn["content"]))).collect();
            match path {
                path if path.ends_with("/messages") => (Speaks::Anthropic, header("x-api-key"), turns),
                path if path.ends_with("/api/chat") => (Speaks::Ollama, header("authorization"), turns),
                _ => (Speaks::OpenAi, header("authorization"), turns),
            }
        };
    let system = match speaks {
        Speaks::Gemini => text(&body["systemInstruction"]["parts"]),
        Speaks::Anthropic => text(&body["system"]),
        _ => turns.iter().filter(|(role, _)| role == "system").map(|(_, text)| text.as_str()).collect(),
    };
    let said: usize = turns.iter().filter(|(role, _)| role != "system").map(|(_, text)| text.len()).sum();
    let named = path.split("models/").nth(1).and_then(|rest| rest.split(':').next());
    Asked {
        speaks,
        streamed: body["stream"] == json!(true) || path.contains("streamGenerateContent"),
        model: named.or(body["model"].as_str()).unwrap_or_default().to_owned(),
        prompt: turns.last().map(|(_, text)| text.clone()).unwrap_or_default(),
        bytes: system.len() + said,
        system,
        key,
    }
}

/// A whole response with a status, further head lines and a JSON body.
pub(crate) fn response(status: &str, head: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\nconnection: close\r\ncontent-type: application/json\r\n{head}content-length: {length}\r\n\r\n{body}"
    )
}

/// The head of a stream; its parts follow, and the end of the connection ends
/// it.
pub(crate) fn stream_head(speaks: Speaks) -> String {
    let content = if speaks == Speaks::Ollama { "application/x-ndjson" } else { "text/event-stream" };
    format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-type: {content}\r\n\r\n")
}

/// The answer as one response, the model's name with `-2026` behind it.
pub(crate) fn whole(asked: &Asked, text: &str) -> String {
    let (count, model) = (asked.count(text), format!("{}-2026", asked.model));
    let body = match asked.speaks {
        Speaks::OpenAi => json!({
            "id": "c", "object": "chat.completion", "model": model,
            "choices": [{ "index": 0, "finish_reason": "stop", "message": { "role": "assistant", "content": text } }],
            "usage": openai_usage(count),
        }),
        Speaks::Anthropic => json!({
            "id": "c", "type": "message", "role": "assistant", "model": model, "stop_reason": "end_turn",
            "content": [{ "type": "text", "text": text }],
            "usage": { "input_tokens": count.input, "output_tokens": count.output },
        }),
        Speaks::Gemini => json!({
            "modelVersion": model,
            "candidates": [{ "finishReason": "STOP", "content": { "role": "model", "parts": [{ "text": text }] } }],
            "usageMetadata": gemini_usage(count),
        }),
        Speaks::Ollama => json!({
            "model": model, "done": true, "done_reason": "stop",
            "message": { "role": "assistant", "content": text },
            "prompt_eval_count": count.input, "eval_count": count.output,
        }),
    };
    response("200 OK", "", &body.to_string())
}

/// The answer as the parts of a stream: what comes before its text is
/// finished, and the end.
pub(crate) fn parts(asked: &Asked, text: &str) -> (Vec<String>, String) {
    let (count, model) = (asked.count(text), format!("{}-2026", asked.model));
    // A letter of more than one byte may be cut anywhere but within.
    let half = text.floor_char_boundary(text.len() / 2);
    let halves = [&text[..half], &text[half..]];
    let event = |name: &str, data: Value| format!("event: {name}\ndata: {data}\n\n");
    let data = |data: Value| format!("data: {data}\n\n");
    let line = |data: Value| format!("{data}\n");
    match asked.speaks {
        Speaks::OpenAi => {
            let part = |delta: Value| {
                data(json!({ "id": "c", "model": model, "choices": [{ "index": 0, "delta": delta }] }))
            };
            let mut parts = vec![part(json!({ "role": "assistant", "content": "" }))];
            parts.extend(halves.map(|half| part(json!({ "content": half }))));
            let stop =
                json!({ "model": model, "choices": [{ "index": 0, "delta": {}, "finish_reason": "stop" }] });
            let usage = json!({ "model": model, "choices": [], "usage": openai_usage(count) });
            (parts, data(stop) + &data(usage) + "data: [DONE]\n\n")
        }
        Speaks::Anthropic => {
            let start = json!({ "type": "message_start", "message": {
                "model": model, "usage": { "input_tokens": count.input, "output_tokens": 1 } } });
            let block = json!({ "type": "content_block_start", "index": 0, "content_block": { "type": "text", "text": "" } });
            let mut parts = vec![
                event("message_start", start),
                event("content_block_start", block),
                event("ping", json!({ "type": "ping" })),
            ];
            parts.extend(halves.map(|half| {
                let delta = json!({ "type": "text_delta", "text": half });
                event(
                    "content_block_delta",
                    json!({ "type": "content_block_delta", "index": 0, "delta": delta }),
                )
            }));
            let stop = event("content_block_stop", json!({ "type": "content_block_stop", "index": 0 }));
            let delta = json!({ "type": "message_delta", "delta": { "stop_reason": "end_turn" },
                "usage": { "output_tokens": count.output } });
            let end =
                event("message_delta", delta) + &event("message_stop", json!({ "type": "message_stop" }));
            (parts, stop + &end)
        }
        Speaks::Gemini => {
            let part = |text: &str, output: u32, finish: Option<&str>| {
                let mut candidate = json!({ "content": { "role": "model", "parts": [{ "text": text }] } });
                if let Some(finish) = finish {
                    candidate["finishReason"] = finish.into();
                }
                let usage = gemini_usage(Count { output, ..count });
                data(json!({ "modelVersion": model, "candidates": [candidate], "usageMetadata": usage }))
            };
            (vec![part(halves[0], 1, None)], part(halves[1], count.output, Some("STOP")))
        }
        Speaks::Ollama => {
            let part = |text: &str| {
                let message = json!({ "role": "assistant", "content": text });
                line(json!({ "model": model, "done": false, "message": message }))
            };
            let end = line(json!({
                "model": model, "done": true, "done_reason": "stop",
                "message": { "role": "assistant", "content": "" },
                "prompt_eval_count": count.input, "eval_count": count.output,
            }));
            (halves.map(part).to_vec(), end)
        }
    }
}

fn openai_usage(count: Count) -> Value {
    json!({
        "prompt_tokens": count.input, "completion_tokens": count.output,
        "total_tokens": count.input + count.output,
    })
}

fn gemini_usage(count: Count) -> Value {
    json!({
        "promptTokenCount": count.input, "candidatesTokenCount": count.output,
        "totalTokenCount": count.input + count.output,
    })
}
