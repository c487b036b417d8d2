//! An LLM agent as data: one TOML file, read with errors that say which file,
//! which key, what is wrong and what to do.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use galley_core::agent::{AgentSpec, PromptSpec};
use galley_core::ids::{AgentType, is_name};
use galley_core::message::{Inbox, Says};
use galley_core::report::StepError;
use galley_core::retry::RetryPolicy;
use galley_prompts::{Author, Prompt, standing_rules, version};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::says::{Entry, Line, Speech, heard};
use crate::schema::{Mismatch, Schema};

/// The longest an answer is kept, in seconds: 30 days.
const LONGEST_TTL_S: u64 = 30 * 24 * 3_600;

/// Why a definition was not accepted.
#[derive(Debug, thiserror::Error)]
#[error("{file}: {at}: {what}; {hint}")]
pub struct LoadError {
    /// The file, as it was named.
    pub file: String,
    /// The key (`schema.output`) or the line (`line 4`).
    pub at: String,
    /// What is wrong.
    pub what: String,
    /// What to do about it.
    pub hint: String,
}

/// A model an agent may use: `provider`, or `provider:model`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Candidate {
    /// The provider's name.
    pub provider: String,
    /// The model at that provider; `None` is the provider's configured one.
    pub model: Option<String>,
}

impl TryFrom<String> for Candidate {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let (provider, model) = match text.split_once(':') {
            Some((provider, model)) => (provider, Some(model)),
            None => (text.as_str(), None),
        };
        if !is_name(provider) || model.is_some_and(str::is_empty) {
            return Err(format!("`{text}` is not a model: write `provider` or `provider:model`"));
        }
        Ok(Self { provider: provider.to_owned(), model: model.map(str::to_owned) })
    }
}

impl fmt::Display for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.provider)?;
        match &self.model {
            Some(model) => write!(f, ":{model}"),
            None => Ok(()),
        }
    }
}

/// How an answer is sampled. What is absent is left to the provider.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sampling {
    /// 0 (always the likeliest word) to 2.
    pub temperature: Option<f64>,
    /// Nucleus sampling, 0 to 1.
    pub top_p: Option<f64>,
    /// Longest answer, in tokens.
    pub max_tokens: Option<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    name: String,
    description: String,
    models: Vec<Candidate>,
    #[serde(default)]
    sampling: Sampling,
    #[serde(default)]
    limits: Limits,
    #[serde(default)]
    cache: Caching,
    prompt: Templates,
    schema: Schemas,
    #[serde(default)]
    same: Vec<Same>,
    #[serde(default)]
    says: Vec<Line>,
    #[serde(default)]
    remembers: Vec<Entry>,
    example: Option<Example>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Example {
    input: String,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Limits {
    timeout_ms: Option<u64>,
    max_attempts: Option<u16>,
    max_crashes: Option<u16>,
    backoff_ms: Option<u64>,
    max_backoff_ms: Option<u64>,
    concurrency: Option<u16>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Caching {
    ttl_s: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Templates {
    system: String,
    user: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Schemas {
    input: String,
    output: String,
}

/// What a schema cannot say: the answer must name exactly what the input
/// named. Both sides are places (JSON pointers, `*` for every element) of
/// texts and numbers; the first input place that has any is the one compared.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Same {
    output: String,
    input: Vec<String>,
}

/// An LLM agent, ready to run.
#[derive(Debug)]
pub struct Definition {
    spec: AgentSpec,
    models: Vec<Candidate>,
    sampling: Sampling,
    concurrency: Option<u16>,
    cache_ttl: Option<Duration>,
    prompt_version: String,
    prompt: Prompt,
    standing_rules: String,
    output: Schema,
    same: Vec<Same>,
    speech: Speech,
}

impl Definition {
    /// Reads a definition. `file` names it in errors; `stem` is the file's
    /// name without `.toml`, which must be the agent's name.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn parse(file: &str, stem: &str, text: &str) -> Result<Self, LoadError> {
        let wrong = |at: &str, what: String, hint: &str| LoadError {
            file: file.to_owned(),
            at: at.to_owned(),
            what,
            hint: hint.to_owned(),
        };
        let read: File = toml::from_str(text).map_err(|error| {
            let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
            let line = before.matches('\n').count() + 1;
            wrong(&format!("line {line}"), error.message().to_owned(), "compare with agents/strategy.toml")
        })?;
        let File {
            name,
            description,
            models,
            sampling,
            limits,
            cache,
            prompt,
            schema,
            same,
            says,
            remembers,
            example,
        } = read;

        let agent =
            AgentType::new(&name).map_err(|error| wrong("name", error.to_string(), "choose another name"))?;
        if name != stem {
            let what = format!("the name is `{name}` but the file is `{stem}.toml`");
            return Err(wrong("name", what, "make them equal, so that an agent is found by its name"));
        }
        if description.trim().is_empty() {
            return Err(wrong("description", "it is empty".into(), "say in one line what the agent does"));
        }
        if models.is_empty() {
            return Err(wrong(
                "models",
                "there is no candidate".into(),
                "name at least one, such as \"offline\"",
            ));
        }
        check_sampling(&sampling)
            .map_err(|(key, what)| wrong(key, what, "correct the number or leave the key out"))?;
        let retry = limits
            .retry()
            .map_err(|(key, what)| wrong(key, what, "correct the number or leave the key out"))?;
        if limits.concurrency == Some(0) {
            return Err(wrong("limits.concurrency", "0 would run nothing".into(), "use at least 1"));
        }

        if cache.ttl_s.is_some_and(|ttl| !(1..=LONGEST_TTL_S).contains(&ttl)) {
            let what = "an answer is kept for 1 second to 30 days".to_owned();
            return Err(wrong("cache.ttl_s", what, "correct the number or leave the key out"));
        }
        let Templates { system, user } = prompt;
        let prompt_version = version(&system, &user);
        let prompt = Prompt::parse(system.clone(), user.clone(), Author::Deployment)
            .map_err(|bad| wrong(bad.key, bad.to_string(), &bad.hint))?;
        let as_written = PromptSpec { system, user, example: None, answer_schema: None };
        let compile = |key: &str, text: &str| {
            let value: Value = serde_json::from_str(text).map_err(|error| {
                wrong(key, format!("not JSON: {error}"), "write a JSON Schema as JSON text")
            })?;
            let schema = Schema::compile(&value).map_err(|message| {
                wrong(key, format!("not a JSON Schema: {message}"), "correct the schema")
            })?;
            Ok((value, schema))
        };
        let (input_schema, input) = compile("schema.input", &schema.input)?;
        let example = example
            .map(|example| {
                let wrong = |what| wrong("example.input", what, "write a step input that the agent takes");
                let value = serde_json::from_str::<Value>(&example.input)
                    .map_err(|error| wrong(format!("not JSON: {error}")))?;
                input.check(&value).map_err(|mismatch| wrong(mismatch.to_string()))?;
                Ok(value)
            })
            .transpose()?;
        let (output_schema, output) = compile("schema.output", &schema.output)?;
        for place in same.iter().flat_map(|same| same.input.iter().chain([&same.output])) {
            if !place.starts_with('/') {
                let what = format!("`{place}` is not a place");
                return Err(wrong("same", what, "write a JSON pointer such as /platforms/*/platform"));
            }
        }

        let speech = Speech::new(says, remembers)
            .map_err(|(key, what)| wrong(key, what, "correct it or leave it out"))?;

        Ok(Self {
            standing_rules: standing_rules(&output_schema),
            spec: AgentSpec {
                agent,
                description,
                input_schema,
                output_schema,
                retry,
                example,
                prompt: Some(as_written),
            },
            models,
            sampling,
            concurrency: limits.concurrency,
            cache_ttl: cache.ttl_s.map(Duration::from_secs),
            prompt_version,
            prompt,
            output,
            same,
            speech,
        })
    }

    /// The spec the fleet sees.
    pub fn spec(&self) -> &AgentSpec {
        &self.spec
    }

    /// The models, best first.
    pub fn models(&self) -> &[Candidate] {
        &self.models
    }

    /// How answers are sampled.
    pub fn sampling(&self) -> &Sampling {
        &self.sampling
    }

    /// Most attempts at once in one worker process.
    pub fn concurrency(&self) -> Option<usize> {
        self.concurrency.map(usize::from)
    }

    /// How long an answer is kept and given again to the same question; `None`:
    /// not at all.
    pub fn cache_ttl(&self) -> Option<Duration> {
        self.cache_ttl
    }

    /// The version of the prompt: equal templates have equal ones.
    pub fn prompt_version(&self) -> &str {
        &self.prompt_version
    }

    /// What an answer must fit, compiled.
    pub(crate) fn output(&self) -> &Schema {
        &self.output
    }

    /// Its prompt, as its file has it.
    pub(crate) fn prompt(&self) -> &Prompt {
        &self.prompt
    }

    /// The system and the user text that a prompt makes of one step input, and
    /// of what others said to the step.
    ///
    /// # Errors
    /// A permanent `bad_prompt`: the template prints what the input lacks.
    pub(crate) fn render(
        &self,
        prompt: &Prompt,
        input: &Value,
        inbox: &Inbox,
    ) -> Result<(String, String), StepError> {
        let (system, mut user) = prompt.render(input)?;
        if let Some(heard) = heard(inbox, input, &user) {
            user = format!("{user}\n\n{heard}");
        }
        Ok((format!("{system}\n\n{}", self.standing_rules), user))
    }

    /// What an answer says to the workflow's other agents.
    pub(crate) fn says(&self, answer: &RawValue, inbox: &Inbox) -> Says {
        self.speech.of(answer, inbox)
    }

    /// Reads an answer: JSON, perhaps in a code fence or with words around it,
    /// that fits the output schema and names what the input named.
    pub(crate) fn read(&self, answer: &str, input: &Value) -> Result<Box<RawValue>, Mismatch> {
        let value = json_in(answer)?;
        self.output.check(&value)?;
        for same in &self.same {
            same.check(input, &value)?;
        }
        serde_json::value::to_raw_value(&value).map_err(|error| Mismatch::at("", error.to_string()))
    }
}

fn check_sampling(sampling: &Sampling) -> Result<(), (&'static str, String)> {
    let within = |key, value: Option<f64>, highest: f64| match value {
        Some(value) if !(0.0..=highest).contains(&value) => {
            Err((key, format!("{value} is not within 0 and {highest}")))
        }
        _ => Ok(()),
    };
    within("sampling.temperature", sampling.temperature, 2.0)?;
    within("sampling.top_p", sampling.top_p, 1.0)?;
    if sampling.max_tokens == Some(0) {
        return Err(("sampling.max_tokens", "0 leaves no room for an answer".into()));
    }
    Ok(())
}

impl Limits {
    fn retry(&self) -> Result<RetryPolicy, (&'static str, String)> {
        let fallback = RetryPolicy::default();
        let policy = RetryPolicy {
            max_attempts: self.max_attempts.unwrap_or(fallback.max_attempts),
            max_crashes: self.max_crashes.unwrap_or(fallback.max_crashes),
            backoff_ms: self.backoff_ms.unwrap_or(fallback.backoff_ms),
            max_backoff_ms: self.max_backoff_ms.unwrap_or(fallback.max_backoff_ms),
            timeout_ms: self.timeout_ms.unwrap_or(fallback.timeout_ms),
        };
        let at_least_1 =
            |key, value: u64| if value == 0 { Err((key, "it must be at least 1".into())) } else { Ok(()) };
        at_least_1("limits.max_attempts", policy.max_attempts.into())?;
        at_least_1("limits.max_crashes", policy.max_crashes.into())?;
        at_least_1("limits.timeout_ms", policy.timeout_ms)?;
        if policy.backoff_ms > policy.max_backoff_ms {
            let what = format!("{} is above max_backoff_ms, {}", policy.backoff_ms, policy.max_backoff_ms);
            return Err(("limits.backoff_ms", what));
        }
        Ok(policy)
    }
}

impl Same {
    fn check(&self, input: &Value, output: &Value) -> Result<(), Mismatch> {
        let asked = self.input.iter().map(|place| named(input, place)).find(|names| !names.is_empty());
        let Some(asked) = asked else { return Ok(()) };
        if named(output, &self.output) == asked {
            return Ok(());
        }
        let asked: Vec<String> = asked.into_iter().collect();
        Err(Mismatch::at(&self.output, format!("must name exactly {}", asked.join(", "))))
    }
}

/// The texts and numbers at a place, as JSON.
fn named(value: &Value, place: &str) -> BTreeSet<String> {
    let mut found = vec![value];
    for key in place.split('/').skip(1) {
        found = found
            .into_iter()
            .flat_map(|value| match (key, value) {
                ("*", Value::Array(elements)) => elements.iter().collect(),
                (_, value) => value.pointer(&format!("/{key}")).into_iter().collect::<Vec<_>>(),
            })
            .collect();
    }
    found.into_iter().filter(|value| value.is_string() || value.is_number()).map(Value::to_string).collect()
}

/// The JSON value in an answer. Models wrap JSON in code fences or sentences
/// however often they are told not to.
fn json_in(answer: &str) -> Result<Value, Mismatch> {
    let trimmed = answer.trim();
    let whole = serde_json::from_str(trimmed);
    let error = match whole {
        Ok(value) => return Ok(value),
        Err(error) => error,
    };
    let inside = ['{', '['].into_iter().filter_map(|open| trimmed.find(open)).min().and_then(|start| {
        let end = trimmed.rfind(if trimmed[start..].starts_with('{') { '}' } else { ']' })?;
        trimmed.get(start..=end)
    });
    inside
        .and_then(|inside| serde_json::from_str(inside).ok())
        .ok_or_else(|| Mismatch::at("", format!("the answer is not JSON: {error}")))
}

#[cfg(test)]
#[path = "definition_tests.rs"]
mod tests;
