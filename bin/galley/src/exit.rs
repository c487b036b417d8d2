//! Exit codes: an interface. Scripts branch on them, so a code never changes
//! its meaning; `--help` and docs/cli.md are written from this list.

/// How the process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    /// It was done.
    Done = 0,
    /// A bug, or something the operating system refused.
    Unexpected = 1,
    /// The command line or the configuration is wrong.
    Usage = 2,
    /// What was named does not exist.
    NotFound = 3,
    /// The request was understood and refused.
    Refused = 4,
    /// It exists, but not in a state that allows this.
    Conflict = 5,
    /// The token is missing, wrong, expired, or lacks the role.
    Unauthorized = 6,
    /// A server cannot be reached.
    Unavailable = 7,
    /// The command waited for a workflow, and that did not succeed.
    WorkflowFailed = 8,
}

impl Exit {
    /// Every code, in order.
    pub(crate) const ALL: [Self; 9] = [
        Self::Done,
        Self::Unexpected,
        Self::Usage,
        Self::NotFound,
        Self::Refused,
        Self::Conflict,
        Self::Unauthorized,
        Self::Unavailable,
        Self::WorkflowFailed,
    ];

    /// What the shell sees.
    pub(crate) fn code(self) -> u8 {
        self as u8
    }

    /// What it means, for `--help` and the docs.
    pub(crate) fn meaning(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Unexpected => "unexpected: a bug, or something the operating system refused",
            Self::Usage => "usage: the command line or the configuration is wrong",
            Self::NotFound => "not found: what was named does not exist",
            Self::Refused => "refused: the request is invalid, or a check found a fault",
            Self::Conflict => "conflict: it exists, but not in a state that allows this",
            Self::Unauthorized => "unauthorized: the token is missing, wrong, expired, or lacks the role",
            Self::Unavailable => "unavailable: a server cannot be reached; try again",
            Self::WorkflowFailed => "the workflow that was waited for did not succeed",
        }
    }

    /// The list as `--help` shows it.
    pub(crate) fn help() -> String {
        let lines: Vec<_> =
            Self::ALL.iter().map(|exit| format!("  {}  {}", exit.code(), exit.meaning())).collect();
        format!("Exit codes:\n{}", lines.join("\n"))
    }
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

#[cfg(test)]
mod tests {
    use super::Exit;

    #[test]
    fn a_code_is_its_place_in_the_list() {
        for (place, exit) in Exit::ALL.iter().enumerate() {
            assert_eq!(usize::from(exit.code()), place);
        }
    }
}
