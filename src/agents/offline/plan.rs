//! Sample plans: a strategy, topics, a comparison with competitors.

use serde_json::{Value, json};

use super::Chance;
use super::brief::{Brief, sentence};
use super::platform::{Platform, Style};

pub(super) fn strategy(brief: &Brief, chance: Chance) -> Value {
    let leads = ["For", "Made for", "Speak to"];
    let lead = chance.pick(1, &leads).copied().unwrap_or("For");
    let positioning = format!("[sample] {lead} {}. {}", brief.audience(), brief.introduction());

    let mut messages: Vec<String> = brief.facts.iter().take(5).map(|fact| sentence(fact)).collect();
    messages
        .extend(brief.goals.iter().take(2).map(|goal| format!("What it should lead to: {}", sentence(goal))));
    if messages.is_empty() {
        messages.push(brief.introduction());
    }

    let platforms: Vec<Value> = brief
        .platforms
        .iter()
        .map(|name| {
            let platform = Platform::named(name);
            let tags = brief.tags(platform.hashtags.clamp(1, 5));
            json!({ "platform": name, "angle": angle(brief, platform.style, chance), "hashtags": tags })
        })
        .collect();
    let hints: Vec<Value> = brief
        .platforms
        .iter()
        .map(|name| {
            let Platform { when, limit, .. } = Platform::named(name);
            json!({
                "platform": name,
                "when": when,
                "why": format!("[sample] A common time to read there. A post has at most {limit} characters."),
            })
        })
        .collect();
    json!({
        "positioning": positioning,
        "keyMessages": messages,
        "platforms": platforms,
        "calendarHints": hints,
        "sample": true,
    })
}

fn angle(brief: &Brief, style: Style, chance: Chance) -> String {
    let fact = chance.pick(3, &brief.facts).unwrap_or(&brief.product);
    let audience = brief.audience();
    let advice = match style {
        Style::Professional => {
            format!("show the work behind it; open with “{fact}” and say what it means for {audience}")
        }
        Style::Short => format!("one fact, one link: “{fact}”"),
        Style::Visual => format!("let a picture carry it and use “{fact}” as the caption's first line"),
        Style::Conversational => {
            format!("tell it as to a neighbour, starting from “{fact}”, and end with a question")
        }
        Style::Announcement => format!("say what is new in the first line; “{fact}” is the news"),
        Style::Article => {
            format!("explain it from the beginning for {audience}; “{fact}” is the turning point")
        }
    };
    format!("[sample] {}", sentence(&advice))
}

pub(super) fn trends(brief: &Brief) -> Value {
    let seen = brief.observations.iter().take(4).map(|seen| {
        json!({
            "topic": format!("[sample] {}", sentence(seen)),
            "why": format!("Somebody saw it and put it into the brief; {} may care.", brief.audience()),
            "basis": "brief",
            "relevance": 0.7,
        })
    });
    let mut topics: Vec<Value> = brief
        .tags(4)
        .iter()
        .map(|tag| {
            let topic = tag.trim_start_matches('#');
            json!({
                "topic": format!("[sample] {topic}"),
                "why": format!("The brief itself speaks of it; {} may too.", brief.audience()),
                "basis": "brief",
                "relevance": 0.6,
            })
        })
        .collect();
    topics.splice(0..0, seen);
    if topics.is_empty() {
        topics.push(json!({
            "topic": format!("[sample] {}", brief.product),
            "why": "It is all the brief says.",
            "basis": "brief",
            "relevance": 0.5,
        }));
    }
    json!({ "trends": topics, "notes": [LOOKED_NOTHING_UP], "sample": true })
}

pub(super) fn competitors(brief: &Brief) -> Value {
    let compared: Vec<Value> = brief
        .competitors
        .iter()
        .map(|name| {
            json!({
                "name": name,
                "strengths": [format!("[sample] Known to {}.", brief.audience())],
                "weaknesses": ["[sample] The brief says nothing about any."],
            })
        })
        .collect();
    let only_ours: Vec<String> =
        brief.facts.iter().take(5).map(|fact| format!("[sample] {}", sentence(fact))).collect();
    json!({ "competitors": compared, "opportunities": only_ours, "notes": [LOOKED_NOTHING_UP], "sample": true })
}

const LOOKED_NOTHING_UP: &str = "[sample] Made offline from the brief alone: nothing was looked up.";
