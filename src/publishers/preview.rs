//! Galley's own preview network: a real HTTP service with a timeline, on which
//! an account chooses what the platform can tell about a lost reply.
//!
//! Its accounts name its address, so the rules for addresses hold for it as for
//! any other: one on a private network needs a deployment that allows them.

use async_trait::async_trait;
use galley_core::plan::Problem;
use galley_core::publish::{Capability, Looked, PostContent, Sent};
use galley_reach::Targets;
use reqwest::{Method, Request, Url};
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use serde_json::Value;

use crate::http::{Answer, Body, Failed, Http};
use crate::publisher::{Account, Outgoing, Publisher};
use crate::registry::{Options, SetupError};
use crate::settings::{PRICES, Reader, check_link, check_token, sentence};
use crate::verdict::receipt;

/// Longest post, in characters.
const LONGEST: usize = 500;

/// For how long the network keeps a key, seconds.
const WINDOW_S: u64 = 24 * 60 * 60;

/// How long after a call its post may still appear, seconds.
const SETTLE_S: u64 = 5;

/// The adapter of the preview network.
#[derive(Debug)]
pub struct Preview {
    http: Http,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Endpoint {
    Idempotent,
    Verifiable,
    Blind,
}

struct Settings {
    url: Url,
    endpoint: Endpoint,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct NewPost<'a> {
    text: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    link: Option<&'a str>,
    created_at: &'a str,
}

impl Preview {
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

    /// An account's settings, if posts may go where they say.
    fn settings(&self, settings: &Value) -> Result<Settings, Vec<Problem>> {
        Settings::read(settings, self.http.targets())
    }

    fn request(
        &self,
        account: &Account,
        settings: &Settings,
        out: &Outgoing,
    ) -> Result<Request, reqwest::Error> {
        let to = |method, path: &[&str]| self.http.request(method, settings.at(path));
        let request = match settings.endpoint {
            Endpoint::Idempotent => to(Method::PUT, &["idempotent", "posts", &out.key]),
            Endpoint::Verifiable => {
                to(Method::POST, &["verifiable", "posts"]).header("X-Client-Key", &out.key)
            }
            Endpoint::Blind => to(Method::POST, &["blind", "posts"]).header("X-Trace-Key", &out.key),
        };
        let PostContent { text, link } = &out.payload;
        let post = NewPost { text, link: link.as_deref(), created_at: &out.intended_at };
        request.bearer_auth(account.credential.expose_secret()).json(&post).build()
    }

    async fn get(&self, account: &Account, url: Url) -> Result<Answer, Failed> {
        let request = self.http.request(Method::GET, url);
        let request = request.bearer_auth(account.credential.expose_secret()).build();
        self.http.call(request.map_err(|error| Failed::Unsendable(error.without_url().to_string()))?).await
    }
}

impl Endpoint {
    fn from_word(word: &str) -> Option<Self> {
        match word {
            "idempotent" => Some(Self::Idempotent),
            "verifiable" => Some(Self::Verifiable),
            "blind" => Some(Self::Blind),
            _ => None,
        }
    }
}

impl Settings {
    fn read(settings: &Value, targets: Targets) -> Result<Self, Vec<Problem>> {
        let mut reader = Reader::new(settings, &["url", "endpoint", PRICES[0], PRICES[1]]);
        reader.prices();
        let url = reader.target(targets);
        if url.as_ref().is_some_and(|url| url.query().is_some()) {
            reader.problem("settings.url", "must not hold a `?`: give the network's address alone");
        }
        let endpoint = match reader.text("endpoint") {
            None => Some(Endpoint::Idempotent),
            Some(word) => Endpoint::from_word(word),
        };
        if endpoint.is_none() {
            reader.problem("settings.endpoint", "must be idempotent, verifiable or blind");
        }
        reader.end(url.zip(endpoint).map(|(url, endpoint)| Self { url, endpoint }))
    }

    /// The address of a part of the API.
    fn at(&self, path: &[&str]) -> Url {
        let mut url = self.url.clone();
        // An http URL always has a path.
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().push("api").extend(path);
        }
        url
    }
}

#[async_trait]
impl Publisher for Preview {
    fn platform(&self) -> &'static str {
        "preview"
    }

    fn description(&self) -> &'static str {
        "Galley's own preview network; settings: url, endpoint (idempotent, verifiable, blind), postMicros, linkMicros"
    }

    fn capability(&self, settings: &Value) -> Capability {
        // Where it is has no part in what it can tell.
        match Settings::read(settings, Targets::ANY).map(|settings| settings.endpoint) {
            Ok(Endpoint::Idempotent) => Capability::Idempotent { window_s: WINDOW_S },
            Ok(Endpoint::Verifiable) => Capability::Verifiable { settle_s: SETTLE_S },
            Ok(Endpoint::Blind) | Err(_) => Capability::Blind,
        }
    }

    fn check_account(&self, settings: &Value, credential: &SecretString) -> Result<(), Vec<Problem>> {
        let mut problems = self.settings(settings).err().unwrap_or_default();
        check_token(credential, &mut problems);
        if problems.is_empty() { Ok(()) } else { Err(problems) }
    }

    fn check_post(&self, _settings: &Value, post: &PostContent) -> Result<(), String> {
        match post.text.chars().count() {
            _ if post.text.trim().is_empty() => Err("the text is empty".into()),
            0..=LONGEST => check_link(post.link.as_deref()),
            count => Err(format!("the text has {count} characters; the preview network takes {LONGEST}")),
        }
    }

    async fn publish(&self, account: &Account, out: &Outgoing) -> Sent {
        let settings = match self.settings(&account.settings) {
            Ok(settings) => settings,
            Err(problems) => return Sent::Refused(sentence(&problems)),
        };
        if let Err(problem) = self.check_post(&account.settings, &out.payload) {
            return Sent::Refused(problem);
        }
        let request = match self.request(account, &settings, out) {
            Ok(request) => request,
            Err(error) => return Sent::Refused(error.without_url().to_string()),
        };
        match self.http.call(request).await {
            Ok(answer) => judge(&answer, &account.credential),
            Err(failed) => failed.sent(),
        }
    }

    async fn look(&self, account: &Account, out: &Outgoing) -> Looked {
        let settings = match self.settings(&account.settings) {
            Ok(settings) => settings,
            Err(problems) => return Looked::Unknown(sentence(&problems)),
        };
        if settings.endpoint != Endpoint::Verifiable {
            return Looked::Unknown("this endpoint of the preview network cannot be asked".into());
        }
        let mut url = settings.at(&["verifiable", "posts"]);
        url.query_pairs_mut().append_pair("clientKey", &out.key);
        match self.get(account, url).await {
            Ok(answer) => found(&answer, &out.key, &account.credential),
            Err(failed) => Looked::Unknown(failed.into_text()),
        }
    }

    async fn test(&self, account: &Account) -> Result<String, String> {
        let settings = self.settings(&account.settings).map_err(|problems| sentence(&problems))?;
        let answer = match self.get(account, settings.at(&["me"])).await {
            Ok(answer) => answer,
            Err(failed) => {
                let why = failed.into_text();
                return Err(format!("{why}. Does the preview network run at {}?", settings.url));
            }
        };
        match answer.status {
            200 => Ok(match answer.json().as_ref().and_then(|me| me.get("handle")?.as_str()) {
                Some(handle) => format!("The preview network at {} knows it as `{handle}`.", settings.url),
                None => format!("The preview network at {} knows it.", settings.url),
            }),
            401 | 403 => Err(format!("{}. Renew the token.", answer.said(&account.credential))),
            _ => {
                Err(format!("{}. Is {} the preview network?", answer.said(&account.credential), settings.url))
            }
        }
    }
}

/// What the network's answer says about the post it was for.
fn judge(answer: &Answer, credential: &SecretString) -> Sent {
    if !answer.is_success() {
        return answer.sent(credential);
    }
    let unknown = || Sent::Unknown(format!("{}, which is no receipt", answer.said(credential)));
    if let Body::Cut(why) = &answer.body {
        return Sent::Unknown(why.clone());
    }
    let Some(body) = answer.json() else { return unknown() };
    let failed = body.get("error").is_some_and(|error| !error.is_null());
    match (failed, receipt(&body), answer.status) {
        (false, Some(receipt), 200 | 201) => Sent::Published(receipt),
        // The network documents this as: nothing was done.
        (true, None, 200) => Sent::Refused(answer.said(credential)),
        _ => unknown(),
    }
}

/// Whether a well-formed list holds the post with our key.
fn found(answer: &Answer, key: &str, credential: &SecretString) -> Looked {
    let unknown = || Looked::Unknown(format!("{}, which is no list of posts", answer.said(credential)));
    if answer.status != 200 {
        return Looked::Unknown(answer.said(credential));
    }
    if let Body::Cut(why) = &answer.body {
        return Looked::Unknown(why.clone());
    }
    let Some(body) = answer.json() else { return unknown() };
    let Some(posts) = body.get("posts").unwrap_or(&body).as_array() else { return unknown() };
    // A network that ignored the question would list the posts of others.
    let ours = |post: &&Value| post.get("clientKey").is_none_or(|found| found == key);
    match (posts.iter().find(ours).map(receipt), posts.is_empty()) {
        (Some(Some(receipt)), _) => Looked::Found(receipt),
        (None, true) => Looked::Absent,
        _ => unknown(),
    }
}
