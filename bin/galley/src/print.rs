//! How text reaches people: stdout is data, stderr is talk, colours only on a
//! terminal (and never with NO_COLOR). Nothing else in this package writes to
//! either stream.

use std::io::{self, IsTerminal, Write};

use crate::exit::Exit;
use crate::failure::Failure;

/// Writes data to stdout.
///
/// # Errors
/// A reader that went away (`galley … | head`) ends the command quietly; other
/// write errors are told.
pub(crate) fn data(text: &str) -> Result<(), Failure> {
    let mut stdout = anstream::stdout().lock();
    let written = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
    written.map_err(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => Failure::silent(Exit::Done),
        _ => Failure::unexpected("could not write to stdout").detail(error),
    })
}

/// Writes a value as the API gives it, for `--json`.
///
/// # Errors
/// As [`data`].
pub(crate) fn json(value: &impl serde::Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|error| Failure::unexpected("a value does not serialize").detail(error))?;
    data(&format!("{text}\n"))
}

/// Says something to a person. Nobody listening is no error.
pub(crate) fn talk(text: &str) {
    let mut stderr = anstream::stderr().lock();
    let _ = stderr.write_all(text.as_bytes()).and_then(|()| stderr.flush());
}

/// Says one line to a person.
pub(crate) fn say(line: &str) {
    talk(&format!("{line}\n"));
}

/// Draws on the terminal that [`is_live`] found. Colours step aside for
/// NO_COLOR; movements of the cursor must not.
pub(crate) fn draw(text: &str) {
    let mut stderr = io::stderr().lock();
    let text = if has_colours() { text.to_owned() } else { without_colours(text) };
    let _ = stderr.write_all(text.as_bytes()).and_then(|()| stderr.flush());
}

fn has_colours() -> bool {
    anstream::AutoStream::choice(&io::stderr()) != anstream::ColorChoice::Never
}

/// Drops what ends in `m` of the escape codes: colours and weights.
fn without_colours(text: &str) -> String {
    let mut plain = String::new();
    let mut rest = text;
    while let Some(start) = rest.find("\x1b[") {
        let (before, code) = rest.split_at(start);
        plain.push_str(before);
        let end = code
            .char_indices()
            .skip(2)
            .find(|(_, c)| c.is_ascii_alphabetic())
            .map_or(code.len(), |(i, _)| i + 1);
        if !code[..end].ends_with('m') {
            plain.push_str(&code[..end]);
        }
        rest = &code[end..];
    }
    plain.push_str(rest);
    plain
}

/// Whether a person watches stderr: live views are drawn in place.
pub(crate) fn is_live() -> bool {
    io::stderr().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// Columns a table on stdout may use; `None` when it goes to a file or pipe,
/// where nothing is cut.
pub(crate) fn data_width() -> Option<usize> {
    io::stdout().is_terminal().then(terminal_width)
}

/// Columns of the terminal; 80 where nobody knows, and never absurdly few.
pub(crate) fn terminal_width() -> usize {
    ratatui::crossterm::terminal::size().map_or(80, |(columns, _)| usize::from(columns)).max(40)
}

/// Lines of the terminal; 24 where nobody knows.
pub(crate) fn terminal_height() -> usize {
    ratatui::crossterm::terminal::size().map_or(24, |(_, lines)| usize::from(lines))
}

/// The few styles, by meaning.
pub(crate) mod style {
    use anstyle::{AnsiColor, Style};

    /// A style by meaning. Text in it is written with escape codes, which the
    /// streams drop when nobody sees colours.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) struct Paint(Style);

    impl Paint {
        /// The text in this style.
        pub(crate) fn on(self, text: &str) -> String {
            if self == PLAIN {
                return text.to_owned();
            }
            format!("{}{text}{}", self.0.render(), self.0.render_reset())
        }
    }

    /// As it is.
    pub(crate) const PLAIN: Paint = Paint(Style::new());
    /// Headings and what matters.
    pub(crate) const STRONG: Paint = Paint(Style::new().bold());
    /// What may be overlooked.
    pub(crate) const DIM: Paint = Paint(Style::new().dimmed());
    /// It went well.
    pub(crate) const GOOD: Paint = Paint(AnsiColor::Green.on_default());
    /// It moves.
    pub(crate) const BUSY: Paint = Paint(AnsiColor::Cyan.on_default());
    /// Somebody may want to look.
    pub(crate) const WARN: Paint = Paint(AnsiColor::Yellow.on_default());
    /// It went wrong.
    pub(crate) const BAD: Paint = Paint(AnsiColor::Red.on_default().bold());

    /// The style of a state's word.
    pub(crate) fn of_state(state: &str) -> Paint {
        match state {
            "succeeded" | "completed" | "open" | "ready" | "ok" | "replayed" | "published" | "approved" => {
                GOOD
            }
            "running" | "queued" | "active" | "expanded" | "publishing" | "intent" | "repeated" => BUSY,
            "scheduled" | "stalled" | "paused" | "off" | "warn" | "waiting" | "waiting_approval"
            | "unknown" | "pending" => WARN,
            "failed" | "dead" | "fail" | "crashed" | "overdue" | "in_doubt" => BAD,
            "blocked" | "skipped" | "cancelled" | "closed" | "discarded" | "draft" | "rejected"
            | "expired" | "void" | "not_sent" => DIM,
            _ => PLAIN,
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn colours_go_and_cursor_movements_stay() {
        let text = format!("\x1b[2A{}ab", super::style::GOOD.on("x"));
        assert_eq!(super::without_colours(&text), "\x1b[2Axab");
    }
}
