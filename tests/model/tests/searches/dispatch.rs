//! The protocol, as designed, holds in every theme; and every search saw the
//! rescues it is about.

use galley_model::{THEMES, Witness, assert_every_path_ends, explore, theme};

use crate::page::themes;

themes! {
    crashes: "crashes",
    lost_replies: "lost replies",
    redis: "redis",
    retries: "retries",
    cancel: "cancel",
    fan_in: "fan-in",
    keyed_effect: "keyed effect",
    publish_zombies: "publish, zombies",
    publish_crashes: "publish, crashes",
    publish_cancelled: "publish, cancelled",
    restore: "restore",
    restore_crashes: "restore, crashes",
}

/// "Nothing is stuck" and "the workflow settles" mean what they say only if the
/// system cannot go round for ever; see stateright's note on `eventually`.
#[test]
fn every_path_ends() {
    for name in ["crashes", "lost replies", "retries", "fan-in", "publish, cancelled"] {
        let protocol = theme(name);
        assert_eq!(assert_every_path_ends(&protocol), explore(&protocol).states, "{name}");
    }
}
