//! A step input as the writers see it: read leniently, because briefs are
//! written by people and every field but the product may be missing.

use galley_core::review;
use serde_json::Value;

use super::platform::Platform;

/// The longest piece of a brief that is quoted in full, in characters.
const LONGEST: usize = 240;

/// The most entries of a list that are used.
const MOST: usize = 8;

/// What the writers use of a step input.
pub(super) struct Brief {
    pub(super) product: String,
    pub(super) description: Option<String>,
    pub(super) link: Option<String>,
    pub(super) audience: Option<String>,
    pub(super) tone: Option<String>,
    pub(super) goals: Vec<String>,
    pub(super) facts: Vec<String>,
    /// What people saw lately.
    pub(super) observations: Vec<String>,
    pub(super) avoid: Vec<String>,
    pub(super) competitors: Vec<String>,
    /// The brief's platforms, in its order and spelling.
    pub(super) platforms: Vec<String>,
    /// The platform of this step.
    pub(super) platform: Option<String>,
    /// The strategy's angle and hashtags for that platform.
    pub(super) angle: Option<String>,
    pub(super) hashtags: Vec<String>,
    /// Which round of this step's post it is; the first is 1.
    pub(super) round: u32,
}

impl Brief {
    pub(super) fn read(input: &Value) -> Self {
        let brief = &input["brief"];
        let item = &input["item"];
        let product = &brief["product"];
        let platform = [&item["platform"], item, &input["params"]["platform"], &brief["platform"]]
            .into_iter()
            .find_map(|value| value.as_str().map(str::to_owned));
        let refused = platform.as_ref().filter(|platform| review::refusal(input, platform).is_some());
        let written = input["results"].as_object();
        // A report's first sentence is news.
        let report =
            written.and_then(|results| results.values().find(|result| result["figures"].is_object()));
        let told = report.and_then(|report| line(&report["summary"]["headline"]));
        let told = told.map(|told| told.trim_start_matches("[sample] ").to_owned());
        let before = refused.and_then(|platform| review::newest_text(written?, platform));
        Self {
            product: line(product)
                .or_else(|| line(&product["name"]))
                .unwrap_or_else(|| "Your product".to_owned()),
            description: line(&product["description"]).or_else(|| line(&brief["description"])),
            link: line(&product["link"]).or_else(|| line(&brief["link"])),
            audience: line(&brief["audience"]),
            tone: line(&brief["tone"]),
            goals: lines(&brief["goals"]),
            facts: told.into_iter().chain(lines(&brief["facts"])).collect(),
            observations: lines(&brief["observations"]),
            avoid: lines(&brief["avoid"]),
            // Names, not prose: as they are, and all of them.
            competitors: names(&brief["competitors"]),
            platforms: names(&brief["platforms"]),
            round: before.map_or(1, |(round, _)| round.saturating_add(1)),
            platform,
            angle: line(&item["angle"]),
            hashtags: lines(&item["hashtags"]).into_iter().filter(|tag| is_hashtag(tag)).collect(),
        }
    }

    /// The brief without whatever says something it should not.
    pub(super) fn without(mut self, says: impl Fn(&str) -> bool) -> Self {
        for texts in [&mut self.goals, &mut self.facts, &mut self.hashtags] {
            texts.retain(|text| !says(text));
        }
        for text in [&mut self.description, &mut self.audience, &mut self.tone, &mut self.angle] {
            text.take_if(|text| says(text));
        }
        self
    }

    pub(super) fn audience(&self) -> &str {
        self.audience.as_deref().unwrap_or("people who may need it")
    }

    /// "Name is a …" or "Name: …", whichever reads well.
    pub(super) fn introduction(&self) -> String {
        let lead = self.description.as_ref().or_else(|| self.facts.first());
        match lead {
            None => format!("{} is here.", self.product),
            Some(lead) if ["a ", "an ", "the "].iter().any(|article| lead.starts_with(article)) => {
                sentence(&format!("{} is {lead}", self.product))
            }
            Some(lead) => sentence(&format!("{}: {lead}", self.product)),
        }
    }

    /// What to ask for, by the brief's first goal that says.
    pub(super) fn call_to_action(&self) -> String {
        const WISHES: &[(&str, &str)] = &[
            ("subscri", "Subscribe"),
            ("sign", "Sign up"),
            ("wait", "Join the waiting list"),
            ("download", "Download it"),
            ("install", "Try it"),
            ("trial", "Try it"),
            ("book", "Book a place"),
            ("event", "Come along"),
            ("sell", "Order yours"),
            ("sale", "Order yours"),
            ("order", "Order yours"),
        ];
        let goals = self.goals.iter().map(|goal| goal.to_lowercase());
        let wish = goals
            .flat_map(|goal| WISHES.iter().filter(move |(word, _)| goal.contains(word)))
            .map(|(_, wish)| *wish)
            .next()
            .unwrap_or("Take a look");
        match &self.link {
            Some(link) => format!("{wish}: {link}"),
            None => format!("{wish}."),
        }
    }

    /// Hashtags for a post: the strategy's, then the product, then telling
    /// words of the brief.
    pub(super) fn tags(&self, most: usize) -> Vec<String> {
        let mut tags: Vec<String> = Vec::new();
        let mut add = |tag: String| {
            // `#Coffees` says nothing that `#Coffee` does not.
            let singular = tag.to_lowercase().trim_end_matches('s').to_owned();
            let known = tags.iter().any(|known| known.to_lowercase().trim_end_matches('s') == singular);
            if tags.len() < most && singular.len() > 2 && !known {
                tags.push(tag);
            }
        };
        self.hashtags.iter().cloned().for_each(&mut add);
        add(hashtag(&self.product));
        let prose = self.description.iter().chain(&self.facts);
        for word in prose.flat_map(|text| text.split(|c: char| !c.is_alphanumeric())) {
            if word.chars().count() >= 6 && word.chars().all(char::is_alphabetic) && !is_filler(word) {
                add(hashtag(word));
            }
        }
        tags
    }
}

fn is_hashtag(text: &str) -> bool {
    text.strip_prefix('#').is_some_and(|rest| !rest.is_empty() && !rest.contains(char::is_whitespace))
}

/// `#LanternStreetCoffeeClub`; a bare `#` if there is nothing to say.
fn hashtag(text: &str) -> String {
    let words = text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    let joined: String = words.map(capitalised).collect();
    format!("#{}", joined.chars().take(32).collect::<String>())
}

fn is_filler(word: &str) -> bool {
    const FILLERS: &[&str] = &[
        "should",
        "before",
        "between",
        "included",
        "without",
        "within",
        "little",
        "through",
        "people",
        "number",
        "person",
        "monthly",
        "nothing",
        "anything",
        "something",
        "everything",
        "another",
        "because",
        "always",
        "around",
        "during",
    ];
    FILLERS.contains(&word.to_lowercase().as_str())
}

/// The text with its first letter in upper case.
pub(super) fn capitalised(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|first| first.to_uppercase().chain(chars).collect()).unwrap_or_default()
}

/// The text as a sentence: a capital first, a full stop last.
pub(super) fn sentence(text: &str) -> String {
    let text = capitalised(text.trim());
    if text.ends_with(['.', '!', '?', '…']) { text } else { format!("{text}.") }
}

/// A text on one line, no longer than is quoted. `None` if there is none.
fn line(value: &Value) -> Option<String> {
    let text = value.as_str()?;
    let joined = text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty());
    let joined = joined.collect::<Vec<_>>().join(" ");
    (!joined.is_empty()).then(|| Platform::named("").clip(&joined, LONGEST))
}

/// A list of texts, or one text.
fn lines(value: &Value) -> Vec<String> {
    match value {
        Value::Array(elements) => elements.iter().filter_map(line).take(MOST).collect(),
        other => line(other).into_iter().collect(),
    }
}

fn names(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}
