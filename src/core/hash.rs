//! Hashes that name content: definitions, requests, effects, errors.

use std::fmt::Write as _;

use serde::Serialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::ids::WorkflowKey;

/// SHA-256 of a value's JSON with the keys of every object sorted, so that
/// equal values hash equally however they were written.
pub fn of_json<T: Serialize>(value: &T) -> [u8; 32] {
    serde_json::to_value(value).map(|value| of_value(&value)).unwrap_or_default()
}

/// [`of_json`] of what is a JSON value already.
pub fn of_value(value: &Value) -> [u8; 32] {
    let mut text = String::new();
    write_sorted(value, &mut text);
    Sha256::digest(text.as_bytes()).into()
}

/// SHA-256 of a text, in hexadecimal: what `sha256sum` says.
pub fn of_text(text: &str) -> String {
    hex::encode(Sha256::digest(text.as_bytes()))
}

/// SHA-256 of several texts, each with its length, so that none can be shifted
/// into its neighbour.
pub fn of_parts(parts: &[&[u8]]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

/// The map of `serde_json` sorts its keys only as long as no crate of the whole
/// build asks it to preserve their order (one does), so this does it itself.
fn write_sorted(value: &Value, text: &mut String) {
    match value {
        Value::Object(fields) => {
            let mut fields: Vec<_> = fields.iter().collect();
            fields.sort_unstable_by_key(|(name, _)| *name);
            text.push('{');
            for (name, value) in fields {
                let _ = write!(text, "{}:", Value::from(name.as_str()));
                write_sorted(value, text);
                text.push(',');
            }
            text.push('}');
        }
        Value::Array(items) => {
            text.push('[');
            for item in items {
                write_sorted(item, text);
                text.push(',');
            }
            text.push(']');
        }
        scalar => {
            let _ = write!(text, "{scalar}");
        }
    }
}

/// The key a step hands to whatever it changes outside: the same for every
/// attempt, so that the outside can recognise a repetition.
pub fn effect_key(key: WorkflowKey, step_name: &str, target: &str) -> String {
    let mut hash = Sha256::new();
    hash.update(key.workspace.0.as_bytes());
    hash.update(key.workflow.0.as_bytes());
    // Length first, so that two fields cannot be shifted into each other.
    for part in [step_name, target] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    }
    hex::encode(&hash.finalize()[..16])
}

/// Groups dead letters that died of the same thing: agent, reason, error
/// class and the message with everything variable taken out.
pub fn fingerprint(agent: &str, reason: &str, class: &str, message: &str) -> String {
    let mut hash = Sha256::new();
    for part in [agent, reason, class, &shape(message)] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    }
    hex::encode(&hash.finalize()[..6])
}

/// A message with numbers, ids and quoted text replaced by a mark, so that
/// "post 17 failed" and "post 18 failed" are one problem.
fn shape(message: &str) -> String {
    let mut out = String::with_capacity(message.len().min(200));
    let mut chars = message.chars().peekable();
    while let Some(c) = chars.next() {
        if out.len() >= 200 {
            break;
        }
        match c {
            '"' | '`' => {
                // Up to the closing mark; an apostrophe is not one.
                for inner in chars.by_ref() {
                    if inner == c {
                        break;
                    }
                }
                out.push('~');
            }
            c if c.is_ascii_alphanumeric() => {
                let mut word = String::from(c);
                while let Some(next) = chars.next_if(|n| n.is_ascii_alphanumeric() || *n == '-' || *n == '_')
                {
                    word.push(next);
                }
                if word.chars().any(|c| c.is_ascii_digit()) { out.push('~') } else { out.push_str(&word) }
            }
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_problem_has_one_fingerprint() {
        let print = |message| fingerprint("reviewer", "attempts", "timeout", message);
        assert_eq!(print("post 17 failed after 30s"), print("post 18 failed after 31s"));
        assert_eq!(print("no field `a` in \"x\""), print("no field `b` in \"y\""));
        assert_eq!(
            print("step 0199aa10-7c1e-7d3a-9c9e-1234567890ab is gone"),
            print("step 0199bb20-7c1e-7d3a-9c9e-ba0987654321 is gone")
        );
        assert_ne!(print("no such key"), print("no such table"));
    }

    #[test]
    fn the_order_of_keys_does_not_change_a_hash() {
        let hash = |text| of_json(&serde_json::from_str::<Value>(text).expect("json"));
        assert_eq!(hash(r#"{"a":1,"b":[{"c":2,"d":3}]}"#), hash(r#"{"b":[{"d":3,"c":2}],"a":1}"#));
        // Said here because the map sorts by itself when this crate is built
        // alone: the text that is hashed is sorted in any build.
        let mut text = String::new();
        write_sorted(&serde_json::json!({ "b": [1, "x\"y"], "a": null }), &mut text);
        assert_eq!(text, r#"{"a":null,"b":[1,"x\"y",],}"#);
    }
}
