//! Providers of workspaces' own: made when they are first asked, kept until they
//! change. Each has its breaker, its connections and its bound of calls at once:
//! nobody waits for, or is measured by, another workspace's key.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use galley_core::ids::WorkspaceId;
use galley_core::report::StepError;
use galley_reach::Targets;
use serde::Deserialize;

use crate::desk::OwnProvider;
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
