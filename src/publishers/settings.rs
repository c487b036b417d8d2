//! Reading an adapter's settings and judging an account, with the place of
//! every problem.

use galley_core::money::LARGEST_LIMIT;
use galley_core::plan::Problem;
use galley_core::publish::PostPrice;
use galley_reach::Targets;
use reqwest::Url;
use reqwest::header::HeaderValue;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value};

/// The settings in which an account says what a post costs, millionths of a US
/// dollar: any, and one with a link.
pub(crate) const PRICES: [&str; 2] = ["postMicros", "linkMicros"];

/// What an account's settings say a post costs; nothing: it is free.
pub(crate) fn price_of(settings: &Value) -> PostPrice {
    let [post, link] = PRICES.map(|name| settings.get(name).and_then(Value::as_u64));
    PostPrice { post_micros: post.unwrap_or(0), link_micros: link }
}

/// Settings being read; gathers what is wrong with them.
pub(crate) struct Reader<'a> {
    fields: Option<&'a Map<String, Value>>,
    problems: Vec<Problem>,
}

impl<'a> Reader<'a> {
    /// Begins to read settings that may have these fields and no others.
    pub(crate) fn new(settings: &'a Value, known: &[&str]) -> Self {
        let fields = settings.as_object();
        let mut reader = Self { fields, problems: Vec::new() };
        if fields.is_none() {
            reader.problem("settings", format!("must be an object with: {}", known.join(", ")));
        }
        for name in fields.into_iter().flat_map(Map::keys).filter(|name| !known.contains(&name.as_str())) {
            let problem = format!("there is no such setting; there are: {}", known.join(", "));
            reader.problem(&format!("settings.{name}"), problem);
        }
        reader
    }

    /// Notes a problem.
    pub(crate) fn problem(&mut self, at: &str, problem: impl Into<String>) {
        self.problems.push(Problem::new(at, problem));
    }

    /// A text that may be left out.
    pub(crate) fn text(&mut self, name: &str) -> Option<&'a str> {
        match self.fields?.get(name)? {
            Value::String(text) => Some(text),
            _ => {
                self.problem(&format!("settings.{name}"), "must be a text");
                None
            }
        }
    }

    /// Checks what a post costs, which may be left out.
    pub(crate) fn prices(&mut self) {
        for name in PRICES {
            let Some(value) = self.fields.and_then(|fields| fields.get(name)) else { continue };
            if value.as_u64().is_none_or(|micros| micros > LARGEST_LIMIT) {
                let told = "must be a whole number of millionths of a US dollar, at most 10000000000000";
                self.problem(&format!("settings.{name}"), told);
            }
        }
    }

    /// The address in `settings.url`: `http` or `https`, a host, no password.
    fn url(&mut self) -> Option<Url> {
        let fields = self.fields?;
        if !fields.contains_key("url") {
            self.problem("settings.url", "is missing: where are posts sent to?");
        }
        match parse_url(self.text("url")?) {
            Ok(url) => Some(url),
            Err(problem) => {
                self.problem("settings.url", problem);
                None
            }
        }
    }

    /// The same, if the deployment lets posts go there.
    pub(crate) fn target(&mut self, targets: Targets) -> Option<Url> {
        let url = self.url()?;
        match targets.check(&url) {
            Ok(()) => Some(url),
            Err(problem) => {
                self.problem("settings.url", problem);
                None
            }
        }
    }

    /// Ends reading: the value, unless something was wrong.
    pub(crate) fn end<T>(self, value: Option<T>) -> Result<T, Vec<Problem>> {
        match value {
            Some(value) if self.problems.is_empty() => Ok(value),
            _ => Err(self.problems),
        }
    }
}

fn parse_url(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| format!("is not a URL: {error}"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err("must begin with https:// or http://".into());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("must not hold a user name or a password: settings are not secret".into());
    }
    if url.fragment().is_some() {
        return Err("must not hold a `#`: what follows it is never sent".into());
    }
    Ok(url)
}

/// Checks a token that is sent as it is, in a header.
pub(crate) fn check_token(credential: &SecretString, problems: &mut Vec<Problem>) {
    let token = credential.expose_secret();
    if token.trim().is_empty() {
        problems.push(Problem::new("credential", "is empty: give the account's token"));
    } else if token != token.trim() {
        problems.push(Problem::new("credential", "begins or ends with white space"));
    } else if HeaderValue::from_str(token).is_err() || !token.is_ascii() {
        problems.push(Problem::new("credential", "holds characters that no token has"));
    }
}

/// Problems as one sentence, for an account that was stored before they were.
pub(crate) fn sentence(problems: &[Problem]) -> String {
    let each: Vec<_> = problems.iter().map(|problem| format!("{} {}", problem.at, problem.problem)).collect();
    format!("the account cannot be used: {}", each.join("; "))
}

/// A link that people can follow, of what a platform said is one.
pub(crate) fn web_link(text: &str) -> Option<String> {
    let url = Url::parse(text).ok()?;
    (text.len() <= 2_000 && matches!(url.scheme(), "http" | "https")).then(|| url.into())
}

/// Whether a post's own link can go out.
pub(crate) fn check_link(link: Option<&str>) -> Result<(), String> {
    match link {
        Some(link) if web_link(link).is_none() => {
            Err("the link must be an http:// or https:// URL of at most 2000 bytes".into())
        }
        _ => Ok(()),
    }
}
