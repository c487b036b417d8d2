//! A provider of chat completions that keeps its own ledger: what it answered,
//! and what that costs by its list. It can be slow, refuse, break and write
//! rubbish.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use galley_agents::{Prices, ProviderConfig, Providers};
use galley_core::money::{Price, Tokens};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::agents::Latch;

/// Dollars per million tokens of the model `m`: a call of the tests costs some
/// thousandths of a cent.
const LIST: &str = "[\"openai:m\"]\ninput = 2.0\noutput = 8.0\nmax_output = 400\n";

/// What it does with a request.
#[derive(Clone, Debug)]
pub(crate) enum Does {
    /// Answers with this text.
    Says(String),
    /// Writes what the built-in agents of a campaign should.
    Campaigns,
    /// Answers with this status and head, and an empty object.
    Refuses(&'static str, &'static str),
    /// Takes the request, counts it as answered, and hangs up.
    HangsUp,
    /// Waits until the test lets it go, then answers.
    Waits(Latch, String),
}

/// What it has done.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ledger {
    /// Every prompt, the user's text.
    pub(crate) prompts: Vec<String>,
    /// Completions it charges for.
    pub(crate) completions: usize,
    pub(crate) tokens: Tokens,
    pub(crate) micros: u64,
}

/// The service.
#[derive(Clone)]
pub(crate) struct Service {
    base: String,
    ledger: Arc<Mutex<Ledger>>,
    /// What it does next, once each; then what it always does.
    next: Arc<Mutex<VecDeque<Does>>>,
    always: Arc<Mutex<Does>>,
}

impl Service {
    pub(crate) async fn start(always: Does) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let service = Self {
            base: format!("http://{}/v1", listener.local_addr().unwrap()),
            ledger: Arc::default(),
            next: Arc::default(),
            always: Arc::new(Mutex::new(always)),
        };
        let serving = service.clone();
        tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                let serving = serving.clone();
                tokio::spawn(async move { serving.answer(connection).await });
            }
        });
        service
    }

    /// Does these first, once each.
    pub(crate) fn next(&self, does: impl IntoIterator<Item = Does>) {
        self.next.lock().unwrap().extend(does);
    }

    pub(crate) fn ledger(&self) -> Ledger {
        self.ledger.lock().unwrap().clone()
    }

    /// Providers that know only this one, with its prices.
    pub(crate) fn providers(&self) -> Arc<Providers> {
        self.providers_with(Prices::parse("models.toml", LIST).unwrap())
    }

    pub(crate) fn providers_with(&self, prices: Prices) -> Arc<Providers> {
        let config = json!({
            "offline": { "enabled": false },
            "openai": { "base_url": self.base, "api_key": "sk-test", "model": "m" },
        });
        let config: ProviderConfig = serde_json::from_value(config).unwrap();
        Arc::new(Providers::new(config, prices).unwrap())
    }

    async fn answer(&self, mut connection: TcpStream) {
        let Some(body) = read(&mut connection).await else { return };
        let prompt = body["messages"].as_array().and_then(|messages| messages.last().cloned());
        let prompt = prompt.and_then(|last| last["content"].as_str().map(str::to_owned)).unwrap_or_default();
        self.ledger.lock().unwrap().prompts.push(prompt.clone());
        let does = self.next.lock().unwrap().pop_front();
        let does = does.unwrap_or_else(|| self.always.lock().unwrap().clone());
        let text = match does {
            Does::Says(text) => text,
            Does::Campaigns => campaigning(&body, &prompt),
            Does::Refuses(status, head) => {
                let response = format!(
                    "HTTP/1.1 {status}\r\nconnection: close\r\ncontent-type: application/json\r\n{head}content-length: 2\r\n\r\n{{}}"
                );
                let _ = connection.write_all(response.as_bytes()).await;
                return;
            }
            Does::HangsUp => {
                self.charge(&body, "");
                return;
            }
            Does::Waits(latch, text) => {
                latch.passed().await;
                text
            }
        };
        let tokens = self.charge(&body, &text);
        let completion = json!({
            "id": "c", "object": "chat.completion", "model": "m-2026",
            "choices": [{ "index": 0, "finish_reason": "stop", "message": { "role": "assistant", "content": text } }],
            "usage": {
                "prompt_tokens": tokens.input, "completion_tokens": tokens.output,
                "total_tokens": tokens.input + tokens.output,
            }
        })
        .to_string();
        let length = completion.len();
        let response = format!(
            "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{completion}"
        );
        let _ = connection.write_all(response.as_bytes()).await;
    }

    /// Charges for a completion: four bytes are a token.
    fn charge(&self, body: &Value, text: &str) -> Tokens {
        let prompt: usize = body["messages"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|message| message["content"].as_str().unwrap_or_default().len())
            .sum();
        let tokens =
            Tokens { input: prompt.div_ceil(4) as u32, cached: 0, output: text.len().div_ceil(4) as u32 };
        let price: Price = Prices::parse("models.toml", LIST).unwrap().of("openai", "m").unwrap();
        let mut ledger = self.ledger.lock().unwrap();
        ledger.completions += 1;
        ledger.micros += price.of(tokens);
        ledger.tokens.input += tokens.input;
        ledger.tokens.output += tokens.output;
        tokens
    }
}

/// A good answer of a strategist, a writer or a reviewer.
fn campaigning(body: &Value, prompt: &str) -> String {
    let system = body["messages"][0]["content"].as_str().unwrap_or_default();
    let platforms = ["x", "mastodon"];
    let answer = if system.contains("strategist") {
        let each = platforms.map(|name| json!({ "platform": name, "angle": "short", "hashtags": [] }));
        json!({ "positioning": "p", "keyMessages": ["m"], "platforms": each, "calendarHints": [] })
    } else if system.contains("You write") {
        // The one its part of the plan names comes first in its prompt.
        let named = |name: &&str| prompt.find(&format!("\"platform\": \"{name}\"")).unwrap_or(usize::MAX);
        let name = platforms.into_iter().min_by_key(named).unwrap_or_default();
        json!({ "platform": name, "text": format!("Hello {name}"), "hashtags": [] })
    } else {
        json!({ "score": 0.9, "verdict": "approve", "perPost": [], "notes": [] })
    };
    answer.to_string()
}

async fn read(connection: &mut TcpStream) -> Option<Value> {
    let mut bytes = Vec::new();
    loop {
        if connection.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let head = head.to_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "))?;
        if body.len() == length.parse::<usize>().ok()? {
            return serde_json::from_str(body).ok();
        }
    }
}
