//! What reads bytes that somebody else wrote, each as a function over bytes
//! that panics when a promise is broken.
//!
//! `fuzz/` hands them to libFuzzer, on demand; the tests of this package run
//! them over the committed seeds and over random changes of those, on stable.
//! A target never needs a server, a clock or a network.

mod agents;
mod workflows;

use std::sync::LazyLock;

use galley_api::Binding;
use galley_core::ids::{WorkflowId, WorkspaceId};
use galley_core::ticket::Ticket;
use galley_engine::check_idempotency_key;
use galley_publishers::{Options, Publisher, Webhook};
use secrecy::SecretString;
use serde_json::Value;

pub use agents::{agent_toml, template};
pub use workflows::{condition, run_row, workflow_definition};

/// Reads bytes.
pub type Target = fn(&[u8]);

/// Every target. Each has a file in `fuzz/fuzz_targets` and seeds in
/// `fuzz/corpus`.
pub const TARGETS: [(&str, Target); 9] = [
    ("agent_toml", agent_toml),
    ("condition", condition),
    ("cursor", cursor),
    ("idempotency_key", idempotency_key),
    ("run_row", run_row),
    ("template", template),
    ("ticket", ticket),
    ("webhook", webhook),
    ("workflow_definition", workflow_definition),
];

/// The workspace that cursors and tickets of the seeds are of.
const WORKSPACE: WorkspaceId = WorkspaceId(uuid(1));

const fn uuid(n: u128) -> uuid::Uuid {
    uuid::Uuid::from_u128(n)
}

/// The two parts of an input, at its first zero byte.
fn halves(data: &[u8]) -> (&[u8], &[u8]) {
    let mut parts = data.splitn(2, |byte| *byte == 0);
    (parts.next().unwrap_or_default(), parts.next().unwrap_or_default())
}

/// A page cursor, as a query carries it.
pub fn cursor(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let binding = Binding::new("workflows", WORKSPACE, &Value::Null);
    let opened = binding.open::<WorkflowId>(Some(text));
    assert!(!matches!(opened, Ok(None)), "a cursor was taken for none");
    if opened.is_ok() {
        let other = Binding::new("tasks", WORKSPACE, &Value::Null);
        assert!(other.open::<Value>(Some(text)).is_err(), "a cursor opens another list");
    }
}

/// An idempotency key.
pub fn idempotency_key(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if check_idempotency_key(text) {
        assert!((1..=200).contains(&text.len()), "{} bytes", text.len());
        // Postgres takes every text but a zero byte.
        assert!(!text.contains('\0'));
    }
}

/// A member of a Redis set that should be a ticket.
pub fn ticket(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(ticket) = Ticket::from_member(WORKSPACE, text) {
        assert_eq!(Ticket::from_member(WORKSPACE, &ticket.member()), Ok(ticket), "{text}");
    }
}

/// A webhook's account: its settings, then its signing secret, then a message.
/// With what is accepted every receiver can verify what we sign.
pub fn webhook(data: &[u8]) {
    static WEBHOOK: LazyLock<Option<Webhook>> = LazyLock::new(|| Webhook::new(Options::default()).ok());
    let (settings, rest) = halves(data);
    let (secret, message) = halves(rest);
    let Some(webhook) = WEBHOOK.as_ref() else { return };
    let Ok(secret) = std::str::from_utf8(secret) else { return };
    let settings = serde_json::from_slice::<Value>(settings).unwrap_or_default();
    let problems = webhook.check_account(&settings, &SecretString::from(secret)).err().unwrap_or_default();
    if problems.iter().any(|problem| problem.at == "credential") {
        return;
    }
    let signer = standardwebhooks::Webhook::new(secret);
    assert!(signer.is_ok(), "a secret that cannot sign was accepted");
    let (Ok(signer), Ok(text)) = (signer, std::str::from_utf8(message)) else { return };
    let signed = signer.sign("msg_1", 1_780_000_000, text.as_bytes());
    let other = signer.sign("msg_2", 1_780_000_000, text.as_bytes());
    assert!(signed.is_ok() && signed.ok() != other.ok(), "the id is not signed");
}
