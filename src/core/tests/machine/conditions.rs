//! Conditions come from outside: whatever they are, they are refused with a
//! sentence or answer with one.

use galley_core::condition::Condition;
use proptest::prelude::*;
use serde_json::{Map, json};

fn ask(text: &str) {
    if let Ok(condition) = Condition::compile(text) {
        let _ = condition.holds(&json!({ "n": 1, "list": [1, 2] }), &json!(null), &Map::new());
    }
}

/// The pieces of expressions, so that random ones often parse.
fn piece() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "brief",
        "params",
        "results",
        ".n",
        ".list",
        ".map(x, ",
        ".all(x, ",
        ".exists(x, ",
        "x",
        "has(",
        "size(",
        "(",
        ")",
        "[",
        "]",
        "{",
        "}",
        "'a'",
        "\"",
        "1",
        "-1",
        "9223372036854775807",
        "1.5",
        "1u",
        "b'x'",
        " + ",
        " - ",
        " * ",
        " / ",
        " % ",
        " == ",
        " != ",
        " < ",
        " && ",
        " || ",
        "!",
        "?",
        ":",
        ",",
        ".",
        " in ",
        "null",
        "true",
        "matches('a')",
        ".matches('(')",
        "timestamp('x')",
        "duration('1h')",
        "\\",
        "\n",
        "é",
    ])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn any_text_is_answered(text in ".{0,80}") {
        ask(&text);
    }

    #[test]
    fn any_pieces_are_answered(pieces in prop::collection::vec(piece(), 0..16)) {
        ask(&pieces.concat());
    }
}

/// A stack overflow cannot be caught: it would end the process for everybody.
#[test]
fn deep_nesting_is_answered() {
    for (open, middle, close) in [
        ("(", "true", ")"),
        ("[", "1", "]"),
        ("!", "true", ""),
        ("-", "1", ""),
        ("{1:", "1", "}"),
        ("size(", "[]", ")"),
        ("[1].all(x, ", "true", ")"),
        ("true || ", "true", ""),
        ("true ? true : ", "true", ""),
        ("1 + ", "1 == 1", ""),
        ("", "brief", ".n"),
        ("", "brief", "[0]"),
    ] {
        for bytes in [100, 1_000, 4_000] {
            let depth = bytes / (open.len() + close.len());
            ask(&format!("{}{middle}{}", open.repeat(depth), close.repeat(depth)));
        }
    }
}
