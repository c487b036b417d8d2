//! What an answer, or the lack of one, says about the post it was for. The
//! rules that hold for every platform; an adapter judges its successes.

use galley_core::money::LARGEST_LIMIT;
use galley_core::publish::{Receipt, Sent};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

use crate::http::{Answer, Body, Failed};
use crate::settings::web_link;

/// How much of an answer a message quotes, in characters.
const QUOTED: usize = 300;

impl Failed {
    /// What a call without an answer says about its post.
    pub(crate) fn sent(self) -> Sent {
        match self {
            Self::Unsendable(why) => Sent::Refused(why),
            Self::NoConnection(why) => Sent::NotSent { why, retry_after_ms: None },
            Self::Lost(why) => Sent::Unknown(why),
        }
    }

    /// What happened, for people.
    pub(crate) fn into_text(self) -> String {
        match self {
            Self::Unsendable(why) | Self::NoConnection(why) | Self::Lost(why) => why,
        }
    }
}

impl Answer {
    /// Whether the platform says that it did what it was asked.
    pub(crate) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// What any answer but a success says about its post.
    pub(crate) fn sent(&self, credential: &SecretString) -> Sent {
        let said = self.said(credential);
        match self.status {
            401 | 403 => Sent::Refused(format!("{said}. If the credential is the cause, renew it")),
            429 => Sent::NotSent { why: said, retry_after_ms: self.retry_after_ms },
            // 408: too slow for the server, or for something before it that had
            // already passed the request on. 409, 423 and 425 are also what
            // platforms say of a key they are working on or already have.
            408 | 409 | 423 | 425 => Sent::Unknown(said),
            // These two promise that nothing was done here. The others may be
            // the usual way on to a page that shows what was done.
            307 | 308 => Sent::Refused(format!("{said}: redirects are not followed, set the new address")),
            300..400 => Sent::Unknown(format!("{said}: redirects are not followed")),
            400..500 => Sent::Refused(said),
            _ => Sent::Unknown(said),
        }
    }

    /// The body, if all of it is here and it is JSON.
    pub(crate) fn json(&self) -> Option<Value> {
        match &self.body {
            Body::Whole(body) => serde_json::from_slice(body).ok(),
            Body::Cut(_) => None,
        }
    }

    /// The status and what came with it, shortened, without the credential.
    pub(crate) fn said(&self, credential: &SecretString) -> String {
        let status = self.status;
        let json = self.json();
        let text = match (&self.body, json.as_ref().and_then(|json| json.pointer("/error/message")?.as_str()))
        {
            (_, Some(message)) => quote(message, credential),
            (Body::Whole(body), None) => quote(&String::from_utf8_lossy(body), credential),
            (Body::Cut(_), None) => String::new(),
        };
        if text.is_empty() {
            format!("the platform answered {status}")
        } else {
            format!("the platform answered {status}: {text}")
        }
    }
}

/// Longest id of a platform that is believed, in bytes.
const LONGEST_ID: usize = 200;

/// The receipt in a post as a platform describes it: `id`, a text or a whole
/// number, and perhaps `url` and what it took for it, `costMicros`.
pub(crate) fn receipt(post: &Value) -> Option<Receipt> {
    let remote_id = match post.get("id")? {
        Value::String(id) => id.clone(),
        Value::Number(id) if !id.is_f64() => id.to_string(),
        _ => return None,
    };
    let fits = (1..=LONGEST_ID).contains(&remote_id.len()) && !remote_id.chars().any(char::is_control);
    let cost_micros =
        post.get("costMicros").and_then(Value::as_u64).filter(|micros| *micros <= LARGEST_LIMIT);
    fits.then(|| Receipt { remote_id, link: link(post), cost_micros })
}

/// Where people can see a post, if the platform says so.
pub(crate) fn link(post: &Value) -> Option<String> {
    post.get("url").and_then(Value::as_str).and_then(web_link)
}

/// Text of a platform as a message may show it: short, one line, without the
/// credential.
pub(crate) fn quote(text: &str, credential: &SecretString) -> String {
    let text = match credential.expose_secret() {
        "" => text.to_owned(),
        secret => text.replace(secret, "[credential]"),
    };
    let visible: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let line = visible.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut quoted: String = line.chars().take(QUOTED).collect();
    if quoted.len() < line.len() {
        quoted.push('…');
    }
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(status: u16) -> &'static str {
        let answer = Answer { status, retry_after_ms: None, body: Body::Whole(Vec::new()) };
        match answer.sent(&"secret".into()) {
            Sent::Published(_) => "published",
            Sent::Refused(_) => "refused",
            Sent::NotSent { .. } => "not sent",
            Sent::Unknown(_) => "unknown",
        }
    }

    #[test]
    fn only_an_answer_that_promises_no_effect_is_more_than_unknown() {
        for (statuses, expected) in [
            (&[400, 401, 402, 403, 404, 405, 406, 410, 413, 415, 422, 451, 499][..], "refused"),
            (&[307, 308], "refused"),
            (&[429], "not sent"),
            (&[300, 301, 302, 303, 304, 408, 409, 423, 425], "unknown"),
            (&[101, 500, 501, 502, 503, 504, 507, 520, 599, 600, 999], "unknown"),
        ] {
            for status in statuses {
                assert_eq!(class(*status), expected, "{status}");
            }
        }
    }

    #[test]
    fn a_message_is_short_and_without_the_credential() {
        let long = format!("token s3cret\u{1b}[31m\nis bad {}", "x".repeat(1_000));
        let quoted = quote(&long, &"s3cret".into());
        assert!(quoted.starts_with("token [credential] [31m is bad xxx"), "{quoted}");
        assert_eq!(quoted.chars().count(), QUOTED + 1);
        let answer = Answer { status: 401, retry_after_ms: None, body: Body::Cut("too long".into()) };
        let Sent::Refused(why) = answer.sent(&"s3cret".into()) else { panic!("{answer:?}") };
        assert_eq!(why, "the platform answered 401. If the credential is the cause, renew it");
    }
}
