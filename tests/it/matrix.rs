//! Role × endpoint × own and other workspace, over the real router and a real
//! database: who may do what, and that nobody reaches into another workspace.
//!
//! The routes come from the API's description: one that is not in the table
//! below fails the test.

use std::collections::BTreeMap;

use galley_api::views::Role::{self, Admin, Approver, Auditor, Operator, Producer};
use galley_core::ids::WorkspaceId;
use galley_core::report::StepError;
use serde_json::{Value, json};

use crate::harness::posts::writer;
use crate::harness::{Api, Bed, Network, Setup, retry, until};

/// What a route takes.
struct Route {
    roles: &'static [Role],
    /// Whether it reaches beyond the caller's workspace: then a token of the
    /// deployment.
    wide: bool,
    /// A body that would do it.
    body: fn(&World) -> Value,
}

const ANY: &[Role] = &Role::ALL;
const SUBMIT: &[Role] = &[Producer, Operator, Admin];
const EDIT: &[Role] = &[Producer, Approver, Admin];
const APPROVE: &[Role] = &[Approver, Admin];
const REPAIR: &[Role] = &[Operator, Admin];
const AUDIT: &[Role] = &[Auditor, Admin];
const ADMIN: &[Role] = &[Admin];

/// Every route, by its operation id; `None`: without a token.
fn table() -> BTreeMap<&'static str, Option<Route>> {
    let route = |roles, body| Some(Route { roles, wide: false, body });
    let wide = |roles, body| Some(Route { roles, wide: true, body });
    let none: fn(&World) -> Value = |_| Value::Null;
    BTreeMap::from([
        ("health", None),
        ("ready", None),
        ("listWorkflows", route(ANY, none)),
        ("showWorkflow", route(ANY, none)),
        ("watchWorkflow", route(ANY, none)),
        ("listMessages", route(ANY, none)),
        ("followMessages", route(ANY, none)),
        ("showContext", route(ANY, none)),
        ("showCommunication", route(ANY, none)),
        ("listTemplates", route(ANY, none)),
        ("showTemplate", route(ANY, none)),
        ("listTasks", route(ANY, none)),
        ("showTask", route(ANY, none)),
        ("listPosts", route(ANY, none)),
        ("showPost", route(ANY, none)),
        ("listApprovals", route(ANY, none)),
        ("showApproval", route(ANY, none)),
        ("getAutomation", route(ANY, none)),
        ("getBudget", route(ANY, none)),
        ("listSpend", route(ANY, none)),
        ("listAccounts", route(ANY, none)),
        ("listSchedules", route(ANY, none)),
        ("showSchedule", route(ANY, none)),
        ("listAgents", route(ANY, none)),
        ("showAgent", route(ANY, none)),
        ("listQueues", route(ANY, none)),
        ("listWorkers", route(ANY, none)),
        ("listDeadLetters", route(ANY, none)),
        ("groupDeadLetters", route(ANY, none)),
        ("showDeadLetter", route(ANY, none)),
        ("listWorkspaces", route(ANY, none)),
        ("why", route(ANY, none)),
        ("submitWorkflow", route(SUBMIT, |world| json!({ "template": world.template, "input": {} }))),
        ("cancelWorkflow", route(SUBMIT, none)),
        ("storeTemplate", route(SUBMIT, |world| definition(&format!("{}_more", world.word)))),
        ("addSchedule", route(SUBMIT, |world| schedule(world, &format!("{}_more", world.word)))),
        (
            "setSchedule",
            route(SUBMIT, |world| {
                let mut set = schedule(world, "");
                set.as_object_mut().unwrap().remove("name");
                set
            }),
        ),
        ("removeSchedule", route(SUBMIT, none)),
        ("pauseSchedule", route(SUBMIT, none)),
        ("resumeSchedule", route(SUBMIT, none)),
        ("runSchedule", route(SUBMIT, none)),
        ("editPost", route(EDIT, |world| json!({ "text": format!("{} again", world.word) }))),
        ("reschedulePost", route(EDIT, |_| json!({ "at": null }))),
        ("rejectPost", route(APPROVE, none)),
        ("approve", route(APPROVE, none)),
        ("reject", route(APPROVE, none)),
        ("editAndApprove", route(APPROVE, |world| json!({ "text": format!("{} anew", world.word) }))),
        (
            "resolvePost",
            route(&[Approver, Operator, Admin], |_| json!({ "resolution": "given_up", "sends": 1 })),
        ),
        ("retryDeadLetter", route(REPAIR, none)),
        ("discardDeadLetter", route(REPAIR, none)),
        ("retryDeadLetters", route(REPAIR, |world| json!({ "workflow": world.broken }))),
        ("discardDeadLetters", route(REPAIR, |world| json!({ "workflow": world.broken }))),
        ("addAccount", route(REPAIR, |world| account(&format!("{}_more", world.word)))),
        ("removeAccount", route(REPAIR, none)),
        ("testAccount", route(REPAIR, none)),
        ("pauseQueue", wide(REPAIR, none)),
        ("resumeQueue", wide(REPAIR, none)),
        ("limitQueue", wide(REPAIR, |_| json!({ "maxRunning": 100 }))),
        ("listAudit", route(AUDIT, none)),
        ("exportAudit", route(AUDIT, none)),
        ("getAuditCheckpoint", route(AUDIT, none)),
        ("listKeys", route(AUDIT, none)),
        (
            "setAutomation",
            route(ADMIN, |_| {
                json!({
                    "mode": "assisted", "enabledAgents": null, "scheduleAutomation": false,
                    "contentApprovalRequired": true, "maxDailyPosts": null, "allowedPlatforms": null,
                })
            }),
        ),
        (
            "setBudget",
            route(ADMIN, |_| json!({ "dayMicros": null, "monthMicros": null, "workflowMicros": null })),
        ),
        ("listProviders", route(ANY, none)),
        ("setProvider", route(ADMIN, |_| json!({ "model": "another" }))),
        ("removeProvider", route(ADMIN, none)),
        ("listPrompts", route(ANY, none)),
        ("showPrompt", route(ANY, none)),
        ("setPrompt", route(ADMIN, |_| json!({ "system": "Another.", "user": "Plan." }))),
        ("removePrompt", route(ADMIN, none)),
        ("previewPrompt", route(ANY, none)),
        ("setWorkflowBudget", route(ADMIN, |_| json!({ "limitMicros": null }))),
        ("createKey", route(ADMIN, |world| key(world.id))),
        ("revokeKey", route(ADMIN, none)),
        (
            "issueToken",
            route(ADMIN, |world| {
                json!({
                    "workspaceId": world.id, "subject": "eve", "roles": ["auditor"], "ttlSeconds": 60,
                })
            }),
        ),
        ("revokeTokens", route(ADMIN, |world| json!({ "workspaceId": world.id, "id": "none" }))),
        ("createWorkspace", wide(ADMIN, |_| json!({ "name": "third" }))),
    ])
}

fn definition(name: &str) -> Value {
    json!({ "name": name, "steps": [{ "name": "write", "agent": "writer" }] })
}

fn account(name: &str) -> Value {
    json!({ "name": name, "platform": "network", "settings": { "kind": "idempotent" }, "credential": "secret" })
}

fn schedule(world: &World, name: &str) -> Value {
    json!({ "name": name, "cron": "0 9 * * *", "submit": { "template": world.template, "input": {} } })
}

fn key(workspace: WorkspaceId) -> Value {
    json!({ "workspaceId": workspace, "name": "ci", "roles": ["producer"], "ttlSeconds": 3_600 })
}

/// A workspace with one of everything; all its names hold its word.
struct World {
    word: &'static str,
    id: WorkspaceId,
    template: String,
    /// A workflow whose post waits for an approval.
    workflow: String,
    post: String,
    approval: String,
    /// A workflow with a dead letter.
    broken: String,
    key: String,
}

impl World {
    async fn make(api: &Api, id: WorkspaceId, word: &'static str) -> Self {
        let token = api.token(id, &[Admin], false);
        let ask = async |method: &str, path: &str, body: Value| {
            let answer = api.ask(method, path, Some(&token), Some(&body)).await;
            assert!(answer.status < 300, "{method} {path}: {answer:?}");
            answer.body
        };
        let template = format!("{word}_template");
        ask("POST", "/v1/templates", definition(&template)).await;
        ask("POST", "/v1/accounts", account(&format!("{word}_account"))).await;
        ask("PUT", "/v1/providers/openai", json!({ "model": format!("{word}_model") })).await;
        let prompt = json!({ "system": format!("{word}_prompt"), "user": "{{ brief }}" });
        ask("PUT", "/v1/prompts/strategy", prompt).await;
        let mut world = Self {
            word,
            id,
            template,
            workflow: String::new(),
            post: String::new(),
            approval: String::new(),
            broken: String::new(),
            key: String::new(),
        };
        ask("POST", "/v1/schedules", schedule(&world, &format!("{word}_schedule"))).await;
        let made = ask("POST", "/v1/keys", key(id)).await;
        world.key = made["key"]["prefix"].as_str().unwrap().to_owned();
        let steps = json!([
            { "name": "write", "agent": "writer" },
            { "name": "publish", "agent": "publisher", "input": { "account": format!("{word}_account") } },
        ]);
        let submit =
            json!({ "definition": { "name": "publish", "steps": steps }, "input": { "text": word } });
        let made = ask("POST", "/v1/workflows", submit).await;
        world.workflow = made["workflowId"].as_str().unwrap().to_owned();
        let steps = json!([{ "name": "break", "agent": "broken" }]);
        let submit = json!({ "definition": { "name": "broken", "steps": steps }, "input": { "text": word } });
        let made = ask("POST", "/v1/workflows", submit).await;
        world.broken = made["workflowId"].as_str().unwrap().to_owned();
        until("somebody is asked, and a step is dead", async || {
            let asked = api.ask("GET", "/v1/approvals", Some(&token), None).await.body;
            let dead = api.ask("GET", "/v1/dead-letters", Some(&token), None).await.body;
            world.approval = asked["items"][0]["id"].as_str().unwrap_or_default().to_owned();
            world.post = asked["items"][0]["postId"].as_str().unwrap_or_default().to_owned();
            !world.approval.is_empty() && dead["items"].as_array().is_some_and(|dead| dead.len() == 1)
        })
        .await;
        world
    }

    /// What an answer about this workspace would hold.
    fn names(&self) -> impl Iterator<Item = String> {
        let ids = [&self.workflow, &self.post, &self.approval, &self.broken, &self.key].map(String::clone);
        let named = ["template", "account", "schedule", "model", "prompt"]
            .map(|kind| format!("{}_{kind}", self.word));
        ids.into_iter().chain(named).chain([self.id.to_string()])
    }

    /// A route's path, about this workspace's things.
    fn path(&self, template: &str) -> String {
        let Some((before, rest)) = template.split_once('{') else { return template.to_owned() };
        let (_, after) = rest.split_once('}').unwrap();
        let resource = before.split('/').nth(2).unwrap();
        let id = match resource {
            "workflows" | "why" => self.workflow.clone(),
            "tasks" => format!("{}.write", self.workflow),
            "dead-letters" => format!("{}.break", self.broken),
            "posts" => self.post.clone(),
            "approvals" => self.approval.clone(),
            "templates" => self.template.clone(),
            "accounts" | "schedules" => format!("{}_{}", self.word, resource.trim_end_matches('s')),
            "keys" => self.key.clone(),
            "queues" | "agents" => "writer".into(),
            // Both have one of that name.
            "providers" => "openai".into(),
            "prompts" => "strategy".into(),
            other => panic!("whose is a {other}? give it a line here"),
        };
        format!("{before}{id}{after}")
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_role_at_every_route_of_both_workspaces() {
    let network = Network::new();
    let mut bed = Bed::with(Setup { network: Some(network), ..Setup::default() }).await;
    let broken = writer().with("broken", retry(1), |_| async { Err(StepError::permanent("no", "never")) });
    bed.serve(&broken.with_strategist()).await;
    let api = Api::of(&bed, Admin).await;
    let other = bed.engine.create_workspace("zzother", 1, "test").await.unwrap().id;
    let (mine, theirs) =
        (World::make(&api, bed.workspace, "mine").await, World::make(&api, other, "zzother").await);

    let described = serde_json::to_value(galley_api::openapi()).unwrap();
    let mut table = table();
    let mut routes = Vec::new();
    for (path, item) in described["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let id = operation["operationId"].as_str().unwrap();
            let route = table.remove(id).unwrap_or_else(|| panic!("{id} ({method} {path}) has no entry"));
            routes.push((id.to_owned(), method.to_uppercase(), path.clone(), route));
        }
    }
    assert!(table.is_empty(), "entries of routes that are not there: {:?}", table.keys());
    // What removes or ends things comes behind what looks at them.
    let ends = |id: &str| {
        ["remove", "revoke", "reject", "cancel", "discard"].iter().any(|word| id.starts_with(word))
    };
    routes.sort_by_key(|(id, method, ..)| (ends(id), method != "GET"));

    let mut cells = 0;
    let mut wrong = Vec::new();
    for (id, method, path, route) in &routes {
        let Some(Route { roles, wide, body }) = route else {
            let answer = api.ask(method, path, None, None).await;
            assert_eq!(answer.status, 200, "{id}");
            continue;
        };
        let mut cell = async |token: Option<&str>, world: &World, fits: &dyn Fn(u16) -> bool, who: &str| {
            let body = body(world);
            let body = (!body.is_null()).then_some(&body);
            let answer = api.ask(method, &world.path(path), token, body).await;
            cells += 1;
            let told = answer.text.replace(&world.path(path), "");
            let leaks = world.word == theirs.word
                && answer.status < 300
                && theirs.names().any(|name| told.contains(&name));
            if !fits(answer.status) || leaks || answer.status >= 500 {
                wrong.push(format!("{who} {id} in {}: {} {told}", world.word, answer.status));
            }
        };
        // Queues and agent types are the fleet's; providers and prompts are named
        // alike in every workspace.
        let fleets = ["/v1/queues", "/v1/agents", "/v1/providers", "/v1/prompts"];
        let alike = fleets.iter().any(|start| path.starts_with(start));
        let hidden = path.contains('{') && !alike || body(&theirs).get("workspaceId").is_some();
        cell(None, &mine, &|status| status == 401, "nobody").await;
        for role in Role::ALL {
            let token = api.token(mine.id, &[role], false);
            let wide_token = api.token(mine.id, &[role], true);
            let may = roles.contains(&role);
            // Theirs first: whatever is done to it would show below.
            let foreign = |status: u16| match (may && !wide, hidden) {
                (false, _) => status == 403,
                (true, true) => status == 404,
                // Lists, and what is made in the caller's own workspace.
                (true, false) => status != 401 && status != 403,
            };
            cell(Some(&token), &theirs, &foreign, &format!("{role}")).await;
            let own = |status: u16| if may && !wide { status != 401 && status != 403 } else { status == 403 };
            cell(Some(&token), &mine, &own, &format!("{role}")).await;
            let own = |status: u16| (status == 403) != may && status != 401;
            cell(Some(&wide_token), &mine, &own, &format!("the deployment's {role}")).await;
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
    assert!(cells > 900, "{cells} cells");

    // The ids that were 404 are there, and nothing happened to them.
    let token = api.token(theirs.id, &[Admin], false);
    for (id, method, path, route) in &routes {
        if method == "GET" && path.contains('{') && route.is_some() {
            let answer = api.ask(method, &theirs.path(path), Some(&token), None).await;
            assert_eq!(answer.status, 200, "{id}: {answer:?}");
        }
    }
    for (path, field, expected) in [
        (format!("/v1/posts/{}", theirs.post), "state", "waiting_approval"),
        (format!("/v1/approvals/{}", theirs.approval), "status", "pending"),
        (format!("/v1/workflows/{}", theirs.workflow), "state", "waiting"),
        (format!("/v1/schedules/{}_schedule", theirs.word), "state", "off"),
    ] {
        let answer = api.ask("GET", &path, Some(&token), None).await;
        assert_eq!(answer.body[field], expected, "{path}: {answer:?}");
    }
    let keys = api.ask("GET", "/v1/keys", Some(&token), None).await.body;
    assert!(keys["items"].as_array().unwrap().iter().all(|key| key["revokedAt"].is_null()), "{keys}");
    let accounts = api.ask("GET", "/v1/accounts", Some(&token), None).await.body;
    assert_eq!(accounts["items"].as_array().unwrap().len(), 1, "{accounts}");
    // A workspace's token sees its own workspace, the deployment's all.
    for (token, expected) in [(token, 1), (api.token(theirs.id, &[Auditor], true), 2)] {
        let seen = api.ask("GET", "/v1/workspaces", Some(&token), None).await.body;
        assert!(seen["items"].as_array().unwrap().len() >= expected, "{seen}");
        assert_eq!(seen["items"].as_array().unwrap().len() == 1, expected == 1, "{seen}");
    }
    ways_in_end(&api, &theirs, mine.id).await;
    a_full_workspace_takes_no_more(&bed, &theirs).await;
    let denied = bed.count("SELECT count(*) FROM audit WHERE action = 'denied' AND actor = 'ada'").await;
    // Hundreds were refused, and a minute's worth is written down.
    assert!((1..=200).contains(&denied), "{denied} denials");
    bed.end().await;
}

/// What is unfinished has a cap: beyond it nothing is accepted, and with room
/// again it is.
async fn a_full_workspace_takes_no_more(bed: &Bed, world: &World) {
    let unfinished =
        bed.count(&format!("SELECT count(*) FROM runs WHERE workspace_id = '{}'", world.id.0)).await;
    assert!(unfinished > 0, "one waits for a person");
    let api = Api::capped(bed, Admin, u32::try_from(unfinished).unwrap()).await;
    let admin = api.token(world.id, &[Admin], false);
    let body = json!({ "template": world.template, "input": {} });
    let submit = async || api.ask("POST", "/v1/workflows", Some(&admin), Some(&body)).await;
    let full = submit().await;
    assert_eq!(
        (full.status, &full.body["type"]),
        (429, &json!("urn:galley:problem:backlog-full")),
        "{full:?}"
    );
    let cancel = format!("/v1/workflows/{}/cancel", world.workflow);
    assert_eq!(api.ask("POST", &cancel, Some(&admin), None).await.status, 200);
    until("there is room again", async || submit().await.status == 202).await;
}

/// Keys and tokens on the real store: they open their workspace until they are
/// ended, and nobody else ends them.
async fn ways_in_end(api: &Api, world: &World, foreign: WorkspaceId) {
    let admin = api.token(world.id, &[Admin], false);
    let status = async |token: &str| api.ask("GET", "/v1/workflows", Some(token), None).await.status;
    let made = api.ask("POST", "/v1/keys", Some(&admin), Some(&key(world.id))).await.body;
    let (secret, prefix) = (made["secret"].as_str().unwrap(), made["key"]["prefix"].as_str().unwrap());
    assert_eq!(status(secret).await, 200);
    let seen = api.ask("GET", "/v1/workflows", Some(secret), None).await;
    assert!(seen.text.contains(&world.workflow), "{seen:?}");
    assert_eq!(api.ask("GET", "/v1/audit", Some(secret), None).await.status, 403);
    until("its use is written down", async || {
        let listed = api.ask("GET", "/v1/keys", Some(&admin), None).await.body;
        let keys = listed["items"].as_array().unwrap();
        keys.iter().any(|key| key["prefix"] == prefix && key["lastUsedAt"].is_string())
    })
    .await;
    let path = format!("/v1/keys/{prefix}");
    let stranger = api.token(foreign, &[Admin], true);
    assert_eq!(api.ask("DELETE", &path, Some(&stranger), None).await.status, 404);
    assert_eq!(status(secret).await, 200);
    assert_eq!(api.ask("DELETE", &path, Some(&admin), None).await.status, 200);
    assert_eq!(status(secret).await, 401);

    // A subject of the same name elsewhere is somebody else.
    let (left, namesake) =
        (api.token_of("eve", world.id, &[Producer], false), api.token_of("eve", foreign, &[Producer], false));
    let ends = api.issue("bob", world.id);
    assert_eq!((status(&left).await, status(&namesake).await, status(&ends.token).await), (200, 200, 200));
    for body in [json!({ "subject": "eve" }), json!({ "id": ends.id })] {
        let answer = api.ask("POST", "/v1/tokens/revoke", Some(&admin), Some(&body)).await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    assert_eq!((status(&left).await, status(&namesake).await, status(&ends.token).await), (401, 200, 401));
    assert_eq!(status(&api.issue("bob", world.id).token).await, 200);
    assert_eq!(status(&admin).await, 200);
}
