//! The configurations: each explores one theme exhaustively. Several small ones,
//! because bounds multiply.
//!
//! A theme names the rescue paths it must see.

use crate::protocol::{Bounds, Effect, Protocol};
use crate::witness::Witness;

const NOTHING: Bounds = Bounds {
    crashes: 0,
    expiries: 0,
    lost_replies: 0,
    flushes: 0,
    duplicates: 0,
    lost_pushes: 0,
    early_returns: 0,
    failures: 0,
    slow_posts: 0,
    cancels: 0,
    replays: 0,
    restores: 0,
};
const ONE: &[u8] = &[0];
const CHAIN: &[u8] = &[0, 0b01];
const FAN_IN: &[u8] = &[0, 0, 0b011];

const fn theme_of(
    needs: &'static [u8],
    effect: Effect,
    limits: (u8, u8),
    bounds: Bounds,
    witnesses: &'static [Witness],
) -> Protocol {
    let (max_attempts, max_crashes) = limits;
    Protocol { needs, effect, max_attempts, max_crashes, bounds, witnesses, shortcuts: Vec::new() }
}

/// Every theme with its name.
pub const THEMES: &[(&str, Protocol)] = &[
    (
        "crashes",
        theme_of(
            CHAIN,
            Effect::None,
            (3, 2),
            Bounds { crashes: 1, expiries: 1, ..NOTHING },
            &[
                Witness::Succeeded,
                Witness::StaleRefused,
                Witness::TicketForgotten,
                Witness::CompletionReloads,
                Witness::ReapedToQueued,
                Witness::ReapedToDead,
                Witness::ReapedOverdue,
                Witness::ZombieWorks,
                Witness::DeskReloads,
                Witness::Reconciled,
                Witness::Dead,
            ],
        ),
    ),
    (
        "lost replies",
        theme_of(
            CHAIN,
            Effect::None,
            (3, 2),
            Bounds { lost_replies: 2, expiries: 1, ..NOTHING },
            &[Witness::Succeeded, Witness::ResultRecognised, Witness::ClaimRecognised, Witness::StaleRefused],
        ),
    ),
    (
        "redis",
        theme_of(
            CHAIN,
            Effect::None,
            (3, 2),
            Bounds { flushes: 1, duplicates: 1, lost_pushes: 1, early_returns: 1, crashes: 1, ..NOTHING },
            &[
                Witness::Succeeded,
                Witness::TicketForgotten,
                Witness::ClaimReloads,
                Witness::Reconciled,
                Witness::TicketTwice,
                Witness::ReapedToQueued,
            ],
        ),
    ),
    (
        "retries",
        theme_of(
            CHAIN,
            Effect::None,
            (2, 1),
            Bounds { failures: 2, crashes: 1, replays: 1, ..NOTHING },
            &[
                Witness::Succeeded,
                Witness::Retried,
                Witness::Dead,
                Witness::ReapedToDead,
                Witness::ReplayedToSuccess,
                Witness::Discarded,
            ],
        ),
    ),
    (
        "cancel",
        theme_of(
            CHAIN,
            Effect::None,
            (3, 2),
            Bounds { cancels: 1, failures: 1, crashes: 1, lost_replies: 1, ..NOTHING },
            &[
                Witness::Succeeded,
                Witness::CancelWhileRunning,
                Witness::StaleRefused,
                Witness::DeskReloads,
                Witness::ClaimReloads,
            ],
        ),
    ),
    (
        "fan-in",
        theme_of(
            FAN_IN,
            Effect::None,
            (3, 2),
            Bounds { lost_replies: 1, lost_pushes: 1, early_returns: 1, ..NOTHING },
            &[
                Witness::Succeeded,
                Witness::BranchesMeet,
                Witness::CompletionReloads,
                Witness::ResultRecognised,
            ],
        ),
    ),
    (
        "keyed effect",
        theme_of(
            CHAIN,
            Effect::Keyed,
            (3, 2),
            Bounds { slow_posts: 1, expiries: 1, ..NOTHING },
            &[Witness::Succeeded, Witness::KeyRepeated, Witness::StaleRefused],
        ),
    ),
    (
        "publish, zombies",
        theme_of(
            ONE,
            Effect::Intent,
            (2, 2),
            Bounds { expiries: 1, slow_posts: 1, crashes: 1, ..NOTHING },
            &[
                Witness::Succeeded,
                Witness::ReapedToUnknown,
                Witness::ReapedToQueued,
                Witness::EffectUnderWay,
                Witness::ZombieMaySend,
                Witness::TooLate,
                Witness::ResolverFinds,
                Witness::ResolverExcludes,
                Witness::InDoubt,
                Witness::StaleRefused,
                Witness::Retried,
            ],
        ),
    ),
    (
        "publish, crashes",
        theme_of(
            ONE,
            Effect::Intent,
            (2, 2),
            Bounds { crashes: 1, failures: 1, lost_replies: 1, ..NOTHING },
            &[
                Witness::Succeeded,
                Witness::ReapedToUnknown,
                Witness::IntentRecognised,
                Witness::ResultRecognised,
                Witness::ResolverFinds,
                Witness::ResolverExcludes,
                Witness::InDoubt,
            ],
        ),
    ),
    (
        "publish, cancelled",
        theme_of(
            ONE,
            Effect::Intent,
            (1, 2),
            Bounds { cancels: 1, expiries: 1, slow_posts: 1, ..NOTHING },
            &[
                Witness::Succeeded,
                Witness::CancelWhileRunning,
                Witness::CancelWaits,
                Witness::ZombieMaySend,
                Witness::ResolverFinds,
                Witness::ResolverExcludes,
            ],
        ),
    ),
    (
        "restore",
        theme_of(
            CHAIN,
            Effect::None,
            (3, 2),
            Bounds { restores: 1, early_returns: 1, ..NOTHING },
            &[Witness::Succeeded, Witness::EpochCameBack, Witness::StaleRefused, Witness::ReapedOverdue],
        ),
    ),
    (
        "restore, crashes",
        theme_of(
            ONE,
            Effect::Keyed,
            (3, 2),
            Bounds { restores: 1, crashes: 1, flushes: 1, ..NOTHING },
            &[Witness::Succeeded, Witness::EpochCameBack, Witness::StaleRefused, Witness::KeyRepeated],
        ),
    ),
];

/// The theme of that name.
///
/// # Panics
/// If there is none.
pub fn theme(name: &str) -> Protocol {
    let found = THEMES.iter().find(|(known, _)| *known == name);
    found.unwrap_or_else(|| panic!("no theme is called {name}")).1.clone()
}
