//! `docs/model.md` says how much was searched and shows every counterexample: a
//! search that finds something else than the page says fails.

use std::fmt::Debug;

use galley_model::{Counterexample, Explored, Searched, counterexample, explore};

const PAGE: &str = include_str!("../../../../docs/model.md");

/// Searches all of a theme.
pub(crate) fn holds(name: &str, model: &impl Searched) -> Explored {
    let seen = explore(model);
    let row = format!("| {name} | {} | {} |", seen.states, seen.depth);
    assert!(PAGE.contains(&row), "docs/model.md should say: {row}");
    seen
}

/// A test per theme; and that none is forgotten, and no rescue goes unseen.
macro_rules! themes {
    ($($test:ident: $name:literal,)+) => {
        $(#[test]
        fn $test() {
            crate::page::holds($name, &theme($name));
        })+

        #[test]
        fn every_theme_is_searched() {
            let named: Vec<_> = THEMES.iter().map(|(name, _)| *name).collect();
            assert_eq!(named, [$($name),+]);
        }

        #[test]
        fn every_rescue_is_seen_by_some_theme() {
            for witness in Witness::ALL {
                assert!(
                    THEMES.iter().any(|(_, model)| model.witnesses.contains(witness)),
                    "{witness:?} is seen by no theme"
                );
            }
        }
    };
}
pub(crate) use themes;

/// Demands that every shortcut is shown.
pub(crate) fn shows_all(shortcuts: &[impl Debug]) {
    for shortcut in shortcuts {
        assert!(PAGE.contains(&format!("| {shortcut:?} |")), "docs/model.md does not show {shortcut:?}");
    }
}

/// Looks for the counterexample of what takes shortcuts, demands that the sound
/// protocol has none within the same bounds, and that the page shows it.
pub(crate) fn caught<M: Searched>(
    (sound, broken): (&M, &M),
    shortcuts: &[impl Debug],
    promise: &'static str,
    told: impl Fn(&M::Action) -> String,
) -> Counterexample<M> {
    let Some(found) = counterexample(broken, promise) else {
        panic!("{shortcuts:?} does not break \"{promise}\"");
    };
    let names: Vec<_> = shortcuts.iter().map(|shortcut| format!("{shortcut:?}")).collect();
    let actions: Vec<_> = found.actions.iter().map(told).collect();
    let row = format!("| {} | {promise} | {} |", names.join(" + "), actions.join(", "));
    assert!(PAGE.contains(&row), "docs/model.md should say: {row}");
    assert!(counterexample(sound, promise).is_none(), "the sound protocol breaks \"{promise}\"");
    found
}

/// `Claim { worker: 0, step: s1 }` as `Claim(0, s1)`: short enough for a table.
pub(crate) fn without_fields(action: &impl Debug, fields: &[&str]) -> String {
    let text = format!("{action:?}").replace(" { ", "(").replace(" }", ")");
    fields.iter().fold(text, |text, field| text.replace(&format!("{field}: "), ""))
}

/// Whether a counterexample takes such an action.
pub(crate) fn has<M: Searched>(found: &Counterexample<M>, what: impl Fn(&M::Action) -> bool) -> bool {
    found.actions.iter().any(what)
}
