//! Where processes die or stop by themselves: between two pieces of I/O, where
//! a signal from outside would hardly ever find them.

use galley_probe::Point;
use rand::RngExt as _;
use rand::rngs::StdRng;

use crate::fleet::Role;

/// The rooms whose points a role passes.
const fn rooms(role: Role) -> &'static [&'static str] {
    match role {
        Role::Api => &["accept", "answer", "edit", "cancel", "repair", "policy", "save"],
        Role::Scheduler => {
            &["reap", "reconcile", "rebuild", "due", "schedule", "places", "expire", "calls", "save"]
        }
        Role::Worker => &["session", "claim", "complete", "publish", "call", "save"],
        Role::Gateway | Role::Outside => &["claim", "complete", "save"],
    }
}

/// A plan by which a process of this role dies at one of three points, whichever
/// it meets first.
pub(super) fn deadly(role: Role, random: &mut StdRng) -> String {
    let of_role =
        |point: &&Point| point.name().split_once('.').is_some_and(|(room, _)| rooms(role).contains(&room));
    let points: Vec<&Point> = Point::ALL.iter().filter(of_role).collect();
    let plans: Vec<String> = (0..3)
        .map(|_| {
            let point = points[random.random_range(0..points.len())];
            format!("{point}:{}:kill", random.random_range(1..5))
        })
        .collect();
    plans.join(",")
}

/// A plan by which a worker stops after an intent, before anything is sent.
pub(super) fn before_the_call(random: &mut StdRng) -> String {
    // Right before the call only its deadline is left to stop it; before that
    // it has more to find out, and more to forget.
    let point = if random.random_range(0..4) == 0 { Point::PublishSending } else { Point::PublishIntended };
    format!("{point}:1:stop")
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;

    use super::*;

    #[test]
    fn every_room_has_points_and_every_point_a_room() {
        let rooms: Vec<&str> =
            [Role::Api, Role::Scheduler, Role::Worker].into_iter().flat_map(rooms).copied().collect();
        for point in Point::ALL {
            let room = point.name().split_once('.').unwrap().0;
            assert!(rooms.contains(&room), "nobody dies at {point}");
        }
    }

    #[test]
    fn plans_name_points() {
        let mut random = StdRng::seed_from_u64(1);
        for plan in [deadly(Role::Api, &mut random), before_the_call(&mut random)] {
            for one in plan.split(',') {
                assert!(Point::named(one.split(':').next().unwrap()).is_some(), "{one}");
            }
        }
    }
}
