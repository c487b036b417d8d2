//! The registry, the command line as a whole, and its docs.

use std::fmt::Write;
use std::path::Path;

use crate::cli;
use crate::exit::Exit;

#[test]
fn the_command_line_is_consistent() {
    cli::command().debug_assert();
}

#[test]
fn every_file_of_the_folder_is_a_command() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/commands");
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
        .filter(|name| name != "mod" && name != "tests")
        .collect();
    files.sort();
    let mut commands: Vec<_> =
        cli::command().get_subcommands().map(|command| command.get_name().replace('-', "_")).collect();
    commands.sort();
    assert_eq!(files, commands, "add the file to both lists in src/commands/mod.rs");
}

#[test]
fn every_command_and_argument_says_what_it_is_for() {
    fn check(command: &clap::Command, path: &str) {
        let path = format!("{path} {}", command.get_name());
        assert!(command.get_about().is_some(), "`{path}` has no help");
        for argument in command.get_arguments() {
            assert!(argument.get_help().is_some(), "`{path}` has no help for {}", argument.get_id());
        }
        for inner in command.get_subcommands() {
            check(inner, &path);
        }
    }
    for command in cli::command().get_subcommands() {
        check(command, "galley");
    }
}

/// The words of an example, as a shell would read them, up to what is said
/// about it (two spaces) or the next command.
fn words(example: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), String::new(), None);
    let mut letters = example.trim_start().chars().peekable();
    while let Some(letter) = letters.next() {
        match (quote, letter) {
            (Some(open), _) if letter == open => quote = None,
            (None, '\'' | '"') => quote = Some(letter),
            (None, '|' | ';' | '>') => break,
            (None, ' ') if letters.peek() == Some(&' ') => break,
            (None, ' ') => words.push(std::mem::take(&mut word)),
            _ => word.push(letter),
        }
    }
    words.push(word);
    words.retain(|word| !word.is_empty());
    words
}

#[test]
fn every_example_of_the_help_is_a_command_line() {
    fn check(command: &clap::Command, read: &mut usize) {
        let texts = [command.get_after_help(), command.get_after_long_help()];
        let text = texts.into_iter().flatten().map(ToString::to_string).collect::<Vec<_>>().join("\n");
        for line in text.lines().filter(|line| line.starts_with("  ")) {
            for (at, _) in line.match_indices("galley ") {
                // Not within a word, and not in what is said about the example.
                if !line[..at].ends_with(' ') || line[..at].trim_start().contains("  ") {
                    continue;
                }
                let whole = line[at..].replace("0199d1c2-…", "0199d1c2-3f60-7c1e-8a52-5b7c9d0e1f23");
                let tried = cli::command().try_get_matches_from(words(&whole));
                tried.unwrap_or_else(|error| panic!("`{}`: {error}", line.trim()));
                *read += 1;
            }
        }
        for inner in command.get_subcommands() {
            check(inner, read);
        }
    }
    let mut read = 0;
    for command in cli::command().get_subcommands() {
        check(command, &mut read);
    }
    assert!(read > 50, "only {read} examples were found");
}

/// Run with `UPDATE_DOCS=1` to write the lists anew.
#[test]
fn the_docs_have_every_command_and_exit_code() {
    fn list(command: &clap::Command, path: &str, table: &mut String) {
        if command.is_hide_set() {
            return;
        }
        let path = format!("{path} {}", command.get_name());
        let about = command.get_about().map(ToString::to_string).unwrap_or_default();
        if command.get_subcommands().next().is_none() || !command.is_subcommand_required_set() {
            let values: String = command
                .get_positionals()
                .map(|argument| {
                    let name = argument.get_value_names().map_or("?", |names| names[0].as_str());
                    if argument.is_required_set() { format!(" {name}") } else { format!(" [{name}]") }
                })
                .collect();
            let _ = writeln!(table, "| `{}{values}` | {about} |", path.trim());
        }
        for inner in command.get_subcommands() {
            list(inner, &path, table);
        }
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/cli.md");
    let mut table = String::from("| command | what it does |\n|---|---|\n");
    for command in cli::command().get_subcommands() {
        list(command, "galley", &mut table);
    }
    crate::docs::check(&path, "commands", &table);

    let mut codes = String::from("| code | meaning |\n|---|---|\n");
    for exit in Exit::ALL {
        let _ = writeln!(codes, "| {} | {} |", exit.code(), exit.meaning());
    }
    crate::docs::check(&path, "exit codes", &codes);
}
