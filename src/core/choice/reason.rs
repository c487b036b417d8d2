//! The reason of a choice, in a sentence for people.

use super::{Candidate, Score, WhyNot};

/// Why `index` was chosen while `best` looks best.
pub(super) fn of(
    candidates: &[Candidate<'_>],
    scores: &[Score],
    index: usize,
    best: usize,
    known: bool,
) -> String {
    let name = candidates[index].name;
    let refused = |why| scores.iter().filter(|score| score.why_not == Some(why)).count();
    let (over, unhealthy) = (refused(WhyNot::Budget), refused(WhyNot::Unhealthy));
    if over + unhealthy + 1 == candidates.len() {
        return match (over, unhealthy) {
            (0, 0) => format!("{name}: the only candidate"),
            (_, 0) => format!("{name}: the only one the budget allows"),
            (0, _) => format!("{name}: the only one whose provider answers"),
            _ => format!("{name}: the only one left; {over} over the budget, {unhealthy} failing"),
        };
    }
    if !known {
        let of = if over + unhealthy == 0 { "" } else { " that can be used" };
        return format!("{name}: nothing is known of any candidate yet, so the first of the list{of}");
    }
    let candidate = &candidates[index];
    if index != best {
        let best = candidates[best].name;
        return format!("{name}: tried to learn more about it ({}); so far {best} is best", runs(candidate));
    }
    let score = &scores[index];
    let rated = if candidate.own.rating_weight + candidate.global.rating_weight > 0.0 {
        format!("rated {:.1}", score.quality)
    } else {
        "not rated yet".into()
    };
    let runner_up = scores
        .iter()
        .enumerate()
        .filter(|(other, score)| *other != index && score.why_not.is_none())
        .map(|(_, score)| score)
        .reduce(|a, b| if b.utility > a.utility { b } else { a });
    let next = runner_up.map_or(String::new(), |next| {
        // What is within half a percent of the best would read as 100 %.
        let share = (100.0 * next.utility / score.utility.max(f64::MIN_POSITIVE)).round();
        let near = if share >= 100.0 { "close behind".into() } else { format!("at {share:.0} % of it") };
        format!("; next is {} {near}", next.name)
    });
    let success = 100.0 * score.success;
    format!(
        "{name}: best for its price and speed ({rated}, {success:.0} % succeed; {}){next}",
        runs(candidate)
    )
}

/// What the belief in a candidate rests on.
fn runs(candidate: &Candidate<'_>) -> String {
    match (candidate.own.weight.round() as u64, candidate.global.weight.round() as u64) {
        (0, 0) => "no runs yet".into(),
        (0, _) => "no runs here yet, some elsewhere".into(),
        (1, _) => "1 recent run here".into(),
        (runs, _) => format!("some {runs} recent runs here"),
    }
}
