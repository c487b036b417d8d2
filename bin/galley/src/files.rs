//! Files that people hand to commands (`-` is stdin), and the editor they change
//! them in.

use std::io::Read;
use std::path::Path;

use serde::de::DeserializeOwned;

use crate::exit::Exit;
use crate::failure::Failure;

/// The text of a file.
///
/// # Errors
/// It cannot be read.
pub(crate) fn input(path: &Path) -> Result<String, Failure> {
    if path.as_os_str() == "-" {
        let mut text = String::new();
        return match std::io::stdin().read_to_string(&mut text) {
            Ok(_) => Ok(text),
            Err(error) => Err(Failure::usage("could not read stdin").detail(error)),
        };
    }
    std::fs::read_to_string(path).map_err(|error| {
        let exit = if error.kind() == std::io::ErrorKind::NotFound { Exit::NotFound } else { Exit::Usage };
        Failure::new(exit, format!("could not read {}", path.display()))
            .detail(error)
            .hint("check the path; `-` reads stdin")
    })
}

/// The text as a JSON document of a known shape.
///
/// # Errors
/// Not JSON, or another shape: with line and column.
pub(crate) fn document<T: DeserializeOwned>(text: &str, path: &Path) -> Result<T, Failure> {
    serde_json::from_str(text).map_err(|error| {
        let what = if error.is_data() { "does not have the shape that is needed" } else { "is not JSON" };
        let name = if path.as_os_str() == "-" { "stdin".into() } else { path.display().to_string() };
        Failure::new(Exit::Refused, format!("{name} {what}")).detail(error)
    })
}

/// Opens a file in the person's editor and waits. `instead` names the flags that
/// need none.
///
/// # Errors
/// The editor did not start, or it failed.
pub(crate) async fn edit(file: &Path, instead: &str) -> Result<(), Failure> {
    let editor = ["VISUAL", "EDITOR"]
        .iter()
        .find_map(|name| std::env::var(name).ok().filter(|editor| !editor.is_empty()))
        .unwrap_or_else(|| "vi".into());
    // Through the shell, as editors come with arguments: `code --wait`.
    let status = tokio::process::Command::new("sh")
        .args(["-c", &format!("{editor} \"$1\""), "sh"])
        .arg(file)
        .status()
        .await
        .map_err(|error| Failure::usage(format!("could not start the editor `{editor}`")).detail(error))?;
    if status.success() {
        return Ok(());
    }
    Err(Failure::usage(format!("the editor `{editor}` failed; nothing was done"))
        .detail(status)
        .hint(format!("set EDITOR, or use {instead}")))
}
