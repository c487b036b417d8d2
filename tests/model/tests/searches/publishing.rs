//! The publish path, as designed, holds in every theme; and every search saw the
//! rescues it is about.

use galley_model::publishing::{THEMES, Witness, theme};
use galley_model::{assert_every_path_ends, explore};

use crate::page::themes;

themes! {
    approvals: "approvals",
    edits: "edits",
    policy: "policy",
    day: "day",
    limit_changed: "limit changed",
    accounts_limit: "account's limit",
    two_accounts: "two accounts",
    idempotent: "idempotent",
    verifiable: "verifiable",
    blind: "blind",
    lost_replies_idempotent: "lost replies, idempotent",
    lost_replies_verifiable: "lost replies, verifiable",
    lost_replies_blind: "lost replies, blind",
    cancelled_idempotent: "cancelled, idempotent",
    cancelled_verifiable: "cancelled, verifiable",
    cancelled_while_asked: "cancelled while asked",
    two_in_doubt: "two in doubt",
    paid: "paid",
    paid_in_doubt: "paid, in doubt",
    paid_idempotent: "paid, idempotent",
}

/// "Nothing is stuck" and "every post settles" mean what they say only if the
/// system cannot go round for ever.
#[test]
fn every_path_ends() {
    for name in [
        "approvals",
        "policy",
        "limit changed",
        "account's limit",
        "verifiable",
        "lost replies, idempotent",
        "lost replies, blind",
        "cancelled, verifiable",
        "paid, idempotent",
    ] {
        let model = theme(name);
        assert_eq!(assert_every_path_ends(&model), explore(&model).states, "{name}");
    }
}
