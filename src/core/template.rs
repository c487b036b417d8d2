//! The workflow templates that every workspace has from the start.
//!
//! Workspaces add their own beside them; a workspace's template of the same
//! name wins over the built-in one.

use crate::definition::Definition;

/// One line per built-in template: its version and its definition.
const BUILT_IN: &[(u32, &str)] = &[
    (1, include_str!("templates/campaign.json")),
    (1, include_str!("templates/single_post.json")),
    (1, include_str!("templates/trend_response.json")),
    (1, include_str!("templates/weekly_report.json")),
];

/// The built-in templates with their versions.
///
/// # Errors
/// A template that is no definition; a test reads them all.
pub fn built_in() -> Result<Vec<(u32, Definition)>, serde_json::Error> {
    BUILT_IN.iter().map(|(version, text)| Ok((*version, serde_json::from_str(text)?))).collect()
}
