//! Random workflows, random histories: larger than what can be explored to
//! the end, held to the same laws.

use galley_core::decide::Event;
use galley_core::plan::Plan;
use galley_core::run::{StepState, WorkflowState};
use proptest::prelude::*;

use crate::laws;
use crate::shapes::plan;
use crate::world::{Action, Budget, World};

/// What marks a step may carry: see [`crate::shapes`].
const MARKS: [&str; 17] =
    ["", "", "", "?", "*0", "*2", "*3", "?*2", "+", "!", "^", "^", "^?", "^*2", "*3%", "*1%", "^*2%"];

/// Marks of a step that has a need.
const MARKS_WITH_A_NEED: [&str; 8] = ["~", "#", "?#", "*4", "?*x", "~*1", "*2&", "?*4%"];

/// A directed acyclic graph of up to seven steps, in any order of definition.
fn shape() -> impl Strategy<Value = String> {
    let step =
        (prop::collection::vec(any::<prop::sample::Index>(), 0..4), 0..MARKS.len() + MARKS_WITH_A_NEED.len());
    prop::collection::vec(step, 1..8).prop_flat_map(|steps| {
        let mut words: Vec<String> = Vec::new();
        for (n, (needs, mark)) in steps.iter().enumerate() {
            let needs: Vec<_> = needs.iter().filter(|_| n > 0).map(|i| format!("s{}", i.index(n))).collect();
            let mark = match mark.checked_sub(MARKS.len()) {
                None => MARKS[*mark],
                Some(mark) if !needs.is_empty() => MARKS_WITH_A_NEED[mark],
                Some(_) => "",
            };
            let needs = if needs.is_empty() { String::new() } else { format!("<{}", needs.join(",")) };
            words.push(format!("s{n}{mark}{needs}"));
        }
        Just(words).prop_shuffle().prop_map(|words| words.join(" "))
    })
}

/// Lets what moves by itself move until nothing does; people answer.
fn drain(plan: &Plan, mut world: World) -> Result<World, String> {
    // Every step has a bounded way: a few tries of three moves each.
    let bound = 64 * world.run.steps.len() + 64;
    for _ in 0..bound {
        if !matches!(world.run.state(plan), WorkflowState::Running | WorkflowState::Waiting) {
            return Ok(world);
        }
        let moved = world.actions(plan).into_iter().find_map(|action| match &action {
            Action::Deliver(event) if world.moves_on(event) => world.step(plan, &action).transpose(),
            _ => None,
        });
        match moved {
            Some(moved) => world = moved?.world,
            None => return Err(format!("stuck at {}", laws::summary(plan, &world.run))),
        }
    }
    Err(format!("no end in sight after {bound} moves: {}", laws::summary(plan, &world.run)))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn any_history_of_any_workflow_keeps_the_laws(
        shape in shape(),
        picks in prop::collection::vec((any::<prop::sample::Index>(), 0u8..8), 0..60),
    ) {
        let plan = plan(&shape);
        let mut world = World::new(&plan, Budget::ENDLESS).map_err(TestCaseError::fail)?;
        for (pick, luck) in picks {
            let all = world.actions(&plan);
            // Mostly what can move now; sometimes anything, however late.
            let live: Vec<_> = all
                .iter()
                .filter(|a| luck > 1 && matches!(a, Action::Deliver(e) if world.should_be_accepted(e)))
                .filter(|a| luck > 6 || **a != Action::Deliver(Event::Cancel))
                .collect();
            let action = if live.is_empty() { &all[pick.index(all.len())] } else { live[pick.index(live.len())] };
            if let Some(moved) = world.step(&plan, action).map_err(TestCaseError::fail)? {
                world = moved.world;
            }
        }
        // Left alone it comes to rest; given up piece by piece it ends.
        world = drain(&plan, world).map_err(TestCaseError::fail)?;
        while world.run.state(&plan) == WorkflowState::Stalled {
            let dead = world.run.steps.iter().position(|s| s.state == StepState::Dead).unwrap();
            let discard = Action::Deliver(Event::Discard { step: dead as u16 });
            world = world.step(&plan, &discard).map_err(TestCaseError::fail)?.unwrap().world;
            world = drain(&plan, world).map_err(TestCaseError::fail)?;
        }
        prop_assert!(world.run.state(&plan).is_final());
    }
}
