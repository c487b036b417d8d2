//! Which promise each planted bug breaks. A run that fails for another reason
//! has not caught it.

use galley_probe::Bug;

use crate::check::Violation;

/// The invariants that a bug attacks, by name: one of them has to be broken.
pub const fn attacks(bug: Bug) -> &'static [&'static str] {
    match bug {
        Bug::DropEpoch | Bug::DropNonce | Bug::IdOnlyGuard => &["results", "transitions"],
        Bug::EpochReset | Bug::DropVersion => &["transitions"],
        Bug::MarkBeforePush | Bug::NoReconciler => &["rest"],
        Bug::AckBeforeCommit => &["accepted"],
        Bug::UnknownCommitFailed
        | Bug::BlindRepeat
        | Bug::IntentAfterSend
        | Bug::ResolverTooEarly
        | Bug::TimeoutIsNotSent
        | Bug::LateSend => &["effects"],
        Bug::StaleIsMine => &["parents"],
        Bug::AuditOutside => &["audited"],
        Bug::SealSkips => &["chain"],
        Bug::NoWhere | Bug::OpenPolicy => &["tenants"],
        Bug::CancelIgnoresIntent => &["posts", "withdrawn"],
        Bug::LimitByCount | Bug::LimitInMemory | Bug::UtcDay => &["daily_limit"],
        Bug::SlotFreedOnUnknown => &["daily_limit", "quota"],
        Bug::ApprovalNotBound => &["approved"],
        Bug::ExpiredApprovalCounts => &["questions"],
        Bug::ReserveUnlocked | Bug::SettleForgotten | Bug::LostCallDropped | Bug::PostUnpaid => &["money"],
        Bug::EventsById => &["events"],
    }
}

/// Whether another wall holds a bug: its run has to stay clean.
pub const fn is_held(bug: Bug) -> bool {
    matches!(bug, Bug::NoWhere)
}

/// What a bug needs of the database, done by its owner before the run.
pub const fn opens(bug: Bug) -> Option<&'static str> {
    match bug {
        Bug::OpenPolicy => Some(
            "ALTER POLICY tenant ON posts USING (true);
             ALTER POLICY tenant ON post_revisions USING (true);
             ALTER POLICY tenant ON accounts USING (true);",
        ),
        _ => None,
    }
}

/// The violations by which a bug is caught; the others are its consequences.
pub fn caught_by(bug: Bug, violations: &[Violation]) -> Vec<&Violation> {
    violations.iter().filter(|violation| attacks(bug).contains(&violation.invariant)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::INVARIANTS;

    #[test]
    fn every_bug_attacks_an_invariant_that_there_is() {
        for bug in Bug::ALL {
            let known = |name: &&&str| INVARIANTS.iter().any(|invariant| invariant.name == **name);
            assert!(!attacks(*bug).is_empty() && attacks(*bug).iter().all(|name| known(&name)), "{bug}");
        }
    }

    #[test]
    fn another_violation_catches_nothing() {
        let violations = [Violation { invariant: "posts", what: String::new() }];
        assert!(caught_by(Bug::UtcDay, &violations).is_empty());
        assert_eq!(caught_by(Bug::CancelIgnoresIntent, &violations).len(), 1);
    }
}
