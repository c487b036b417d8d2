//! What an agent made, as people want to read it: posts as boxes of text,
//! everything else as an outline. It reads whatever JSON agents write; only
//! the shape of a post is known.

use serde_json::{Map, Value};

use crate::print::style;
use crate::table::{boxed, wrap};

/// An output as text, at most `width` columns wide, with a line break at the end.
pub(crate) fn of(output: &Value, width: usize) -> String {
    match output {
        Value::Object(fields) if is_post(fields) => post(fields, width),
        Value::Object(fields) => {
            let mut text = String::new();
            outline(fields, 2, width, &mut text);
            text
        }
        other => lines(&scalar(other), 2, width),
    }
}

/// Whether people would publish it.
pub(crate) fn is_post(fields: &Map<String, Value>) -> bool {
    fields.get("platform").is_some_and(Value::is_string) && fields.get("text").is_some_and(Value::is_string)
}

fn post(fields: &Map<String, Value>, width: usize) -> String {
    let text_of = |name: &str| fields.get(name).and_then(Value::as_str).unwrap_or_default();
    let text = text_of("text");
    let width = width.min(76);
    let mut lines = wrap(text, width - 4);
    let tags: Vec<&str> = fields
        .get("hashtags")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    // Most posts have them in their text already.
    let missing: Vec<&str> = tags.into_iter().filter(|tag| !text.contains(tag)).collect();
    if !missing.is_empty() {
        lines.push(String::new());
        lines.extend(wrap(&missing.join(" "), width - 4));
    }
    let title = format!("{}, {} characters", text_of("platform"), text.chars().count());
    boxed(&title, &lines, width)
}

fn outline(fields: &Map<String, Value>, indent: usize, width: usize, text: &mut String) {
    for (name, value) in fields {
        // Sample copy says so in its text.
        if name == "sample" || is_empty(value) {
            continue;
        }
        let label = label(name);
        match value {
            Value::Object(inner) => {
                text.push_str(&format!("{:indent$}{}\n", "", style::DIM.on(&label)));
                outline(inner, indent + 2, width, text);
            }
            Value::Array(items)
                if items.iter().all(|item| !item.is_object() && !item.is_array()) && short(items) =>
            {
                let items: Vec<_> = items.iter().map(scalar).collect();
                entry(&label, &items.join(" "), indent, width, text);
            }
            Value::Array(items) => {
                text.push_str(&format!("{:indent$}{}\n", "", style::DIM.on(&label)));
                for item in items {
                    bullet(item, indent + 2, width, text);
                }
            }
            other => entry(&label, &scalar(other), indent, width, text),
        }
    }
}

/// Whether a list reads well on one line: hashtags, names.
fn short(items: &[Value]) -> bool {
    items.iter().all(|item| !scalar(item).contains(' '))
}

fn entry(label: &str, value: &str, indent: usize, width: usize, text: &mut String) {
    let head = format!("{:indent$}{}", "", style::DIM.on(label));
    let room = width.saturating_sub(indent + label.chars().count() + 2);
    if value.chars().count() <= room {
        text.push_str(&format!("{head}  {value}\n"));
    } else {
        text.push_str(&format!("{head}\n{}", lines(value, indent + 2, width)));
    }
}

fn bullet(item: &Value, indent: usize, width: usize, text: &mut String) {
    let mut inner = String::new();
    match item {
        Value::Object(fields) => outline(fields, indent + 2, width, &mut inner),
        other => inner = lines(&scalar(other), indent + 2, width),
    }
    // The dash takes the place of the first line's indent.
    let first = inner.get(indent + 2..).unwrap_or("\n");
    text.push_str(&format!("{:indent$}- {first}", ""));
}

fn lines(value: &str, indent: usize, width: usize) -> String {
    let wrapped = wrap(value, width.saturating_sub(indent).max(20));
    wrapped.iter().map(|line| format!("{:indent$}{line}\n", "")).collect()
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    }
}

fn scalar(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// `keyMessages` as `key messages`.
fn label(name: &str) -> String {
    let mut label = String::new();
    for c in name.chars() {
        if c.is_uppercase() {
            label.push(' ');
        }
        label.extend(c.to_lowercase());
    }
    label.replace('_', " ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    fn plain(value: &serde_json::Value, width: usize) -> String {
        anstream::adapter::strip_str(&super::of(value, width)).to_string()
    }

    #[test]
    fn a_post_is_a_box_with_its_text() {
        let post = json!({"platform": "x", "text": "Hello there", "hashtags": ["#a"], "sample": true});
        assert_eq!(
            plain(&post, 30),
            "┌─ x, 11 characters ─────────┐\n\
             │ Hello there                │\n\
             │                            │\n\
             │ #a                         │\n\
             └────────────────────────────┘\n"
        );
    }

    #[test]
    fn anything_else_is_an_outline() {
        // Keys in alphabetical order: whether the build keeps another one is
        // not this package's choice.
        let review = json!({
            "notes": ["one", "two"],
            "perPost": [{"brand": ["a note of some words"], "platform": "x", "safety": []}],
            "sample": true,
            "score": 0.9,
        });
        assert_eq!(
            plain(&review, 60),
            "  notes  one two\n  per post\n    - brand\n        - a note of some words\n      platform  x\n  score  0.9\n"
        );
    }

    #[test]
    fn a_bare_value_is_text() {
        assert_eq!(plain(&json!("done"), 40), "  done\n");
        assert_eq!(plain(&json!(null), 40), "  null\n");
    }
}
