//! What the sample copy knows about platforms: how long a post may be, how it
//! is counted, and how people write there.

/// How a post is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    /// Short paragraphs and a list, addressed to working people.
    Professional,
    /// One breath.
    Short,
    /// A hook, short lines, a block of hashtags.
    Visual,
    /// As one talks to neighbours.
    Conversational,
    /// A title and a list.
    Announcement,
    /// A title and paragraphs.
    Article,
}

/// A platform.
#[derive(Clone, Copy, Debug)]
pub(super) struct Platform {
    pub(super) name: &'static str,
    /// Longest post, in the platform's own count.
    pub(super) limit: usize,
    /// Most hashtags a post should have.
    pub(super) hashtags: usize,
    pub(super) style: Style,
    /// When to post, in the audience's local time.
    pub(super) when: &'static str,
}

const fn platform(
    name: &'static str,
    limit: usize,
    hashtags: usize,
    style: Style,
    when: &'static str,
) -> Platform {
    Platform { name, limit, hashtags, style, when }
}

/// The limits are also in the output schema of `agents/content_creator.toml`;
/// a test compares the two.
pub(super) const PLATFORMS: &[Platform] = &[
    platform("x", 280, 2, Style::Short, "Wednesday 12:30"),
    platform("bluesky", 300, 2, Style::Short, "Wednesday 18:00"),
    platform("threads", 500, 1, Style::Conversational, "Thursday 19:00"),
    platform("mastodon", 500, 4, Style::Conversational, "Sunday 10:00"),
    platform("preview", 500, 3, Style::Conversational, "any time"),
    platform("discord", 2_000, 0, Style::Announcement, "Friday 17:00"),
    platform("instagram", 2_200, 8, Style::Visual, "Saturday 10:00"),
    platform("linkedin", 3_000, 3, Style::Professional, "Tuesday 08:30"),
    platform("slack", 3_000, 0, Style::Announcement, "Monday 10:00"),
    platform("telegram", 4_096, 2, Style::Announcement, "Thursday 18:00"),
    platform("facebook", 5_000, 2, Style::Conversational, "Saturday 11:00"),
    platform("wordpress", 20_000, 0, Style::Article, "Tuesday 07:00"),
];

/// A platform nobody described: short enough for most.
const OTHER: Platform = platform("other", 500, 2, Style::Conversational, "Wednesday 12:00");

impl Platform {
    pub(super) fn named(name: &str) -> Self {
        PLATFORMS.iter().copied().find(|platform| platform.name == name).unwrap_or(OTHER)
    }

    /// How long the platform thinks a text is. X counts what is outside the
    /// Latin scripts twice; the others count characters.
    pub(super) fn measure(&self, text: &str) -> usize {
        if self.name == "x" { text.chars().map(x_weight).sum() } else { text.chars().count() }
    }

    /// The beginning of a text that is at most `most` long, cut between words
    /// where there is one.
    pub(super) fn clip(&self, text: &str, most: usize) -> String {
        if self.measure(text) <= most {
            return text.to_owned();
        }
        let mut kept = String::new();
        let mut used = self.measure("…");
        for c in text.chars() {
            used += self.measure(c.encode_utf8(&mut [0; 4]));
            if used > most {
                break;
            }
            kept.push(c);
        }
        if let Some(space) = kept.rfind(' ').filter(|space| *space > kept.len() / 2) {
            kept.truncate(space);
        }
        let kept = kept.trim_end_matches([' ', ',', ';', ':', '.']);
        if most < self.measure("…") { String::new() } else { format!("{kept}…") }
    }
}

/// Weights of X's published counting rules (configuration v3).
fn x_weight(c: char) -> usize {
    match u32::from(c) {
        0..=4351 | 8192..=8205 | 8208..=8223 | 8242..=8247 => 1,
        _ => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::Platform;

    #[test]
    fn a_text_is_clipped_between_words_within_the_platforms_count() {
        let x = Platform::named("x");
        let other = Platform::named("somewhere");
        assert_eq!(x.clip("short", 10), "short");
        assert_eq!(other.clip("one two three four", 10), "one two…");
        assert_eq!(x.measure("日本語"), 6);
        assert_eq!(other.measure("日本語"), 3);
        assert!(x.measure(&x.clip("日本語日本語日本語", 9)) <= 9);
        assert_eq!(x.clip("abc", 1), "");
    }
}
