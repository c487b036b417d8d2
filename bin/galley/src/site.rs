//! The preview network of `galley dev`: started beside the rest, with two
//! accounts that the demo workspace publishes to, and a column that shows what
//! waits in Galley.

use async_trait::async_trait;
use galley_core::ids::WorkspaceId;
use galley_core::publish::{PostContent, PostState};
use galley_engine::store::{ApprovalFilter, PostFilter};
use galley_engine::{Engine, EngineError, NewAccount};
use galley_preview::{PreviewNetwork, PreviewOptions, SeedAccount, WaitingPost, WaitingSource};
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;
use tokio::net::TcpListener;

use crate::failure::Failure;
use crate::home::Home;

/// The demo's accounts: name, handle, shown name, whose content, endpoint.
const ACCOUNTS: [(&str, &str, &str, &str, &str); 2] = [
    ("lantern_mastodon", "lantern.street", "Lantern Street", "mastodon", "idempotent"),
    ("lantern_x", "lantern_club", "Lantern Street Coffee Club", "x", "verifiable"),
];

/// Most posts shown as waiting.
const SHOWN: i64 = 50;

/// Starts the network on a listener.
///
/// # Errors
/// Its data file cannot be read.
pub(crate) fn start(
    listener: TcpListener,
    home: &Home,
    engine: &Engine,
    workspace: WorkspaceId,
    token: &SecretString,
) -> Result<PreviewNetwork, Failure> {
    let accounts = ACCOUNTS.map(|(_, handle, name, _, _)| SeedAccount {
        handle: handle.into(),
        display_name: name.into(),
        token: token_of(token, handle),
    });
    let options = PreviewOptions {
        data_file: Some(home.join("preview.jsonl")),
        galley: Some(std::sync::Arc::new(Waiting { engine: engine.clone(), workspace })),
        accounts: accounts.into(),
    };
    PreviewNetwork::start(listener, options)
        .map_err(|error| Failure::unexpected("the preview network cannot start").detail(error))
}

/// Connects the demo workspace to the network: adds the accounts, or adds them
/// again when the network's address changed.
///
/// # Errors
/// PostgreSQL is away.
pub(crate) async fn connect(
    engine: &Engine,
    workspace: WorkspaceId,
    url: &str,
    token: &SecretString,
) -> Result<(), Failure> {
    for (name, handle, _, content_platform, endpoint) in ACCOUNTS {
        let settings = json!({ "url": url, "endpoint": endpoint });
        match engine.account(workspace, name).await {
            Ok(account)
                if serde_json::from_str::<serde_json::Value>(&account.settings).ok()
                    == Some(settings.clone()) =>
            {
                continue;
            }
            Ok(_) => engine.remove_account(workspace, name, "galley dev").await?,
            Err(EngineError::NotFound { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        let new = NewAccount {
            name: name.into(),
            platform: "preview".into(),
            content_platform: Some(content_platform.into()),
            settings,
            credential: token_of(token, handle).into(),
            time_zone: None,
            slots: Vec::new(),
            max_daily_posts: None,
        };
        engine.add_account(workspace, new, "galley dev").await?;
    }
    Ok(())
}

fn token_of(token: &SecretString, handle: &str) -> String {
    format!("{handle}-{}", token.expose_secret())
}

/// What is not out yet, as the network's page shows it.
struct Waiting {
    engine: Engine,
    workspace: WorkspaceId,
}

#[async_trait]
impl WaitingSource for Waiting {
    async fn waiting(&self) -> Vec<WaitingPost> {
        // A page that shows nothing for a moment is better than none.
        self.read().await.unwrap_or_default()
    }
}

impl Waiting {
    async fn read(&self) -> Result<Vec<WaitingPost>, EngineError> {
        let store = self.engine.store();
        let pending = ApprovalFilter { status: Some("pending".into()), ..ApprovalFilter::default() };
        let questions = store.list_approvals(self.workspace, &pending, None, SHOWN).await?;
        let mut waiting = Vec::new();
        for state in [
            PostState::WaitingApproval,
            PostState::Scheduled,
            PostState::Publishing,
            PostState::Unknown,
            PostState::InDoubt,
        ] {
            let filter = PostFilter { state: Some(state.word().into()), ..PostFilter::default() };
            for post in store.list_posts(self.workspace, &filter, None, SHOWN).await? {
                // What it waited for before is past: nothing is known of it yet.
                let reason = match state {
                    PostState::Publishing => "on its way out".into(),
                    PostState::Unknown => {
                        "the platform's answer was lost; Galley finds out whether it is out".into()
                    }
                    _ => post.reason.unwrap_or_default(),
                };
                let question = questions.iter().find(|asked| asked.post.is_some_and(|(id, _)| id == post.id));
                let command = match (state, question) {
                    (PostState::InDoubt, _) => Some(format!("galley post show {}", post.id)),
                    (_, question) => question.map(|asked| format!("galley approval approve {}", asked.id)),
                };
                let content: Option<PostContent> = serde_json::from_str(&post.content).ok();
                waiting.push(WaitingPost {
                    account: handle(&post.account_name).to_owned(),
                    text: content.map(|content| content.text).unwrap_or_default(),
                    state: state.word().into(),
                    slot: post.slot_at,
                    reason,
                    command,
                });
            }
        }
        Ok(waiting)
    }
}

fn handle(account: &str) -> &str {
    ACCOUNTS.iter().find(|(name, ..)| *name == account).map_or(account, |(_, handle, ..)| handle)
}
