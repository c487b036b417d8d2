//! Anybody's endpoint, told by a webhook that is signed and numbered as
//! Standard Webhooks says: a receiver checks the signature and drops an id it
//! knows, which is what makes a repetition harmless.

use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use galley_core::plan::Problem;
use galley_core::publish::{Capability, PostContent, Receipt, Sent};
use reqwest::header::CONTENT_TYPE;
use reqwest::{Method, Request, Url};
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use serde_json::Value;
use standardwebhooks::{
    HEADER_WEBHOOK_ID, HEADER_WEBHOOK_SIGNATURE, HEADER_WEBHOOK_TIMESTAMP, Webhook as Signer,
};

use crate::http::{Answer, Failed, Http};
use crate::publisher::{Account, Outgoing, Publisher};
use crate::registry::{Options, SetupError};
use crate::settings::{PRICES, Reader, check_link, sentence};
use crate::verdict::receipt;

/// For how long a receiver must know an id again, seconds.
const WINDOW_S: u64 = 24 * 60 * 60;

/// Longest text and link together, in bytes. The specification advises to stay
/// below 20 kB.
const LONGEST: usize = 16 * 1024;

/// What a signing secret begins with.
const PREFIX: &str = "whsec_";

/// The adapter of Standard Webhooks.
#[derive(Debug)]
pub struct Webhook {
    http: Http,
}

/// The body. Its bytes are the same in every attempt: fields in this order, and
/// nothing of the attempt.
#[derive(Serialize)]
struct Message<'a> {
    r#type: &'static str,
    timestamp: &'a str,
    data: Data<'a>,
}

#[derive(Serialize)]
struct Data<'a> {
    id: &'a str,
    account: &'a str,
    text: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    link: Option<&'a str>,
}

impl Webhook {
    /// Prepares a client; nothing is sent.
    ///
    /// # Errors
    /// When there is no HTTP client.
    pub fn new(options: Options) -> Result<Self, SetupError> {
        Ok(Self::through(Http::new(options)?))
    }

    pub(crate) fn through(http: Http) -> Self {
        Self { http }
    }

    /// Where the account's posts go.
    fn target(&self, settings: &Value) -> Result<Url, Vec<Problem>> {
        let mut reader = Reader::new(settings, &["url", PRICES[0], PRICES[1]]);
        reader.prices();
        let url = reader.target(self.http.targets());
        reader.end(url)
    }

    fn request(&self, url: Url, account: &Account, out: &Outgoing) -> Result<Request, String> {
        let secret = account.credential.expose_secret();
        check_secret(secret)
            .map_err(|problem| format!("the account cannot be used: credential {problem}"))?;
        let PostContent { text, link } = &out.payload;
        let data = Data { id: &out.post, account: &account.name, text, link: link.as_deref() };
        let message = Message { r#type: "post.publish", timestamp: &out.intended_at, data };
        let body = serde_json::to_vec(&message).map_err(|error| error.to_string())?;
        let (id, now) = (id(out), jiff::Timestamp::now().as_second());
        let signature = Signer::new(secret)
            .and_then(|signer| signer.sign(&id, now, &body))
            .map_err(|error| format!("the post cannot be signed: {error}"))?;
        self.http
            .request(Method::POST, url)
            .header(CONTENT_TYPE, "application/json")
            .header(HEADER_WEBHOOK_ID, id)
            .header(HEADER_WEBHOOK_TIMESTAMP, now)
            .header(HEADER_WEBHOOK_SIGNATURE, signature)
            .body(body)
            .build()
            .map_err(|error| error.without_url().to_string())
    }
}

/// The webhook's id: the same in every attempt.
fn id(out: &Outgoing) -> String {
    format!("msg_{}", out.key)
}

/// Checks a signing secret as the specification has it.
fn check_secret(secret: &str) -> Result<(), &'static str> {
    let Some(encoded) = secret.strip_prefix(PREFIX) else {
        return Err("must begin with whsec_: it is the signing secret of Standard Webhooks");
    };
    match STANDARD.decode(encoded).map(|key| key.len()) {
        Ok(24..=64) => Ok(()),
        Ok(_) => Err("must be 24 to 64 bytes in base64 after whsec_"),
        Err(_) => Err("is no base64 (with its padding) after whsec_"),
    }
}

#[async_trait]
impl Publisher for Webhook {
    fn platform(&self) -> &'static str {
        "webhook"
    }

    fn description(&self) -> &'static str {
        "Any endpoint, by a signed Standard Webhook; settings: url, postMicros, linkMicros; credential: its whsec_ secret"
    }

    fn capability(&self, _settings: &Value) -> Capability {
        // Receivers of Standard Webhooks drop an id they know.
        Capability::Idempotent { window_s: WINDOW_S }
    }

    fn check_account(&self, settings: &Value, credential: &SecretString) -> Result<(), Vec<Problem>> {
        let mut problems = self.target(settings).err().unwrap_or_default();
        if let Err(problem) = check_secret(credential.expose_secret()) {
            problems.push(Problem::new("credential", problem));
        }
        if problems.is_empty() { Ok(()) } else { Err(problems) }
    }

    fn check_post(&self, _settings: &Value, post: &PostContent) -> Result<(), String> {
        let size = post.text.len() + post.link.as_ref().map_or(0, String::len);
        if post.text.trim().is_empty() {
            return Err("the text is empty".into());
        }
        if size > LONGEST {
            return Err(format!("text and link have {size} bytes; a webhook takes {LONGEST}"));
        }
        check_link(post.link.as_deref())
    }

    async fn publish(&self, account: &Account, out: &Outgoing) -> Sent {
        let url = match self.target(&account.settings) {
            Ok(url) => url,
            Err(problems) => return Sent::Refused(sentence(&problems)),
        };
        if let Err(problem) = self.check_post(&account.settings, &out.payload) {
            return Sent::Refused(problem);
        }
        let request = match self.request(url, account, out) {
            Ok(request) => request,
            Err(why) => return Sent::Refused(why),
        };
        match self.http.call(request).await {
            Ok(answer) => judge(&answer, id(out), &account.credential),
            Err(failed) => failed.sent(),
        }
    }

    /// Asks for the head of the address, which by HTTP's own rules has no
    /// effect. Whether the receiver knows the secret shows only with a post.
    async fn test(&self, account: &Account) -> Result<String, String> {
        let url = self.target(&account.settings).map_err(|problems| sentence(&problems))?;
        check_secret(account.credential.expose_secret())
            .map_err(|problem| format!("The credential {problem}."))?;
        let host = url.host_str().unwrap_or_default().to_owned();
        let request = self.http.request(Method::HEAD, url).build();
        let request = request.map_err(|error| error.without_url().to_string())?;
        match self.http.call(request).await {
            Ok(answer) => Ok(format!(
                "{host} answers ({} to a HEAD request, which proves no more). \
                 Whether it knows the secret shows with the first post.",
                answer.status
            )),
            Err(Failed::Unsendable(why) | Failed::NoConnection(why) | Failed::Lost(why)) => {
                Err(format!("{host} does not answer: {why}."))
            }
        }
    }
}

/// What the receiver's answer says about the post it was for. By the
/// specification any 2xx is a receipt, whatever comes with it.
fn judge(answer: &Answer, id: String, credential: &SecretString) -> Sent {
    match answer.status {
        _ if answer.is_success() => {
            let body = answer.json();
            let told = body.as_ref().and_then(receipt);
            let link = body.as_ref().and_then(crate::verdict::link);
            Sent::Published(told.unwrap_or(Receipt { remote_id: id, link, cost_micros: None }))
        }
        410 => Sent::Refused(format!("{}: the endpoint is gone for good", answer.said(credential))),
        _ => answer.sent(credential),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_checked_as_the_specification_has_it() {
        let secret = |bytes: usize| format!("whsec_{}", STANDARD.encode(vec![7; bytes]));
        for (secret, fits) in [
            (secret(23), false),
            (secret(24), true),
            (secret(64), true),
            (secret(65), false),
            (secret(32).replace("whsec_", ""), false),
            (secret(32).replace('=', ""), false),
            ("whsec_".into(), false),
            ("whsec_not base64".into(), false),
        ] {
            assert_eq!(check_secret(&secret).is_ok(), fits, "{secret}");
        }
    }
}
