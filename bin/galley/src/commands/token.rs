//! `galley token`: what opens a workspace.

use std::time::Duration;

use clap::{Args, Subcommand};
use galley_api::views::{IssueToken, IssuedToken, RevokeTokens, RevokedTokens, Role, Workspace};
use galley_api::{NewToken, NewWorkerToken, REVOKED_WITHIN, TokenError};
use galley_core::ids::{AgentType, WorkspaceId};
use galley_engine::store::{self, AuditWrite, Hashes, MOST_REVOKED};

use crate::cli::{self, Remote, Run, Settings};
use crate::client;
use crate::config::Flags;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::{deployment, print, time};

/// Issue tokens, and end them early
#[derive(Debug, Args)]
#[command(
    after_help = "Roles: producer (submits), approver, operator (queues, dead letters), auditor (audit log), admin (everything)

Examples:
  galley token issue --role producer --subject ci
  galley token issue --workspace acme --role operator --role auditor --ttl 30d
  galley token issue --worker --agents summarise,translate --subject python
                                     for a worker in any language: see docs/workers.md
  galley token issue --workspace acme --role admin --deployment --direct
                                     the first one of a deployment: needs GALLEY_JWT_SECRET and DATABASE_URL, no token
  galley token revoke --id 0f3c…     one token, by the id that was shown when it was issued
  galley token revoke --subject ada  all that ada was issued until now
  galley token revoke --workspace acme --subject ada --direct
                                     on the database (DATABASE_URL), when no API answers or no token is left"
)]
pub(crate) struct Token {
    #[command(subcommand)]
    command: TokenCommand,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Debug, Subcommand)]
enum TokenCommand {
    /// Issue a token; prints it, once
    Issue(Issue),
    /// End tokens early: one by its id, or all of a subject
    Revoke(Revoke),
}

#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("what").required(true).args(["id", "subject"])))]
struct Revoke {
    /// A token, by its id
    #[arg(long, value_name = "ID")]
    id: Option<String>,
    /// All tokens that somebody was issued until now
    #[arg(long, value_name = "NAME")]
    subject: Option<String>,
    /// The workspace they open, by name or id; your own token's when absent
    #[arg(long, value_name = "WORKSPACE", required_if_eq("direct", "true"))]
    workspace: Option<String>,
    /// Work on the database (DATABASE_URL) instead of through the API
    #[arg(long)]
    direct: bool,
}

#[derive(Debug, Args)]
struct Issue {
    /// The workspace it opens, by name or id; your own token's when absent
    #[arg(long, value_name = "WORKSPACE", required_if_eq("direct", "true"))]
    workspace: Option<String>,
    /// What it allows; may be repeated
    #[arg(long = "role", value_name = "ROLE", required_unless_present = "worker")]
    roles: Vec<Role>,
    /// For a worker that speaks to the gateway (`galley gateway`), not for the API
    #[arg(long, requires = "agents", conflicts_with_all = ["roles", "deployment"])]
    worker: bool,
    /// The agent types such a worker may serve, separated by commas
    #[arg(long, value_name = "A,B", value_delimiter = ',', requires = "worker")]
    agents: Vec<AgentType>,
    /// Whom it names in the audit log; your login name when absent
    #[arg(long, value_name = "NAME")]
    subject: Option<String>,
    /// How long it holds: 90s, 15m, 12h or 30d
    #[arg(long, value_name = "TIME", default_value = "30d", value_parser = lifetime)]
    ttl: Duration,
    /// For the whole deployment: makes and lists workspaces, issues tokens for
    /// others, controls queues
    #[arg(long)]
    deployment: bool,
    /// Sign it here (GALLEY_JWT_SECRET) instead of asking the API
    #[arg(long)]
    direct: bool,
}

pub(super) fn lifetime(text: &str) -> Result<Duration, String> {
    let told = || "write a number and s, m, h or d, such as 12h".to_owned();
    let unit = text.chars().last().ok_or_else(told)?;
    let seconds: u64 = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        _ => return Err(told()),
    };
    let count: u64 = text[..text.len() - unit.len_utf8()].parse().map_err(|_| told())?;
    count.checked_mul(seconds).map(Duration::from_secs).ok_or_else(told)
}

impl Run for Token {
    fn flags(&self) -> Flags {
        self.remote.flags()
    }

    async fn run(self, settings: Settings) -> Result<(), Failure> {
        let mut issue = match self.command {
            TokenCommand::Issue(issue) => issue,
            TokenCommand::Revoke(revoke) => {
                let told = match (&revoke.id, &revoke.subject) {
                    (Some(id), _) => format!("token {id} is revoked"),
                    (None, subject) => {
                        let subject = subject.as_deref().unwrap_or_default();
                        format!(
                            "all tokens that {subject} was issued until now are revoked; its keys are not"
                        )
                    }
                };
                let answer = if revoke.direct {
                    revoke.write(&settings).await?
                } else {
                    revoke.ask(&settings).await?
                };
                return cli::done(self.remote.json, &answer, &told);
            }
        };
        issue.roles.sort_unstable();
        issue.roles.dedup();
        let subject = issue.subject.clone().unwrap_or_else(login);
        let answer = if issue.direct {
            issue.sign(subject, &settings).await?
        } else {
            issue.ask(subject, &settings).await?
        };
        if self.remote.json {
            return print::json(&answer);
        }
        let issued: IssuedToken = client::read(&answer)?;
        print::data(&format!("{}\n", issued.token))?;
        print::say(&format!(
            "it holds until {} ({}); it is stored nowhere; its id is {}",
            time::exact(&issued.expires_at),
            time::ago(&issued.expires_at),
            issued.id
        ));
        Ok(())
    }
}

impl Revoke {
    async fn ask(self, settings: &Settings) -> Result<serde_json::Value, Failure> {
        let client = Remote::client(settings)?;
        let workspace_id = workspace_id(&client, self.workspace).await?;
        let body = RevokeTokens { workspace_id, id: self.id, subject: self.subject };
        client.post(&["v1", "tokens", "revoke"], &body).await
    }

    async fn write(self, settings: &Settings) -> Result<serde_json::Value, Failure> {
        let store = deployment::store(&settings.config, store::Role::Login)?;
        let workspace = direct_workspace(&store, &self.workspace.unwrap_or_default()).await?;
        let (what, action, object) = match (self.id, self.subject) {
            (Some(id), _) => (store::Revoke::Token(id.clone()), "token.revoke", id),
            (None, subject) => {
                let subject = subject.unwrap_or_default();
                (store::Revoke::Subject(subject.clone()), "subject.revoke", subject)
            }
        };
        if !(1..=200).contains(&object.len()) || object.chars().any(char::is_control) {
            return Err(
                Failure::usage("nothing was revoked").detail("1-200 bytes without control characters")
            );
        }
        let actor = cli::DIRECT_ACTOR.to_owned();
        let (detail, hashes) = (None, Hashes::default());
        let line = AuditWrite { workspace, key: None, actor, action, object, detail, hashes };
        let longest = deployment::token_rules(&settings.config)?.max_lifetime;
        if !store.revoke(what.clone(), longest, line).await? {
            return Err(Failure::new(Exit::Conflict, "nothing was revoked")
                .detail(format!("the workspace has {MOST_REVOKED} of them revoked already"))
                .hint("revoke a subject instead of single tokens, or change the deployment's secret"));
        }
        let (id, subject) = match what {
            store::Revoke::Token(id) => (Some(id), None),
            store::Revoke::Subject(subject) => (None, Some(subject)),
        };
        let within_seconds = REVOKED_WITHIN.as_secs();
        cli::json_of(&RevokedTokens { workspace_id: workspace, id, subject, within_seconds })
    }
}

/// The id of a workspace, read from the database where it is given by name.
async fn direct_workspace(store: &store::Store, name: &str) -> Result<WorkspaceId, Failure> {
    match name.parse() {
        Ok(id) => Ok(id),
        Err(_) => Ok(store.workspace_named(name).await?.ok_or_else(|| unknown_workspace(name))?.id),
    }
}

impl Issue {
    async fn sign(self, subject: String, settings: &Settings) -> Result<serde_json::Value, Failure> {
        let secret = deployment::jwt_secret(&settings.config)?;
        let name = self.workspace.unwrap_or_default();
        let workspace = match name.parse::<WorkspaceId>() {
            Ok(id) => id,
            Err(_) => {
                direct_workspace(&deployment::store(&settings.config, store::Role::Login)?, &name).await?
            }
        };
        let signer = deployment::signer(&secret, &settings.config)?;
        let ttl = self.ttl;
        let issued = if self.worker {
            signer.issue_for_worker(&NewWorkerToken { workspace, subject, agents: self.agents, ttl })
        } else {
            let deployment = self.deployment;
            signer.issue(&NewToken { workspace, subject, roles: self.roles, ttl, deployment })
        };
        cli::json_of(&issued.map_err(refused)?)
    }

    async fn ask(self, subject: String, settings: &Settings) -> Result<serde_json::Value, Failure> {
        let client = Remote::client(settings)?;
        let workspace_id = workspace_id(&client, self.workspace).await?;
        let body = IssueToken {
            workspace_id,
            subject,
            roles: self.roles,
            agents: self.agents,
            ttl_seconds: self.ttl.as_secs(),
            deployment: self.deployment,
        };
        client.create(&["v1", "tokens"], &body, &cli::new_key()).await
    }
}

/// The id of a workspace that is named by its name or id.
pub(super) async fn workspace_id(
    client: &client::Client,
    named: Option<String>,
) -> Result<Option<WorkspaceId>, Failure> {
    let Some(name) = named else { return Ok(None) };
    if let Ok(id) = name.parse() {
        return Ok(Some(id));
    }
    let known: Vec<Workspace> = client.list_all(&["v1", "workspaces"]).await?.items()?;
    let found = known.into_iter().find(|known| known.name == name);
    Ok(Some(found.ok_or_else(|| unknown_workspace(&name))?.id))
}

pub(crate) fn unknown_workspace(name: &str) -> Failure {
    Failure::new(Exit::NotFound, format!("there is no workspace `{name}`"))
        .hint("`galley workspace list` shows what there is")
}

/// A token that was not signed.
pub(crate) fn refused(error: TokenError) -> Failure {
    let exit = match error {
        TokenError::WeakSecret => Exit::Usage,
        TokenError::Invalid { .. } => Exit::Refused,
        TokenError::Signing(_) => Exit::Unexpected,
    };
    Failure::new(exit, "no token was issued").detail(error)
}

fn login() -> String {
    nix::unistd::User::from_uid(nix::unistd::getuid())
        .ok()
        .flatten()
        .map_or_else(|| "galley".into(), |user| user.name)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::lifetime;

    #[test]
    fn lifetimes_have_a_unit() {
        assert_eq!(lifetime("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(lifetime("30d"), Ok(Duration::from_secs(30 * 86_400)));
        for wrong in ["", "d", "12", "1w", "1é", "99999999999999999999d"] {
            assert!(lifetime(wrong).is_err(), "{wrong}");
        }
    }
}
