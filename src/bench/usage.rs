//! CPU time and memory of processes, read from /proc.

use std::collections::HashSet;

/// CPU seconds of a process and all its living descendants, and of those of
/// its children that it waited for.
pub(crate) fn cpu_seconds(pid: u32) -> f64 {
    tree(pid).iter().map(|pid| cpu_of(*pid)).sum()
}

/// Resident memory of a process, MB.
pub(crate) fn rss_mb(pid: u32) -> f64 {
    status_mb(pid, "VmRSS:")
}

/// The most resident memory a process ever had, MB.
pub(crate) fn peak_mb(pid: u32) -> f64 {
    status_mb(pid, "VmHWM:")
}

fn status_mb(pid: u32, what: &str) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let kb = status
        .lines()
        .find_map(|line| line.strip_prefix(what))
        .and_then(|rest| rest.trim().trim_end_matches(" kB").trim().parse::<f64>().ok());
    kb.unwrap_or(0.0) / 1_024.0
}

fn tree(root: u32) -> HashSet<u32> {
    let mut parents = Vec::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        if let Some(parent) = stat(pid).and_then(|fields| fields.get(1)?.parse::<u32>().ok()) {
            parents.push((pid, parent));
        }
    }
    let mut family = HashSet::from([root]);
    loop {
        let before = family.len();
        for (pid, parent) in &parents {
            if family.contains(parent) {
                family.insert(*pid);
            }
        }
        if family.len() == before {
            return family;
        }
    }
}

/// The fields of /proc/PID/stat behind the command name.
fn stat(pid: u32) -> Option<Vec<String>> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let rest = text.rsplit_once(") ")?.1;
    Some(rest.split_whitespace().map(str::to_owned).collect())
}

fn cpu_of(pid: u32) -> f64 {
    let Some(fields) = stat(pid) else { return 0.0 };
    // utime, stime, cutime, cstime: fields 14 to 17 of the whole line.
    let ticks: f64 = (11..15).filter_map(|i| fields.get(i)?.parse::<f64>().ok()).sum();
    // USER_HZ is 100 on every Linux that Debian runs on.
    ticks / 100.0
}

/// Whether a process is below another.
pub(crate) fn is_descendant(pid: u32, of: u32) -> bool {
    tree(of).contains(&pid)
}
