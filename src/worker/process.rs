//! What a worker's process needs of its machine: open files, for a call to a
//! provider may be a connection, and a process that runs out of them fails calls
//! that nothing is wrong with; and memory in small pages.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// What a process needs besides its calls: stores, log, metrics, libraries.
const BESIDES: u64 = 256;

/// Makes room for so many connections at once, within what the machine allows.
/// Answers how many there is room for.
pub fn allow_connections(wanted: usize) -> usize {
    let needed = (wanted as u64).saturating_add(BESIDES);
    let room = |files: u64| usize::try_from(files.saturating_sub(BESIDES)).unwrap_or(usize::MAX);
    // A machine that does not say does not limit.
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return usize::MAX };
    if soft >= needed {
        return room(soft);
    }
    let raised = needed.min(hard);
    match setrlimit(Resource::RLIMIT_NOFILE, raised, hard) {
        Ok(()) => room(raised),
        Err(_) => room(soft),
    }
}

/// Memory in small pages from now on. A worker holds much that is small for a
/// moment; in pages of two megabytes each of them keeps the whole page. For a
/// process that starts no other: whoever it starts inherits it.
pub fn small_pages() {
    #[cfg(target_os = "linux")]
    if let Err(error) = nix::sys::prctl::set_thp_disable(true) {
        tracing::debug!(%error, "memory stays in large pages");
    }
}

/// As [`allow_connections`], and says so when a worker's steps may run out.
pub(crate) fn check(concurrency: usize) {
    let room = allow_connections(concurrency);
    if room < concurrency {
        tracing::warn!(
            concurrency,
            room,
            "this process may hold {room} connections, and {concurrency} steps at once may each need one: calls beyond \
             that will fail to connect; raise its limit of open files (`ulimit -n`, LimitNOFILE=) or lower its concurrency"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_made_where_the_machine_allows_it() {
        let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("a limit");
        let most = usize::try_from(hard.saturating_sub(BESIDES)).expect("it fits");
        assert!(allow_connections(10) >= 10);
        assert_eq!(allow_connections(usize::MAX), most, "never more than the hard limit");
        assert_eq!(getrlimit(Resource::RLIMIT_NOFILE).expect("a limit").0, hard);
    }
}
