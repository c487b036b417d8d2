//! The Lua scripts, each with the shared prelude before it.

use std::sync::LazyLock;

/// One script of the queue.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Script {
    Push,
    Pop,
    Claimed,
    Done,
    GiveBack,
    Expire,
    Mirror,
    BeginBuild,
    MarkBuilt,
    Depth,
    InFlight,
    Heal,
}

impl Script {
    const ALL: [Self; 12] = [
        Self::Push,
        Self::Pop,
        Self::Claimed,
        Self::Done,
        Self::GiveBack,
        Self::Expire,
        Self::Mirror,
        Self::BeginBuild,
        Self::MarkBuilt,
        Self::Depth,
        Self::InFlight,
        Self::Heal,
    ];

    fn body(self) -> &'static str {
        match self {
            Self::Push => include_str!("../scripts/push.lua"),
            Self::Pop => include_str!("../scripts/pop.lua"),
            Self::Claimed => include_str!("../scripts/claimed.lua"),
            Self::Done => include_str!("../scripts/done.lua"),
            Self::GiveBack => include_str!("../scripts/give_back.lua"),
            Self::Expire => include_str!("../scripts/expire.lua"),
            Self::Mirror => include_str!("../scripts/mirror.lua"),
            Self::BeginBuild => include_str!("../scripts/begin_build.lua"),
            Self::MarkBuilt => include_str!("../scripts/mark_built.lua"),
            Self::Depth => include_str!("../scripts/depth.lua"),
            Self::InFlight => include_str!("../scripts/in_flight.lua"),
            Self::Heal => include_str!("../scripts/heal.lua"),
        }
    }

    /// When Redis is full, only a push may be refused: everything else leads
    /// to less being stored, and refusing it would keep Redis full.
    fn text(self) -> String {
        let flags = if self == Self::Push { "" } else { " flags=allow-oom" };
        format!("#!lua{flags}\n{}\n{}", include_str!("../scripts/prelude.lua"), self.body())
    }

    /// `EVALSHA` for a base key, ready to take arguments.
    pub(super) fn call(self, base: &str) -> redis::Cmd {
        let mut cmd = redis::cmd("EVALSHA");
        cmd.arg(LOADED[self as usize].1.get_hash()).arg(1).arg(base);
        cmd
    }

    /// `SCRIPT LOAD` of it.
    pub(super) fn load(self) -> redis::Cmd {
        let mut cmd = redis::cmd("SCRIPT");
        cmd.arg("LOAD").arg(&LOADED[self as usize].0);
        cmd
    }
}

static LOADED: LazyLock<Vec<(String, redis::Script)>> = LazyLock::new(|| {
    let with_hash = |script: Script| {
        let text = script.text();
        let hash = redis::Script::new(&text);
        (text, hash)
    };
    Script::ALL.into_iter().map(with_hash).collect()
});

/// The script that counts requests: it knows nothing of queues, so it goes
/// without their prelude.
pub(super) fn rate() -> &'static redis::Script {
    static RATE: LazyLock<redis::Script> =
        LazyLock::new(|| redis::Script::new(include_str!("../scripts/rate.lua")));
    &RATE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_script_stands_at_its_own_place() {
        for (place, script) in Script::ALL.into_iter().enumerate() {
            assert_eq!(script as usize, place);
        }
    }
}
