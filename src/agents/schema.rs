//! JSON Schemas compiled once, and mismatches that name their place.

use std::fmt;

use jsonschema::Validator;
use serde_json::Value;

/// A compiled JSON Schema. The schema `true` compiles to nothing: values it
/// guards are not even parsed.
#[derive(Debug)]
pub struct Schema(Option<Validator>);

/// How many problems of one value are worth telling.
const MOST_PROBLEMS: usize = 8;

impl Schema {
    /// Compiles a schema. References must stay inside it: nothing is fetched.
    ///
    /// # Errors
    /// What is wrong with the schema, for a person.
    pub fn compile(schema: &Value) -> Result<Self, String> {
        if *schema == Value::Bool(true) {
            return Ok(Self(None));
        }
        jsonschema::validator_for(schema).map(|validator| Self(Some(validator))).map_err(|error| {
            let path = error.instance_path().to_string();
            if path.is_empty() { error.to_string() } else { format!("at `{path}`: {error}") }
        })
    }

    /// Whether everything fits, so that there is nothing to check.
    pub fn is_anything(&self) -> bool {
        self.0.is_none()
    }

    /// Checks a value.
    ///
    /// # Errors
    /// The first few places that do not fit. Values are masked: an error is
    /// stored and shown, a value may be private or huge.
    pub fn check(&self, value: &Value) -> Result<(), Mismatch> {
        let Some(validator) = &self.0 else { return Ok(()) };
        let problems: Vec<Problem> = validator
            .iter_errors(value)
            .take(MOST_PROBLEMS)
            .map(|error| Problem {
                pointer: error.instance_path().to_string(),
                message: error.masked().to_string(),
            })
            .collect();
        if problems.is_empty() { Ok(()) } else { Err(Mismatch { problems }) }
    }
}

/// One place that does not fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// JSON pointer of the value; empty for the whole document.
    pub pointer: String,
    /// What is wrong with it.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.pointer.is_empty() {
            write!(f, "at the top: {}", self.message)
        } else {
            write!(f, "at `{}`: {}", self.pointer, self.message)
        }
    }
}

/// Why a value does not fit its schema; never empty.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Mismatch {
    /// The first few problems.
    pub problems: Vec<Problem>,
}

impl Mismatch {
    /// A mismatch at one place.
    pub(crate) fn at(pointer: impl Into<String>, message: impl Into<String>) -> Self {
        Self { problems: vec![Problem { pointer: pointer.into(), message: message.into() }] }
    }
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                f.write_str("; ")?;
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}
