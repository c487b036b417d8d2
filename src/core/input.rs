//! The input of a step: put together from what is immutable (the workflow's
//! input, the definition, the parents' results), so that it is never stored
//! twice and can be shown again at any time.

use serde_json::{Map, Value, json};

/// The input an agent receives:
///
/// ```json
/// { "brief":   the workflow's input,
///   "params":  the step's own `input` from the definition,
///   "results": { "<needed step>": its output, … },
///   "item":    the element, for a step expanded by forEach }
/// ```
///
/// A skipped or failed optional parent appears as `null`.
pub fn step_input(brief: Value, params: Value, results: Map<String, Value>, item: Option<Value>) -> Value {
    let mut input = json!({ "brief": brief, "params": params, "results": results });
    if let Some(item) = item {
        input["item"] = item;
    }
    input
}
