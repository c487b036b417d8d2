//! Workflow templates: the built-in ones, and each workspace's own.

use galley_core::definition::Definition;
use galley_core::ids::WorkspaceId;
use galley_core::plan::Plan;
use galley_core::template;

use crate::engine::Engine;
use crate::error::EngineError;

/// A template as people see it.
#[derive(Clone, Debug)]
pub struct TemplateView {
    /// Its definition; the name is the template's.
    pub definition: Definition,
    /// Its version.
    pub version: i32,
    /// Whether it came with Galley.
    pub built_in: bool,
    /// Who stored it.
    pub created_by: Option<String>,
    /// When, RFC 3339.
    pub created_at: Option<String>,
}

impl Engine {
    /// The definition behind `name` or `name@version`, with its version.
    pub(crate) async fn template_definition(
        &self,
        workspace: WorkspaceId,
        reference: &str,
    ) -> Result<(Definition, i32), EngineError> {
        let view = self.template(workspace, reference).await.map_err(|error| match error {
            EngineError::NotFound { .. } => EngineError::invalid(
                "template",
                format!("there is no template `{reference}`; see `galley template list`"),
            ),
            other => other,
        })?;
        Ok((view.definition, view.version))
    }

    /// One template by `name` (its newest version) or `name@version`.
    ///
    /// # Errors
    /// [`EngineError::NotFound`].
    pub async fn template(
        &self,
        workspace: WorkspaceId,
        reference: &str,
    ) -> Result<TemplateView, EngineError> {
        let (name, version) = match reference.split_once('@') {
            None => (reference, None),
            Some((name, version)) => {
                let version =
                    version.parse::<i32>().ok().filter(|version| *version > 0).ok_or_else(|| {
                        EngineError::invalid("template", format!("`{version}` is not a version: 1, 2, …"))
                    })?;
                (name, Some(version))
            }
        };
        // A workspace's own template of the same name wins.
        if let Some(row) = self.store().template(workspace, name, version).await? {
            return view_of(row);
        }
        let own = built_in()?.into_iter().find(|view| {
            view.definition.name == name && version.is_none_or(|version| version == view.version)
        });
        own.ok_or_else(|| EngineError::NotFound { kind: "template", id: reference.to_owned() })
    }

    /// The templates a workspace can use, by name.
    ///
    /// # Errors
    /// Postgres is away.
    pub async fn templates(&self, workspace: WorkspaceId) -> Result<Vec<TemplateView>, EngineError> {
        let mut views: Vec<TemplateView> = Vec::new();
        for row in self.store().list_templates(workspace).await? {
            views.push(view_of(row)?);
        }
        for view in built_in()? {
            if !views.iter().any(|own| own.definition.name == view.definition.name) {
                views.push(view);
            }
        }
        views.sort_by(|a, b| a.definition.name.cmp(&b.definition.name));
        Ok(views)
    }

    /// Stores the next version of a workspace's template.
    ///
    /// # Errors
    /// [`EngineError::Invalid`] with every problem and its place.
    pub async fn store_template(
        &self,
        workspace: WorkspaceId,
        definition: Definition,
        actor: &str,
    ) -> Result<TemplateView, EngineError> {
        let reading = self.fleet().fresh().await?;
        Plan::compile(definition.clone(), |agent| reading.retry(agent)).map_err(EngineError::Invalid)?;
        let name = definition.name.clone();
        let body = serde_json::to_string(&definition)
            .map_err(|error| EngineError::Internal(format!("a definition does not serialize: {error}")))?;
        let row = match self.store().store_template(workspace, &name, body, actor).await {
            Err(galley_store::StoreError::Constraint { .. }) => {
                let told =
                    format!("somebody stored a version of template `{name}` at the same moment; try again");
                return Err(EngineError::Conflict(told));
            }
            other => other?,
        };
        view_of(row)
    }
}

fn view_of(row: galley_store::TemplateRow) -> Result<TemplateView, EngineError> {
    let definition = serde_json::from_str(&row.body).map_err(|error| {
        EngineError::Internal(format!("table templates, {}@{}: {error}", row.name, row.version))
    })?;
    Ok(TemplateView {
        definition,
        version: row.version,
        built_in: false,
        created_by: Some(row.created_by),
        created_at: Some(row.created_at),
    })
}

fn built_in() -> Result<Vec<TemplateView>, EngineError> {
    let templates = template::built_in()
        .map_err(|error| EngineError::Internal(format!("a built-in template does not read: {error}")))?;
    Ok(templates
        .into_iter()
        .map(|(version, definition)| TemplateView {
            definition,
            version: version as i32,
            built_in: true,
            created_by: None,
            created_at: None,
        })
        .collect())
}
