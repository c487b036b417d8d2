//! Prompts: templates that are parsed before they are used, and rendered with
//! everything other people wrote kept visibly apart from our own words.
//!
//! A deployment writes its agents' templates as files; a workspace may write its
//! own in their place. This room holds what either may say, so that whoever takes
//! a template in and whoever renders it ask the same rules. It never fetches,
//! stores or sends anything.

mod fence;
mod template;
mod workspaces;

pub use fence::{fence, standing_rules};
pub use template::{Author, BadTemplate, MAX_TEMPLATE_BYTES, ORDERS_KEY, Prompt, shown, version};
