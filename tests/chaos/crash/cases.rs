//! Which scene walks which point. A new point does not compile without one.

use std::panic::{AssertUnwindSafe, resume_unwind};

use futures::FutureExt;
use galley_probe::Point;

use crate::Case;
use crate::bed::Bed;
use crate::child::How;
use crate::scenes::{Chore, Load, Wish, client, scheduler, worker};
use crate::servers::Servers;

/// Whether a case waits for Postgres to end a stopped transaction (30 s).
pub(crate) fn waits_long(case: Case) -> bool {
    case.how == How::Stop && case.hit == 2 && in_transaction(case.point)
}

/// Whether a child that stops here holds locks.
pub(crate) fn in_transaction(point: Point) -> bool {
    matches!(point, Point::AcceptWritten | Point::SaveWritten | Point::ScheduleWritten)
}

/// One case, from a clean database to its end; panics if it does not hold.
pub(crate) async fn run(servers: &Servers, case: Case) {
    let mut bed = Bed::new(servers).await;
    match AssertUnwindSafe(play(&mut bed, case)).catch_unwind().await {
        Ok(()) => bed.close(servers).await,
        Err(why) => {
            println!("{case}, as it stands:{}", bed.story().await);
            servers.throw_away(bed.leave()).await;
            resume_unwind(why);
        }
    }
}

async fn play(bed: &mut Bed, case: Case) {
    match case.point {
        Point::AcceptCollected
        | Point::AcceptWritten
        | Point::AcceptCommitted
        | Point::AcceptStored
        | Point::AcceptPushed => client(bed, case, Wish::Submit).await,
        Point::AnswerRead | Point::AnswerCommitted => client(bed, case, Wish::Approve).await,
        Point::EditDecided | Point::EditCommitted => client(bed, case, Wish::Edit).await,
        Point::CancelCommitted => client(bed, case, Wish::Cancel).await,
        Point::RepairCommitted => client(bed, case, Wish::Replay).await,
        Point::PolicyCommitted => client(bed, case, Wish::Limit).await,

        Point::SessionOpened => worker(bed, case, Load::Sessions).await,
        Point::ClaimPopped
        | Point::ClaimCommitted
        | Point::ClaimReady
        | Point::ClaimInFlight
        | Point::CompleteReported
        | Point::SaveWritten
        | Point::CompleteCommitted
        | Point::CompletePushed => worker(bed, case, Load::Chains).await,
        Point::ClaimHeld => worker(bed, case, Load::Manual).await,
        Point::PublishMoved => worker(bed, case, Load::Posts { approval: true }).await,
        Point::PublishBegun
        | Point::PublishMade
        | Point::PublishSlotted
        | Point::PublishIntended
        | Point::PublishSending
        | Point::PublishSent => worker(bed, case, Load::Posts { approval: false }).await,
        Point::PublishLooked => worker(bed, case, Load::LostReplies).await,

        Point::ReapClosed | Point::ReapReturned | Point::ReapEmpty => {
            scheduler(bed, case, Chore::DeadSessions).await;
        }
        Point::ReapOverdue => scheduler(bed, case, Chore::Overdue).await,
        Point::ReconcileRead | Point::ReconcilePushed => scheduler(bed, case, Chore::LostPushes).await,
        Point::ReconcileStarted => scheduler(bed, case, Chore::Unstarted).await,
        Point::RebuildBegun | Point::RebuildMirrored | Point::RebuildPushed => {
            scheduler(bed, case, Chore::EmptyQueue).await;
        }
        Point::DueRead | Point::DueQueued => scheduler(bed, case, Chore::Retries).await,
        Point::DueOrphaned => scheduler(bed, case, Chore::OrphanedTimers).await,
        Point::ScheduleRead | Point::ScheduleWritten | Point::ScheduleCommitted => {
            scheduler(bed, case, Chore::Schedules).await;
        }
        Point::SchedulePassed => scheduler(bed, case, Chore::MissedSchedules).await,
        Point::CallReserved | Point::CallSettling => worker(bed, case, Load::Paid).await,
        Point::CallsLost => scheduler(bed, case, Chore::LostCalls).await,
        Point::PlacesRead => scheduler(bed, case, Chore::Ghosts).await,
        Point::ExpireRead => scheduler(bed, case, Chore::LateQuestions).await,
    }
}
