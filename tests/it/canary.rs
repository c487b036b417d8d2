//! Three workspaces, each with a word of its own in everything a tenant can
//! fill, and one run of all there is. Afterwards no word is anywhere but with
//! its workspace: not in rows, replies, events, log lines, outgoing requests,
//! nor anything that was ever said to Redis. And a credential is nowhere but in
//! the requests that show it.

use std::io::Write;
use std::sync::{Arc, Mutex};

use galley_api::views::Role::Admin;
use galley_core::ids::WorkspaceId;
use galley_core::report::StepError;
use galley_publishers::{Options, Publishers};
use reqwest::Url;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tracing_subscriber::EnvFilter;

use crate::harness::{Agents, Api, Bed, Setup, answer, retry, until};

/// What every word begins with, and every credential.
const CANARY: &str = "cnry";
const SECRET: &str = "scrt";

/// What comes by and holds a word or a credential.
#[derive(Clone, Default)]
struct Heard(Arc<Mutex<Vec<String>>>);

impl Heard {
    fn note(&self, line: &str) {
        if line.contains(CANARY) || line.contains(SECRET) {
            self.0.lock().unwrap().push(line.to_owned());
        }
    }

    fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

impl Write for Heard {
    /// A log line comes in one piece.
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        self.note(&String::from_utf8_lossy(line));
        Ok(line.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Everything our own code logs in this process, of any test.
fn listen_to_logs() -> Heard {
    let heard = Heard::default();
    let writer = heard.clone();
    let ours = ["api", "engine", "worker", "store", "queue", "publishers", "agents"];
    let filter = ours.map(|room| format!("galley_{room}=trace")).join(",");
    tracing_subscriber::fmt()
        .json()
        .with_env_filter(EnvFilter::new(format!("info,{filter}")))
        .with_writer(move || writer.clone())
        .try_init()
        .unwrap();
    heard
}

/// Everything that anybody says to Redis from now on.
async fn listen_to_redis(url: &str, prefix: &str) -> (Heard, Arc<Mutex<usize>>, JoinHandle<()>) {
    let url = Url::parse(url).unwrap();
    let socket = TcpStream::connect((url.host_str().unwrap(), url.port().unwrap())).await.unwrap();
    let mut lines = BufReader::new(socket);
    lines.write_all(b"MONITOR\r\n").await.unwrap();
    let mut line = String::new();
    lines.read_line(&mut line).await.unwrap();
    assert_eq!(line.trim(), "+OK");
    let (heard, ours) = (Heard::default(), Arc::new(Mutex::new(0)));
    let (note, count, prefix) = (heard.clone(), Arc::clone(&ours), prefix.to_owned());
    let listening = tokio::spawn(async move {
        let mut lines = lines.lines();
        while let Ok(Some(line)) = lines.next_line().await {
            note.note(&line);
            *count.lock().unwrap() += usize::from(line.contains(&prefix));
        }
    });
    (heard, ours, listening)
}

/// A platform for all: takes every post, but for those that it is asked to
/// refuse, and then it says what it was shown.
struct Platform {
    address: String,
    requests: Arc<Mutex<Vec<String>>>,
    accepting: JoinHandle<()>,
}

impl Platform {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&requests);
        let accepting = tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(serve(socket, Arc::clone(&seen)));
            }
        });
        Self { address, requests, accepting }
    }
}

async fn serve(mut socket: TcpStream, seen: Arc<Mutex<Vec<String>>>) {
    let (mut bytes, mut chunk) = (Vec::new(), [0; 4096]);
    let request = loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.to_lowercase().lines().find_map(|line| {
                line.strip_prefix("content-length:").and_then(|length| length.trim().parse().ok())
            });
            if body.len() >= length.unwrap_or(0) {
                break text;
            }
        }
        match socket.read(&mut chunk).await {
            Ok(0) | Err(_) => return,
            Ok(count) => bytes.extend_from_slice(&chunk[..count]),
        }
    };
    let (status, body) = if request.contains("refuse me") {
        (422, request.clone())
    } else {
        (201, json!({ "id": "p1", "url": "https://example.com/p1" }).to_string())
    };
    seen.lock().unwrap().push(request);
    let head = format!("HTTP/1.1 {status} Said\r\nContent-Length: {}\r\n\r\n", body.len());
    let _ = socket.write_all(format!("{head}{body}").as_bytes()).await;
}

/// What a tenant's words are turned into: everything, in every way out.
fn agents() -> Agents {
    Agents::default()
        .with("writer", retry(2), |step| async move {
            let text = step.input["brief"]["text"].as_str().unwrap_or_default();
            answer(&json!({ "platform": "x", "text": format!("{text}_out"), "note": format!("{text}_note") }))
        })
        .with("breaker", retry(2), |step| async move {
            Err(StepError::permanent("broken", format!("no good: {}", step.input)))
        })
        .with_strategist()
}

/// One tenant and all it has.
struct Tenant {
    word: String,
    id: WorkspaceId,
    token: String,
    /// What its two accounts are known by: the webhook's and the network's.
    secrets: [String; 2],
    workflows: Vec<String>,
    posts: Vec<String>,
    approvals: Vec<String>,
    broken: String,
    key: String,
}

impl Tenant {
    fn named(&self, kind: &str) -> String {
        format!("{}_{kind}", self.word)
    }

    /// Every GET path of the API, about this tenant's things.
    fn paths(&self, described: &Value) -> Vec<String> {
        let mut paths = Vec::new();
        for (path, item) in described["paths"].as_object().unwrap() {
            if item.get("get").is_none() || path.ends_with("/events") {
                continue;
            }
            let Some((before, rest)) = path.split_once('{') else {
                paths.push(path.clone());
                continue;
            };
            let after = rest.split_once('}').unwrap().1;
            let resource = before.split('/').nth(2).unwrap();
            let ids: Vec<String> = match resource {
                "workflows" | "why" => self.workflows.clone(),
                "tasks" => self.workflows.iter().map(|id| format!("{id}.{}", self.named("write"))).collect(),
                "dead-letters" => vec![format!("{}.{}", self.broken, self.named("break"))],
                "posts" => self.posts.clone(),
                "approvals" => self.approvals.clone(),
                "templates" | "schedules" => vec![self.named(resource.trim_end_matches('s'))],
                // The fleet's: of nobody.
                "agents" => vec!["writer".into()],
                "prompts" => vec!["strategy".into()],
                other => panic!("whose is a {other}? give it a line here"),
            };
            paths.extend(ids.into_iter().map(|id| format!("{before}{id}{after}")));
        }
        paths
    }
}

/// Every answer of the API, by whose token it was for.
#[derive(Default)]
struct Replies(Mutex<Vec<(WorkspaceId, String)>>);

impl Replies {
    fn note(&self, to: WorkspaceId, text: String) {
        self.0.lock().unwrap().push((to, text));
    }
}

/// Fills everything a tenant can fill, and lets all of it happen.
async fn live(api: &Api, replies: &Replies, id: WorkspaceId, word: &str, platform: &str) -> Tenant {
    let mut tenant = Tenant {
        word: word.to_owned(),
        id,
        token: api.token_of(&format!("{word}_ada"), id, &[Admin], false),
        // 36 characters that are base64, too.
        secrets: [
            format!("{SECRET}{word}isOfTheWebhookAndLongEnough"),
            format!("{SECRET}_{word}_of_the_network"),
        ],
        workflows: Vec::new(),
        posts: Vec::new(),
        approvals: Vec::new(),
        broken: String::new(),
        key: String::new(),
    };
    let token = tenant.token.clone();
    let ask = async |method: &str, path: &str, body: Value| {
        let key = format!("{word}_{}", uuid::Uuid::now_v7());
        let body = (!body.is_null()).then_some(&body);
        let reply = api.ask_under(&key, method, path, Some(&token), body).await;
        assert!(reply.status < 300, "{method} {path}: {reply:?}");
        replies.note(id, reply.text);
        reply.body
    };
    let named = |kind: &str| format!("{word}_{kind}");
    let said = |kind: &str| json!({ "text": format!("{word} {kind}") });
    for (name, platform_name, settings, credential) in [
        (
            "hook",
            "webhook",
            json!({ "url": format!("{platform}/{word}/hook") }),
            format!("whsec_{}", tenant.secrets[0]),
        ),
        ("net", "preview", json!({ "url": format!("{platform}/{word}") }), tenant.secrets[1].clone()),
    ] {
        let account = json!({
            "name": named(name), "platform": platform_name, "contentPlatform": "x", "settings": settings,
            "credential": credential,
        });
        ask("POST", "/v1/accounts", account).await;
    }
    let step = |kind: &str, agent: &str, input: Value| json!({ "name": named(kind), "agent": agent, "input": input });
    let publish = |account: &str| step("publish", "publisher", json!({ "account": named(account) }));
    let template = json!({
        "name": named("template"),
        "steps": [step("write", "writer", said("parameter")), publish("hook")],
    });
    ask("POST", "/v1/templates", template).await;
    let prompt = json!({ "system": format!("{word} system"), "user": format!("{word} {{{{ brief }}}}") });
    ask("PUT", "/v1/prompts/strategy", prompt).await;
    let schedule = json!({
        "name": named("schedule"), "cron": "0 9 * * *",
        "submit": { "template": named("template"), "input": said("scheduled") },
    });
    ask("POST", "/v1/schedules", schedule).await;
    let made = ask("POST", "/v1/keys", json!({ "name": named("key"), "roles": ["producer"] })).await;
    tenant.key = made["key"]["prefix"].as_str().unwrap().to_owned();

    // One goes out by the webhook, one edited by the network, one is refused.
    let through = |account: &str| json!({ "definition": { "name": named("flow"), "steps": [step("write", "writer", Value::Null), publish(account)] } });
    for (mut submit, text) in [
        (json!({ "template": named("template") }), "input"),
        (through("net"), "edited"),
        (through("net"), "refuse me"),
    ] {
        submit["input"] = said(text);
        let made = ask("POST", "/v1/workflows", submit).await;
        let workflow = made["workflowId"].as_str().unwrap().to_owned();
        let mut asked = Value::Null;
        until("somebody is asked", async || {
            let listed = ask("GET", "/v1/approvals?status=pending", Value::Null).await;
            asked = listed["items"][0].clone();
            asked["workflowId"] == workflow
        })
        .await;
        let (approval, post) = (asked["id"].as_str().unwrap(), asked["postId"].as_str().unwrap());
        let (path, body) = match text {
            "edited" => ("edit", json!({ "text": format!("{word} edited by hand") })),
            _ => ("approve", json!({ "note": format!("{word} approved") })),
        };
        ask("POST", &format!("/v1/approvals/{approval}/{path}"), body).await;
        let ends = if text == "refuse me" { "stalled" } else { "succeeded" };
        until("the workflow is over", async || {
            ask("GET", &format!("/v1/workflows/{workflow}"), Value::Null).await["state"] == ends
        })
        .await;
        tenant.approvals.push(approval.to_owned());
        tenant.posts.push(post.to_owned());
        tenant.workflows.push(workflow);
    }
    let broken = json!({
        "definition": { "name": named("broken"), "steps": [step("break", "breaker", said("parameter"))] },
        "input": said("broken"),
    });
    let made = ask("POST", "/v1/workflows", broken).await;
    tenant.broken = made["workflowId"].as_str().unwrap().to_owned();
    let letter = format!("{}.{}", tenant.broken, named("break"));
    let dies = async |text: &str| {
        until("its step is dead", async || {
            let listed = ask("GET", "/v1/dead-letters", Value::Null).await;
            let letters = listed["items"].as_array().unwrap().clone();
            letters.iter().any(|dead| {
                dead["taskId"] == letter
                    && dead["message"].as_str().is_some_and(|message| message.contains(text))
            })
        })
        .await;
    };
    dies("broken").await;
    let edited = json!({ "input": { "brief": said("repaired") } });
    ask("POST", &format!("/v1/dead-letters/{letter}/retry"), edited).await;
    dies("repaired").await;
    for account in ["hook", "net"] {
        ask("POST", &format!("/v1/accounts/{}/test", named(account)), Value::Null).await;
    }
    tenant
}

/// Every row of every table as text, with whose it is; a row of nobody has no
/// owner.
pub(crate) async fn rows(bed: &Bed) -> Vec<(String, Option<String>, String)> {
    let tables = bed
        .texts(
            "SELECT c.relname::text FROM pg_class c
              WHERE c.relkind IN ('r', 'p') AND c.relnamespace = 'public'::regnamespace ORDER BY 1",
        )
        .await;
    let owned = bed
        .texts(
            "SELECT attrelid::regclass::text FROM pg_attribute WHERE attname = 'workspace_id' AND attnum > 0",
        )
        .await;
    let mut rows = Vec::new();
    for table in tables {
        let owner = if owned.contains(&table) { "workspace_id::text" } else { "''" };
        for row in bed.texts(&format!("SELECT {owner} || ' ' || t::text FROM \"{table}\" t")).await {
            let (owner, text) = row.split_once(' ').unwrap();
            rows.push((table.clone(), (!owner.is_empty()).then(|| owner.to_owned()), text.to_owned()));
        }
    }
    rows
}

/// Whether a text has a word in it, also as Postgres writes bytes.
pub(crate) fn holds(text: &str, word: &str) -> bool {
    text.contains(word) || text.contains(&hex::encode(word))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_tenant_writes_is_nowhere_but_with_it() {
    let logs = listen_to_logs();
    let options = Options { allow_private_targets: true, ..Options::default() };
    let publishers = Publishers::built_in(options).unwrap();
    let mut bed = Bed::with(Setup { publishers, ..Setup::default() }).await;
    let (redis, to_redis, listening) = listen_to_redis(&bed.redis_url, &bed.prefix).await;
    let platform = Platform::start().await;
    bed.serve(&agents()).await;
    let api = Api::of(&bed, Admin).await;
    let replies = Replies::default();
    let mut ids = vec![bed.workspace];
    for name in ["second", "third"] {
        ids.push(bed.engine.create_workspace(name, 1, "test").await.unwrap().id);
    }
    let words: Vec<String> = (0..ids.len()).map(|number| format!("{CANARY}{number}")).collect();
    // All at once, in the same worker.
    let lives = ids.iter().zip(&words).map(|(id, word)| live(&api, &replies, *id, word, &platform.address));
    let tenants = futures::future::join_all(lives).await;
    let others = |id: WorkspaceId| tenants.iter().filter(move |tenant| tenant.id != id);

    // Whoever asks, about whatever there is.
    let described = serde_json::to_value(galley_api::openapi()).unwrap();
    for asking in &tenants {
        for asked in &tenants {
            for path in asked.paths(&described) {
                let reply = api.ask("GET", &path, Some(&asking.token), None).await;
                let about_its_own =
                    asking.id == asked.id || !path.contains(&asked.word) && reply.status != 404;
                assert!(reply.status == 200 || !about_its_own, "{path}: {reply:?}");
                // A reply may say what it was asked for.
                let id = path.split('/').nth(3).unwrap_or("-");
                replies.note(asking.id, reply.text.replace(id, "…"));
            }
            for workflow in &asked.workflows[..2] {
                let path = format!("/v1/workflows/{workflow}/events");
                let (status, events) = api.events(&path, &asking.token).await;
                assert_eq!(status == 200, asking.id == asked.id, "{path}: {events}");
                assert_eq!(holds(&events, &asked.word), asking.id == asked.id, "{path}: {events}");
                replies.note(asking.id, events);
            }
        }
    }
    let replies = replies.0.into_inner().unwrap();
    assert!(replies.len() > 300, "{} replies show little", replies.len());
    for (to, text) in &replies {
        assert!(!text.contains(SECRET), "a credential in a reply: {text}");
        for other in others(*to) {
            assert!(!holds(text, &other.word), "{} in a reply to another: {text}", other.word);
        }
    }

    let mut tables = std::collections::BTreeSet::new();
    for (table, owner, text) in rows(&bed).await {
        assert!(!holds(&text, SECRET), "a credential in {table}: {text}");
        for tenant in tenants.iter().filter(|tenant| holds(&text, &tenant.word)) {
            assert_eq!(
                owner.as_deref(),
                Some(tenant.id.to_string().as_str()),
                "{} in {table}: {text}",
                tenant.word
            );
            tables.insert(table.clone());
        }
    }
    assert!(tables.len() >= 16, "words in few tables show little: {tables:?}");

    let requests = platform.requests.lock().unwrap().clone();
    for request in &requests {
        let sender = tenants.iter().find(|tenant| {
            let path = request.split(' ').nth(1).unwrap();
            path.split('/').nth(1) == Some(&tenant.word)
        });
        let sender = sender.unwrap_or_else(|| panic!("whose is {request}?"));
        for other in others(sender.id) {
            assert!(!holds(request, &other.word), "{} in another's request: {request}", other.word);
        }
        let shown = format!("Bearer {}", sender.secrets[1]);
        let rest = request.replacen(&shown, "", 1);
        assert_eq!(rest == *request, request.contains("/hook "), "{request}");
        assert!(!rest.contains(SECRET), "a credential that nobody needs: {request}");
    }
    // Two posts that are out, one that was refused, and two tries of accounts.
    assert_eq!(requests.len(), 5 * tenants.len(), "{requests:#?}");

    let lines = logs.all();
    assert!(!lines.is_empty(), "no line names a step: this shows little");
    for line in &lines {
        assert!(!line.contains(SECRET), "a credential in the log: {line}");
        for tenant in tenants.iter().filter(|tenant| line.contains(&tenant.word)) {
            for other in others(tenant.id) {
                let foreign = line.contains(&other.id.to_string()) || line.contains(&other.word);
                assert!(!foreign, "{} in another's line: {line}", tenant.word);
            }
        }
    }

    listening.abort();
    platform.accepting.abort();
    assert!(*to_redis.lock().unwrap() > 0, "nothing was heard of this test's queue");
    assert_eq!(redis.all(), Vec::<String>::new(), "no content is ever said to Redis");
    bed.end().await;
}
