//! A provider of chat completions that keeps its own ledger: what it answered,
//! and what that costs by its list. It can be slow, refuse, break and write
//! rubbish.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use galley_agents::{Prices, ProviderConfig, Providers};
use galley_core::money::{Price, Tokens};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::agents::Latch;
use super::wire::{self, Asked, Count};

/// Dollars per million tokens of the model `m`: a call of the tests costs some
/// thousandths of a cent.
const LIST: &str = "\
[\"openai:m\"]\ninput = 2.0\noutput = 8.0\nmax_output = 400\n
[\"anthropic:m\"]\ninput = 2.0\noutput = 8.0\nmax_output = 400\n
[\"gemini:m\"]\ninput = 2.0\noutput = 8.0\nmax_output = 400\n
[\"ollama:m\"]\ninput = 2.0\noutput = 8.0\nmax_output = 400\n";

/// What it speaks, with what comes before the operation in its URLs.
pub(crate) const DIALECTS: [(&str, &str); 4] =
    [("openai", "/v1"), ("anthropic", "/v1"), ("gemini", "/v1beta"), ("ollama", "")];

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
    /// Begins to answer, and says nothing more until the caller goes away.
    NeverEnds,
}

/// What it has done.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ledger {
    /// Every prompt, the user's text.
    pub(crate) prompts: Vec<String>,
    /// The key each of them came with.
    pub(crate) keys: Vec<Option<String>>,
    /// Completions it charges for.
    pub(crate) completions: usize,
    pub(crate) tokens: Tokens,
    pub(crate) micros: u64,
    /// Answers that it streamed.
    pub(crate) streamed: usize,
    /// Answers that were begun and never end.
    pub(crate) begun: usize,
    /// How many of their callers went away.
    pub(crate) hung_up: usize,
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

    /// What comes before the operation in its URLs.
    pub(crate) fn base_url(&self) -> &str {
        &self.base
    }

    /// Providers that know only this one, with its prices.
    pub(crate) fn providers(&self) -> Arc<Providers> {
        self.providers_with(Prices::parse("models.toml", LIST).unwrap())
    }

    pub(crate) fn providers_with(&self, prices: Prices) -> Arc<Providers> {
        let config = json!({
            "offline": { "enabled": false },
            "own": { "allow_private": true },
            "openai": { "base_url": self.base, "api_key": "sk-test", "model": "m" },
        });
        let config: ProviderConfig = serde_json::from_value(config).unwrap();
        Arc::new(Providers::new(config, prices).unwrap())
    }

    /// Providers that know only this one, and ask it in this dialect.
    pub(crate) fn providers_in(&self, (dialect, path): (&str, &str)) -> Arc<Providers> {
        let base = format!("{}{path}", self.base.trim_end_matches("/v1"));
        let mut speaking = json!({ "base_url": base, "model": "m" });
        // Ollama asks for no key.
        if dialect != "ollama" {
            speaking["api_key"] = "sk-test".into();
        }
        let config = json!({ "offline": { "enabled": false }, dialect: speaking });
        let config: ProviderConfig = serde_json::from_value(config).unwrap();
        Arc::new(Providers::new(config, Prices::parse("models.toml", LIST).unwrap()).unwrap())
    }

    async fn answer(&self, mut connection: TcpStream) {
        let Some(asked) = wire::read(&mut connection).await else { return };
        self.hear(&asked);
        let does = self.next.lock().unwrap().pop_front();
        let does = does.unwrap_or_else(|| self.always.lock().unwrap().clone());
        let text = match does {
            Does::Says(text) => text,
            Does::Campaigns => campaigning(&asked),
            Does::Refuses(status, head) => {
                let _ = connection.write_all(wire::response(status, head, "{}").as_bytes()).await;
                return;
            }
            Does::HangsUp => {
                self.charge(&asked, "");
                return;
            }
            Does::Waits(latch, text) => {
                latch.passed().await;
                text
            }
            Does::NeverEnds => {
                let (parts, _) = wire::parts(&asked, "{\"ok\": true}");
                let begun = wire::stream_head(asked.speaks) + &parts.concat();
                let _ = connection.write_all(begun.as_bytes()).await;
                self.ledger.lock().unwrap().begun += 1;
                let rest = connection.read(&mut [0; 16]).await;
                assert!(matches!(rest, Ok(0) | Err(_)));
                self.ledger.lock().unwrap().hung_up += 1;
                return;
            }
        };
        self.charge(&asked, &text);
        let said = if asked.streamed {
            let (parts, end) = wire::parts(&asked, &text);
            wire::stream_head(asked.speaks) + &parts.concat() + &end
        } else {
            wire::whole(&asked, &text)
        };
        let _ = connection.write_all(said.as_bytes()).await;
    }

    fn hear(&self, asked: &Asked) {
        let mut ledger = self.ledger.lock().unwrap();
        ledger.prompts.push(asked.prompt.clone());
        ledger.keys.push(asked.key.clone());
    }

    /// Charges for a completion.
    fn charge(&self, asked: &Asked, text: &str) {
        let Count { input, output } = asked.count(text);
        let price: Price = Prices::parse("models.toml", LIST).unwrap().of("openai", "m").unwrap();
        let mut ledger = self.ledger.lock().unwrap();
        ledger.completions += 1;
        ledger.streamed += usize::from(asked.streamed);
        ledger.micros += price.of(Tokens { input, cached: 0, output });
        ledger.tokens.input += input;
        ledger.tokens.output += output;
    }
}

/// A good answer of a strategist, a writer or a reviewer.
fn campaigning(asked: &Asked) -> String {
    let Asked { system, prompt, .. } = asked;
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
