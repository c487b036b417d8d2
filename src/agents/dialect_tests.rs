//! The four dialects against one service that speaks them: whole and streamed,
//! and everything that goes wrong. What an attempt says it cost is what the
//! service charged.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use galley_core::choice::{Observed, Weights};
use galley_core::money::Tokens;
use galley_core::report::{Failure, StepError, StepOutput};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use crate::testing::{agent, example_brief, input, step};
use crate::{
    Definition, Desk, Kept, Known, LlmAgent, LookUp, PaidCall, Prices, ProviderConfig, Providers, Registry,
    StepContext,
};

#[path = "../../tests/it/harness/wire.rs"]
mod wire;
use wire::{Asked, Count, Speaks};

/// The dialects, with what comes before the operation in their URLs.
const DIALECTS: [(Speaks, &str, &str); 4] = [
    (Speaks::OpenAi, "openai", "/v1"),
    (Speaks::Anthropic, "anthropic", "/v1"),
    (Speaks::Gemini, "gemini", "/v1beta"),
    (Speaks::Ollama, "ollama", ""),
];

const KEY: &str = "sk-canary-7351";

/// Two dollars per million tokens in, eight out, at every provider.
const LIST: [&str; 4] = ["openai", "anthropic", "gemini", "ollama"];

/// What the service does with a request.
#[derive(Clone, Debug)]
enum Does {
    Says(String),
    /// Answers with this status, head and body.
    Refuses(&'static str, &'static str, &'static str),
    /// Begins to answer and hangs up.
    Cuts,
    /// Begins to answer, and says nothing more until the caller goes away.
    FallsSilent,
    /// Writes the whole answer and its bill, and then does not end.
    Lingers,
    /// Begins to answer, and then something that is no part of it.
    Garbles(&'static str),
    /// Answers with this head, or begins to stream; then comes what never ends,
    /// until the caller goes away.
    Babbles(Option<&'static str>),
}

/// What was seen from the service's side.
#[derive(Debug)]
enum Seen {
    Asked(Asked),
    /// The caller of a silent one went away.
    HungUp,
}

struct Service {
    address: String,
    seen: mpsc::UnboundedReceiver<Seen>,
    /// What it charges for: questions and answers that were written to the end.
    charged: Arc<Mutex<Vec<Count>>>,
}

impl Service {
    async fn start(does: impl IntoIterator<Item = Does>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (tell, seen) = mpsc::unbounded_channel();
        let charged = Arc::new(Mutex::new(Vec::new()));
        let (mut does, charges) = (does.into_iter().collect::<VecDeque<_>>(), Arc::clone(&charged));
        tokio::spawn(async move {
            while let Some(does) = does.pop_front() {
                let (connection, _) = listener.accept().await.unwrap();
                serve(connection, does, &tell, &charges).await;
            }
        });
        Self { address, seen, charged }
    }

    fn charged(&self) -> Vec<Count> {
        self.charged.lock().unwrap().clone()
    }

    async fn asked(&mut self) -> Asked {
        match self.seen.recv().await {
            Some(Seen::Asked(asked)) => asked,
            other => panic!("{other:?} instead of a question"),
        }
    }

    async fn hung_up(&mut self) {
        assert!(matches!(self.seen.recv().await, Some(Seen::HungUp)), "somebody hangs up");
    }
}

async fn serve(
    mut connection: TcpStream,
    does: Does,
    tell: &mpsc::UnboundedSender<Seen>,
    charged: &Mutex<Vec<Count>>,
) {
    let Some(asked) = wire::read(&mut connection).await else { return };
    tell.send(Seen::Asked(asked.clone())).unwrap();
    let text = match &does {
        Does::Says(text) => text.clone(),
        _ => post("Hello"),
    };
    let (parts, end) = wire::parts(&asked, &text);
    let mut say = String::new();
    let mut waits = false;
    match does {
        Does::Refuses(status, head, body) => say = wire::response(status, head, body),
        Does::Babbles(head) => {
            let stream = format!("{}data: ", wire::stream_head(asked.speaks));
            let begins = head.map_or(stream, str::to_owned);
            connection.write_all(begins.as_bytes()).await.unwrap();
            while connection.write_all(b"and so on ").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            let _ = tell.send(Seen::HungUp);
            return;
        }
        Does::Says(text) if !asked.streamed => {
            charged.lock().unwrap().push(asked.count(&text));
            say = wire::whole(&asked, &text);
        }
        does => {
            say += &wire::stream_head(asked.speaks);
            say += &parts.concat();
            match does {
                Does::Says(_) | Does::Lingers => {
                    charged.lock().unwrap().push(asked.count(&text));
                    // The bill is there; what says that it is over is not.
                    let over = ["data: [DONE]", "event: message_stop"];
                    let bill = over.into_iter().filter_map(|over| end.find(over)).min().unwrap_or(end.len());
                    let lingers = matches!(does, Does::Lingers);
                    say += if lingers { &end[..bill] } else { &end };
                    waits = lingers;
                }
                Does::FallsSilent => waits = true,
                Does::Garbles(frame) => say += frame,
                _ => {}
            }
        }
    }
    connection.write_all(say.as_bytes()).await.unwrap();
    if waits {
        let rest = connection.read(&mut [0; 16]).await;
        assert!(matches!(rest, Ok(0) | Err(_)));
        let _ = tell.send(Seen::HungUp);
    }
}

fn post(text: &str) -> String {
    json!({ "platform": "x", "text": text, "hashtags": [] }).to_string()
}

/// The built-in writers at one provider of this dialect.
fn registry(service: &Service, name: &str, base: &str, more: Value) -> Registry {
    let mut provider = json!({ "base_url": format!("http://{}{base}", service.address), "model": "big" });
    if name != "ollama" {
        provider["api_key"] = KEY.into();
    }
    provider.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
    let config: ProviderConfig = serde_json::from_value(json!({ name: provider })).unwrap();
    let list = LIST.map(|name| format!("[\"{name}:big\"]\ninput = 2.0\noutput = 8.0\nmax_output = 2000\n"));
    let prices = Prices::parse("models.toml", &list.concat()).unwrap();
    let providers = Arc::new(Providers::new(config, prices).unwrap());
    // The built-in writer, who asks this one alone.
    let toml: String = include_str!("../../agents/content_creator.toml")
        .lines()
        .map(|line| {
            if line.starts_with("models") { format!("models = [\"{name}\"]\n") } else { format!("{line}\n") }
        })
        .collect();
    let definition = Definition::parse("content_creator.toml", "content_creator", &toml).unwrap();
    let mut registry = Registry::new();
    registry.register(LlmAgent::new(definition, providers).unwrap()).unwrap();
    registry
}

/// A desk that writes down what it is asked to book.
#[derive(Debug, Default)]
struct Books(Mutex<Vec<(Option<u64>, Tokens)>>);

#[async_trait::async_trait]
impl Desk for Books {
    async fn room(&self) -> Result<Option<u64>, StepError> {
        Ok(None)
    }
    async fn reserve(&self, _: PaidCall) -> Result<(), StepError> {
        Ok(())
    }
    async fn settle(&self, _: u16, cost: Option<u64>, tokens: Tokens) {
        self.0.lock().unwrap().push((cost, tokens));
    }
    async fn known(&self, models: &[String]) -> Vec<Known> {
        vec![Known::default(); models.len()]
    }
    async fn weights(&self) -> Weights {
        Weights::default()
    }
    fn learn(&self, _: &str, _: bool, _: Observed) {}
    fn seed(&self) -> u64 {
        0
    }
    async fn look_up(&self, _: &[u8; 32], _: Duration) -> LookUp {
        LookUp::Yours
    }
    async fn keep(&self, _: &[u8; 32], _: Kept, _: Duration) {}
    async fn let_go(&self, _: &[u8; 32]) {}
}

fn writing(books: &Arc<Books>) -> StepContext {
    let mut step =
        step("content_creator", input(example_brief(), json!({ "platform": "x" }), json!({}), None));
    step.desk = Arc::clone(books) as _;
    step
}

async fn write(registry: &Registry, books: &Arc<Books>) -> Result<StepOutput, StepError> {
    agent(registry, "content_creator").run(writing(books)).await
}

fn cost(count: Count) -> u64 {
    u64::from(2 * count.input + 8 * count.output)
}

#[tokio::test]
async fn an_answer_is_read_and_billed_in_every_dialect_streamed_and_whole() {
    for (speaks, name, base) in DIALECTS {
        for stream in [true, false] {
            // The first does not fit and is repaired; the second has letters of
            // more than one byte.
            let does = [Does::Says(post(&"a".repeat(281))), Does::Says(post("Grüße aus Köln — 🎉"))];
            let mut service = Service::start(does).await;
            let books = Arc::default();
            let done = write(&registry(&service, name, base, json!({ "stream": stream })), &books).await;
            let at = format!("{name}, streamed: {stream}");
            let done = done.unwrap_or_else(|error| panic!("{at}: {error}"));
            let output: Value = serde_json::from_str(done.output.get()).unwrap();
            assert_eq!(output["text"], "Grüße aus Köln — 🎉", "{at}");

            let first = service.asked().await;
            assert_eq!((first.speaks, first.streamed, first.model.as_str()), (speaks, stream, "big"), "{at}");
            assert_eq!(
                first.key.as_deref().filter(|_| name != "ollama"),
                (name != "ollama").then_some(KEY),
                "{at}"
            );
            assert!(
                first.system.contains("You write") && first.prompt.contains("Lantern"),
                "{at}: {first:?}"
            );
            let repair = service.asked().await;
            assert!(repair.prompt.contains("cannot be used"), "{at}: {}", repair.prompt);

            let charged = service.charged();
            assert_eq!(charged.len(), 2, "{at}");
            let sums = charged.iter().fold((0, 0, 0), |sum, count| {
                (sum.0 + count.input, sum.1 + count.output, sum.2 + cost(*count))
            });
            let usage = &done.usage;
            assert_eq!((usage.tokens_in, usage.tokens_out, usage.cost_micros), sums, "{at}");
            // genai does not read what a whole answer of Ollama's says of it.
            let named = if speaks == Speaks::Ollama && !stream { "big" } else { "big-2026" };
            assert_eq!(usage.model.as_deref(), Some(named), "{at}");
            let booked: Vec<_> = books.0.lock().unwrap().iter().map(|(cost, _)| *cost).collect();
            assert_eq!(booked, charged.iter().map(|count| Some(cost(*count))).collect::<Vec<_>>(), "{at}");
        }
    }
}

/// Each line: what the service does, and what it means for the step and the
/// bill: what costs nothing, and what nobody can know.
#[tokio::test]
async fn whatever_goes_wrong_is_told_by_class_in_every_dialect() {
    let later = |retry_after_ms| Failure::Throttled { retry_after_ms };
    let (free, unknown) = (Some(0), None);
    for (speaks, name, base) in DIALECTS {
        let lines = [
            (
                Does::Refuses("429 Too Many", "retry-after: 7\r\n", "{}"),
                "provider_throttled",
                later(7_000),
                free,
            ),
            (
                Does::Refuses("429 Too Many", "retry-after-ms: 1500\r\n", "{}"),
                "provider_throttled",
                later(1_500),
                free,
            ),
            (Does::Refuses("529 Overloaded", "", "{}"), "provider_5xx", Failure::Transient, free),
            (
                Does::Refuses("401 Who", "", "{\"error\":\"sk-canary-7351\"}"),
                "provider_auth",
                Failure::Permanent,
                free,
            ),
            (Does::Refuses("404 No model", "", "{}"), "provider_4xx", Failure::Permanent, free),
            // A service that does not stream: it says so once, not for ever.
            (Does::Refuses("200 OK", "", "{\"hello\":\"world\"}"), "bad_output", Failure::Transient, unknown),
            (Does::Cuts, "provider_unreachable", Failure::Transient, unknown),
            (Does::FallsSilent, "provider_timeout", Failure::Transient, unknown),
            (
                Does::Garbles("event: content_block_delta\ndata: { half\n\n"),
                "bad_output",
                Failure::Transient,
                unknown,
            ),
        ];
        for (does, class, follows, bill) in lines {
            let at = format!("{name}: {does:?}");
            // Lines of JSON have no events: a service of Ollama's that does not
            // stream answers with one line, and that is read.
            if speaks == Speaks::Ollama && matches!(does, Does::Refuses("200 OK", ..)) {
                continue;
            }
            let silent = matches!(does, Does::FallsSilent);
            let mut service = Service::start([does]).await;
            let books = Arc::default();
            let more = json!({ "idle_timeout_ms": if silent { 150 } else { 60_000 } });
            let error = write(&registry(&service, name, base, more), &books).await.unwrap_err();
            assert_eq!((error.class.as_str(), error.failure), (class, follows), "{at}: {error}");
            // Ollama is given none, so there it is a word like any other.
            assert!(name == "ollama" || !error.message.contains(KEY), "{at}: {error}");
            let booked = books.0.lock().unwrap().clone();
            assert_eq!(booked.iter().map(|(cost, _)| *cost).collect::<Vec<_>>(), [bill], "{at}");
            let asked = service.asked().await;
            if silent {
                assert!(error.message.contains("silent for 0.15 s"), "{at}: {error}");
                service.hung_up().await;
                // What was told before it fell silent is noted, not charged.
                let told = if matches!(speaks, Speaks::Anthropic | Speaks::Gemini) {
                    asked.count("").input
                } else {
                    0
                };
                assert_eq!(booked[0].1.input, told, "{at}");
            }
        }
    }
}

/// What never ends is not waited for, however much of it comes: it is collected
/// in this process.
#[tokio::test]
async fn an_event_that_never_ends_is_silence() {
    let refusal = "HTTP/1.1 500 No\r\nconnection: close\r\ncontent-type: text/plain\r\n\r\n";
    for (_, name, base) in DIALECTS {
        for head in [None, Some(refusal)] {
            let mut service = Service::start([Does::Babbles(head)]).await;
            let books: Arc<Books> = Arc::default();
            let registry = registry(&service, name, base, json!({ "idle_timeout_ms": 100 }));
            let mut step = writing(&books);
            step.timeout = Duration::from_secs(5);
            let error = agent(&registry, "content_creator").run(step).await.unwrap_err();
            assert!(error.message.contains("ended within 200ms"), "{name}: {error}");
            assert_eq!((error.class.as_str(), error.failure), ("provider_timeout", Failure::Transient));
            service.asked().await;
            service.hung_up().await;
        }
    }
}

/// An error in the middle of an answer is the provider's, and its bill nobody's
/// to know.
#[tokio::test]
async fn an_error_within_a_stream_is_the_providers() {
    for (name, base, frame) in [
        ("openai", "/v1", "data: {\"error\":{\"message\":\"overloaded\"}}\n\n"),
        (
            "anthropic",
            "/v1",
            "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\"}}\n\n",
        ),
        ("gemini", "/v1beta", "data: {\"error\":{\"code\":503,\"message\":\"overloaded\"}}\n\n"),
    ] {
        let service = Service::start([Does::Garbles(frame)]).await;
        let books = Arc::default();
        let error = write(&registry(&service, name, base, json!({})), &books).await.unwrap_err();
        assert_eq!(error.class, "provider_5xx", "{name}: {error}");
        assert!(error.message.contains("overloaded"), "{name}: {error}");
        assert_eq!(books.0.lock().unwrap()[0].0, None, "{name}");
    }
}

/// Cancelled, or out of time: the call ends at once, whatever the service does;
/// a bill that was told in full is booked as it is, another is not known.
#[tokio::test]
async fn who_stops_waiting_hangs_up_and_pays_what_is_known() {
    for (_, name, base) in DIALECTS {
        for (does, cancels) in [(Does::FallsSilent, true), (Does::Lingers, false)] {
            // These two end with what carries their bill.
            if matches!(does, Does::Lingers) && matches!(name, "gemini" | "ollama") {
                continue;
            }
            let at = format!("{name}: {does:?}, cancelled: {cancels}");
            let lingers = matches!(does, Does::Lingers);
            let mut service = Service::start([does]).await;
            let books: Arc<Books> = Arc::default();
            let registry = registry(&service, name, base, json!({}));
            let mut step = writing(&books);
            if !cancels {
                // What the service writes at once is heard long before.
                step.timeout = Duration::from_secs(1);
            }
            let cancelled = step.cancelled.clone();
            let running = tokio::spawn(async move { agent(&registry, "content_creator").run(step).await });
            let asked = service.asked().await;
            if cancels {
                cancelled.cancel();
            }
            let error = running.await.unwrap().unwrap_err();
            assert_eq!(error.class, if cancels { "cancelled" } else { "provider_timeout" }, "{at}");
            service.hung_up().await;
            let known = lingers.then(|| cost(asked.count(&post("Hello"))));
            assert_eq!(books.0.lock().unwrap()[0].0, known, "{at}");
        }
    }
}
