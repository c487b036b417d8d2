//! One sample post for one platform.

use serde_json::{Value, json};

use super::Chance;
use super::brief::{Brief, sentence};
use super::platform::{Platform, Style};

/// A part of a post: where it stands is its place in the list, whether it
/// stays when room is short is its rank (0 stays).
struct Piece {
    rank: u8,
    before: &'static str,
    text: String,
}

pub(super) fn post(brief: &Brief, chance: Chance) -> Value {
    let name = brief.platform.as_deref().unwrap_or("preview");
    let platform = Platform::named(name);
    let tags = brief.tags(platform.hashtags);
    let call = brief.call_to_action();
    let round = if brief.round > 1 { format!(", round {}", brief.round) } else { String::new() };
    let label = format!("[sample for {}{round}, max {} characters]", platform.clip(name, 24), platform.limit);
    let text = assemble(&platform, label, &pieces(brief, &platform, &tags, &call, chance));
    // What did not fit into the text is not claimed to be in it.
    let used: Vec<&String> = tags.iter().filter(|tag| text.contains(tag.as_str())).collect();
    json!({ "platform": name, "text": text, "hashtags": used, "callToAction": call, "sample": true })
}

/// Takes pieces by rank while they fit, and joins what was taken in order.
fn assemble(platform: &Platform, label: String, pieces: &[Piece]) -> String {
    let mut used = platform.measure(&label);
    let mut ranked: Vec<usize> = (0..pieces.len()).collect();
    ranked.sort_by_key(|index| pieces[*index].rank);
    let mut taken = vec![false; pieces.len()];
    for index in ranked {
        let Piece { before, text, .. } = &pieces[index];
        let length = platform.measure(before) + platform.measure(text);
        if !text.is_empty() && used + length <= platform.limit {
            used += length;
            taken[index] = true;
        }
    }
    let mut post = label;
    for (piece, _) in pieces.iter().zip(taken).filter(|(_, taken)| *taken) {
        post.push_str(piece.before);
        post.push_str(&piece.text);
    }
    post
}

fn pieces(brief: &Brief, platform: &Platform, tags: &[String], call: &str, chance: Chance) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut add = |rank, before, text: String| pieces.push(Piece { rank, before, text });
    // No piece may take a small platform's whole room: what must stay is cut.
    let cut = |text: &str| sentence(&platform.clip(text, platform.limit * 2 / 5));
    let introduction = cut(&brief.introduction());
    let audience = format!("For {}", brief.audience());
    let question = format!("Who is it for? {}", sentence(brief.audience()));
    let facts = || brief.facts.iter().map(|fact| sentence(fact));
    let tag_line = tags.join(" ");

    match platform.style {
        Style::Short => {
            let fact = chance.pick(1, &brief.facts).map(|fact| sentence(fact)).unwrap_or_default();
            add(0, " ", introduction);
            add(3, " ", fact);
            add(5, " ", sentence(&audience));
            add(1, " ", call.to_owned());
            add(2, " ", tags.first().cloned().unwrap_or_default());
            add(6, "\n(", brief.goals.first().map(|goal| format!("Goal: {goal})")).unwrap_or_default());
        }
        Style::Professional => {
            let openers = [
                "Here is something we are glad to show you.".to_owned(),
                "A short note on something we have been working on.".to_owned(),
                format!("What we would like you to know about {}, in one minute.", brief.product),
            ];
            add(2, "\n\n", chance.pick(1, &openers).cloned().unwrap_or_default());
            add(0, "\n\n", introduction);
            add(3, "\n\n", "What you can count on:".to_owned());
            for fact in facts() {
                add(3, "\n• ", fact);
            }
            add(4, "\n\n", question);
            add(1, "\n\n", call.to_owned());
            add(2, "\n\n", tag_line);
        }
        Style::Visual => {
            let hooks =
                ["Save this one for later ✨", "The small print, made pretty ✨", "Here is how it works ✨"];
            add(3, "\n\n", chance.pick(1, &hooks).copied().unwrap_or_default().to_owned());
            add(0, "\n\n", introduction);
            for fact in facts() {
                add(3, "\n→ ", fact);
            }
            add(4, "\n\n", sentence(&audience));
            add(1, "\n\n", format!("{call} (link in bio)"));
            add(2, "\n.\n.\n", tag_line);
        }
        Style::Conversational => {
            let openers =
                ["So, this is happening.", "A bit of news from us.", "We have been quiet. This is why."];
            let fact = chance.pick(2, &brief.facts).map(|fact| sentence(fact)).unwrap_or_default();
            add(4, "\n\n", chance.pick(1, &openers).copied().unwrap_or_default().to_owned());
            add(0, "\n\n", introduction);
            add(3, " ", fact);
            add(4, "\n\n", question);
            add(1, "\n\n", call.to_owned());
            add(2, "\n\n", tag_line);
        }
        Style::Announcement => {
            add(0, "\n\n", format!("New: {introduction}"));
            for fact in facts() {
                add(3, "\n- ", fact);
            }
            add(4, "\n\n", sentence(&audience));
            add(1, "\n\n", call.to_owned());
            add(2, "\n", tag_line);
        }
        Style::Article => {
            add(0, "\n\n# ", brief.product.clone());
            add(0, "\n\n", introduction);
            add(3, "\n\n## Who it is for\n\n", sentence(brief.audience()));
            add(3, "\n\n## What you get", "\n".to_owned());
            for fact in facts() {
                add(3, "\n- ", fact);
            }
            add(1, "\n\n## Next\n\n", call.to_owned());
        }
    }
    if platform.style != Style::Short {
        add(7, "\n\n(", format!("{})", sources(brief)));
    }
    pieces
}

/// What the sample was made from, for whoever looks at it.
fn sources(brief: &Brief) -> String {
    let mut said = "Sample copy, made offline from the brief.".to_owned();
    let mut say = |what: &str, text: Option<&String>| {
        if let Some(text) = text {
            said.push_str(&format!(" {what}: {}", sentence(text)));
        }
    };
    for goal in &brief.goals {
        say("Goal", Some(goal));
    }
    say("Audience", brief.audience.as_ref());
    say("Tone", brief.tone.as_ref());
    say("Angle", brief.angle.as_ref());
    said
}
