//! Any OpenAI-compatible chat completions service, through `genai`.
//!
//! The key is sent to the configured base URL and appears nowhere else: errors
//! quote a shortened response body with the key cut out, and never the request.
//!
//! A known limit of genai 0.7: a response is read whole before anything can look
//! at its size; the step's timeout is the bound.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use galley_core::report::StepError;
use genai::adapter::AdapterKind;
use genai::chat::{ChatMessage, ChatOptions, ChatRequest, ChatResponseFormat, ReasoningEffort, StopReason};
use genai::resolver::{AuthData, Endpoint};
use genai::{Client, ModelIden, ServiceTarget, WebConfig, webc};
use jiff::fmt::rfc2822;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use crate::provider::{Answer, Provider, Request, Role};

/// How long connecting may take; the whole call is bounded by the step.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long to stay away after a 429 that does not say.
const DEFAULT_RETRY_AFTER_MS: u64 = 5_000;

/// How much of a response body an error quotes, in characters.
const QUOTED: usize = 300;

/// The largest answer that is read as one, in bytes. Real ones have a few kB.
const LARGEST_ANSWER: usize = 1024 * 1024;

/// Where the service is and how to use it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OpenAiConfig {
    /// The URL before `/chat/completions`, such as `http://localhost:11434/v1`.
    pub base_url: String,
    /// The key; absent for a local service that asks for none.
    #[serde(default)]
    pub api_key: Option<SecretString>,
    /// The model for candidates that name none.
    pub model: String,
}

/// An OpenAI-compatible service.
pub struct OpenAi {
    client: Client,
    endpoint: Endpoint,
    api_key: Option<SecretString>,
    model: String,
}

impl fmt::Debug for OpenAi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenAi").field("model", &self.model).finish_non_exhaustive()
    }
}

impl OpenAi {
    /// Prepares a client; nothing is sent.
    ///
    /// # Errors
    /// What is wrong with the configuration and what to do.
    pub fn new(config: OpenAiConfig) -> Result<Self, String> {
        let OpenAiConfig { base_url, api_key, model } = config;
        if !(base_url.starts_with("https://") || base_url.starts_with("http://")) {
            return Err("openai.base_url must begin with https:// or http://".into());
        }
        if model.trim().is_empty() {
            return Err("openai.model is empty: name the model that answers by default".into());
        }
        // reqwest is built without a TLS provider of its own; a program that
        // installed one keeps it.
        if rustls::crypto::CryptoProvider::get_default().is_none() {
            let _ = rustls::crypto::ring::default_provider().install_default();
        }
        let client = Client::builder()
            .with_web_config(WebConfig::default().with_connect_timeout(CONNECT_TIMEOUT))
            .build()
            .map_err(|error| format!("the HTTP client of provider openai cannot be made: {error}"))?;
        // genai joins `chat/completions` to the base, which would replace a
        // last segment that does not end in a slash.
        let endpoint = Endpoint::from_owned(format!("{}/", base_url.trim_end_matches('/')));
        Ok(Self { client, endpoint, api_key, model })
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

    fn classify(&self, error: &genai::Error) -> StepError {
        if let genai::Error::WebModelCall { webc_error, .. } = error {
            return match webc_error {
                webc::Error::ResponseFailedStatus { status, body, headers } => {
                    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
                    let retry_after_ms =
                        retry_after_ms(header("retry-after-ms"), header("retry-after"), header("date"));
                    by_status(status.as_u16(), retry_after_ms, body, &self.quote(body))
                }
                webc::Error::ResponseFailedNotJson { body, .. }
                | webc::Error::ResponseFailedInvalidJson { body, .. } => {
                    let message = format!("the provider's response is not JSON: {}", self.quote(body));
                    StepError::transient("bad_output", message)
                }
                webc::Error::Reqwest(error) if error.is_timeout() => {
                    StepError::transient("provider_timeout", "the provider did not answer in time")
                }
                // What is left is a connection that could not be made or was
                // lost. The cause may name the URL, so it is not quoted.
                webc::Error::Reqwest(error) if error.is_connect() => {
                    StepError::transient("provider_unreachable", "no connection to the provider")
                }
                _ => StepError::transient("provider_unreachable", "the connection to the provider was lost"),
            };
        }
        match error {
            genai::Error::ChatResponseGeneration { .. }
            | genai::Error::NoChatResponse { .. }
            | genai::Error::ChatResponse { .. }
            | genai::Error::InvalidJsonResponseElement { .. } => {
                StepError::transient("bad_output", "the provider's response is not a chat completion")
            }
            // Everything else fails before anything is sent. Its text may
            // hold the base URL, which may hold a password.
            _ => StepError::permanent(
                "provider_config",
                "the request could not be made: check base_url, api_key and model of provider openai",
            ),
        }
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
impl Provider for OpenAi {
    fn name(&self) -> &str {
        "openai"
    }

    fn default_model(&self) -> &str {
        &self.model
    }

    async fn complete(&self, request: &Request<'_>) -> Result<Answer, StepError> {
        let messages = request
            .messages
            .iter()
            .map(|message| match message.role {
                Role::System => ChatMessage::system(message.text.as_str()),
                Role::User => ChatMessage::user(message.text.as_str()),
                Role::Assistant => ChatMessage::assistant(message.text.as_str()),
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
            reasoning_effort: Some(ReasoningEffort::Budget(0)),
            ..ChatOptions::default()
        };
        let target = ServiceTarget {
            endpoint: self.endpoint.clone(),
            // genai insists on a key; services that need none ignore this one.
            auth: AuthData::from_single(self.api_key.as_ref().map_or("none", ExposeSecret::expose_secret)),
            model: ModelIden::new(AdapterKind::OpenAI, request.model),
        };
        let response = self
            .client
            .exec_chat(target, ChatRequest::new(messages), Some(&options))
            .await
            .map_err(|error| self.classify(&error))?;

        if matches!(response.stop_reason, Some(StopReason::ContentFilter(_))) {
            return Err(StepError::permanent(
                "provider_refused",
                "the provider's content filter refused the prompt",
            ));
        }
        let tokens = |count: Option<i32>| count.and_then(|count| u32::try_from(count).ok()).unwrap_or(0);
        let answer = Answer {
            model: response.provider_model_iden.model_name.to_string(),
            tokens_in: tokens(response.usage.prompt_tokens),
            tokens_out: tokens(response.usage.completion_tokens),
            cut: matches!(response.stop_reason, Some(StopReason::MaxTokens(_))),
            text: response.into_first_text().unwrap_or_default(),
        };
        if answer.text.len() > LARGEST_ANSWER {
            return Err(StepError::transient(
                "bad_output",
                format!("the answer has {} bytes", answer.text.len()),
            ));
        }
        Ok(answer)
    }
}

#[cfg(test)]
#[path = "openai_tests.rs"]
mod tests;
