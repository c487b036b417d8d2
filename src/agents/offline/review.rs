//! A sample review: a few honest rules instead of a judgement.

use serde_json::{Value, json};

use super::brief::Brief;
use super::platform::Platform;

/// Claims that want proof.
const RISKY: &[&str] =
    &["guarantee", "risk-free", "cures ", "100%", "best in the world", "number one", "miracle"];

/// From here up a post may go as it is; below [`REVISE_FROM`] it must not go.
const APPROVE_FROM: f64 = 0.8;
const REVISE_FROM: f64 = 0.5;

pub(super) fn review(brief: &Brief, results: &Value) -> Value {
    let mut posts = Vec::new();
    collect_posts(results, &mut posts);
    let reviewed: Vec<(f64, Value)> =
        posts.iter().map(|(platform, text)| review_post(brief, platform, text)).collect();
    // The weakest post is the campaign's score: an average would hide it.
    let score = reviewed.iter().map(|(score, _)| *score).reduce(f64::min).unwrap_or(0.0);
    let note = match reviewed.len() {
        0 => "[sample] There is no post in the results to review.",
        _ => "[sample] Checked against the brief by simple rules, not by a model.",
    };
    let per_post: Vec<Value> = reviewed.into_iter().map(|(_, review)| review).collect();
    json!({ "score": score, "verdict": verdict(score), "perPost": per_post, "notes": [note], "sample": true })
}

/// Every `{platform, text}` in the results, wherever a workflow put it.
fn collect_posts<'a>(value: &'a Value, posts: &mut Vec<(&'a str, &'a str)>) {
    match value {
        Value::Object(map) => match (map.get("platform"), map.get("text")) {
            (Some(Value::String(platform)), Some(Value::String(text))) => posts.push((platform, text)),
            _ => map.values().for_each(|value| collect_posts(value, posts)),
        },
        Value::Array(elements) => elements.iter().for_each(|value| collect_posts(value, posts)),
        _ => {}
    }
}

/// Tells whether a text has words that a review takes away from a post's score:
/// whoever writes the post anew leaves such a text out.
pub(super) fn refused_words(brief: &Brief) -> impl Fn(&str) -> bool + use<> {
    let avoid: Vec<String> = brief.avoid.iter().map(|words| words.to_lowercase()).collect();
    move |text| {
        let folded = text.to_lowercase();
        avoid.iter().any(|words| folded.contains(words)) || RISKY.iter().any(|claim| folded.contains(claim))
    }
}

fn review_post(brief: &Brief, name: &str, text: &str) -> (f64, Value) {
    let platform = Platform::named(name);
    let folded = text.to_lowercase();
    let mut score = 1.0;
    let (mut brand, mut safety) = (Vec::new(), Vec::new());

    let length = platform.measure(text);
    if length > platform.limit {
        score -= 0.5;
        brand.push(format!("{length} characters; {name} takes {}.", platform.limit));
    }
    if !folded.contains(&brief.product.to_lowercase()) {
        score -= 0.2;
        brand.push(format!("It does not name {}.", brief.product));
    }
    if brief.link.as_ref().is_some_and(|link| !text.contains(link.as_str())) {
        score -= 0.05;
        brand.push("The link of the brief is missing.".to_owned());
    }
    if text.matches('!').count() > 3 {
        score -= 0.05;
        brand.push("Many exclamation marks.".to_owned());
    }
    if text.contains("[sample") {
        score -= 0.1;
        brand.push("This is sample copy: write the real text before you publish.".to_owned());
    }
    for words in brief.avoid.iter().filter(|words| folded.contains(&words.to_lowercase())) {
        score -= 0.4;
        brand.push(format!("It says “{words}”, which the brief wants to avoid."));
    }
    for claim in RISKY.iter().filter(|claim| folded.contains(*claim)) {
        score -= 0.2;
        safety.push(format!("“{}” is a claim that wants proof.", claim.trim()));
    }
    let score = (f64::max(score, 0.0) * 100.0).round() / 100.0;
    let review = json!({
        "platform": name,
        "score": score,
        "verdict": verdict(score),
        "brand": brand,
        "safety": safety,
    });
    (score, review)
}

fn verdict(score: f64) -> &'static str {
    if score >= APPROVE_FROM {
        "approve"
    } else if score >= REVISE_FROM {
        "revise"
    } else {
        "reject"
    }
}
