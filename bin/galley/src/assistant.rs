//! Galley as tools for an assistant (Model Context Protocol): each is one
//! request to the API, with the assistant's own token. This room adds no right
//! and no rule of its own.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, Implementation, JsonObject,
    ListToolsResult, PaginatedRequestParams, ServerCapabilities, ServerConfig, Tool, ToolAnnotations,
};
use rmcp::service::{RequestContext, RoleServer};
use rmcp::{ErrorData, ServerHandler};
use serde_json::{Map, Value, json};

use crate::cli::new_key;
use crate::client::Client;
use crate::failure::Failure;

/// The longest an assistant may have a workflow watched in one call, seconds:
/// its own client gives up some time, too.
const LONGEST_WATCH_S: u64 = 50;

/// How often a watched workflow is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Most items of a list.
const MOST_ITEMS: usize = 50;

/// What the assistant is told before anything else.
const INSTRUCTIONS: &str = "Galley runs workflows of AI agents that make and publish social posts. \
    submit_workflow starts one (list_templates shows which); watch_workflow waits for it; why says in one sentence \
    what anything waits for. Posts may wait for an approval: show_approval shows the exact text, and approve takes \
    the contentHash shown there. Never approve what the person you work for has not seen.";

/// What a tool asks the API for.
enum Ask {
    Get { path: Vec<String>, query: Vec<(&'static str, String)> },
    List { path: Vec<String>, query: Vec<(&'static str, String)>, limit: usize },
    Create { path: Vec<String>, body: Value, key: String },
    Post { path: Vec<String>, body: Value },
    Watch { workflow: String, seconds: u64 },
}

/// One tool: how it is called and what it asks for.
struct Offer {
    name: &'static str,
    about: &'static str,
    /// Its arguments as JSON Schema properties, and which it needs.
    takes: fn() -> (Value, &'static [&'static str]),
    /// Whether it only looks.
    looks: bool,
    asks: fn(&Arguments<'_>) -> Result<Ask, String>,
}

/// What a tool was called with.
struct Arguments<'a>(&'a Map<String, Value>);

impl Arguments<'_> {
    fn text(&self, name: &str) -> Result<String, String> {
        self.maybe(name)?.ok_or_else(|| format!("the argument `{name}` is missing"))
    }

    fn maybe(&self, name: &str) -> Result<Option<String>, String> {
        match self.0.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(_) => Err(format!("the argument `{name}` is a text")),
        }
    }

    fn number(&self, name: &str, usual: u64) -> Result<u64, String> {
        match self.0.get(name) {
            None | Some(Value::Null) => Ok(usual),
            Some(value) => value.as_u64().ok_or_else(|| format!("the argument `{name}` is a number from 0")),
        }
    }

    fn value(&self, name: &str) -> Value {
        self.0.get(name).cloned().unwrap_or(Value::Null)
    }

    fn limit(&self) -> Result<usize, String> {
        let limit = self.number("limit", 20)?;
        Ok(usize::try_from(limit).unwrap_or(MOST_ITEMS).clamp(1, MOST_ITEMS))
    }
}

fn path(parts: &[&str]) -> Vec<String> {
    std::iter::once("v1").chain(parts.iter().copied()).map(str::to_owned).collect()
}

fn id_of(what: &str) -> Value {
    json!({ "type": "string", "description": format!("The id of the {what}") })
}

fn limit() -> Value {
    json!({ "type": "integer", "minimum": 1, "maximum": MOST_ITEMS, "description": "At most this many; 20 when absent" })
}

/// Every tool, in the order in which an assistant is shown them.
const OFFERS: &[Offer] = &[
    Offer {
        name: "list_templates",
        about: "The workflow templates: their names and what they take as input",
        takes: || (json!({}), &[]),
        looks: true,
        asks: |_| Ok(Ask::Get { path: path(&["templates"]), query: Vec::new() }),
    },
    Offer {
        name: "submit_workflow",
        about: "Start a workflow from a template. The same idempotencyKey never starts two",
        takes: || {
            let properties = json!({
                "template": { "type": "string", "description": "`name`, or `name@version`" },
                "input": { "type": "object", "description": "The brief, as the template's inputSchema says" },
                "idempotencyKey": { "type": "string", "description": "Give the same one when you repeat a call" },
            });
            (properties, &["template", "input"])
        },
        looks: false,
        asks: |given| {
            Ok(Ask::Create {
                path: path(&["workflows"]),
                body: json!({ "template": given.text("template")?, "input": given.value("input") }),
                key: given.maybe("idempotencyKey")?.unwrap_or_else(new_key),
            })
        },
    },
    Offer {
        name: "list_workflows",
        about: "Workflows, newest first",
        takes: || {
            let states = ["running", "waiting", "stalled", "succeeded", "failed", "cancelled"];
            (json!({ "state": { "type": "string", "enum": states }, "limit": limit() }), &[])
        },
        looks: true,
        asks: |given| {
            let query = given.maybe("state")?.map(|state| ("state", state)).into_iter().collect();
            Ok(Ask::List { path: path(&["workflows"]), query, limit: given.limit()? })
        },
    },
    Offer {
        name: "show_workflow",
        about: "A workflow with what each agent made, its posts, cost and time",
        takes: || (json!({ "workflow": id_of("workflow") }), &["workflow"]),
        looks: true,
        asks: |given| {
            Ok(Ask::Get { path: path(&["workflows", &given.text("workflow")?]), query: Vec::new() })
        },
    },
    Offer {
        name: "watch_workflow",
        about: "Wait until a workflow is over or needs somebody, then show it",
        takes: || {
            let seconds = json!({
                "type": "integer", "minimum": 0, "maximum": LONGEST_WATCH_S,
                "description": "How long to wait at most; 30 when absent",
            });
            (json!({ "workflow": id_of("workflow"), "seconds": seconds }), &["workflow"])
        },
        looks: true,
        asks: |given| {
            let seconds = given.number("seconds", 30)?.min(LONGEST_WATCH_S);
            Ok(Ask::Watch { workflow: given.text("workflow")?, seconds })
        },
    },
    Offer {
        name: "cancel_workflow",
        about: "Cancel a workflow: nothing of it starts any more",
        takes: || (json!({ "workflow": id_of("workflow") }), &["workflow"]),
        looks: false,
        asks: |given| {
            let path = path(&["workflows", &given.text("workflow")?, "cancel"]);
            Ok(Ask::Post { path, body: json!({}) })
        },
    },
    Offer {
        name: "why",
        about: "One sentence: what a workflow, task, post, approval, schedule or agent's queue waits for, and what to do",
        takes: || {
            (
                json!({ "id": { "type": "string", "description": "Its id; for a queue the agent type" } }),
                &["id"],
            )
        },
        looks: true,
        asks: |given| Ok(Ask::Get { path: path(&["why", &given.text("id")?]), query: Vec::new() }),
    },
    Offer {
        name: "list_approvals",
        about: "Questions that wait for a person",
        takes: || (json!({ "limit": limit() }), &[]),
        looks: true,
        asks: |given| {
            let query = vec![("status", "pending".to_owned())];
            Ok(Ask::List { path: path(&["approvals"]), query, limit: given.limit()? })
        },
    },
    Offer {
        name: "show_approval",
        about: "A question with the exact text it is about and its contentHash",
        takes: || (json!({ "approval": id_of("approval") }), &["approval"]),
        looks: true,
        asks: |given| {
            Ok(Ask::Get { path: path(&["approvals", &given.text("approval")?]), query: Vec::new() })
        },
    },
    Offer {
        name: "approve",
        about: "Say yes to exactly the bytes of contentHash; refused when the text was changed since",
        takes: || {
            let properties = json!({
                "approval": id_of("approval"),
                "contentHash": { "type": "string", "description": "As show_approval showed it" },
                "note": { "type": "string" },
            });
            (properties, &["approval", "contentHash"])
        },
        looks: false,
        asks: |given| {
            let mut body = json!({ "contentHash": given.text("contentHash")? });
            if let Some(note) = given.maybe("note")? {
                body["note"] = note.into();
            }
            Ok(Ask::Post { path: path(&["approvals", &given.text("approval")?, "approve"]), body })
        },
    },
    Offer {
        name: "reject",
        about: "Say no: the post does not go out",
        takes: || (json!({ "approval": id_of("approval"), "note": { "type": "string" } }), &["approval"]),
        looks: false,
        asks: |given| {
            let body = match given.maybe("note")? {
                Some(note) => json!({ "note": note }),
                None => json!({}),
            };
            Ok(Ask::Post { path: path(&["approvals", &given.text("approval")?, "reject"]), body })
        },
    },
    Offer {
        name: "list_posts",
        about: "Posts, newest first",
        takes: || (json!({ "workflow": id_of("workflow, if only its posts"), "limit": limit() }), &[]),
        looks: true,
        asks: |given| {
            let query = given.maybe("workflow")?.map(|workflow| ("workflow", workflow)).into_iter().collect();
            Ok(Ask::List { path: path(&["posts"]), query, limit: given.limit()? })
        },
    },
    Offer {
        name: "show_post",
        about: "A post's receipt: frozen text, hash, who approved it, every call, the platform's link",
        takes: || (json!({ "post": id_of("post") }), &["post"]),
        looks: true,
        asks: |given| Ok(Ask::Get { path: path(&["posts", &given.text("post")?]), query: Vec::new() }),
    },
    Offer {
        name: "show_budget",
        about: "What the workspace may spend, and what it spent",
        takes: || (json!({}), &[]),
        looks: true,
        asks: |_| Ok(Ask::Get { path: path(&["budget"]), query: Vec::new() }),
    },
];

impl Offer {
    fn tool(&self) -> Tool {
        let (properties, required) = (self.takes)();
        let mut schema = JsonObject::new();
        schema.insert("type".into(), "object".into());
        schema.insert("properties".into(), properties);
        schema.insert("required".into(), json!(required));
        schema.insert("additionalProperties".into(), false.into());
        let annotations = ToolAnnotations::new().read_only(self.looks);
        Tool::new(self.name, self.about, Arc::new(schema)).annotate(annotations)
    }
}

/// The server.
#[derive(Clone)]
pub(crate) struct Assistant {
    client: Client,
}

impl Assistant {
    /// Asks the API with this client, and its token.
    pub(crate) fn new(client: Client) -> Self {
        Self { client }
    }

    async fn ask(&self, ask: Ask) -> Result<Value, Failure> {
        match ask {
            Ask::Get { path, query } => self.client.find(&refs(&path), &query).await,
            Ask::List { path, query, limit } => {
                let listed = self.client.list(&refs(&path), &query, limit).await?;
                Ok(json!({ "items": listed.items }))
            }
            Ask::Create { path, body, key } => self.client.create(&refs(&path), &body, &key).await,
            Ask::Post { path, body } => self.client.post(&refs(&path), &body).await,
            Ask::Watch { workflow, seconds } => self.watch(&workflow, Duration::from_secs(seconds)).await,
        }
    }

    async fn watch(&self, workflow: &str, most: Duration) -> Result<Value, Failure> {
        let begun = Instant::now();
        loop {
            let shown = self.client.get(&["v1", "workflows", workflow]).await?;
            if shown["state"] != "running" || begun.elapsed() >= most {
                return Ok(shown);
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    async fn called(&self, name: &str, arguments: &Map<String, Value>) -> Result<Value, String> {
        let offer = OFFERS.iter().find(|offer| offer.name == name);
        let offer = offer.ok_or_else(|| format!("there is no tool `{name}`"))?;
        let ask = (offer.asks)(&Arguments(arguments))?;
        self.ask(ask).await.map_err(|failure| failure.line())
    }
}

fn refs(path: &[String]) -> Vec<&str> {
    path.iter().map(String::as_str).collect()
}

impl ServerHandler for Assistant {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
            .with_server_info(Implementation::new("galley", env!("CARGO_PKG_VERSION")))
            .with_instructions(INSTRUCTIONS)
    }

    async fn list_tools(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        Ok(ListToolsResult::with_all_items(OFFERS.iter().map(Offer::tool).collect()))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let arguments = request.arguments.unwrap_or_default();
        // What went wrong is for the assistant to read: it may ask again, better.
        let result = match self.called(&request.name, &arguments).await {
            Ok(answer) => CallToolResult::structured(answer),
            Err(told) => CallToolResult::error(vec![ContentBlock::text(told)]),
        };
        Ok(result.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What each tool would ask for, with everything it can take.
    fn asked(offer: &Offer) -> (&'static str, String) {
        let (properties, _) = (offer.takes)();
        let given: Map<String, Value> = properties
            .as_object()
            .unwrap()
            .iter()
            .map(|(name, schema)| {
                let value = match schema["type"].as_str() {
                    Some("integer") => json!(1),
                    Some("object") => json!({}),
                    _ => json!("running"),
                };
                (name.clone(), value)
            })
            .collect();
        let shown = |path: &[String]| format!("/{}", path.join("/").replace("running", "{id}"));
        match (offer.asks)(&Arguments(&given)).unwrap() {
            Ask::Get { path, .. } | Ask::List { path, .. } => ("get", shown(&path)),
            Ask::Create { path, .. } | Ask::Post { path, .. } => ("post", shown(&path)),
            Ask::Watch { .. } => ("get", "/v1/workflows/{id}".into()),
        }
    }

    #[test]
    fn every_tool_is_a_route_of_the_api_and_says_whether_it_only_looks() {
        let api = serde_json::to_value(galley_api::openapi()).unwrap();
        for offer in OFFERS {
            let (method, path) = asked(offer);
            let routes = api["paths"].as_object().unwrap();
            let same = |known: &str| {
                let parts =
                    |path: &str| path.split('/').map(|part| part.starts_with('{')).collect::<Vec<_>>();
                let fixed = |path: &str| {
                    path.split('/')
                        .filter(|part| !part.starts_with('{'))
                        .map(str::to_owned)
                        .collect::<Vec<_>>()
                };
                parts(known) == parts(&path) && fixed(known) == fixed(&path)
            };
            let found = routes.iter().find(|(known, _)| same(known));
            let operation = found.and_then(|(_, route)| route.get(method));
            assert!(operation.is_some(), "{}: {method} {path} is no route", offer.name);
            assert_eq!(offer.looks, method == "get", "{}", offer.name);
        }
    }

    #[test]
    fn what_is_missing_or_wrong_is_told_by_its_name() {
        let asked = |name: &str, given: Value| {
            let offer = OFFERS.iter().find(|offer| offer.name == name).unwrap();
            (offer.asks)(&Arguments(given.as_object().unwrap())).err()
        };
        assert!(asked("approve", json!({ "approval": "a" })).unwrap().contains("`contentHash` is missing"));
        assert!(asked("show_post", json!({ "post": 7 })).unwrap().contains("`post` is a text"));
        assert!(
            asked("watch_workflow", json!({ "workflow": "w", "seconds": -1 })).unwrap().contains("`seconds`")
        );
        assert!(asked("list_posts", json!({})).is_none());
    }

    /// Over a pipe, as an assistant talks: list, a call, a refusal.
    #[tokio::test]
    async fn an_assistant_lists_the_tools_and_reads_refusals() {
        use rmcp::ServiceExt as _;
        use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};

        // As `main` does.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let (ours, theirs) = tokio::io::duplex(64 * 1024);
        let client = Client::to("http://127.0.0.1:1", None, None).unwrap();
        let serving = tokio::spawn(async move {
            let served = Assistant::new(client).serve(tokio::io::split(theirs)).await.unwrap();
            served.waiting().await.unwrap();
        });
        let (read, mut write) = tokio::io::split(ours);
        let mut lines = BufReader::new(read).lines();
        let mut say = async |message: Value| {
            write.write_all(format!("{message}\n").as_bytes()).await.unwrap();
        };
        say(json!({ "jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
            "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": { "name": "test", "version": "1" },
        }}))
        .await;
        let hello: Value = serde_json::from_str(&lines.next_line().await.unwrap().unwrap()).unwrap();
        assert_eq!(hello["result"]["serverInfo"]["name"], "galley");
        say(json!({ "jsonrpc": "2.0", "method": "notifications/initialized" })).await;
        say(json!({ "jsonrpc": "2.0", "id": 2, "method": "tools/list" })).await;
        let listed: Value = serde_json::from_str(&lines.next_line().await.unwrap().unwrap()).unwrap();
        assert_eq!(listed["result"]["tools"].as_array().unwrap().len(), OFFERS.len());
        say(json!({ "jsonrpc": "2.0", "id": 3, "method": "tools/call", "params": {
            "name": "show_workflow", "arguments": { "workflow": "w" },
        }}))
        .await;
        let refused: Value = serde_json::from_str(&lines.next_line().await.unwrap().unwrap()).unwrap();
        assert_eq!(refused["result"]["isError"], true, "{refused}");
        drop((write, lines));
        serving.await.unwrap();
    }
}
