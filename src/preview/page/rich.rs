//! A post's text as a page shows it: paragraphs, links, hashtags. Nothing of
//! the text is ever taken for HTML.

use maud::{Markup, html};

/// Characters of a link that are shown.
const SHOWN: usize = 48;

/// A piece of a line.
#[derive(Debug, PartialEq, Eq)]
enum Piece<'a> {
    Plain(&'a str),
    Link(&'a str),
    Tag(&'a str),
}

/// The text in paragraphs: an empty line ends one, other line ends stay.
pub(super) fn text(text: &str) -> Markup {
    let text = text.replace("\r\n", "\n");
    let mut paragraphs: Vec<Vec<&str>> = vec![Vec::new()];
    for line in text.trim().lines() {
        match (line.trim().is_empty(), paragraphs.last_mut()) {
            (false, Some(paragraph)) => paragraph.push(line),
            (true, Some(paragraph)) if paragraph.is_empty() => {}
            _ => paragraphs.push(Vec::new()),
        }
    }
    html! {
        @for paragraph in paragraphs.iter().filter(|paragraph| !paragraph.is_empty()) {
            p dir="auto" {
                @for (number, line) in paragraph.iter().enumerate() {
                    @if number > 0 { br; }
                    @for piece in pieces(line) { (shown(&piece)) }
                }
            }
        }
    }
}

/// A link that was given beside the text: its host and where on it.
pub(super) fn link_card(url: &str) -> Markup {
    let (host, rest) = address(url);
    html! {
        a.link href=(url) target="_blank" rel="noopener noreferrer nofollow" {
            span.host { (host) }
            @if !rest.is_empty() { span.rest { (rest) } }
        }
    }
}

fn shown(piece: &Piece<'_>) -> Markup {
    html! {
        @match piece {
            Piece::Plain(plain) => { (plain) }
            Piece::Tag(tag) => { span.tag { (tag) } }
            Piece::Link(url) => {
                a href=(url) target="_blank" rel="noopener noreferrer nofollow" title=(url) { (short(url)) }
            }
        }
    }
}

fn pieces(line: &str) -> Vec<Piece<'_>> {
    line.split_inclusive(char::is_whitespace).flat_map(word).collect()
}

/// A word with what is around it: `(https://a.b).` has three pieces.
fn word(word: &str) -> Vec<Piece<'_>> {
    let begins = ["https://", "http://"].into_iter().filter_map(|scheme| word.find(scheme)).min();
    if let Some(start) = begins {
        let end = start + link_length(&word[start..]);
        let host = address(&word[start..end]).0;
        if host.starts_with(char::is_alphanumeric) || host.starts_with('[') {
            return around(word, start, end, Piece::Link);
        }
    } else if let Some(start) = word.find('#').filter(|at| word[..*at].chars().all(opens)) {
        let name = &word[start + 1..];
        let length = name.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(name.len());
        // `#1` is a number; so is what people write of themselves.
        if name[..length].chars().any(char::is_alphabetic) {
            return around(word, start, start + 1 + length, Piece::Tag);
        }
    }
    vec![Piece::Plain(word)]
}

fn around<'a>(word: &'a str, start: usize, end: usize, middle: fn(&'a str) -> Piece<'a>) -> Vec<Piece<'a>> {
    let mut pieces =
        vec![Piece::Plain(&word[..start]), middle(&word[start..end]), Piece::Plain(&word[end..])];
    pieces.retain(|piece| *piece != Piece::Plain(""));
    pieces
}

fn opens(c: char) -> bool {
    matches!(c, '(' | '[' | '{' | '"' | '\'' | '“' | '„' | '«' | '‘' | '*')
}

/// Where a link ends: not with the punctuation of its sentence, and with a
/// bracket only if it opened one.
fn link_length(text: &str) -> usize {
    let stops = |c: char| c.is_whitespace() || matches!(c, '<' | '>' | '"' | '“' | '”' | '»' | '«' | '`');
    let mut url = &text[..text.find(stops).unwrap_or(text.len())];
    while let Some(last) = url.chars().last() {
        let unopened = |open| matches!(last, ')' | ']') && !url.contains(open);
        let sentence = matches!(last, '.' | ',' | ';' | ':' | '!' | '?' | '\'' | '*' | '…' | '’');
        if !sentence && !unopened(if last == ')' { '(' } else { '[' }) {
            break;
        }
        url = &url[..url.len() - last.len_utf8()];
    }
    url.len()
}

/// The host of a URL and what follows it, for reading.
fn address(url: &str) -> (&str, &str) {
    let bare = url.trim_start_matches("https://").trim_start_matches("http://");
    let end = bare.find(['/', '?', '#']).unwrap_or(bare.len());
    (&bare[..end], bare[end..].trim_end_matches('/'))
}

fn short(url: &str) -> String {
    let (host, rest) = address(url);
    let whole: Vec<char> = host.chars().chain(rest.chars()).collect();
    if whole.len() <= SHOWN {
        whole.into_iter().collect()
    } else {
        whole[..SHOWN - 1].iter().chain(&['…']).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_end_before_the_punctuation_of_the_sentence() {
        let found = |text: &'static str| {
            pieces(text).into_iter().filter(|piece| !matches!(piece, Piece::Plain(_))).collect::<Vec<_>>()
        };
        assert_eq!(found("See https://a.example/x."), [Piece::Link("https://a.example/x")]);
        assert_eq!(found("(http://a.example)!"), [Piece::Link("http://a.example")]);
        assert_eq!(found("https://a.example/b_(c)"), [Piece::Link("https://a.example/b_(c)")]);
        assert_eq!(found("javascript:alert(1) https:// ftp://a"), []);
        assert_eq!(found("#Rust, (#größe) #1 a#b &#39;"), [Piece::Tag("#Rust"), Piece::Tag("#größe")]);
    }

    #[test]
    fn nothing_of_a_text_is_lost_or_taken_for_html() {
        let line = "<b>&amp; https://a.example/?q=<i>\"x\" #tag</b>";
        let whole: String = pieces(line)
            .into_iter()
            .map(|piece| match piece {
                Piece::Plain(text) | Piece::Link(text) | Piece::Tag(text) => text,
            })
            .collect();
        assert_eq!(whole, line);
        let html = text(line).into_string();
        assert!(!html.contains("<b>") && !html.contains("<i>"), "{html}");
        assert!(html.contains("&lt;b&gt;&amp;amp;"), "{html}");
    }

    #[test]
    fn an_empty_line_begins_a_paragraph() {
        let html = text("one\ntwo\n\n\nthree\n").into_string();
        assert_eq!(html, r#"<p dir="auto">one<br>two</p><p dir="auto">three</p>"#);
    }
}
