//! A provider over HTTP, through `genai`: anything that speaks as OpenAI does,
//! Anthropic, Gemini, Ollama.
//!
//! The key is sent to the configured base URL and appears nowhere else: errors
//! quote a shortened response body with the key cut out, and never the request.
//!
//! Calls stream unless a service cannot: what it counts is known as it comes,
//! silence is told from work, and whoever hangs up does so at once. A stream
//! that ends before its answer did is no answer, whatever was in it.
//!
//! Known limits of genai 0.7, and of reqwest under it, which lets nobody count
//! what comes through a connection: a response that is not streamed is read
//! whole before anything can look at its size, the step's timeout is the bound;
//! within a stream, an event that does not end, or the body of a refusal, is
//! collected for twice the idle timeout.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use galley_core::money::Tokens;
use galley_core::report::StepError;
use galley_reach::{Forbidden, Targets};
use genai::adapter::AdapterKind;
use genai::chat::{
    ChatMessage, ChatOptions, ChatRequest, ChatResponseFormat, ChatStream, ChatStreamEvent, ReasoningEffort,
    StopReason, Usage as Counted,
};
use genai::resolver::{AuthData, Endpoint};
use genai::{ModelIden, ServiceTarget, webc};
use jiff::fmt::rfc2822;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use crate::lanes::{Lanes, Place};
use crate::progress::Listener;
use crate::provider::{Answer, Bill, CallError, Provider, Request, Role};

/// How long a provider may be silent within a call, unless told.
const IDLE_TIMEOUT: Duration = Duration::from_secs(120);

/// How long to stay away after a 429 that does not say.
const DEFAULT_RETRY_AFTER_MS: u64 = 5_000;

/// How much of a response body an error quotes, in characters.
const QUOTED: usize = 300;

/// The largest answer that is read as one, in bytes. Real ones have a few kB.
const LARGEST_ANSWER: usize = 1024 * 1024;

/// Where the service is and how to use it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RemoteConfig {
    /// The URL before the operation, such as `http://localhost:1234/v1`; absent:
    /// the provider's own.
    #[serde(default)]
    pub base_url: Option<String>,
    /// The key; absent for a local service that asks for none.
    #[serde(default)]
    pub api_key: Option<SecretString>,
    /// The model for candidates that name none.
    pub model: String,
    /// Most calls at once from this process; absent: any number.
    #[serde(default)]
    pub max_concurrency: Option<usize>,
    /// Whether answers are streamed. Without, nothing is known of a call before
    /// it is over.
    #[serde(default = "yes")]
    pub stream: bool,
    /// How long it may be silent within a streamed call, milliseconds; absent:
    /// two minutes.
    #[serde(default)]
    pub idle_timeout_ms: Option<u64>,
    /// Whether it speaks HTTP/2 without TLS. With TLS both sides say what they
    /// speak.
    #[serde(default)]
    pub http2: bool,
}

fn yes() -> bool {
    true
}

/// What a service speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// Chat completions, as OpenAI's.
    OpenAi,
    /// Anthropic's messages.
    Anthropic,
    /// Gemini's content generation.
    Gemini,
    /// Ollama's chat.
    Ollama,
}

impl Dialect {
    /// The dialect of a provider's name.
    pub(crate) fn of(name: &str) -> Option<Self> {
        let all = [Self::OpenAi, Self::Anthropic, Self::Gemini, Self::Ollama];
        all.into_iter().find(|dialect| dialect.name() == name)
    }

    /// What the provider is called that speaks it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::OpenAi => "openai",
            Self::Anthropic => "anthropic",
            Self::Gemini => "gemini",
            Self::Ollama => "ollama",
        }
    }

    fn adapter(self) -> AdapterKind {
        match self {
            Self::OpenAi => AdapterKind::OpenAI,
            Self::Anthropic => AdapterKind::Anthropic,
            Self::Gemini => AdapterKind::Gemini,
            Self::Ollama => AdapterKind::Ollama,
        }
    }

    fn base_url(self) -> &'static str {
        match self {
            Self::OpenAi => "https://api.openai.com/v1",
            Self::Anthropic => "https://api.anthropic.com/v1",
            Self::Gemini => "https://generativelanguage.googleapis.com/v1beta",
            Self::Ollama => "http://localhost:11434",
        }
    }
}

/// A provider over HTTP.
pub struct Remote {
    name: String,
    dialect: Dialect,
    lanes: Lanes,
    endpoint: Endpoint,
    api_key: Option<SecretString>,
    model: String,
    max_concurrency: Option<usize>,
    stream: bool,
    idle_timeout: Duration,
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Remote").field("name", &self.name).field("model", &self.model).finish_non_exhaustive()
    }
}

impl Remote {
    /// Prepares a client; nothing is sent.
    ///
    /// # Errors
    /// What is wrong with the configuration and what to do.
    pub fn new(name: &str, dialect: Dialect, config: RemoteConfig) -> Result<Self, String> {
        Self::make(name, dialect, config, None)
    }

    /// The same for an address that a workspace names: nothing is sent to one
    /// that the deployment does not allow.
    ///
    /// # Errors
    /// As [`Remote::new`], and an address that is not allowed.
    pub(crate) fn of_a_workspace(
        name: &str,
        dialect: Dialect,
        config: RemoteConfig,
        targets: Targets,
    ) -> Result<Self, String> {
        if let Some(base_url) = &config.base_url {
            targets.check_text(base_url).map_err(|problem| format!("its address {problem}"))?;
        }
        Self::make(name, dialect, config, Some(targets))
    }

    fn make(
        name: &str,
        dialect: Dialect,
        config: RemoteConfig,
        targets: Option<Targets>,
    ) -> Result<Self, String> {
        let RemoteConfig { base_url, api_key, model, max_concurrency, stream, idle_timeout_ms, http2 } =
            config;
        let base_url = base_url.unwrap_or_else(|| dialect.base_url().to_owned());
        if !(base_url.starts_with("https://") || base_url.starts_with("http://")) {
            return Err(format!("{name}.base_url must begin with https:// or http://"));
        }
        if model.trim().is_empty() {
            return Err(format!("{name}.model is empty: name the model that answers by default"));
        }
        if max_concurrency == Some(0) {
            return Err(format!("{name}.max_concurrency is 0: nothing could be asked"));
        }
        if idle_timeout_ms == Some(0) {
            return Err(format!("{name}.idle_timeout_ms is 0: no answer could be that quick"));
        }
        let lanes = Lanes::new(http2, targets)
            .map_err(|error| format!("the HTTP client of provider {name} cannot be made: {error}"))?;
        // genai joins `chat/completions` to the base, which would replace a
        // last segment that does not end in a slash.
        let endpoint = Endpoint::from_owned(format!("{}/", base_url.trim_end_matches('/')));
        let idle_timeout = idle_timeout_ms.map_or(IDLE_TIMEOUT, Duration::from_millis);
        let name = name.to_owned();
        Ok(Self { name, dialect, lanes, endpoint, api_key, model, max_concurrency, stream, idle_timeout })
    }

    /// A body as an error may show it: short, one line, without the key.
    fn quote(&self, body: &str) -> String {
        let body = match &self.api_key {
            Some(key) if !key.expose_secret().is_empty() => body.replace(key.expose_secret(), "[key]"),
            _ => body.to_owned(),
        };
        let line = body.split_whitespace().collect::<Vec<_>>().join(" ");
        let mut quoted: String = line.chars().take(QUOTED).collect();
        if quoted.len() < line.len() {
            quoted.push('…');
        }
        quoted
    }

    /// What an error means for the step, and for the bill. Providers charge for
    /// completions: a refusal, or an error of theirs, costs nothing; a
    /// connection that was lost after the question, or an answer that cannot be
    /// read, may have cost anything.
    fn classify(&self, error: &genai::Error) -> CallError {
        if let (Some(status), Some(headers)) = (error.status(), error.headers()) {
            let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
            let after = retry_after_ms(header("retry-after-ms"), header("retry-after"), header("date"));
            let body = match error {
                genai::Error::HttpError { body, .. }
                | genai::Error::WebModelCall {
                    webc_error: webc::Error::ResponseFailedStatus { body, .. },
                    ..
                } => body.as_str(),
                _ => "",
            };
            return CallError::free(by_status(status.as_u16(), after, body, &self.quote(body)));
        }
        if let genai::Error::WebModelCall { webc_error, .. } = error {
            return match webc_error {
                webc::Error::ResponseFailedNotJson { body, .. }
                | webc::Error::ResponseFailedInvalidJson { body, .. } => {
                    let message = format!("the provider's response is not JSON: {}", self.quote(body));
                    CallError::unknown(StepError::transient("bad_output", message))
                }
                webc::Error::Reqwest(error) => by_connection(error),
                _ => lost(),
            };
        }
        if let genai::Error::WebStream { error, .. } = error {
            // What a stream met is told in a box.
            return if let Some(error) = error.downcast_ref::<genai::Error>() {
                self.classify(error)
            } else if let Some(error) = error.downcast_ref::<reqwest::Error>() {
                by_connection(error)
            } else if error.is::<webc::StreamTimeout>() {
                let silent = self.idle_timeout.as_secs_f64();
                CallError::unknown(StepError::transient(
                    "provider_timeout",
                    format!(
                        "the provider was silent for {silent} s; idle_timeout_ms says how long it may be"
                    ),
                ))
            } else if error.is::<std::string::FromUtf8Error>() {
                CallError::unknown(StepError::transient("bad_output", "the provider's stream is not text"))
            } else {
                lost()
            };
        }
        match error {
            // An error in the place of the answer, or in its middle.
            genai::Error::ChatResponse { body, .. } => {
                let said = self.quote(&body.to_string());
                let message = format!("the provider reported an error within its answer: {said}");
                CallError::unknown(StepError::transient("provider_5xx", message))
            }
            genai::Error::ChatResponseGeneration { .. }
            | genai::Error::NoChatResponse { .. }
            | genai::Error::StreamParse { .. }
            | genai::Error::SerdeJson(_)
            | genai::Error::JsonValueExt(_)
            | genai::Error::InvalidJsonResponseElement { .. } => CallError::unknown(StepError::transient(
                "bad_output",
                "the provider's response is not a chat completion",
            )),
            // Everything else fails before anything is sent. Its text may
            // hold the base URL, which may hold a password.
            _ => CallError::free(StepError::permanent(
                "provider_config",
                format!(
                    "the request could not be made: check base_url, api_key and model of provider {}",
                    self.name
                ),
            )),
        }
    }
}

/// A connection that could not be made or was lost. The cause may name the URL,
/// so it is not quoted.
fn by_connection(error: &reqwest::Error) -> CallError {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(found) = cause {
        if let Some(forbidden) = found.downcast_ref::<Forbidden>() {
            return CallError::free(StepError::permanent("provider_config", forbidden.to_string()));
        }
        cause = found.source();
    }
    if error.is_connect() {
        CallError::free(StepError::transient("provider_unreachable", "no connection to the provider"))
    } else if error.is_timeout() {
        CallError::unknown(StepError::transient("provider_timeout", "the provider did not answer in time"))
    } else {
        lost()
    }
}

fn lost() -> CallError {
    CallError::unknown(StepError::transient(
        "provider_unreachable",
        "the connection to the provider was lost",
    ))
}

/// What a provider counted; nothing if it does not say.
fn counted(usage: &Counted) -> Tokens {
    let tokens = |count: Option<i32>| count.and_then(|count| u32::try_from(count).ok()).unwrap_or(0);
    let cached = usage.prompt_tokens_details.as_ref().and_then(|details| details.cached_tokens);
    Tokens {
        input: tokens(usage.prompt_tokens),
        cached: tokens(cached),
        output: tokens(usage.completion_tokens),
    }
}

/// What a status means for the step.
fn by_status(status: u16, retry_after_ms: Option<u64>, body: &str, quoted: &str) -> StepError {
    let message = format!("the provider said {status}: {quoted}");
    match (status, retry_after_ms) {
        // The account is empty, which no amount of waiting repairs; as
        // "later" it would come back for ever, for a throttle costs no attempt.
        (429, _) if body.contains("insufficient_quota") => StepError::permanent("provider_quota", message),
        (429, after) => {
            StepError::throttled("provider_throttled", message, after.unwrap_or(DEFAULT_RETRY_AFTER_MS))
        }
        (503, Some(after)) => StepError::throttled("provider_throttled", message, after),
        (500.., _) => StepError::transient("provider_5xx", message),
        (408, _) => StepError::transient("provider_timeout", message),
        (401 | 403, _) => StepError::permanent("provider_auth", message),
        _ => StepError::permanent("provider_4xx", message),
    }
}

/// How long the provider asks us to wait. A date is measured against the
/// response's own `Date`: both are the provider's clock, ours is not asked.
fn retry_after_ms(millis: Option<&str>, after: Option<&str>, date: Option<&str>) -> Option<u64> {
    if let Some(millis) = millis.and_then(|text| text.trim().parse::<f64>().ok()) {
        return Some(millis.max(0.0) as u64);
    }
    let after = after?.trim();
    if let Ok(seconds) = after.parse::<f64>() {
        return Some((seconds.max(0.0) * 1000.0) as u64);
    }
    let instant = |text: &str| rfc2822::DateTimeParser::new().parse_timestamp(text.trim()).ok();
    let wait = instant(after)?.as_millisecond().saturating_sub(instant(date?)?.as_millisecond());
    Some(u64::try_from(wait).unwrap_or(0))
}

#[async_trait]
impl Provider for Remote {
    fn name(&self) -> &str {
        &self.name
    }

    fn concurrency(&self) -> Option<usize> {
        self.max_concurrency
    }

    fn default_model(&self) -> &str {
        &self.model
    }

    async fn complete(&self, request: &Request<'_>) -> Result<Answer, CallError> {
        let place = self.lanes.place();
        // What is sent is put together apart, and gone before the answer is
        // waited for: thousands of calls wait at once.
        let said = if self.stream {
            let stream = Box::pin(self.begin(&place, request)).await?;
            self.heard(stream, request).await?
        } else {
            Box::pin(self.whole(&place, request)).await?
        };
        // A service that does not say what it counted is charged at the bound.
        let bill = if said.tokens == Tokens::default() { Bill::Unknown } else { Bill::Tokens(said.tokens) };
        if matches!(said.stopped, Some(StopReason::ContentFilter(_))) {
            let error =
                StepError::permanent("provider_refused", "the provider's content filter refused the prompt");
            return Err(CallError { error, bill });
        }
        if said.text.len() > LARGEST_ANSWER {
            let error =
                StepError::transient("bad_output", format!("the answer has {} bytes", said.text.len()));
            return Err(CallError { error, bill });
        }
        Ok(Answer {
            model: said.model,
            tokens_in: said.tokens.input,
            tokens_out: said.tokens.output,
            tokens_cached: said.tokens.cached,
            cut: matches!(said.stopped, Some(StopReason::MaxTokens(_))),
            text: said.text,
        })
    }
}

/// What a provider said, whichever way it came.
struct Said {
    text: String,
    model: String,
    tokens: Tokens,
    stopped: Option<StopReason>,
}

impl Remote {
    /// What is sent: where to, the conversation, and how it is to be answered.
    fn question(&self, request: &Request<'_>) -> (ServiceTarget, ChatRequest, ChatOptions) {
        let messages = request
            .messages
            .iter()
            .map(|message| match message.role {
                Role::System => ChatMessage::system(&*message.text),
                Role::User => ChatMessage::user(&*message.text),
                Role::Assistant => ChatMessage::assistant(&*message.text),
            })
            .collect();
        let options = ChatOptions {
            temperature: request.sampling.temperature,
            top_p: request.sampling.top_p,
            max_tokens: request.sampling.max_tokens,
            // Not a strict schema: few compatible services know it, and the
            // answer is checked here in any case.
            response_format: Some(ChatResponseFormat::JsonMode),
            // Without one, genai reads `mistral-medium` as the model `mistral`
            // at medium effort. A budget keeps the name whole and sends nothing.
            reasoning_effort: (self.dialect == Dialect::OpenAi).then_some(ReasoningEffort::Budget(0)),
            ..ChatOptions::default()
        };
        let target = ServiceTarget {
            endpoint: self.endpoint.clone(),
            // genai insists on a key; services that need none ignore this one.
            auth: AuthData::from_single(self.api_key.as_ref().map_or("none", ExposeSecret::expose_secret)),
            model: ModelIden::new(self.dialect.adapter(), request.model),
        };
        (target, ChatRequest::new(messages), options)
    }

    /// Waits for the whole answer.
    async fn whole(&self, place: &Place, request: &Request<'_>) -> Result<Said, CallError> {
        let (target, chat, options) = self.question(request);
        let response = place
            .client()
            .exec_chat(target, chat, Some(&options))
            .await
            .map_err(|error| self.classify(&error))?;
        Ok(Said {
            model: response.provider_model_iden.model_name.to_string(),
            tokens: counted(&response.usage),
            stopped: response.stop_reason.clone(),
            text: response.into_first_text().unwrap_or_default(),
        })
    }

    /// Makes a call whose answer is listened to; it is sent when it is first
    /// polled.
    async fn begin(&self, place: &Place, request: &Request<'_>) -> Result<ChatStream, CallError> {
        let (target, chat, options) = self.question(request);
        let options = ChatOptions {
            capture_usage: Some(true),
            stream_header_timeout: Some(self.idle_timeout),
            stream_read_timeout: Some(self.idle_timeout),
            raw_frame_sink: Some(Arc::new(Listener {
                dialect: self.dialect,
                progress: Arc::clone(request.progress),
            })),
            ..options
        };
        let asked = place.client().exec_chat_stream(target, chat, Some(&options)).await;
        Ok(asked.map_err(|error| self.classify(&error))?.stream)
    }

    /// The next event. Bytes are no sign of life: an event that does not end is
    /// collected in memory. Twice the idle timeout, so that the head of a
    /// response and its first event may each take their time.
    async fn next(
        &self,
        stream: &mut ChatStream,
        request: &Request<'_>,
    ) -> Result<Option<ChatStreamEvent>, CallError> {
        let patience = self.idle_timeout.saturating_mul(2);
        let mut ended = request.progress.ended();
        loop {
            match tokio::time::timeout(patience, stream.next()).await {
                Ok(event) => return event.transpose().map_err(|error| self.classify(&error)),
                // Comments, such as a service sends while it thinks.
                Err(_) if request.progress.ended() > ended => ended = request.progress.ended(),
                Err(_) => {
                    let message = format!("no event of the provider's stream ended within {patience:?}");
                    return Err(CallError::unknown(StepError::transient("provider_timeout", message)));
                }
            }
        }
    }

    /// Listens to the answer as it comes. Dropping the future hangs up.
    async fn heard(&self, mut stream: ChatStream, request: &Request<'_>) -> Result<Said, CallError> {
        let mut text = String::new();
        let end = loop {
            match self.next(&mut stream, request).await? {
                Some(ChatStreamEvent::Chunk(part)) => text.push_str(&part.content),
                Some(ChatStreamEvent::End(end)) => break Some(end),
                Some(_) => {}
                None => break None,
            }
            if text.len() > LARGEST_ANSWER {
                let message = format!("the answer has more than {LARGEST_ANSWER} bytes");
                return Err(CallError::unknown(StepError::transient("bad_output", message)));
            }
        };
        let heard = request.progress.heard();
        // Some dialects end a stream that was cut as if it were whole: only the
        // provider's own word for why it stopped is believed.
        let Some(end) = end.filter(|end| end.captured_stop_reason.is_some()) else {
            return Err(CallError::unknown(if heard.frames == 0 {
                StepError::transient(
                    "bad_output",
                    format!(
                        "the provider's response is no stream of an answer; if {} cannot stream, say so in its configuration",
                        self.name
                    ),
                )
            } else {
                StepError::transient(
                    "provider_unreachable",
                    "the provider's stream ended before its answer did",
                )
            }));
        };
        Ok(Said {
            text,
            model: heard.model.unwrap_or_else(|| request.model.to_owned()),
            tokens: end.captured_usage.as_ref().map(counted).unwrap_or_default(),
            stopped: end.captured_stop_reason,
        })
    }
}

#[cfg(test)]
#[path = "remote_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "dialect_tests.rs"]
mod dialect_tests;
