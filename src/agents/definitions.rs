//! The definitions a process runs with: those built in, and those a deployment
//! adds or replaces from a folder.

use std::collections::BTreeMap;
use std::path::Path;

use galley_core::ids::AgentType;

use crate::definition::{Definition, LoadError};
use crate::prices;

macro_rules! built_in {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_str!(concat!("../../agents/", $name, ".toml")))),*]
    };
}

/// The registry of `agents/`: one line per file, embedded in the binary.
const BUILT_IN: &[(&str, &str)] = built_in![
    "analytics",
    "competitor_analysis",
    "content_creator",
    "engagement",
    "reviewer",
    "strategy",
    "trend_detection",
];

/// Agent definitions by name.
#[derive(Debug, Default)]
pub struct Definitions(BTreeMap<AgentType, Definition>);

impl Definitions {
    /// The definitions embedded in the binary.
    ///
    /// # Errors
    /// None for the files of this repository: a test loads them.
    pub fn built_in() -> Result<Self, LoadError> {
        let mut definitions = Self::default();
        for (name, text) in BUILT_IN {
            definitions.insert(Definition::parse(&format!("agents/{name}.toml"), name, text)?);
        }
        Ok(definitions)
    }

    /// Adds every `*.toml` of a folder but its price list; a definition of the
    /// same name is replaced. Other files are left alone.
    ///
    /// # Errors
    /// The first file that cannot be read or is not a definition. Nothing is
    /// half-loaded: on an error the caller has no definitions.
    pub fn with_folder(mut self, folder: &Path) -> Result<Self, LoadError> {
        let unreadable = |path: &Path, error: std::io::Error| LoadError {
            file: path.display().to_string(),
            at: "file".into(),
            what: error.to_string(),
            hint: "check the path and its permissions".into(),
        };
        let mut paths = Vec::new();
        for entry in std::fs::read_dir(folder).map_err(|error| unreadable(folder, error))? {
            let path = entry.map_err(|error| unreadable(folder, error))?.path();
            if path.extension().is_some_and(|extension| extension == "toml")
                && path.file_name().is_none_or(|name| name != prices::FILE)
            {
                paths.push(path);
            }
        }
        paths.sort();
        for path in paths {
            let text = std::fs::read_to_string(&path).map_err(|error| unreadable(&path, error))?;
            let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
            self.insert(Definition::parse(&path.display().to_string(), stem, &text)?);
        }
        Ok(self)
    }

    fn insert(&mut self, definition: Definition) {
        self.0.insert(definition.spec().agent.clone(), definition);
    }

    /// The definition of this name.
    pub fn get(&self, agent: &AgentType) -> Option<&Definition> {
        self.0.get(agent)
    }

    /// The names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &AgentType> {
        self.0.keys()
    }
}

impl IntoIterator for Definitions {
    type Item = Definition;
    type IntoIter = std::collections::btree_map::IntoValues<AgentType, Definition>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_values()
    }
}
