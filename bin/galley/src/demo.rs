//! The first minutes with Galley: a sample campaign, run before the person's
//! eyes, and what to try next.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use galley_api::views::{self, WorkflowDetail};
use serde_json::Value;

use crate::client::{self, Client};
use crate::failure::Failure;
use crate::found::DevFile;
use crate::print::{self, style};
use crate::{cli, show};

/// The sample campaign, wherever the program runs.
const CAMPAIGN: &str = include_str!("../../../examples/launch-campaign.json");
/// Where it is in Galley's own repository.
const CAMPAIGN_PATH: &str = "examples/launch-campaign.json";
/// What makes the first campaign of a folder the first, however often a start
/// is interrupted and tried again.
const FIRST_KEY: &str = "galley-dev-first-campaign";

/// How often new publications are looked for.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Submits the campaign if nothing was submitted here yet, or if it is asked
/// for; shows it run and what came out.
///
/// # Errors
/// What the API answered.
pub(crate) async fn run(client: &Client, always: bool) -> Result<Option<WorkflowDetail>, Failure> {
    let before = client.list(&["v1", "workflows"], &[], 1).await?;
    if !before.items.is_empty() && !always {
        return Ok(None);
    }
    let key = if before.items.is_empty() { FIRST_KEY.to_owned() } else { cli::new_key() };
    let campaign: Value = serde_json::from_str(CAMPAIGN)
        .map_err(|error| Failure::unexpected("the sample campaign is not JSON").detail(error))?;
    let answer = client.create(&["v1", "workflows"], &campaign, &key).await?;
    let submitted: views::SubmittedWorkflow = client::read(&answer)?;
    print::say(&format!(
        "\n{}\nThe chain is strategy, one content step per platform, a review (what it refuses would be written anew), then a post per account.\n",
        style::STRONG.on("A sample campaign runs:")
    ));
    let detail = show::watch(client, submitted.workflow_id).await?;
    let compiled = show::compiled(&detail);
    if !compiled.is_empty() {
        print::say(&format!("\n{}\n", style::STRONG.on("What the agents made:")));
        print::data(&compiled)?;
    }
    tell_questions(client).await?;
    Ok(Some(detail))
}

/// Shows the posts that wait for a person.
async fn tell_questions(client: &Client) -> Result<(), Failure> {
    let asked = client.list(&["v1", "approvals"], &[], 20).await?;
    let asked: Vec<views::Approval> = asked.items()?;
    if asked.is_empty() {
        return Ok(());
    }
    print::say(&format!("\n{}", style::STRONG.on("What waits for your approval:")));
    for question in &asked {
        let id = question.id.to_string();
        let detail: views::ApprovalDetail = client::read(&client.get(&["v1", "approvals", &id]).await?)?;
        let text = detail.content.map(|content| content.text).unwrap_or_default();
        print::say(&format!(
            "\n  {} on {}, {} characters",
            detail.account.unwrap_or_default(),
            detail.platform.unwrap_or_default(),
            text.chars().count()
        ));
        for line in text.lines() {
            print::say(&format!("  {} {line}", style::DIM.on("│")));
        }
    }
    Ok(())
}

/// Says when a post is out, for as long as it runs.
///
/// # Errors
/// None of its own: an API that does not answer is asked again.
pub(crate) async fn tell_published(client: &Client) -> Result<(), Failure> {
    let mut known: Option<HashSet<String>> = None;
    loop {
        if let Ok(listed) = client.list(&["v1", "posts"], &[("state", "published".into())], 100).await
            && let Ok(posts) = listed.items::<views::Post>()
        {
            let now: HashSet<String> = posts.iter().map(|post| post.id.to_string()).collect();
            if let Some(before) = &known {
                for post in posts.iter().filter(|post| !before.contains(&post.id.to_string())) {
                    let id = post.id.to_string();
                    let link = match client.get(&["v1", "posts", &id]).await {
                        Ok(view) => {
                            view.pointer("/publication/link").and_then(Value::as_str).map(str::to_owned)
                        }
                        Err(_) => None,
                    };
                    let link = link.unwrap_or_else(|| format!("galley post show {id}"));
                    print::say(&format!("{} on {}: {link}", style::GOOD.on("published"), post.account));
                }
            }
            known = Some(now);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Says how many workflows of an earlier run go on.
///
/// # Errors
/// What the API answered.
pub(crate) async fn tell_unfinished(client: &Client) -> Result<(), Failure> {
    let running = client.list(&["v1", "workflows"], &[("state", "running".into())], 100).await?;
    match running.items.len() {
        0 => {}
        1 => print::say("1 unfinished workflow goes on where it was"),
        100.. => print::say("100 or more unfinished workflows go on where they were"),
        many => print::say(&format!("{many} unfinished workflows go on where they were")),
    }
    Ok(())
}

/// Says where everything is and what to try next.
///
/// # Errors
/// The example cannot be written.
pub(crate) fn tell_next(home: &Path, dev: &DevFile, shown: Option<&WorkflowDetail>) -> Result<(), Failure> {
    let galley = program();
    let example = example(home)?;
    let workflow = shown.map_or("WORKFLOW_ID".into(), |detail| detail.summary.id.to_string());
    let third = match shown {
        Some(_) => format!("{galley} workflow show {workflow}"),
        None => format!("{galley} workflow list"),
    };
    let waits = shown.is_some_and(|detail| detail.summary.state == views::WorkflowState::Waiting);
    let first = if waits {
        format!("{galley} approval approve --workflow {workflow}    lets both posts out")
    } else {
        format!("{galley} workflow submit {} --watch", example.display())
    };
    let timeline = dev.preview.as_deref().unwrap_or("off");
    let gateway = dev.gateway.as_deref().unwrap_or("off");
    let metrics = dev.metrics.as_deref().unwrap_or("off");
    let folder = home.display();
    print::say(&format!(
        "\n{running}\n\
         \x20 API      {url}  (described at {url}/openapi.json)\n\
         \x20 timeline {timeline}  (the preview network: what is out, and what waits)\n\
         \x20 gateway  {gateway}  (workers in any language: docs/workers.md)\n\
         \x20 metrics  {metrics}\n\
         \x20 log      {folder}/galley.log\n\
         \x20 token    {token}\n\n\
         {next}\n\
         \x20 {first}\n\
         \x20 {third}\n\
         \x20 {galley} top\n\
         \x20 {galley} demo break    kills, flushes and loses replies, and counts what the platform has\n\n\
         Ctrl-C stops everything; the next start goes on where it was.",
        running = style::STRONG.on("Galley is running."),
        url = dev.url,
        token = style::DIM.on(&dev.token),
        next =
            style::STRONG.on("In another terminal, in this folder (URL and token are found by themselves):"),
    ));
    Ok(())
}

/// The program as the person called it.
fn program() -> String {
    std::env::args().next().unwrap_or_else(|| "galley".into())
}

/// A file the person can submit: the repository's, or a copy.
fn example(home: &Path) -> Result<PathBuf, Failure> {
    if Path::new(CAMPAIGN_PATH).is_file() {
        return Ok(CAMPAIGN_PATH.into());
    }
    let name = "launch-campaign.json";
    let copy = home.join(name);
    std::fs::write(&copy, CAMPAIGN)
        .map_err(|error| Failure::unexpected(format!("could not write {}", copy.display())).detail(error))?;
    Ok(Path::new(crate::found::FOLDER).join(name))
}
