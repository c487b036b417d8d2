//! What the results of a workflow say about a post: its newest text, and what
//! the newest review of that text found.
//!
//! A step named like another with a number from 2 on (`content_2` after
//! `content`) is a later round of it. A review is a result with a list
//! `perPost` of `{ platform, verdict, score?, brand?, safety? }`. Both are
//! conventions about data: whatever a model wrote here can hold a post back and
//! never let one out.

use serde_json::{Map, Value};

/// The word of a review that lets a post out.
const APPROVE: &str = "approve";

/// Longest reason that is told, in characters: people read it in a list.
const LONGEST: usize = 280;

/// The name a step does over and its round, if `there` is such a step: `content`
/// and 2 for `content_2`.
pub fn later_round(name: &str, there: impl Fn(&str) -> bool) -> Option<(&str, u32)> {
    let (base, round) = name.rsplit_once('_')?;
    let round: u32 = round.parse().ok()?;
    (round >= 2 && there(base)).then_some((base, round))
}

/// The round of a result, by its step's name.
fn round_of(results: &Map<String, Value>, name: &str) -> u32 {
    later_round(name, |base| results.contains_key(base)).map_or(1, |(_, round)| round)
}

/// The newest text for a platform among results, with its round: of the last
/// round that wrote one; the first, where a round wrote several.
pub fn newest_text<'a>(results: &'a Map<String, Value>, platform: &str) -> Option<(u32, &'a Value)> {
    let mut newest: Option<(u32, &Value)> = None;
    for (name, result) in results {
        let round = round_of(results, name);
        let written = match result {
            Value::Array(list) => list.as_slice(),
            one => std::slice::from_ref(one),
        };
        let found = written.iter().find(|one| {
            one.get("platform").and_then(Value::as_str) == Some(platform) && one["text"].is_string()
        });
        if let Some(found) = found
            && newest.is_none_or(|(before, _)| round > before)
        {
            newest = Some((round, found));
        }
    }
    newest
}

/// What the newest review from a round on says about a platform's post.
fn newest_review<'a>(results: &'a Map<String, Value>, platform: &str, from: u32) -> Option<Vec<&'a Value>> {
    let mut newest: Option<(u32, Vec<&Value>)> = None;
    for (name, result) in results {
        let round = round_of(results, name);
        let Some(posts) = posts_of(result).filter(|_| round >= from) else { continue };
        let about = |post: &&Value| post.get("platform").and_then(Value::as_str) == Some(platform);
        let said: Vec<&Value> = posts.iter().filter(about).collect();
        if !said.is_empty() && newest.as_ref().is_none_or(|(before, _)| round > *before) {
            newest = Some((round, said));
        }
    }
    newest.map(|(_, said)| said)
}

fn posts_of(result: &Value) -> Option<&Vec<Value>> {
    result.get("perPost").and_then(Value::as_array)
}

/// Why a review does not let the text for a platform out, in a sentence;
/// `None`: the newest review approves it, or nobody was to review anything.
///
/// `input` is a step's: the reviews are among its `results`, and its `brief` may
/// ask for a `minScore`.
pub fn refusal(input: &Value, platform: &str) -> Option<String> {
    let results = input.get("results")?.as_object()?;
    if !results.values().any(|result| posts_of(result).is_some()) {
        return None;
    }
    let round = newest_text(results, platform).map_or(1, |(round, _)| round);
    let Some(said) = newest_review(results, platform, round) else {
        return Some("no review is about this text".into());
    };
    let least = input.pointer("/brief/minScore").and_then(Value::as_f64);
    said.into_iter().find_map(|post| refused(post, least))
}

fn remarks_of(post: &Value) -> Vec<String> {
    let lists = ["safety", "brand"].into_iter().filter_map(|list| post.get(list).and_then(Value::as_array));
    lists.flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

fn refused(post: &Value, least: Option<f64>) -> Option<String> {
    let verdict = post.get("verdict").and_then(Value::as_str).unwrap_or("nothing");
    let score = post.get("score").and_then(Value::as_f64);
    // Without a score nothing says that it is high enough.
    let low = least.is_some_and(|least| score.is_none_or(|score| score < least));
    if verdict == APPROVE && !low {
        return None;
    }
    let scored = score.map_or(String::new(), |score| format!(" ({score})"));
    let mut told = match least {
        Some(least) if verdict == APPROVE => format!("its review scores it{scored} below {least}"),
        _ => format!("its review says {verdict}{scored}"),
    };
    let remarks = remarks_of(post).join(" ");
    if !remarks.is_empty() {
        told.push_str(": ");
        told.push_str(&remarks);
    }
    if told.chars().count() > LONGEST {
        told = told.chars().take(LONGEST).chain(['…']).collect();
    }
    Some(told)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn post(platform: &str, text: &str) -> Value {
        json!({ "platform": platform, "text": text })
    }

    fn said(platform: &str, verdict: &str, score: f64) -> Value {
        json!({ "platform": platform, "verdict": verdict, "score": score, "brand": [], "safety": [] })
    }

    fn of(results: Value) -> Value {
        json!({ "brief": {}, "results": results })
    }

    #[test]
    fn the_newest_text_is_the_last_rounds() {
        let results = json!({
            "content": [post("x", "1"), post("x", "again"), post("y", "1")],
            "content_2": [null, post("x", "2")],
            "content_10": [post("x", "10")],
            "content_3": null,
            // Nobody's later round.
            "other_99": post("x", "99"),
            "note": { "platform": "x" },
        });
        let results = results.as_object().unwrap();
        let newest = |platform| newest_text(results, platform).map(|(round, post)| (round, &post["text"]));
        assert_eq!(newest("x"), Some((10, &json!("10"))));
        assert_eq!(newest("y"), Some((1, &json!("1"))));
        assert_eq!(newest("z"), None);
    }

    #[test]
    fn only_the_newest_review_of_the_newest_text_lets_it_out() {
        let content = json!([post("x", "1"), post("y", "1")]);
        let first = json!({ "perPost": [said("x", "revise", 0.5), said("y", "approve", 0.9)] });
        let again = json!([post("x", "2")]);
        let second = |verdict| json!({ "perPost": [said("x", verdict, 0.7)] });
        for (results, x, y) in [
            (json!({ "content": content }), None, None),
            (json!({ "content": content, "review": first }), Some("its review says revise (0.5)"), None),
            (
                json!({ "content": content, "review": first, "content_2": again, "review_2": second("approve") }),
                None,
                None,
            ),
            (
                json!({ "content": content, "review": first, "content_2": again, "review_2": second("reject") }),
                Some("its review says reject (0.7)"),
                None,
            ),
            // A later text that nobody reviewed: what was said about the text
            // before it does not count.
            (
                json!({ "content": content, "review": { "perPost": [said("x", "approve", 1.0)] }, "content_2": again }),
                Some("no review is about this text"),
                Some("no review is about this text"),
            ),
            (
                json!({ "content": content, "review": { "perPost": [] } }),
                Some("no review is about this text"),
                Some("no review is about this text"),
            ),
            // Said twice: the worse counts.
            (
                json!({ "content": content, "review": { "perPost": [said("x", "approve", 1.0), said("x", "reject", 0.0), said("y", "approve", 1.0)] } }),
                Some("its review says reject (0)"),
                None,
            ),
            // A review in words that are none.
            (
                json!({ "content": content, "review": { "perPost": [{ "platform": "x", "verdict": "APPROVE" }, { "platform": "y" }] } }),
                Some("its review says APPROVE"),
                Some("its review says nothing"),
            ),
        ] {
            assert_eq!(refusal(&of(results.clone()), "x").as_deref(), x, "{results}");
            assert_eq!(refusal(&of(results.clone()), "y").as_deref(), y, "{results}");
        }
    }

    #[test]
    fn a_brief_may_ask_for_more_than_an_approval() {
        let input = |least: Value, score: Value| {
            let review = json!({ "perPost": [{ "platform": "x", "verdict": "approve", "score": score }] });
            json!({ "brief": { "minScore": least }, "results": { "content": post("x", "1"), "review": review } })
        };
        assert_eq!(refusal(&input(json!(0.9), json!(0.9)), "x"), None);
        assert_eq!(
            refusal(&input(json!(0.9), json!(0.89)), "x").unwrap(),
            "its review scores it (0.89) below 0.9"
        );
        assert!(refusal(&input(json!(0), json!("high")), "x").is_some(), "a score that is none");
        assert_eq!(refusal(&input(json!(null), json!("high")), "x"), None);
    }

    #[test]
    fn a_refusal_tells_what_the_review_remarked() {
        let told = |review: Value| {
            refusal(&of(json!({ "content": [post("x", "1")], "review": { "perPost": [review] } })), "x")
        };
        let review = json!({ "platform": "x", "verdict": "revise", "brand": ["b"], "safety": ["s", 7] });
        assert_eq!(told(review).as_deref(), Some("its review says revise: s b"));
        let long = json!({ "platform": "x", "verdict": "reject", "brand": ["é".repeat(500)] });
        assert_eq!(told(long).map(|told| told.chars().count()), Some(LONGEST + 1));
    }
}
