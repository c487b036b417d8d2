//! An agent's two templates: parsed at load, rendered per attempt.
//!
//! Two rules keep other people's words apart without anybody remembering them: a
//! printed value (`{{ brief.tone }}`) comes out as JSON on one line, quotes and
//! all; a block (`{{ brief|fence("brief") }}`) comes out between markers that its
//! text cannot contain. [`crate::standing_rules`] tells the model what the
//! markers mean. In templates of workspaces every text is such a block.

use std::fmt;

use galley_core::report::StepError;
use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, Error, ErrorKind, UndefinedBehavior, Value as TemplateValue};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::fence::{fence, may_name};
use crate::workspaces;

/// What a template may refer to.
const VARIABLES: &[&str] = &["brief", "params", "results", "item"];

/// Where orders to the offline provider are in `params`. They are about the
/// provider, not about the work, and no model should read them.
pub const ORDERS_KEY: &str = "offline";

/// Longest template, in bytes, and the stack on which it is read. The parser
/// recurses with what it reads, deeper than a thread of a worker has room for;
/// a stack that overflows ends the whole process.
pub const MAX_TEMPLATE_BYTES: usize = 32 << 10;
const STACK_BYTES: usize = 128 << 20;

/// What one rendering may do, in steps of the template's own machine and bytes
/// that it writes: a loop in a loop must not hold a worker. How deep its macros
/// call, MiniJinja bounds. Workspaces share workers, so theirs have less.
const FUEL: u64 = 10_000_000;
const FUEL_OF_WORKSPACES: u64 = 4_000_000;

const SYSTEM: &str = "prompt.system";
const USER: &str = "prompt.user";

/// Who wrote a prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Author {
    /// Whoever deploys: it came with an agent's file.
    Deployment,
    /// A workspace, in place of the deployment's. Every text it prints comes out
    /// fenced, and its system prompt refers to nothing.
    Workspace,
}

/// The two templates of an agent.
#[derive(Debug)]
pub struct Prompt {
    templates: Environment<'static>,
    author: Author,
}

/// Why a template was not accepted, or could not be rendered.
#[derive(Debug, PartialEq, Eq)]
pub struct BadTemplate {
    /// Which of the two: `prompt.system` or `prompt.user`.
    pub key: &'static str,
    /// The line in it, from 1, where that is known.
    pub line: Option<usize>,
    /// What is wrong.
    pub what: String,
    /// What to do about it.
    pub hint: String,
}

impl fmt::Display for BadTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "line {line} of the template: {}", self.what),
            None => f.write_str(&self.what),
        }
    }
}

/// The beginning of the templates' hash: what tells one prompt from another, in
/// results and for kept answers.
pub fn version(system: &str, user: &str) -> String {
    let mut digest = Sha256::new();
    digest.update(system);
    digest.update([0]);
    digest.update(user);
    let mut version = hex::encode(digest.finalize());
    version.truncate(12);
    version
}

impl Prompt {
    /// Reads two templates.
    ///
    /// # Errors
    /// The first thing that is wrong with them.
    pub fn parse(system: String, user: String, author: Author) -> Result<Self, BadTemplate> {
        let bad = |key, what: String, hint: &str| BadTemplate { key, line: None, what, hint: hint.into() };
        for (key, text) in [(SYSTEM, &system), (USER, &user)] {
            if text.len() > MAX_TEMPLATE_BYTES {
                let what = format!("{} bytes; at most {MAX_TEMPLATE_BYTES} are allowed", text.len());
                return Err(bad(key, what, "hand what is long to the agent as input"));
            }
        }
        let reader = std::thread::Builder::new().stack_size(STACK_BYTES);
        let read = reader.spawn(move || Self::read(system, user, author)).map(std::thread::JoinHandle::join);
        read.ok()
            .and_then(Result::ok)
            .unwrap_or_else(|| Err(bad(USER, "the template could not be read".into(), "make it simpler")))
    }

    fn read(system: String, user: String, author: Author) -> Result<Self, BadTemplate> {
        let (mut templates, fuel) = match author {
            Author::Deployment => (Environment::new(), FUEL),
            Author::Workspace => (workspaces::environment(), FUEL_OF_WORKSPACES),
        };
        templates.set_fuel(Some(fuel));
        templates.set_auto_escape_callback(|_| AutoEscape::Json);
        // For the trial below; a step's input is held to more.
        templates.set_undefined_behavior(UndefinedBehavior::Chainable);
        templates.add_filter("fence", |value: TemplateValue, name: String| {
            if may_name(&name) {
                return Ok(TemplateValue::from_safe_string(fence(&name, &block(&value))));
            }
            let told = "a fence is named by up to 48 letters, digits, _ and -";
            Err(Error::new(ErrorKind::InvalidOperation, told))
        });
        for (key, text) in [(SYSTEM, system), (USER, user)] {
            let bad = |line, what: String, hint: String| BadTemplate { key, line, what, hint };
            if text.trim().is_empty() {
                let hint = "write what the model should do";
                return Err(bad(None, "the template is empty".into(), hint.into()));
            }
            templates.add_template_owned(key, text).map_err(|error| {
                let hint = "the template language is MiniJinja (Jinja2 syntax)";
                bad(error.line(), describe(&error), hint.into())
            })?;
            let template = templates.get_template(key);
            let mut unknown: Vec<String> =
                template.iter().flat_map(|template| template.undeclared_variables(false)).collect();
            let known = if author == Author::Workspace && key == SYSTEM { &[] } else { VARIABLES };
            unknown.retain(|name| !known.contains(&name.as_str()));
            unknown.sort();
            if let Some(name) = unknown.first() {
                let (what, hint) = match VARIABLES.contains(&name.as_str()) {
                    true => (
                        format!("`{name}` has no place in the system prompt"),
                        "nobody else writes the system prompt: refer to it in the user prompt".into(),
                    ),
                    false => (
                        format!("unknown variable `{name}`"),
                        format!("a template can use {}", VARIABLES.join(", ")),
                    ),
                };
                return Err(bad(None, what, hint));
            }
            // Filters are only looked up when they run. Without an input every
            // branch that asks for a field is passed over, so this finds the
            // misspelt ones outside of branches.
            let trial = template.and_then(|template| template.render(())).err();
            if let Some(error) = trial.as_ref().filter(|error| is_unknown_name(error)) {
                let line = error.line().filter(|_| author == Author::Workspace);
                return Err(bad(line, describe(error), "the filter for data is `fence`".into()));
            }
            if trial.is_some_and(|error| error.kind() == ErrorKind::OutOfFuel) {
                let hint = "loop over the input's own lists, and not in loops of loops";
                return Err(bad(None, "it takes too long, even without an input".into(), hint.into()));
            }
        }
        // An absent field may be asked about, but printing it is a mistake.
        templates.set_undefined_behavior(UndefinedBehavior::SemiStrict);
        Ok(Self { templates, author })
    }

    /// The system and the user text for one input.
    ///
    /// # Errors
    /// A template asks for something the input lacks, or does too much.
    pub fn try_on(&self, input: &Value) -> Result<(String, String), BadTemplate> {
        let empty = Value::Object(Map::new());
        let part = |name: &str| input.get(name).unwrap_or(&empty);
        let context = minijinja::context! {
            brief => Serde(part("brief")),
            params => Serde(without_orders(part("params"))),
            results => Serde(part("results")),
            item => Serde(input.get("item")),
        };
        let render = |key, context: &TemplateValue| {
            self.templates
                .get_template(key)
                .and_then(|template| template.render(context))
                .map(|text| text.trim().to_owned())
                .map_err(|error| BadTemplate {
                    key,
                    line: error.line(),
                    what: describe(&error),
                    hint: "ask whether it is there first: {% if … %}".into(),
                })
        };
        // One may include the other.
        let system = match self.author {
            Author::Deployment => render(SYSTEM, &context)?,
            Author::Workspace => render(SYSTEM, &TemplateValue::from(()))?,
        };
        Ok((system, render(USER, &context)?))
    }

    /// The same for a step.
    ///
    /// # Errors
    /// A permanent `bad_prompt`: the same input would lack the same again.
    pub fn render(&self, input: &Value) -> Result<(String, String), StepError> {
        self.try_on(input).map_err(|BadTemplate { key, line, what, .. }| {
            let line = line.map(|line| format!(", line {line}")).unwrap_or_default();
            StepError::permanent("bad_prompt", format!("{key}{line}: {what}"))
        })
    }
}

/// `params` without the orders to the offline provider.
fn without_orders(params: &Value) -> Value {
    let mut params = params.clone();
    if let Some(map) = params.as_object_mut() {
        map.remove(ORDERS_KEY);
    }
    params
}

fn is_unknown_name(error: &Error) -> bool {
    use ErrorKind::{UnknownFilter, UnknownFunction, UnknownMethod, UnknownTest};
    matches!(error.kind(), UnknownFilter | UnknownFunction | UnknownMethod | UnknownTest)
}

fn describe(error: &Error) -> String {
    error.detail().map_or_else(|| error.kind().to_string(), str::to_owned)
}

/// A value as a template shows it inside of a fence.
pub fn shown(value: &Value) -> String {
    block(&TemplateValue::from(Serde(value)))
}

/// A value as the inside of a fence.
pub(crate) fn block(value: &TemplateValue) -> String {
    if value.is_undefined() || value.is_none() {
        return "(none)".to_owned();
    }
    match value.as_str() {
        Some(text) => text.to_owned(),
        None => serde_json::to_string_pretty(value).unwrap_or_else(|_| value.to_string()),
    }
}
