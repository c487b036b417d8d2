//! What is a workspace's own: made when it is first needed, kept until it
//! changes. Each provider has its breaker, its connections and its bound of calls
//! at once: nobody waits for, or is measured by, another workspace's key. Prompts
//! are read once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use galley_core::ids::WorkspaceId;
use galley_core::report::StepError;
use galley_prompts::{Author, Prompt, version};
use galley_reach::Targets;
use serde::Deserialize;

use crate::desk::{OwnPrompt, OwnProvider};
use crate::provider::Entry;
use crate::remote::{Dialect, Remote, RemoteConfig};

/// Most that are kept; beyond, all are made anew. What is under way ends as it
/// began.
const MOST: usize = 1_024;

/// What a deployment decides about providers that workspaces name.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OwnRules {
    /// Whether their addresses may be private ones, and plain `http://`.
    pub allow_private: bool,
    /// How long one may be silent within a call, milliseconds; absent: two
    /// minutes.
    pub idle_timeout_ms: Option<u64>,
    /// Whether they are enough: an agent may start although none of its models
    /// has a provider of the deployment.
    pub suffice: bool,
}

/// Those that are kept, with the version they were made from.
#[derive(Default)]
pub(crate) struct OwnEntries {
    rules: OwnRules,
    made: Mutex<HashMap<(WorkspaceId, String), (i64, Entry)>>,
}

impl OwnEntries {
    pub(crate) fn new(rules: OwnRules) -> Self {
        Self { rules, made: Mutex::default() }
    }

    /// Whether an agent may live on them alone.
    pub(crate) fn suffice(&self) -> bool {
        self.rules.suffice
    }

    /// The provider, ready to be asked.
    ///
    /// # Errors
    /// It cannot be used as it is: a permanent `provider_config` that says why.
    pub(crate) fn entry(&self, workspace: WorkspaceId, own: &OwnProvider) -> Result<Entry, StepError> {
        let key = (workspace, own.name.clone());
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((version, entry)) = made.get(&key)
            && *version == own.version
        {
            return Ok(entry.clone());
        }
        let unusable = |why: String| {
            let told = format!("this workspace's own provider {} cannot be used: {why}", own.name);
            StepError::permanent("provider_config", told)
        };
        let dialect = Dialect::of(&own.name).ok_or_else(|| unusable("nothing speaks like that".into()))?;
        let config = RemoteConfig {
            base_url: own.base_url.clone(),
            api_key: own.api_key.clone().map_err(unusable)?,
            model: own.model.clone(),
            max_concurrency: own.max_concurrency,
            stream: true,
            idle_timeout_ms: self.rules.idle_timeout_ms,
            http2: false,
        };
        let targets = Targets { allow_private: self.rules.allow_private };
        let remote = Remote::of_a_workspace(&own.name, dialect, config, targets).map_err(unusable)?;
        let entry = Entry::of(remote);
        if made.len() >= MOST {
            made.clear();
        }
        made.insert(key, (own.version, entry.clone()));
        Ok(entry)
    }
}

/// Most prompts of one agent that are kept; beyond, all are read anew.
const MOST_PROMPTS: usize = 128;

/// A prompt, ready to be rendered.
#[derive(Debug)]
pub(crate) struct Read {
    pub(crate) prompt: Prompt,
    /// What results and kept answers know it by.
    pub(crate) version: String,
}

/// The prompts of one agent that are kept, with the version they were read from.
#[derive(Debug, Default)]
pub(crate) struct OwnPrompts {
    read: Mutex<HashMap<WorkspaceId, (i64, Arc<Read>)>>,
}

impl OwnPrompts {
    /// The prompt, ready to be rendered.
    ///
    /// # Errors
    /// It cannot be used as it is: a permanent `bad_prompt` that says why.
    pub(crate) fn of(&self, workspace: WorkspaceId, own: OwnPrompt) -> Result<Arc<Read>, StepError> {
        let mut all = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((version, read)) = all.get(&workspace)
            && *version == own.version
        {
            return Ok(Arc::clone(read));
        }
        let unusable = |why: String| {
            let told = format!("this workspace's own prompt cannot be used: {why}");
            StepError::permanent("bad_prompt", told)
        };
        let (system, user) = own.templates.map_err(unusable)?;
        let version = version(&system, &user);
        let prompt = Prompt::parse(system, user, Author::Workspace)
            .map_err(|bad| unusable(format!("{}: {bad}", bad.key)))?;
        let read = Arc::new(Read { prompt, version });
        if all.len() >= MOST_PROMPTS {
            all.clear();
        }
        all.insert(workspace, (own.version, Arc::clone(&read)));
        Ok(read)
    }
}
