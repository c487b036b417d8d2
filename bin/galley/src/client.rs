//! The REST API as the commands call it. One method per way of calling; the
//! paths are the API's. Answers are kept as JSON, so that `--json` prints what
//! the API said and nothing else.

use std::time::Duration;

use futures::{Stream, StreamExt};
use galley_api::views::{Problem, Ready};
use reqwest::{Method, RequestBuilder, Response, StatusCode, Url};
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::config::Config;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::found::DevFile;

/// How long one answer may take. Accepting a workflow waits for PostgreSQL.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long connecting may take.
const CONNECT: Duration = Duration::from_secs(5);
/// Items per page asked for.
const PAGE: usize = 100;

/// A connection to the API, with a token.
#[derive(Clone)]
pub(crate) struct Client {
    http: reqwest::Client,
    base: Url,
    token: Option<SecretString>,
    /// Where the URL came from, for errors.
    found: Option<String>,
    /// Whether the token came from there, too.
    token_found: bool,
}

/// A list that was put together from pages.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Listed {
    /// The items, as the API gave them.
    pub(crate) items: Vec<Value>,
    /// Where the rest begins, if there is a rest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) next_cursor: Option<String>,
}

impl Listed {
    /// The items as what they are.
    ///
    /// # Errors
    /// The server speaks another release's language.
    pub(crate) fn items<T: DeserializeOwned>(&self) -> Result<Vec<T>, Failure> {
        self.items.iter().map(read).collect()
    }
}

/// An answer as what it is.
///
/// # Errors
/// The server speaks another release's language.
pub(crate) fn read<T: DeserializeOwned>(value: &Value) -> Result<T, Failure> {
    T::deserialize(value).map_err(|error| {
        Failure::unexpected("the API's answer was not understood")
            .detail(error)
            .hint("is the server of the same release as this program? `galley doctor` tells")
    })
}

impl Client {
    /// A client for the configured API, or for the `galley dev` of this folder.
    ///
    /// # Errors
    /// Nobody said where the API is, or the URL is none.
    pub(crate) fn new(config: &Config) -> Result<Self, Failure> {
        let dev = if config.client.url.is_none() { DevFile::find() } else { None };
        let url = match (&config.client.url, &dev) {
            (Some(url), _) => url.clone(),
            (None, Some((_, dev))) => dev.url.clone(),
            (None, None) => {
                return Err(Failure::usage("nobody said where the API is")
                    .detail("neither --url nor GALLEY_URL is given, and no `galley dev` ran in this folder or above")
                    .hint("run `galley dev` here first, or give --url http://HOST:PORT and --token TOKEN"));
            }
        };
        let token =
            config.client.token.clone().or_else(|| dev.as_ref().map(|(_, dev)| dev.token.clone().into()));
        let found = dev.map(|(path, _)| path.display().to_string());
        let token_found = found.is_some() && config.client.token.is_none();
        Ok(Self { token_found, ..Self::to(&url, token, found)? })
    }

    /// A client for this URL and token.
    ///
    /// # Errors
    /// The URL is none.
    pub(crate) fn to(url: &str, token: Option<SecretString>, found: Option<String>) -> Result<Self, Failure> {
        let wrong = |why: String| {
            Failure::usage(format!("`{url}` is not the URL of an API"))
                .detail(why)
                .hint("write it as http://HOST:PORT")
        };
        let base: Url = url.trim_end_matches('/').parse().map_err(|error| wrong(format!("{error}")))?;
        if !matches!(base.scheme(), "http" | "https") || base.host().is_none() {
            return Err(wrong("it has no http:// or https:// and host".into()));
        }
        let http = reqwest::Client::builder()
            .connect_timeout(CONNECT)
            .user_agent(concat!("galley/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| Failure::unexpected("the HTTP client cannot be made").detail(error))?;
        Ok(Self { http, base, token, found, token_found: false })
    }

    /// The API's URL.
    pub(crate) fn url(&self) -> &str {
        self.base.as_str().trim_end_matches('/')
    }

    /// GET.
    ///
    /// # Errors
    /// What the API answered, or that it did not.
    pub(crate) async fn get(&self, path: &[&str]) -> Result<Value, Failure> {
        self.ask(self.request(Method::GET, path)).await
    }

    /// What the server says about itself; answered with 503, too.
    ///
    /// # Errors
    /// It does not answer as Galley does.
    pub(crate) async fn ready(&self) -> Result<Ready, Failure> {
        let request = self.request(Method::GET, &["ready"]).timeout(PATIENCE);
        let response = request.send().await.map_err(|error| self.unreachable(&error))?;
        let bytes = response.bytes().await.map_err(|error| self.unreachable(&error))?;
        serde_json::from_slice(&bytes).map_err(|_| self.stranger("its readiness is not understood"))
    }

    /// GET with a query.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub(crate) async fn find(&self, path: &[&str], query: &[(&str, String)]) -> Result<Value, Failure> {
        self.ask(self.request(Method::GET, path).query(query)).await
    }

    /// GET of a list: follows the pages until there are `limit` items.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub(crate) async fn list(
        &self,
        path: &[&str],
        query: &[(&str, String)],
        limit: usize,
    ) -> Result<Listed, Failure> {
        let mut listed = Listed { items: Vec::new(), next_cursor: None };
        loop {
            let wanted = (limit - listed.items.len()).min(PAGE);
            let mut query = query.to_vec();
            query.push(("limit", wanted.to_string()));
            query.extend(listed.next_cursor.take().map(|cursor| ("cursor", cursor)));
            let mut page = self.find(path, &query).await?;
            listed.next_cursor = page.get("nextCursor").and_then(Value::as_str).map(str::to_owned);
            if let Some(Value::Array(items)) = page.get_mut("items").map(Value::take) {
                listed.items.extend(items);
            }
            if listed.next_cursor.is_none() || listed.items.len() >= limit {
                return Ok(listed);
            }
        }
    }

    /// GET of a list that has no pages.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub(crate) async fn list_all(&self, path: &[&str]) -> Result<Listed, Failure> {
        let mut answer = self.get(path).await?;
        let items = match answer.get_mut("items").map(Value::take).unwrap_or(answer) {
            Value::Array(items) => items,
            _ => Vec::new(),
        };
        Ok(Listed { items, next_cursor: None })
    }

    /// POST with an idempotency key.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub(crate) async fn create(
        &self,
        path: &[&str],
        body: &impl Serialize,
        key: &str,
    ) -> Result<Value, Failure> {
        self.ask(self.request(Method::POST, path).header("Idempotency-Key", key).json(body)).await
    }

    /// POST of what may be repeated.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub(crate) async fn post(&self, path: &[&str], body: &impl Serialize) -> Result<Value, Failure> {
        self.ask(self.request(Method::POST, path).json(body)).await
    }

    /// PUT: a thing as a whole, anew.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub(crate) async fn put(&self, path: &[&str], body: &impl Serialize) -> Result<Value, Failure> {
        self.ask(self.request(Method::PUT, path).json(body)).await
    }

    /// DELETE.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub(crate) async fn delete(&self, path: &[&str]) -> Result<Value, Failure> {
        self.ask(self.request(Method::DELETE, path)).await
    }

    /// A server-sent event stream, as one item per event: its name. It ends
    /// when the server or the network ends it.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub(crate) async fn events(&self, path: &[&str]) -> Result<impl Stream<Item = String> + use<>, Failure> {
        let request = self.request(Method::GET, path).header("Accept", "text/event-stream");
        let response = self.send(request).await?;
        let mut text = String::new();
        let chunks = response.bytes_stream().map(move |chunk| {
            let Ok(chunk) = chunk else { return Vec::new() };
            text.push_str(&String::from_utf8_lossy(&chunk));
            let whole = text.rfind('\n').map_or(0, |end| end + 1);
            let lines: String = text.drain(..whole).collect();
            lines
                .lines()
                .filter_map(|line| line.strip_prefix("event:"))
                .map(|name| name.trim().to_owned())
                .collect::<Vec<_>>()
        });
        Ok(chunks.flat_map(futures::stream::iter))
    }

    /// GET of lines, however many: each as it comes.
    ///
    /// # Errors
    /// As [`Client::get`]; in the stream: the connection broke.
    pub(crate) async fn lines(
        &self,
        path: &[&str],
    ) -> Result<impl Stream<Item = Result<String, Failure>> + use<>, Failure> {
        let response = self.send(self.request(Method::GET, path)).await?;
        let (client, mut rest) = (self.clone(), Vec::new());
        let chunks = response.bytes_stream().map(move |chunk| match chunk {
            Ok(chunk) => {
                rest.extend_from_slice(&chunk);
                let whole = rest.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
                let lines: Vec<u8> = rest.drain(..whole).collect();
                String::from_utf8_lossy(&lines).lines().map(|line| Ok(line.to_owned())).collect()
            }
            Err(error) => vec![Err(client.unreachable(&error))],
        });
        Ok(chunks.flat_map(futures::stream::iter))
    }

    fn request(&self, method: Method, path: &[&str]) -> RequestBuilder {
        let mut url = self.base.clone();
        // Escapes what people typed: an id with a slash is no other path.
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        let request = self.http.request(method, url);
        match &self.token {
            Some(token) => request.bearer_auth(token.expose_secret()),
            None => request,
        }
    }

    async fn ask(&self, request: RequestBuilder) -> Result<Value, Failure> {
        let response = self.send(request.timeout(PATIENCE)).await?;
        let bytes = response.bytes().await.map_err(|error| self.unreachable(&error))?;
        if bytes.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&bytes).map_err(|_| self.stranger("its answer is not JSON"))
    }

    async fn send(&self, request: RequestBuilder) -> Result<Response, Failure> {
        let response = request.send().await.map_err(|error| self.unreachable(&error))?;
        let status = response.status();
        let path = response.url().path().to_owned();
        if status.is_success() {
            return Ok(response);
        }
        let body = response.bytes().await.unwrap_or_default();
        match serde_json::from_slice::<Problem>(&body) {
            Ok(problem) => Err(self.refused(status, &path, &problem)),
            Err(_) if status == StatusCode::NOT_FOUND || status == StatusCode::METHOD_NOT_ALLOWED => {
                Err(self.stranger(&format!("it answered {status}")))
            }
            Err(_) => Err(Failure::new(exit_of(status), format!("the API answered {status}"))
                .detail(String::from_utf8_lossy(&body).chars().take(300).collect::<String>())),
        }
    }

    fn refused(&self, status: StatusCode, path: &str, problem: &Problem) -> Failure {
        let exit =
            if problem.kind.ends_with(":idempotency-mismatch") { Exit::Conflict } else { exit_of(status) };
        // The detail says more than the kind's title, where it is one thing.
        let told = matches!(status, StatusCode::FORBIDDEN | StatusCode::NOT_FOUND | StatusCode::CONFLICT);
        let mut failure = if told && problem.problems.is_empty() {
            Failure::new(exit, &problem.detail)
        } else {
            let mut title = problem.title.clone();
            if let Some(first) = title.get_mut(..1) {
                first.make_ascii_lowercase();
            }
            let failure = Failure::new(exit, title);
            if problem.problems.is_empty() { failure.detail(&problem.detail) } else { failure }
        };
        for place in &problem.problems {
            failure = failure.detail(format!("- {}: {}", place.at, place.problem));
        }
        match status {
            StatusCode::UNAUTHORIZED if self.token.is_none() => {
                failure.hint("give --token or set GALLEY_TOKEN; `galley token issue` makes one")
            }
            StatusCode::UNAUTHORIZED => failure.hint(match &self.found {
                Some(path) if self.token_found => {
                    format!("the token came from {path}: start `galley dev` there anew, or give --token")
                }
                _ => "check --token or GALLEY_TOKEN; `galley token issue` makes a new one".into(),
            }),
            StatusCode::NOT_FOUND => failure.hint(format!("{} shows what there is", list_command(path))),
            StatusCode::INTERNAL_SERVER_ERROR => {
                failure.hint(format!("look for {} in the server's log", problem.instance))
            }
            _ => failure,
        }
    }

    fn unreachable(&self, error: &reqwest::Error) -> Failure {
        let mut cause: &dyn std::error::Error = error;
        while let Some(next) = cause.source() {
            cause = next;
        }
        let why = if error.is_timeout() { "no answer in time".to_owned() } else { cause.to_string() };
        let failure = Failure::new(Exit::Unavailable, format!("the API at {} cannot be reached", self.url()))
            .detail(why);
        match &self.found {
            Some(path) => {
                failure.hint(format!("the URL came from {path}: is `galley dev` still running there?"))
            }
            None => {
                failure.hint("is `galley api` or `galley dev` running, and is --url (or GALLEY_URL) right?")
            }
        }
    }

    fn stranger(&self, why: &str) -> Failure {
        Failure::new(Exit::Unavailable, format!("what listens at {} does not speak Galley's API", self.url()))
            .detail(why)
            .hint("check --url (or GALLEY_URL), and that the server is of this release")
    }
}

/// The command that lists what a path is about.
fn list_command(path: &str) -> &'static str {
    let resource = path.split('/').skip_while(|segment| *segment != "v1").nth(1).unwrap_or_default();
    match resource {
        "tasks" => "`galley task list`",
        "queues" => "`galley queue list`",
        "templates" => "`galley template list`",
        "agents" => "`galley agent list`",
        "dead-letters" => "`galley dead list`",
        "posts" => "`galley post list`",
        "approvals" => "`galley approval list`",
        "accounts" => "`galley account list`",
        "schedules" => "`galley schedule list`",
        "keys" => "`galley key list`",
        "tokens" | "workspaces" => "`galley workspace list`",
        _ => "`galley workflow list`",
    }
}

fn exit_of(status: StatusCode) -> Exit {
    match status.as_u16() {
        401 | 403 => Exit::Unauthorized,
        404 => Exit::NotFound,
        409 => Exit::Conflict,
        408 | 429 | 502..=504 => Exit::Unavailable,
        400..=499 => Exit::Refused,
        _ => Exit::Unexpected,
    }
}
