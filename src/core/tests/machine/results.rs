//! What a step is handed: its parents' results, its element, its neighbours.

use galley_core::decide::{ALONE, Event, allowed_co_runners, suspicion};
use galley_core::ids::StepIndex;
use galley_core::input::{child_item, compose_result, needed_outputs, needed_results};
use galley_core::report::Failure;
use galley_core::run::{Run, StepState};
use serde_json::{Value, json};

use crate::shapes::{LISTS, accepted, fail, happen, plan, succeed};

/// The stored outputs of a run: every step that succeeded says its position.
fn outputs(run: &Run) -> impl Fn(StepIndex) -> Option<Value> {
    let run = run.clone();
    move |step| (run.step(step)?.state == StepState::Succeeded).then(|| json!({ "of": step }))
}

#[test]
fn a_join_sees_each_branch_by_name_and_a_lost_one_as_null() {
    let plan = plan("a b?<a c!<a d<a,b,c");
    let mut run = accepted(&plan);
    succeed(&plan, &mut run, 0);
    fail(&plan, &mut run, 1, Failure::Permanent);
    assert_eq!(run.step(3).unwrap().state, StepState::Queued);
    let results = needed_results(&plan, &run, 3, &outputs(&run));
    assert_eq!(Value::Object(results), json!({ "a": { "of": 0 }, "b": null, "c": null }));
    assert_eq!(needed_outputs(&plan, &run, 3), [0], "only what succeeded has an output to load");
}

#[test]
fn a_group_is_the_list_of_its_children_in_order_with_null_for_a_lost_one() {
    let plan = plan("a b?*3<a c<b");
    let mut run = accepted(&plan);
    succeed(&plan, &mut run, 0);
    // The children are 3, 4, 5; they end in another order.
    succeed(&plan, &mut run, 5);
    fail(&plan, &mut run, 4, Failure::Permanent);
    succeed(&plan, &mut run, 3);
    let group = compose_result(&run, 1, &outputs(&run));
    assert_eq!(group, Some(json!([{ "of": 3 }, null, { "of": 5 }])));
    assert_eq!(needed_outputs(&plan, &run, 2), [3, 5]);
    assert_eq!(needed_results(&plan, &run, 2, &outputs(&run))["b"], group.unwrap());
}

#[test]
fn an_expansion_over_an_empty_list_is_an_empty_list() {
    let plan = plan("a b*0<a c<b");
    let mut run = accepted(&plan);
    succeed(&plan, &mut run, 0);
    assert_eq!(run.step(1).unwrap().state, StepState::Succeeded);
    assert_eq!(needed_outputs(&plan, &run, 2), [] as [StepIndex; 0]);
    assert_eq!(Value::Object(needed_results(&plan, &run, 2, &|_| None)), json!({ "b": [] }));
}

#[test]
fn a_step_that_left_nothing_has_no_result() {
    let plan = plan("a b<a c!");
    let mut run = accepted(&plan);
    assert_eq!(compose_result(&run, 0, &|_| Some(json!(1))), None, "queued");
    assert_eq!(compose_result(&run, 2, &|_| Some(json!(1))), None, "skipped");
    assert_eq!(compose_result(&run, 9, &|_| Some(json!(1))), None, "not there");
    assert_eq!(needed_results(&plan, &run, 9, &|_| None).len(), 0);
    assert_eq!(needed_outputs(&plan, &run, 9), [] as [StepIndex; 0]);
    happen(&plan, &mut run, Event::Cancel).unwrap();
    assert_eq!(compose_result(&run, 0, &|_| Some(json!(1))), None, "cancelled");
}

#[test]
fn a_child_works_on_its_element() {
    let from_result = plan("a b*3<a");
    let mut run = accepted(&from_result);
    succeed(&from_result, &mut run, 0);
    let item = |step| child_item(&from_result, &run, step, &Value::Null, &|_| Some(LISTS.clone()));
    assert_eq!([2, 3, 4].map(item), ["p", "q", "r"].map(|i| Some(json!(i))));
    assert_eq!(item(0), None, "no child");
    assert_eq!(item(1), None, "the group itself");
    assert_eq!(item(9), None, "not there");

    let from_input = plan("b*2");
    let run = accepted(&from_input);
    let item = |step| child_item(&from_input, &run, step, &LISTS, &|_| None);
    assert_eq!([1, 2].map(item), ["p", "q"].map(|i| Some(json!(i))));
}

#[test]
fn a_condition_about_elements_keeps_each_at_its_place() {
    let some = plan("a b*3%<a c<b");
    let mut run = accepted(&some);
    succeed(&some, &mut run, 0);
    let item = |run: &Run, step| child_item(&some, run, step, &Value::Null, &|_| Some(LISTS.clone()));
    assert_eq!([3, 4].map(|step| item(&run, step)), ["q", "r"].map(|i| Some(json!(i))));
    assert_eq!(run.children(1).map(|step| run.step_name(&some, step)).collect::<Vec<_>>(), ["b.1", "b.2"]);
    assert_eq!((run.find_step(&some, "b.0"), run.find_step(&some, "b.2")), (None, Some(4)));
    succeed(&some, &mut run, 4);
    succeed(&some, &mut run, 3);
    assert_eq!(compose_result(&run, 1, &outputs(&run)), Some(json!([{ "of": 3 }, { "of": 4 }])));

    // None is left: as a step whose condition is false. None was there: an
    // empty list.
    for (shape, state) in [("b*1% c<b", StepState::Skipped), ("b*0% c<b", StepState::Succeeded)] {
        let plan = plan(shape);
        let run = accepted(&plan);
        assert_eq!(run.step(0).unwrap().state, state, "{shape}");
        let expected = if state == StepState::Skipped { Value::Null } else { json!([]) };
        assert_eq!(needed_results(&plan, &run, 1, &|_| None)["b"], expected, "{shape}");
    }

    // A person who replays it overrides the condition.
    let broken = plan("b*2& c<b");
    let mut run = accepted(&broken);
    assert_eq!(run.step(0).unwrap().state, StepState::Dead);
    happen(&broken, &mut run, Event::Replay { step: 0, edited: false }).unwrap();
    assert_eq!(run.children(0).count(), 2);
}

#[test]
fn a_childs_element_can_come_from_another_expansion() {
    // `b` is a list of two results; its whole is what `c` expands over.
    let mut definition = crate::shapes::definition("a b*2<a c*1<b");
    definition.steps[2].for_each.as_mut().unwrap().path = String::new();
    let plan = galley_core::plan::Plan::from_frozen(definition).unwrap();
    let mut run = accepted(&plan);
    for step in [0, 3, 4] {
        succeed(&plan, &mut run, step);
    }
    assert_eq!(run.children(2).collect::<Vec<_>>(), [5, 6]);
    assert_eq!(child_item(&plan, &run, 6, &Value::Null, &outputs(&run)), Some(json!({ "of": 4 })));
    assert_eq!(needed_outputs(&plan, &run, 6), [3, 4]);
}

#[test]
fn a_condition_sees_a_skipped_need_as_null() {
    for (shape, state) in [
        ("a! b~<a", StepState::Skipped),
        ("a+ b~<a", StepState::Blocked),
        ("a! b~<a c~<b d<c", StepState::Skipped),
    ] {
        let plan = plan(shape);
        assert_eq!(accepted(&plan).step(1).unwrap().state, state, "{shape}");
    }
    let cascade = plan("a! b~<a c~<b d<c");
    let run = accepted(&cascade);
    assert_eq!(run.step(2).unwrap().state, StepState::Skipped);
    assert_eq!(run.step(3).unwrap().state, StepState::Queued, "without a condition it goes on");
}

#[test]
fn a_replay_overrides_a_condition_that_could_not_be_evaluated() {
    let plan = plan("a b#<a");
    let mut run = accepted(&plan);
    succeed(&plan, &mut run, 0);
    assert_eq!(run.step(1).unwrap().state, StepState::Dead);
    happen(&plan, &mut run, Event::Replay { step: 1, edited: true }).unwrap();
    let step = run.step(1).unwrap();
    assert_eq!((step.state, step.edited), (StepState::Queued, Some(step.epoch)));
}

#[test]
fn suspicion_grows_with_each_crash_and_ends_alone() {
    for (crashes, max_crashes, expected) in [
        (0, 1, 0),
        (0, 4, 0),
        (1, 4, 1),
        (2, 4, 2),
        (3, 4, ALONE),
        (1, 2, ALONE),
        (4, 4, ALONE),
        (u16::MAX, u16::MAX, ALONE),
        (u16::MAX, 1, ALONE),
    ] {
        assert_eq!(suspicion(crashes, max_crashes), expected, "{crashes} of {max_crashes}");
    }
}

#[test]
fn co_runners_halve_with_each_crash_and_never_reach_zero() {
    for (concurrency, suspicion, expected) in [
        (16, 0, 16),
        (16, 1, 8),
        (16, 2, 4),
        (16, 4, 1),
        (16, 5, 1),
        (16, 64, 1),
        (16, ALONE - 1, 1),
        (16, ALONE, 1),
        (1, 0, 1),
        (1, 1, 1),
        (3, 1, 1),
    ] {
        assert_eq!(allowed_co_runners(concurrency, suspicion), expected, "{concurrency} at {suspicion}");
    }
}

#[test]
fn names_and_positions_are_one() {
    let plan = plan("a b*2<a c<b");
    let mut run = accepted(&plan);
    succeed(&plan, &mut run, 0);
    for (step, name) in ["a", "b", "c", "b.0", "b.1"].into_iter().enumerate() {
        assert_eq!(run.step_name(&plan, step as StepIndex), name);
        assert_eq!(run.find_step(&plan, name), Some(step as StepIndex));
    }
    for name in ["", "d", "a.0", "b.2", "b.", "b.x", "b.0.0", "b.-1"] {
        assert_eq!(run.find_step(&plan, name), None, "{name}");
    }
    assert_eq!(run.step_name(&plan, 9), "#9");
}
