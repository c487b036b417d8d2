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
/// What is allowed is evaluated, what is deeper is refused before it is parsed.
///
/// Without optimisation the parser needs more than ten times the stack that
/// the limits are made for, so the test brings its own.
#[test]
fn deep_nesting_is_refused_and_what_is_allowed_is_evaluated() {
    let all = || {
        let repeated = [
            ("(", "true", ")"),
            ("[", "1", "]"),
            ("!", "true", ""),
            ("-", "1", ""),
            ("{1:", "1", "}"),
            ("size(", "[]", ")"),
            ("[1].all(x, ", "true", ")"),
            ("true || ", "true", ""),
            ("true ? true : ", "true", ""),
            ("1 + ", "1", ""),
            ("1 in ", "[1]", ""),
            ("", "1", " == 1"),
            ("", "brief", ".n"),
            ("", "brief", "[0]"),
            ("", "brief", ".n()"),
        ];
        for (open, middle, close) in repeated {
            let of = |times: usize| format!("{}{middle}{}", open.repeat(times), close.repeat(times));
            for times in [8, 32, 128, 512] {
                ask(&of(times));
            }
            let told = Condition::compile(&of(4_000 / (open.len() + close.len()))).unwrap_err();
            assert!(told.contains("are allowed"), "{open}{middle}{close}: {told}");
        }
    };
    std::thread::Builder::new().stack_size(128 << 20).spawn(all).unwrap().join().unwrap();
}
