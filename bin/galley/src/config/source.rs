//! Where settings come from, and the errors that say so.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use super::setting::Setting;
use super::{KEYS, Key};
use crate::failure::Failure;

/// The file that is read when `--config` names none.
const USUAL_FILE: &str = "galley.toml";

/// What flags said, by `section.name`: the flag and its value.
pub(crate) type Flags = Vec<(&'static str, &'static str, String)>;

/// All sources, ready to be asked.
#[derive(Debug, Default)]
pub(crate) struct Sources {
    file: BTreeMap<(String, String), String>,
    file_path: PathBuf,
    env: HashMap<String, String>,
    flags: Flags,
}

impl Sources {
    /// The sources of this process: `file` if one was named, else
    /// `./galley.toml` if there is one; the environment; the flags.
    ///
    /// # Errors
    /// A file that cannot be read, is no TOML, or names an unknown setting.
    pub(crate) fn of_process(file: Option<&Path>, flags: Flags) -> Result<Self, Failure> {
        let text = match file {
            Some(path) => Some((path, read(path)?)),
            None if Path::new(USUAL_FILE).is_file() => {
                Some((Path::new(USUAL_FILE), read(Path::new(USUAL_FILE))?))
            }
            None => None,
        };
        let env =
            KEYS.iter().filter_map(|key| Some((key.env.to_owned(), std::env::var(key.env).ok()?))).collect();
        Self::new(text.as_ref().map(|(path, text)| (*path, text.as_str())), env, flags)
    }

    /// Sources that are given.
    ///
    /// # Errors
    /// As [`Sources::of_process`].
    pub(crate) fn new(
        file: Option<(&Path, &str)>,
        mut env: HashMap<String, String>,
        flags: Flags,
    ) -> Result<Self, Failure> {
        // `NAME=` in a compose file means "not set".
        env.retain(|_, value| !value.is_empty());
        let mut sources = Self { env, flags, ..Self::default() };
        if let Some((path, text)) = file {
            sources.file = settings_of(path, text)?;
            sources.file_path = path.to_path_buf();
        }
        Ok(sources)
    }

    /// A setting's value.
    ///
    /// # Errors
    /// The value's problem, where it came from and what to write instead.
    pub(crate) fn get<T: Setting>(&self, section: &'static str, name: &'static str) -> Result<T, Failure> {
        let key = KEYS.iter().find(|key| key.section == section && key.name == name);
        let default = key.map_or("", |key| key.default);
        let (text, from) = self.text(section, name).unwrap_or((default, String::new()));
        T::read(text).map_err(|problem| {
            let shown = if T::SECRET { String::new() } else { format!(" `{text}`") };
            Failure::usage(format!("setting {section}.{name} has a value that cannot be used"))
                .detail(format!("{from} has{shown}"))
                .hint(problem)
        })
    }

    /// Whether anybody said something about a setting.
    pub(crate) fn is_set(&self, section: &str, name: &str) -> bool {
        self.text(section, name).is_some()
    }

    /// The strongest text, and where it is.
    fn text(&self, section: &str, name: &str) -> Option<(&str, String)> {
        let path = format!("{section}.{name}");
        if let Some((_, flag, value)) = self.flags.iter().find(|(key, ..)| *key == path) {
            return Some((value, format!("flag {flag}")));
        }
        let env = KEYS.iter().find(|key| key.section == section && key.name == name)?.env;
        if let Some(value) = self.env.get(env) {
            return Some((value, format!("environment variable {env}")));
        }
        let value = self.file.get(&(section.to_owned(), name.to_owned()))?;
        Some((value, format!("{}, [{section}] {name},", self.file_path.display())))
    }
}

fn read(path: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(path).map_err(|error| {
        Failure::usage(format!("could not read the configuration file {}", path.display()))
            .detail(error)
            .hint("check the path given with --config")
    })
}

/// The settings of a TOML file, each as text.
fn settings_of(path: &Path, text: &str) -> Result<BTreeMap<(String, String), String>, Failure> {
    let wrong = |what: String| Failure::usage(format!("{}: {what}", path.display()));
    let document: toml::Table = text.parse().map_err(|error: toml::de::Error| {
        wrong("not a TOML file".into()).detail(error.to_string().trim_end())
    })?;
    let mut settings = BTreeMap::new();
    for (section, table) in document {
        let names: Vec<&Key> = KEYS.iter().filter(|key| key.section == section).collect();
        if names.is_empty() {
            let known: BTreeMap<_, ()> = KEYS.iter().map(|key| (key.section, ())).collect();
            return Err(wrong(format!("there is no section [{section}]"))
                .hint(format!("sections are {}", join(known.keys().copied()))));
        }
        let toml::Value::Table(table) = table else {
            return Err(wrong(format!("`{section}` is not a section"))
                .hint(format!("write `[{section}]` on a line of its own and its settings below")));
        };
        for (name, value) in table {
            if !names.iter().any(|key| key.name == name) {
                return Err(wrong(format!("there is no setting `{name}` in [{section}]"))
                    .hint(format!("settings are {}", join(names.iter().map(|key| key.name)))));
            }
            let text = text_of(value).ok_or_else(|| {
                wrong(format!("[{section}] {name} is neither text, number, true, false nor a list of texts"))
            })?;
            settings.insert((section.clone(), name), text);
        }
    }
    Ok(settings)
}

fn text_of(value: toml::Value) -> Option<String> {
    match value {
        toml::Value::String(text) => Some(text),
        toml::Value::Integer(number) => Some(number.to_string()),
        toml::Value::Boolean(choice) => Some(choice.to_string()),
        toml::Value::Array(items) => {
            let items: Option<Vec<_>> = items.iter().map(|item| item.as_str().map(str::to_owned)).collect();
            Some(items?.join(","))
        }
        _ => None,
    }
}

fn join<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.collect::<Vec<_>>().join(", ")
}
