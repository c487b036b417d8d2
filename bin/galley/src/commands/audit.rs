//! `galley audit`: who did what, and whether anybody changed what it says.

use std::fs::File;
use std::io::{BufRead as _, BufReader, BufWriter, Write as _};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use futures::StreamExt as _;
use galley_api::views;
use galley_core::chain::{Checkpoint, ExportLine, Verified, Verifier};
use galley_engine::{CheckpointError, check_signature};
use serde_json::json;

use crate::cli::{self, Remote, Run, Settings};
use crate::client::Client;
use crate::config::Flags;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::table::{Table, cell};
use crate::{deployment, print, time};

/// Show who did what in the workspace, and check that nobody changed it
///
/// Every row is sealed into its workspace's chain: its hash covers the row and
/// the hash before it. `verify` finds a row that was changed, removed or
/// inserted, and names its place. A checkpoint that is kept elsewhere also
/// finds a chain that was rewritten as a whole.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  galley audit list
  galley audit verify                                       the workspace's audit, as the API has it now
  galley audit export --to audit.jsonl                      rows, chain and checkpoint
  galley audit checkpoint > checkpoint.json                 keep it where nobody of the deployment can write
  galley audit verify --against checkpoint.json
  galley audit verify --file audit.jsonl --public-key KEY   offline; `galley audit key` prints KEY")]
pub(crate) struct Audit {
    #[command(subcommand)]
    command: AuditCommand,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Debug, Subcommand)]
enum AuditCommand {
    /// List audit lines, newest first
    List {
        /// At most this many
        #[arg(long, default_value_t = 50, value_name = "N", value_parser = cli::limit)]
        limit: usize,
    },
    /// Export the whole audit with its chain, one JSON object per line
    Export {
        /// Where to write it; stdout when absent
        #[arg(long, value_name = "FILE")]
        to: Option<PathBuf>,
    },
    /// Find rows that were changed, removed or inserted; exit code 4 if there are any
    Verify(Verify),
    /// Print where the chain ends now, signed where the API has a key
    Checkpoint,
    /// Print the public key that checks checkpoints (needs GALLEY_AUDIT_SIGNING_KEY)
    Key,
}

#[derive(Debug, Args)]
struct Verify {
    /// An export to check instead of asking the API
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// A checkpoint, or an export that ends with one, through which the chain has to pass
    #[arg(long, value_name = "FILE")]
    against: Option<PathBuf>,
    /// The key that has to have signed every checkpoint
    #[arg(long, value_name = "KEY")]
    public_key: Option<String>,
}

impl Run for Audit {
    fn flags(&self) -> Flags {
        self.remote.flags()
    }

    async fn run(self, settings: Settings) -> Result<(), Failure> {
        let json = self.remote.json;
        match self.command {
            AuditCommand::List { limit } => list(&Remote::client(&settings)?, limit, json).await,
            AuditCommand::Export { to } => export(&Remote::client(&settings)?, to.as_deref()).await,
            AuditCommand::Verify(verify) => verify.run(&settings, json).await,
            AuditCommand::Checkpoint => {
                print::json(&Remote::client(&settings)?.get(&["v1", "audit", "checkpoint"]).await?)
            }
            AuditCommand::Key => {
                let key = deployment::checkpoint_key(&settings.config)?.ok_or_else(|| {
                    Failure::usage("no signing key is configured")
                        .hint("set GALLEY_AUDIT_SIGNING_KEY as the API servers have it")
                })?;
                print::data(&format!("{}\n", key.public()))
            }
        }
    }
}

async fn list(client: &Client, limit: usize, json: bool) -> Result<(), Failure> {
    let listed = client.list(&["v1", "audit"], &[], limit).await?;
    if json {
        return print::json(&listed);
    }
    let mut table = Table::new(&[">ID", "WHEN", "WHO", "ACTION", "OBJECT", "~REQUEST", "~DETAIL"]);
    for line in listed.items::<views::AuditLine>()? {
        table.row(vec![
            cell(line.id),
            cell(time::ago(&line.at)),
            cell(&line.actor),
            cell(&line.action),
            cell(&line.object),
            cell(line.request_id.unwrap_or_default()),
            cell(line.detail.map(|detail| detail.to_string()).unwrap_or_default()),
        ]);
    }
    if table.is_empty() {
        print::say("nothing was done yet");
        return Ok(());
    }
    print::data(&table.render(print::data_width()))
}

async fn export(client: &Client, to: Option<&Path>) -> Result<(), Failure> {
    let mut lines = Box::pin(client.lines(&["v1", "audit", "export"]).await?);
    let mut file = match to {
        Some(path) => {
            Some((path, BufWriter::new(File::create(path).map_err(|error| unwritable(path, &error))?)))
        }
        None => None,
    };
    let (mut count, mut whole) = (0_u64, false);
    while let Some(line) = lines.next().await {
        let line = line?;
        whole = line.starts_with(r#"{"checkpoint""#);
        count += 1;
        match &mut file {
            Some((path, file)) => writeln!(file, "{line}").map_err(|error| unwritable(path, &error))?,
            None => print::data(&format!("{line}\n"))?,
        }
    }
    if let Some((path, file)) = &mut file {
        file.flush().map_err(|error| unwritable(path, &error))?;
    }
    if !whole {
        return Err(Failure::new(Exit::Unavailable, "the export was cut off").hint("export again"));
    }
    if let Some(path) = to {
        print::say(&format!(
            "{count} lines are in {}; `galley audit verify --file` checks them",
            path.display()
        ));
    }
    Ok(())
}

fn unwritable(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(Exit::Unexpected, format!("{} cannot be written", path.display())).detail(error)
}

impl Verify {
    async fn run(self, settings: &Settings, json: bool) -> Result<(), Failure> {
        let mut verifier = Verifier::new();
        let mut signed = Vec::new();
        if let Some(path) = &self.against {
            let kept = checkpoint_in(path)?;
            verifier.expect(&kept);
            signed.push(kept);
        }
        match &self.file {
            Some(path) => {
                for (number, line) in BufReader::new(opened(path)?).lines().enumerate() {
                    let line = line.map_err(|error| unreadable(path, &error))?;
                    read(&mut verifier, number, &line);
                }
            }
            None => {
                let mut lines = Box::pin(Remote::client(settings)?.lines(&["v1", "audit", "export"]).await?);
                let mut number = 0;
                while let Some(line) = lines.next().await {
                    read(&mut verifier, number, &line?);
                    number += 1;
                }
            }
        }
        let done = verifier.end();
        signed.extend(done.checkpoint.clone());
        let signer = self.signer(&signed)?;
        tell(&done, signer.as_deref(), json)
    }

    /// Who signed every checkpoint; `None` when nobody had to and nobody did.
    fn signer(&self, checkpoints: &[Checkpoint]) -> Result<Option<String>, Failure> {
        let told = self.public_key.as_deref();
        let mut signer = None;
        for checkpoint in checkpoints {
            let Some(key) = told.or(checkpoint.public_key.as_deref()) else { continue };
            check_signature(checkpoint, key).map_err(|error| {
                let exit = match error {
                    CheckpointError::BadKey | CheckpointError::BadPublicKey => Exit::Usage,
                    CheckpointError::Unsigned | CheckpointError::Forged => Exit::Refused,
                };
                Failure::new(exit, format!("the checkpoint at place {} is not to be trusted", checkpoint.seq))
                    .detail(error)
            })?;
            signer = Some(key.to_owned());
        }
        Ok(signer)
    }
}

fn read(verifier: &mut Verifier, number: usize, line: &str) {
    match serde_json::from_str(line) {
        Ok(line) => verifier.read(line),
        Err(error) => verifier.garbage(number + 1, &error.to_string()),
    }
}

/// The last checkpoint of a file.
fn checkpoint_in(path: &Path) -> Result<Checkpoint, Failure> {
    let mut found = None;
    let text = std::io::read_to_string(opened(path)?).map_err(|error| unreadable(path, &error))?;
    // As `galley audit checkpoint` prints it, or as the last line of an export.
    if let Ok(checkpoint) = serde_json::from_str::<Checkpoint>(&text) {
        return Ok(checkpoint);
    }
    for line in text.lines() {
        if let Ok(ExportLine::Checkpoint(checkpoint)) = serde_json::from_str(line) {
            found = Some(checkpoint);
        }
    }
    found.ok_or_else(|| {
        Failure::usage(format!("{} has no checkpoint", path.display()))
            .hint("give what `galley audit checkpoint` or `galley audit export` wrote")
    })
}

fn opened(path: &Path) -> Result<File, Failure> {
    File::open(path).map_err(|error| unreadable(path, &error))
}

fn unreadable(path: &Path, error: &std::io::Error) -> Failure {
    Failure::usage(format!("{} cannot be read", path.display())).detail(error)
}

fn tell(done: &Verified, signer: Option<&str>, json: bool) -> Result<(), Failure> {
    let workspace = done.workspace.map(|workspace| workspace.to_string());
    if json {
        print::json(&json!({
            "workspaceId": workspace,
            "sealed": done.sealed,
            "unsealed": done.unsealed,
            "signedBy": signer,
            "findings": done.findings,
        }))?;
    }
    if !done.findings.is_empty() {
        if json {
            return Err(Failure::silent(Exit::Refused));
        }
        let what = match done.findings.len() {
            1 => "the audit was tampered with, in 1 place".to_owned(),
            many => format!("the audit was tampered with, in {many} places"),
        };
        let mut failure = Failure::new(Exit::Refused, what);
        for finding in &done.findings {
            failure = failure.detail(format!("- {finding}"));
        }
        return Err(
            failure.hint("compare with an earlier export or a backup, and see who can write to the database")
        );
    }
    if json {
        return Ok(());
    }
    let fresh = match done.unsealed {
        0 => String::new(),
        fresh => format!("; {fresh} newer rows are not sealed yet"),
    };
    let signed = match signer {
        Some(key) => format!("its end is signed by {key}"),
        None => "nobody signed its end".to_owned(),
    };
    print::data(&format!(
        "{} rows, and none was changed, removed or inserted{fresh}; {signed}\n",
        done.sealed
    ))
}
