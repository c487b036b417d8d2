//! What is stored and decided on: definitions, conditions, rows.

use galley_core::condition::Condition;
use galley_core::definition::Definition;
use galley_core::plan::Plan;
use galley_core::retry::RetryPolicy;
use galley_core::run::Run;
use serde_json::{Map, Value, json};

use crate::halves;

/// A workflow's definition: whatever is accepted can be stored and read back,
/// and is the same plan.
pub fn workflow_definition(data: &[u8]) {
    let Ok(definition) = serde_json::from_slice::<Definition>(data) else { return };
    let Ok(plan) = Plan::compile(definition, |_| Some(RetryPolicy::default())) else { return };
    plan.check_input(&json!({ "topic": "a", "platforms": ["x"] }));
    let stored = serde_json::to_string(&plan.definition).and_then(|text| serde_json::from_str(&text));
    let stored: Definition = stored.unwrap_or_else(|error| panic!("it does not read back: {error}"));
    assert_eq!(stored, plan.definition);
    let again = Plan::from_frozen(stored).unwrap_or_else(|problems| panic!("{problems:?}"));
    assert_eq!(again.definition, plan.definition);
    for (one, other) in plan.steps.iter().zip(&again.steps) {
        assert_eq!((&one.name, &one.needs, &one.dependents), (&other.name, &other.needs, &other.dependents));
    }
}

/// A condition, and the results that it sees as JSON.
pub fn condition(data: &[u8]) {
    let (text, results) = halves(data);
    let Ok(text) = std::str::from_utf8(text) else { return };
    let Ok(condition) = Condition::compile(text) else { return };
    let results = serde_json::from_slice::<Map<String, Value>>(results).unwrap_or_default();
    let brief = json!({ "topic": "a", "platforms": ["x", "y"], "n": 3 });
    let first = condition.holds(&brief, &json!({ "n": 3 }), &results);
    assert_eq!(condition.holds(&brief, &json!({ "n": 3 }), &results), first, "`{text}` answers by chance");
}

/// A run as its row has it.
pub fn run_row(data: &[u8]) {
    let Ok(run) = Run::decode(data) else { return };
    let again = Run::decode(&run.encode());
    assert_eq!(again.ok().as_ref(), Some(&run), "it does not read back");
}
