//! Workflow templates.

use galley_core::definition::Definition;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::definition::DefinitionShape;

/// A named, versioned definition a workflow can be started from.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Template {
    /// Its name.
    pub name: String,
    /// Its version: 1, 2, …
    pub version: i32,
    /// Whether it came with Galley.
    pub built_in: bool,
    /// Who stored it.
    pub created_by: Option<String>,
    /// When.
    #[schema(format = DateTime)]
    pub created_at: Option<String>,
    /// What it runs.
    #[schema(value_type = DefinitionShape)]
    pub definition: Definition,
}

impl From<galley_engine::TemplateView> for Template {
    fn from(view: galley_engine::TemplateView) -> Self {
        Self {
            name: view.definition.name.clone(),
            version: view.version,
            built_in: view.built_in,
            created_by: view.created_by,
            created_at: view.created_at,
            definition: view.definition,
        }
    }
}
