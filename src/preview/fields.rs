//! What a value from outside may look like. Every text the network stores has
//! passed here, so that memory stays bounded and a page can show it.

use axum::http::Uri;

use crate::error::Invalid;

/// Characters in a post's text, at most.
const TEXT: usize = 500;
/// Bytes in a link, at most.
const LINK: usize = 2_000;
/// Bytes in a key, at most.
const KEY: usize = 200;
/// Characters in a handle, at most.
const HANDLE: usize = 32;
/// Characters in a display name, at most.
const NAME: usize = 64;
/// Bytes in a token, at least: shorter ones are typing errors.
const TOKEN: std::ops::RangeInclusive<usize> = 8..=200;

/// A post's text: 1 to 500 characters, not only white space.
pub(crate) fn text(text: &str) -> Result<(), Invalid> {
    let length = text.chars().count();
    if length > TEXT {
        return Err(Invalid::new("text", format!("has {length} characters; {TEXT} are allowed")));
    }
    if text.trim().is_empty() {
        return Err(Invalid::new("text", "must not be empty"));
    }
    no_controls("text", text, &['\n', '\r', '\t'])
}

/// A link: an absolute `http` or `https` URL, because it becomes clickable.
pub(crate) fn link(link: &str) -> Result<(), Invalid> {
    if link.len() > LINK {
        return Err(Invalid::new("link", format!("is longer than {LINK} bytes")));
    }
    let url: Option<Uri> = link.parse().ok();
    let scheme = url.as_ref().and_then(Uri::scheme_str).unwrap_or_default();
    let host = url.as_ref().and_then(Uri::host).unwrap_or_default();
    if matches!(scheme, "http" | "https") && !host.is_empty() {
        Ok(())
    } else {
        Err(Invalid::new("link", "must be an absolute URL that begins with https:// or http://"))
    }
}

/// A client's key, in the path or a header.
pub(crate) fn key(field: &'static str, key: &str) -> Result<(), Invalid> {
    if key.trim().is_empty() || key.len() > KEY {
        return Err(Invalid::new(field, format!("must have 1 to {KEY} bytes")));
    }
    no_controls(field, key, &[])
}

/// A handle: it is part of URLs, so its characters are few.
pub(crate) fn handle(handle: &str) -> Result<(), Invalid> {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_' | '.');
    let length = handle.chars().count();
    // A segment of dots alone would be swallowed by every URL parser.
    let dots = handle.chars().all(|c| c == '.');
    if (1..=HANDLE).contains(&length) && handle.chars().all(fits) && !dots {
        Ok(())
    } else {
        Err(Invalid::new(
            "handle",
            format!("must have 1 to {HANDLE} of the characters a-z, 0-9, `-`, `_` and `.`"),
        ))
    }
}

/// A display name: anything that can be read.
pub(crate) fn display_name(name: &str) -> Result<(), Invalid> {
    if name.trim().is_empty() || name.chars().count() > NAME {
        return Err(Invalid::new("displayName", format!("must have 1 to {NAME} characters")));
    }
    no_controls("displayName", name, &[])
}

/// A token that was chosen by whoever starts the network: it must fit a header.
pub(crate) fn token(token: &str) -> Result<(), Invalid> {
    if TOKEN.contains(&token.len()) && token.bytes().all(|byte| byte.is_ascii_graphic()) {
        Ok(())
    } else {
        let (least, most) = (TOKEN.start(), TOKEN.end());
        Err(Invalid::new("token", format!("must have {least} to {most} visible ASCII characters, no spaces")))
    }
}

fn no_controls(field: &'static str, text: &str, but: &[char]) -> Result<(), Invalid> {
    match text.chars().find(|c| c.is_control() && !but.contains(c)) {
        Some(c) => Err(Invalid::new(field, format!("must not have the control character {c:?}"))),
        None => Ok(()),
    }
}
