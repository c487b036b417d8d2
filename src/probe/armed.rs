//! What the probes do in a build that may be broken: read the environment
//! once, count, and act.

use std::fs::File;
use std::io::Write;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use nix::sys::signal::{Signal, raise};

use crate::{Bug, CRASH_POINT, PLANTED, Point, Rescue, SEEN_FILE};

/// Lines per rescue and process: more would tell nothing new and cost I/O on
/// hot paths.
const MOST_LINES: u32 = 200;

/// A planned end: at which hit of which point, and by which signal.
struct Plan {
    point: Point,
    hit: u32,
    signal: Signal,
    hits: AtomicU32,
}

/// A place between two pieces of I/O: dies or stops here when told so.
pub fn point(point: Point) {
    static PLANS: OnceLock<Vec<Plan>> = OnceLock::new();
    for plan in PLANS.get_or_init(|| listed(CRASH_POINT, plan)) {
        if plan.point == point && plan.hits.fetch_add(1, Ordering::Relaxed) + 1 == plan.hit {
            // To this very thread: it does not run on past this line.
            let _ = raise(plan.signal);
        }
    }
}

/// Whether a bug is planted.
#[must_use]
pub fn planted(bug: Bug) -> bool {
    static BUGS: OnceLock<Vec<Bug>> = OnceLock::new();
    BUGS.get_or_init(|| listed(PLANTED, Bug::named)).contains(&bug)
}

/// A rescue path was walked: appends its name to the file, in one write that a
/// kill does not take back.
pub fn seen(rescue: Rescue) {
    static COUNTS: [AtomicU32; Rescue::ALL.len()] = [const { AtomicU32::new(0) }; Rescue::ALL.len()];
    static FILE: OnceLock<Option<File>> = OnceLock::new();
    let Some(file) = FILE.get_or_init(open) else { return };
    if COUNTS[rescue as usize].fetch_add(1, Ordering::Relaxed) < MOST_LINES {
        let mut file: &File = file;
        // Nowhere to tell it: the checker misses it and says so.
        let _ = file.write_all(format!("{rescue}\n").as_bytes());
    }
}

fn open() -> Option<File> {
    let path = given(SEEN_FILE)?;
    match File::options().append(true).create(true).open(&path) {
        Ok(file) => Some(file),
        Err(error) => refuse(&format!("{SEEN_FILE}={path}: {error}")),
    }
}

fn plan(text: &str) -> Option<Plan> {
    let mut parts = text.split(':');
    let (point, hit, how) = (parts.next()?, parts.next()?, parts.next()?);
    let signal = match how {
        "kill" => Signal::SIGKILL,
        "stop" => Signal::SIGSTOP,
        _ => return None,
    };
    let hit = hit.parse().ok().filter(|hit| *hit > 0 && parts.next().is_none())?;
    Some(Plan { point: Point::named(point)?, hit, signal, hits: AtomicU32::new(0) })
}

/// A list in the environment, read by `read`.
fn listed<T>(name: &str, read: impl Fn(&str) -> Option<T>) -> Vec<T> {
    let texts = given(name).unwrap_or_default();
    texts
        .split(',')
        .map(str::trim)
        .filter(|text| !text.is_empty())
        .map(|text| read(text).unwrap_or_else(|| refuse(&format!("{name}: `{text}` is not known"))))
        .collect()
}

fn given(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|text| !text.is_empty())
}

/// A test that names what does not exist must not pass for that reason.
fn refuse(why: &str) -> ! {
    let _ = writeln!(std::io::stderr(), "galley-probe: {why}");
    std::process::abort()
}
