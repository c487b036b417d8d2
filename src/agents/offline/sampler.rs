//! A value that fits any reasonable output schema, for agents nobody wrote a
//! writer for: a new `agents/NAME.toml` runs offline at once.
//!
//! It knows types, `enum`, `const`, `default`, `examples`, objects, arrays,
//! bounds, common formats, local references and combinations. What it cannot
//! invent is a text for a `pattern`, or `not` and `if`: give such a place
//! `examples`. The result is checked, so an unfit sample is never returned.

use galley_core::report::StepError;
use serde_json::{Map, Number, Value, json};

use super::brief::Brief;
use crate::schema::Schema;

/// How deep optional fields are filled in; required ones go on.
const DEEP: usize = 6;

/// Where a schema that requires itself is given up.
const TOO_DEEP: usize = 40;

/// A sample for `schema`; `compiled` is the same schema, to check it with.
pub(super) fn sample(schema: &Value, compiled: &Schema, brief: &Brief) -> Result<Value, StepError> {
    let sampler = Sampler { root: schema, brief };
    let value = sampler.value(schema, "output", 0);
    compiled.check(&value).map(|()| value).map_err(|why| {
        StepError::permanent(
            "offline_cannot_sample",
            format!("the offline provider cannot write this agent's output ({why}): add `examples` to the output schema"),
        )
    })
}

struct Sampler<'a> {
    root: &'a Value,
    brief: &'a Brief,
}

impl Sampler<'_> {
    fn value(&self, schema: &Value, name: &str, depth: usize) -> Value {
        let Value::Object(map) = schema else {
            return json!({ "sample": true });
        };
        if depth > TOO_DEEP {
            return Value::Null;
        }
        let given =
            [map.get("const"), map.get("default"), first(map.get("examples")), first(map.get("enum"))];
        if let Some(value) = given.into_iter().flatten().next() {
            return value.clone();
        }
        if let Some(target) = map.get("$ref").and_then(Value::as_str) {
            let target = target.strip_prefix('#').and_then(|pointer| self.root.pointer(pointer));
            return target.map_or(Value::Null, |target| self.value(target, name, depth + 1));
        }
        for branch in ["anyOf", "oneOf"] {
            if let Some(option) = first(map.get(branch)) {
                return self.value(&merged(map, branch, option), name, depth + 1);
            }
        }
        if let Some(Value::Array(parts)) = map.get("allOf") {
            let whole = parts.iter().fold(without(map, "allOf"), |whole, part| {
                let Value::Object(whole) = whole else { return whole };
                merged(&whole, "allOf", part)
            });
            return self.value(&whole, name, depth + 1);
        }
        let kind = match map.get("type") {
            Some(Value::Array(kinds)) => kinds.iter().filter_map(Value::as_str).find(|kind| *kind != "null"),
            Some(Value::String(kind)) => Some(kind.as_str()),
            _ if map.contains_key("items") => Some("array"),
            _ => None,
        };
        match kind {
            Some("string") => self.text(map, name),
            Some("integer") => json!(number(map, true).round() as i64),
            Some("number") => Number::from_f64(number(map, false)).map_or(Value::Null, Value::Number),
            Some("boolean") => Value::Bool(true),
            Some("null") => Value::Null,
            Some("array") => self.array(map, name, depth),
            _ => self.object(map, depth),
        }
    }

    fn object(&self, map: &Map<String, Value>, depth: usize) -> Value {
        let required = strings(map.get("required"));
        let mut object = Map::new();
        let properties = map.get("properties").and_then(Value::as_object);
        for (name, schema) in properties.into_iter().flatten() {
            if depth < DEEP || required.contains(&name.as_str()) {
                object.insert(name.clone(), self.value(schema, name, depth + 1));
            }
        }
        for name in required {
            object.entry(name).or_insert_with(|| json!(format!("[sample] {name}")));
        }
        Value::Object(object)
    }

    fn array(&self, map: &Map<String, Value>, name: &str, depth: usize) -> Value {
        let least = map.get("minItems").and_then(Value::as_u64).unwrap_or(0);
        let most = map.get("maxItems").and_then(Value::as_u64).unwrap_or(u64::MAX);
        let wanted = if depth < DEEP { least.max(1).min(most) } else { least };
        let anything = Value::Bool(true);
        let schema = map.get("items").unwrap_or(&anything);
        // The schema's own numbers decide, but not about all our memory.
        let elements = (0..wanted.min(1_000)).map(|index| {
            let mut element = self.value(schema, name, depth + 1);
            if let (Value::String(text), true) = (&mut element, index > 0) {
                text.push_str(&format!(" {}", index + 1));
            }
            element
        });
        Value::Array(elements.collect())
    }

    fn text(&self, map: &Map<String, Value>, name: &str) -> Value {
        let formatted = match map.get("format").and_then(Value::as_str) {
            Some("date") => Some("2026-01-15"),
            Some("time") => Some("09:00:00Z"),
            Some("date-time") => Some("2026-01-15T09:00:00Z"),
            Some("email") => Some("sample@example.com"),
            Some("uri" | "iri") => Some("https://example.com/sample"),
            Some("uuid") => Some("00000000-0000-4000-8000-000000000000"),
            _ => None,
        };
        if let Some(text) = formatted {
            return json!(text);
        }
        let length =
            |key| map.get(key).and_then(Value::as_u64).and_then(|length| usize::try_from(length).ok());
        let mut text = format!("[sample] {name} for {}", self.brief.product);
        let least = length("minLength").unwrap_or(0).min(100_000);
        while text.chars().count() < least {
            text.push_str(" and so on");
        }
        let most = length("maxLength").unwrap_or(usize::MAX);
        json!(text.chars().take(most).collect::<String>())
    }
}

/// A number within the schema's bounds, near the middle of a closed range.
fn number(map: &Map<String, Value>, whole: bool) -> f64 {
    let bound = |key: &str| map.get(key).and_then(Value::as_f64);
    let step = bound("multipleOf").unwrap_or(if whole { 1.0 } else { 0.0 });
    let margin = if step > 0.0 { step } else { 1e-3 };
    let low = bound("minimum").or_else(|| bound("exclusiveMinimum").map(|low| low + margin));
    let high = bound("maximum").or_else(|| bound("exclusiveMaximum").map(|high| high - margin));
    let middle = match (low, high) {
        (Some(low), Some(high)) => f64::midpoint(low, high),
        (Some(low), None) => low,
        (None, Some(high)) => high,
        (None, None) => 1.0,
    };
    if step <= 0.0 {
        return middle;
    }
    let stepped = (middle / step).floor() * step;
    if low.is_some_and(|low| stepped < low) { stepped + step } else { stepped }
}

fn first(value: Option<&Value>) -> Option<&Value> {
    value.and_then(Value::as_array).and_then(|values| values.first())
}

fn strings(value: Option<&Value>) -> Vec<&str> {
    value.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect()
}

fn without(map: &Map<String, Value>, key: &str) -> Value {
    let mut map = map.clone();
    map.remove(key);
    Value::Object(map)
}

/// A schema and one of its branches as one schema: `properties` and `required`
/// are united, otherwise the branch wins.
fn merged(map: &Map<String, Value>, key: &str, branch: &Value) -> Value {
    let mut whole = without(map, key);
    let Value::Object(branch) = branch else { return whole };
    for (name, value) in branch {
        match (whole.get_mut(name), value) {
            (Some(Value::Object(ours)), Value::Object(theirs)) if name == "properties" => {
                ours.extend(theirs.clone());
            }
            (Some(Value::Array(ours)), Value::Array(theirs)) if name == "required" => {
                ours.extend(theirs.iter().cloned());
            }
            _ => whole[name] = value.clone(),
        }
    }
    whole
}
