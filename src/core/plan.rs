//! A definition that was checked and made ready to be decided on: names become
//! positions, conditions are compiled, retry policies are frozen.
//!
//! Every way a definition can be wrong is found here, before anything is
//! stored, and named with its place.

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;

use crate::condition::Condition;
use crate::definition::{Definition, ForEach, MAX_PAYLOAD_BYTES, MAX_STEPS, RetryOverride};
use crate::ids::{AgentType, StepIndex, is_name};
use crate::publish::PUBLISHER;
use crate::retry::RetryPolicy;

/// What is wrong with a definition, and where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("{at}: {problem}")]
pub struct Problem {
    /// The place, as a path into the JSON: `steps[2].needs[0]`.
    pub at: String,
    /// What is wrong and what to do about it.
    pub problem: String,
}

impl Problem {
    /// A problem at a place.
    pub fn new(at: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { at: at.into(), problem: problem.into() }
    }
}

/// A step, ready to be decided on.
#[derive(Debug)]
pub struct PlanStep {
    /// Its name.
    pub name: String,
    /// Who runs it.
    pub agent: AgentType,
    /// Positions of the steps it needs.
    pub needs: Vec<StepIndex>,
    /// Positions of the steps that need it.
    pub dependents: Vec<StepIndex>,
    /// Its condition, compiled.
    pub when: Option<Condition>,
    /// Its expansion, with the position of the step that holds the list.
    pub for_each: Option<Expansion>,
    /// Whether the workflow goes on without it.
    pub optional: bool,
    /// Whether each of its steps sends a post out.
    pub publishes: bool,
    /// How it is retried.
    pub retry: RetryPolicy,
}

/// A checked `forEach`.
#[derive(Debug, Clone)]
pub struct Expansion {
    /// Whose result holds the list; `None`: the workflow input.
    pub source: Option<StepIndex>,
    /// JSON Pointer to the list.
    pub path: String,
    /// Most elements.
    pub max: u16,
}

/// A checked definition.
#[derive(Debug)]
pub struct Plan {
    /// The definition with every retry policy spelled out: what is stored.
    pub definition: Definition,
    /// The steps, in definition order: position = [`StepIndex`].
    pub steps: Vec<PlanStep>,
    /// Whether any step has a condition or an expansion, so that deciding
    /// needs results as facts.
    pub conditional: bool,
    /// Whether any step sends a post out.
    pub publishes: bool,
    /// The input schema, compiled.
    input: Option<jsonschema::Validator>,
}

impl Plan {
    /// Checks a definition as a whole. `known` answers with the retry policy
    /// of an agent type, or `None` for one that nobody registered.
    ///
    /// # Errors
    /// Every problem found, each with its place; nothing may be stored then.
    pub fn compile(
        definition: Definition,
        known: impl Fn(&AgentType) -> Option<RetryPolicy>,
    ) -> Result<Self, Vec<Problem>> {
        let mut problems = Vec::new();
        check_size(&definition, &mut problems);
        Self::checked(definition, known, problems)
    }

    /// Everything but the size: freezing makes a definition longer, and what
    /// was accepted stays readable.
    fn checked(
        mut definition: Definition,
        known: impl Fn(&AgentType) -> Option<RetryPolicy>,
        mut problems: Vec<Problem>,
    ) -> Result<Self, Vec<Problem>> {
        check_frame(&definition, &mut problems);
        let positions = check_names(&definition, &mut problems);
        if !problems.is_empty() {
            return Err(problems);
        }

        let mut steps = Vec::with_capacity(definition.steps.len());
        for (index, step) in definition.steps.iter_mut().enumerate() {
            let at = format!("steps[{index}]");
            let base = known(&step.agent);
            if base.is_none() {
                problems.push(Problem::new(
                    format!("{at}.agent"),
                    format!(
                        "no agent type `{}` is registered; start a worker that offers it, or see `galley agent list`",
                        step.agent
                    ),
                ));
            }
            let retry = step.retry.clone().unwrap_or_default().over(&base.unwrap_or_default());
            check_retry(&at, &retry, &mut problems);
            step.retry = Some(RetryOverride::frozen(&retry));

            let mut needs = resolve_needs(&at, index, step.needs.as_deref(), &positions, &mut problems);
            let for_each = step
                .for_each
                .as_ref()
                .and_then(|f| check_for_each(&at, index, f, &positions, &mut needs, &mut problems));
            let when = step.when.as_ref().and_then(|text| {
                Condition::compile(text)
                    .and_then(|when| check_element(when, step.for_each.as_ref()))
                    .map_err(|problem| problems.push(Problem::new(format!("{at}.when"), problem)))
                    .ok()
            });
            needs.sort_unstable();
            needs.dedup();
            steps.push(PlanStep {
                name: step.name.clone(),
                agent: step.agent.clone(),
                needs,
                dependents: Vec::new(),
                when,
                for_each,
                optional: step.optional,
                publishes: step.agent.as_str() == PUBLISHER,
                retry,
            });
        }
        for index in 0..steps.len() {
            for need in steps[index].needs.clone() {
                steps[usize::from(need)].dependents.push(index as StepIndex);
            }
        }
        if problems.is_empty() {
            check_acyclic(&steps, &mut problems);
        }
        let total: usize =
            steps.iter().map(|s| 1 + s.for_each.as_ref().map_or(0, |f| usize::from(f.max))).sum();
        if total > MAX_STEPS {
            problems.push(Problem::new(
                "steps",
                format!("{total} steps when every forEach is at its max; at most {MAX_STEPS} are allowed"),
            ));
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let conditional = steps.iter().any(|s| s.when.is_some() || s.for_each.is_some());
        // Checked above; a schema that compiles once compiles again.
        let input =
            definition.input_schema.as_ref().and_then(|schema| jsonschema::validator_for(schema).ok());
        let publishes = steps.iter().any(|s| s.publishes);
        Ok(Self { definition, steps, conditional, publishes, input })
    }

    /// Checks a workflow input against the definition's schema; empty when it
    /// fits.
    pub fn check_input(&self, input: &serde_json::Value) -> Vec<Problem> {
        let Some(validator) = &self.input else { return Vec::new() };
        let place = |pointer: String| format!("input{}", pointer.replace('/', "."));
        validator
            .iter_errors(input)
            .take(20)
            .map(|error| Problem::new(place(error.instance_path().to_string()), error.to_string()))
            .collect()
    }

    /// Reads back a definition that was frozen by [`Plan::compile`]: its
    /// policies are spelled out, so the agents need not be known any more.
    ///
    /// # Errors
    /// The problems of a stored definition that no longer compiles.
    pub fn from_frozen(definition: Definition) -> Result<Self, Vec<Problem>> {
        Self::checked(definition, |_| Some(RetryPolicy::default()), Vec::new())
    }

    /// The agent types the workflow needs, each once, sorted.
    pub fn agents(&self) -> Vec<AgentType> {
        let mut agents: Vec<_> = self.steps.iter().map(|s| s.agent.clone()).collect();
        agents.sort();
        agents.dedup();
        agents
    }
}

fn check_size(definition: &Definition, problems: &mut Vec<Problem>) {
    let size = serde_json::to_string(definition).map_or(0, |text| text.len());
    if size > MAX_PAYLOAD_BYTES {
        problems.push(Problem::new(
            "definition",
            format!("{size} bytes; at most {MAX_PAYLOAD_BYTES} are allowed, pass large data by reference"),
        ));
    }
}

fn check_frame(definition: &Definition, problems: &mut Vec<Problem>) {
    if !is_name(&definition.name) {
        problems.push(Problem::new("name", "use 1-48 of a-z, 0-9 and _, beginning with a letter"));
    }
    if definition.steps.is_empty() {
        problems.push(Problem::new("steps", "a workflow needs at least one step"));
    }
    if definition.steps.len() > MAX_STEPS {
        let count = definition.steps.len();
        problems.push(Problem::new("steps", format!("{count} steps; at most {MAX_STEPS} are allowed")));
    }
    if let Some(schema) = &definition.input_schema
        && let Err(error) = jsonschema::validator_for(schema)
    {
        problems.push(Problem::new("inputSchema", format!("not a JSON Schema: {error}")));
    }
}

fn check_names(definition: &Definition, problems: &mut Vec<Problem>) -> HashMap<String, StepIndex> {
    let mut positions = HashMap::<String, StepIndex>::new();
    for (index, step) in definition.steps.iter().enumerate().take(MAX_STEPS) {
        let at = format!("steps[{index}].name");
        if !is_name(&step.name) {
            problems.push(Problem::new(at, "use 1-48 of a-z, 0-9 and _, beginning with a letter"));
        } else if let Some(first) = positions.insert(step.name.clone(), index as StepIndex) {
            problems.push(Problem::new(at, format!("`{}` is already the name of steps[{first}]", step.name)));
        }
    }
    positions
}

/// Adds what is wrong with a retry policy at a place.
pub fn check_retry(at: &str, retry: &RetryPolicy, problems: &mut Vec<Problem>) {
    let mut at_least_one = |field: &str, ok: bool| {
        if !ok {
            problems.push(Problem::new(format!("{at}.retry.{field}"), "must be at least 1"));
        }
    };
    at_least_one("maxAttempts", retry.max_attempts >= 1);
    at_least_one("maxCrashes", retry.max_crashes >= 1);
    at_least_one("timeoutMs", retry.timeout_ms >= 1);
    let times = [
        ("timeoutMs", retry.timeout_ms),
        ("backoffMs", retry.backoff_ms),
        ("maxBackoffMs", retry.max_backoff_ms),
    ];
    for (field, ms) in times {
        if ms > LONGEST_MS {
            problems.push(Problem::new(
                format!("{at}.retry.{field}"),
                format!("{ms} ms; at most a day, {LONGEST_MS} ms"),
            ));
        }
    }
}

/// Longest time a retry policy may name: one day.
const LONGEST_MS: u64 = 24 * 3600 * 1000;

fn resolve_needs(
    at: &str,
    index: usize,
    needs: Option<&[String]>,
    positions: &HashMap<String, StepIndex>,
    problems: &mut Vec<Problem>,
) -> Vec<StepIndex> {
    let Some(names) = needs else {
        // The default is a chain: each step needs the one before it.
        return if index == 0 { vec![] } else { vec![(index - 1) as StepIndex] };
    };
    let mut found = Vec::with_capacity(names.len());
    for (n, name) in names.iter().enumerate() {
        let at = format!("{at}.needs[{n}]");
        match positions.get(name) {
            Some(&need) if usize::from(need) == index => {
                problems.push(Problem::new(at, format!("`{name}` cannot need itself")));
            }
            Some(&need) => found.push(need),
            None => problems.push(Problem::new(at, format!("there is no step `{name}` in this workflow"))),
        }
    }
    found
}

fn check_for_each(
    at: &str,
    index: usize,
    for_each: &ForEach,
    positions: &HashMap<String, StepIndex>,
    needs: &mut Vec<StepIndex>,
    problems: &mut Vec<Problem>,
) -> Option<Expansion> {
    let at = format!("{at}.forEach");
    let source = match &for_each.step {
        None => None,
        Some(name) => match positions.get(name) {
            Some(&source) if usize::from(source) != index => {
                needs.push(source);
                Some(source)
            }
            _ => {
                problems.push(Problem::new(
                    format!("{at}.step"),
                    format!("there is no earlier step `{name}` in this workflow"),
                ));
                return None;
            }
        },
    };
    if !for_each.path.is_empty() && !for_each.path.starts_with('/') {
        problems.push(Problem::new(
            format!("{at}.path"),
            "a JSON Pointer begins with `/`, for example `/platforms`; empty means the whole result",
        ));
    }
    match for_each.max {
        None => {
            problems.push(Problem::new(
                format!("{at}.max"),
                format!("an expansion must be bounded: say the most elements it may have, 1 to {MAX_STEPS}"),
            ));
            None
        }
        Some(0) => {
            problems.push(Problem::new(format!("{at}.max"), "must be at least 1"));
            None
        }
        Some(max) => Some(Expansion { source, path: for_each.path.clone(), max }),
    }
}

/// Most elements of an expansion whose condition looks at a whole list for each
/// of them: what that costs has to be bounded.
const MAX_LOOPED: u16 = 32;

/// Whether a condition about an element belongs to a step that has some.
fn check_element(when: Condition, for_each: Option<&ForEach>) -> Result<Condition, String> {
    if !when.asks_item() {
        return Ok(when);
    }
    match for_each {
        None => Err("`item` is the element of a forEach, and this step has none".into()),
        Some(each) if when.loops() && each.max.is_some_and(|max| max > MAX_LOOPED) => Err(format!(
            "a loop for each element (all, exists, map, filter): then the forEach may have at most {MAX_LOOPED}"
        )),
        Some(_) => Ok(when),
    }
}

/// Kahn's algorithm; what is left over is a cycle, and one is spelled out.
fn check_acyclic(steps: &[PlanStep], problems: &mut Vec<Problem>) {
    let mut missing: BTreeMap<StepIndex, usize> =
        steps.iter().enumerate().map(|(i, s)| (i as StepIndex, s.needs.len())).collect();
    let mut ready: Vec<StepIndex> = missing.iter().filter(|(_, n)| **n == 0).map(|(i, _)| *i).collect();
    while let Some(done) = ready.pop() {
        missing.remove(&done);
        for dependent in &steps[usize::from(done)].dependents {
            if let Some(left) = missing.get_mut(dependent) {
                *left -= 1;
                if *left == 0 {
                    ready.push(*dependent);
                }
            }
        }
    }
    let Some((&start, _)) = missing.iter().next() else { return };
    // Follow needs inside the leftover until a step repeats: that is a cycle.
    let mut path = vec![start];
    loop {
        let last = path[path.len() - 1];
        let Some(next) = steps[usize::from(last)].needs.iter().find(|n| missing.contains_key(n)) else {
            return;
        };
        if let Some(from) = path.iter().position(|p| p == next) {
            let mut names: Vec<_> =
                path[from..].iter().map(|i| steps[usize::from(*i)].name.as_str()).collect();
            names.push(steps[usize::from(*next)].name.as_str());
            problems.push(Problem::new(
                format!("steps[{next}].needs"),
                format!("these steps wait for each other: {}", names.join(" needs ")),
            ));
            return;
        }
        path.push(*next);
    }
}
