//! One resource per file: reading requests, asking the engine, writing views.

pub(crate) mod accounts;
pub(crate) mod agents;
pub(crate) mod approvals;
pub(crate) mod audit;
pub(crate) mod automation;
pub(crate) mod budgets;
pub(crate) mod dead_letters;
pub(crate) mod events;
pub(crate) mod keys;
pub(crate) mod messages;
pub(crate) mod posts;
pub(crate) mod prompts;
pub(crate) mod providers;
pub(crate) mod queues;
pub(crate) mod schedules;
pub(crate) mod tasks;
pub(crate) mod templates;
pub(crate) mod tokens;
pub(crate) mod why;
pub(crate) mod workers;
pub(crate) mod workflows;
pub(crate) mod workspaces;
