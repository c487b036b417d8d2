//! Parts of the docs that are written from the code, between marker comments.
//! The tests compare them; `UPDATE_DOCS=1 cargo test -p galley-bin` writes them.

use std::path::Path;

/// Compares the part `name` of a file with what it should be.
pub(crate) fn check(path: &Path, name: &str, wanted: &str) {
    let text = std::fs::read_to_string(path).expect("the docs file is there");
    let (begin, end) = (format!("<!-- begin {name} -->\n"), format!("<!-- end {name} -->"));
    let from = text.find(&begin).expect("the begin marker is there") + begin.len();
    let to = text.find(&end).expect("the end marker is there");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        let updated = format!("{}{wanted}{}", &text[..from], &text[to..]);
        std::fs::write(path, updated).expect("the docs file can be written");
        return;
    }
    assert_eq!(
        &text[from..to],
        wanted,
        "{} is behind the code: run `UPDATE_DOCS=1 cargo test -p galley-bin`",
        path.display()
    );
}
