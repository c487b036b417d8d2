//! Sample answers to comments.

use serde_json::{Value, json};

use super::Chance;
use super::brief::{Brief, sentence};
use super::platform::Platform;

/// Words that make a comment a person's business.
const DELICATE: &[&str] =
    &["refund", "money back", "broken", "complain", "allerg", "sick", "lawyer", "scam", "angry"];

/// The longest sample answer, in characters; the schema allows 500.
const LONGEST: usize = 480;

pub(super) fn replies(brief: &Brief, comments: &Value, chance: Chance) -> Value {
    let comments = comments.as_array().map(Vec::as_slice).unwrap_or_default();
    let replies: Vec<Value> = comments
        .iter()
        .zip(0u32..)
        .map(|(comment, index)| {
            let author = comment["author"].as_str().unwrap_or_default();
            let text = comment["text"].as_str().unwrap_or_default().to_lowercase();
            if text.trim().is_empty() {
                return json!({ "to": author, "action": "ignore", "text": "" });
            }
            let (action, reply) = if DELICATE.iter().any(|word| text.contains(word)) {
                (
                    "escalate",
                    "We are sorry to hear that. A person from our team will write to you today.".to_owned(),
                )
            } else if text.contains('?') {
                let fact = chance.pick(index, &brief.facts).map(|fact| sentence(fact)).unwrap_or_default();
                ("reply", format!("Good question. {fact} {}", brief.call_to_action()))
            } else {
                ("reply", format!("Thank you, that means a lot to us at {}.", brief.product))
            };
            let reply = Platform::named("").clip(&format!("[sample] {reply}"), LONGEST);
            json!({ "to": author, "action": action, "text": reply })
        })
        .collect();
    json!({ "replies": replies, "notes": ["[sample] Made offline by simple rules; read before sending."], "sample": true })
}
