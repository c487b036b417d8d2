//! `galley account`: the workspace's connections to platforms.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use galley_api::views;
use secrecy::SecretString;
use serde_json::{Map, Value};

use super::listed_by;
use crate::cli::{self, Remote, Run, Settings};
use crate::client;
use crate::config::Flags;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::files::input;
use crate::table::{Table, cell};
use crate::{print, time};

/// Add, list, remove and try the accounts that posts go out to
///
/// A credential is read from a file or from stdin, never from the command
/// line, where other users of the machine could see it. No command shows it.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  galley account add news --platform webhook --setting url=https://example.com/hook --credential-file secret.txt
  pass show news | galley account add news --platform mastodon --setting url=https://mastodon.social
  galley account add news --platform bluesky --slot 09:30 --slot 18:00 --time-zone Europe/Lisbon
  galley account test news                                 without publishing anything
  galley account remove news")]
pub(crate) struct Account {
    #[command(subcommand)]
    command: AccountCommand,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Debug, Subcommand)]
enum AccountCommand {
    /// Add an account; its credential is read from a file or stdin
    Add(Add),
    /// List the accounts
    List,
    /// Remove an account and its credential; what is out stays known
    Remove {
        /// The account's name
        name: String,
    },
    /// Try an account without publishing anything
    Test {
        /// The account's name
        name: String,
    },
}

#[derive(Debug, Args)]
struct Add {
    /// What workflows call it: 1-48 of a-z, 0-9 and `_`
    name: String,
    /// The platform
    #[arg(long, value_name = "PLATFORM")]
    platform: String,
    /// Whose content it publishes; the platform's own when absent
    #[arg(long, value_name = "PLATFORM")]
    content_platform: Option<String>,
    /// What the platform's adapter needs to know, once for each: KEY=TEXT, or KEY:=JSON
    #[arg(long = "setting", value_name = "KEY=VALUE", value_parser = setting)]
    settings: Vec<(String, Value)>,
    /// A file with the credential; stdin when absent
    #[arg(long, value_name = "FILE")]
    credential_file: Option<PathBuf>,
    /// Its IANA time zone; the workspace's when absent
    #[arg(long, value_name = "ZONE")]
    time_zone: Option<String>,
    /// A time of day at which posts go out (09:30), once for each; any time when absent
    #[arg(long = "slot", value_name = "HH:MM")]
    slots: Vec<String>,
    /// Most posts per day
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    max_daily_posts: Option<u32>,
}

fn setting(text: &str) -> Result<(String, Value), String> {
    let told = "write KEY=TEXT, or KEY:=JSON";
    let (key, value) = text.split_once('=').ok_or(told)?;
    let (key, value) = match key.strip_suffix(':') {
        Some(key) => (key, serde_json::from_str(value).map_err(|error| format!("not JSON: {error}"))?),
        None => (key, Value::from(value)),
    };
    if key.is_empty() { Err(told.into()) } else { Ok((key.to_owned(), value)) }
}

impl Run for Account {
    fn flags(&self) -> Flags {
        self.remote.flags()
    }

    async fn run(self, settings: Settings) -> Result<(), Failure> {
        let client = Remote::client(&settings)?;
        let json = self.remote.json;
        let known = listed_by("galley account list");
        match self.command {
            AccountCommand::Add(add) => {
                let body = add.request()?;
                let answer = client.create(&["v1", "accounts"], &body, &cli::new_key()).await?;
                let name = &body.name;
                cli::done(
                    json,
                    &answer,
                    &format!("account {name} is there; `galley account test {name}` tries it"),
                )
            }
            AccountCommand::List => {
                let listed = client.list_all(&["v1", "accounts"]).await?;
                if json {
                    return print::json(&listed);
                }
                list(&listed.items()?)
            }
            AccountCommand::Remove { name } => {
                let path = ["v1", "accounts", &name];
                let answer = client.delete(&path).await.map_err(known)?;
                let told = "its posts that are not out become dead letters when their time comes";
                cli::done(json, &answer, &format!("account {name} and its credential are removed; {told}"))
            }
            AccountCommand::Test { name } => {
                let path = ["v1", "accounts", &name, "test"];
                let answer = client.post(&path, &serde_json::json!({})).await.map_err(known)?;
                let tried: views::AccountTest = client::read(&answer)?;
                if json {
                    print::json(&answer)?;
                }
                if !tried.ok {
                    return Err(Failure::new(Exit::Refused, format!("account {name} cannot be used"))
                        .detail(tried.told)
                        .hint("remove it and add it again with what it needs"));
                }
                if json { Ok(()) } else { print::data(&format!("{}\n", tried.told)) }
            }
        }
    }
}

impl Add {
    fn request(self) -> Result<views::AddAccount, Failure> {
        let credential = credential(self.credential_file.as_deref())?;
        let mut settings = Map::new();
        for (key, value) in self.settings {
            if settings.insert(key.clone(), value).is_some() {
                return Err(Failure::usage(format!("the setting `{key}` is given twice")));
            }
        }
        Ok(views::AddAccount {
            name: self.name,
            platform: self.platform,
            content_platform: self.content_platform,
            settings,
            credential,
            time_zone: self.time_zone,
            slots: self.slots,
            max_daily_posts: self.max_daily_posts,
        })
    }
}

/// The credential, without the line break that editors and `echo` put behind
/// it.
fn credential(file: Option<&Path>) -> Result<SecretString, Failure> {
    let stdin = Path::new("-");
    let file = file.unwrap_or(stdin);
    if file == stdin && std::io::stdin().is_terminal() {
        print::say(
            "type the credential, then Enter and Ctrl-D (it shows as you type; a pipe or --credential-file does not)",
        );
    }
    let text = input(file)?;
    let text = text.trim_end_matches(['\r', '\n']);
    if text.is_empty() {
        return Err(Failure::usage("the credential is empty")
            .hint("give --credential-file FILE, or pipe it: `pass show news | galley account add …`"));
    }
    Ok(text.to_owned().into())
}

fn list(accounts: &[views::Account]) -> Result<(), Failure> {
    if accounts.is_empty() {
        print::say("no accounts; `galley account add NAME --platform PLATFORM` adds one");
        return Ok(());
    }
    let mut table = Table::new(&[
        "NAME",
        "PLATFORM",
        "CONTENT",
        "SLOTS",
        "TIME ZONE",
        ">PER DAY",
        "ADDED",
        "~BY",
        "~SETTINGS",
    ]);
    for account in accounts {
        let settings = account.settings.as_object().into_iter().flatten();
        let settings: Vec<_> = settings
            .map(|(key, value)| match value {
                Value::String(text) => format!("{key}={text}"),
                other => format!("{key}:={other}"),
            })
            .collect();
        table.row(vec![
            cell(&account.name),
            cell(&account.platform),
            cell(&account.content_platform),
            cell(if account.slots.is_empty() { "any time".into() } else { account.slots.join(" ") }),
            cell(account.time_zone.as_deref().unwrap_or("the workspace's")),
            cell(account.max_daily_posts.map_or("no limit".into(), |limit| limit.to_string())),
            cell(time::ago(&account.created_at)),
            cell(&account.created_by),
            cell(settings.join(" ")),
        ]);
    }
    print::data(&table.render(print::data_width()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::setting;

    #[test]
    fn a_setting_is_text_unless_it_says_otherwise() {
        assert_eq!(setting("url=https://a/?b=c"), Ok(("url".into(), json!("https://a/?b=c"))));
        assert_eq!(setting("chat=-100"), Ok(("chat".into(), json!("-100"))));
        assert_eq!(setting("wait:=5"), Ok(("wait".into(), json!(5))));
        for bad in ["url", "=x", ":=5", "wait:=five"] {
            assert!(setting(bad).is_err(), "{bad}");
        }
    }
}
