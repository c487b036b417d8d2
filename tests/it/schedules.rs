//! A schedule's time becomes one workflow: whoever races, crashes or was away,
//! and whatever the clock of its zone does.

use futures::future::join_all;
use galley_core::ids::AgentType;
use galley_core::run::WorkflowState;
use galley_core::schedule::{Missed, ScheduleState};
use galley_engine::{
    Engine, EngineError, NewSchedule, ScheduleView, SetSchedule, Submit, submit_due_schedules,
};
use serde_json::{Value, json};

use crate::harness::posts::policy;
use crate::harness::{Agents, Bed, Proxy, problems, request, until};

fn echo() -> Submit {
    request(json!([{ "name": "a", "agent": "echo" }]), json!({ "topic": "tea" }))
}

/// A bed whose time is `at`, where schedules run.
async fn bed(at: &str) -> Bed {
    let bed = Bed::new().await;
    bed.set_clock(at).await;
    bed.register(&Agents::echo()).await;
    switch(&bed, true).await;
    bed
}

async fn switch(bed: &Bed, on: bool) {
    policy(bed, |config| config.schedule_automation = on).await;
}

async fn add(bed: &Bed, name: &str, cron: &str, zone: &str, missed: Missed) -> ScheduleView {
    let (cron, time_zone) = (cron.to_owned(), Some(zone.to_owned()));
    let new = NewSchedule { name: name.into(), cron, time_zone, missed, submit: echo() };
    bed.api.add_schedule(bed.workspace, new, "ana").await.unwrap()
}

async fn view(bed: &Bed, name: &str) -> ScheduleView {
    bed.api.schedule(bed.workspace, name).await.unwrap()
}

/// A scheduler looks until nothing is due.
async fn look(engine: &Engine) {
    while submit_due_schedules(engine).await.unwrap() > 0 {}
}

/// The instants that became workflows, oldest first.
async fn runs(bed: &Bed, name: &str) -> Vec<String> {
    let keys = bed
        .text(&format!(
            "SELECT coalesce(string_agg(w.idempotency_key, ' ' ORDER BY w.id), '') FROM workflows w
              WHERE w.created_by = 'schedule:{name}' AND w.idempotency_key LIKE 'schedule:%'"
        ))
        .await;
    // schedule:<id>:<instant>
    keys.split_whitespace().map(|key| key.splitn(3, ':').nth(2).unwrap().to_owned()).collect()
}

async fn audited(bed: &Bed) -> Vec<String> {
    bed.audited().await.into_iter().filter(|action| action.starts_with("schedule.")).collect()
}

#[tokio::test]
async fn a_schedule_runs_by_itself_and_its_workflow_says_where_it_came_from() {
    let mut bed = bed("2026-06-01T08:00:00Z").await;
    let added = add(&bed, "daily", "0 9 * * *", "UTC", Missed::RunLast).await;
    assert_eq!(added.state, ScheduleState::Active);
    assert_eq!(added.upcoming[0].to_string(), "2026-06-01T09:00:00Z");
    bed.set_clock("2026-06-01T08:59:59Z").await;
    bed.serve(&Agents::echo()).await;
    let mut started = None;
    until("it ran", async || {
        started = view(&bed, "daily").await.row.last_workflow;
        started.is_some()
    })
    .await;
    let key = galley_core::ids::WorkflowKey { workspace: bed.workspace, workflow: started.unwrap() };
    let done = bed.finish(key, WorkflowState::Succeeded).await;
    assert_eq!(done.workflow.row.created_by, "schedule:daily");
    assert_eq!(runs(&bed, "daily").await, ["2026-06-01T09:00:00Z"]);
    assert_eq!(view(&bed, "daily").await.upcoming[0].to_string(), "2026-06-02T09:00:00Z");
    bed.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn schedulers_that_meet_submit_once() {
    let bed = bed("2026-06-01T08:00:00Z").await;
    for n in 0..5 {
        add(&bed, &format!("s{n}"), "0 9 * * *", "UTC", Missed::RunLast).await;
    }
    let schedulers: Vec<_> = (0..6).map(|_| bed.another_engine()).collect();
    for day in 1..=4 {
        bed.set_clock(&format!("2026-06-0{day}T09:00:00Z")).await;
        join_all(schedulers.iter().map(look)).await;
        assert_eq!(bed.count("SELECT count(*) FROM workflows").await, day * 5);
        let lines = "SELECT count(*) FROM audit WHERE action = 'schedule.run' AND actor = 'scheduler'";
        assert_eq!(bed.count(lines).await, day * 5, "one line per run");
    }
    assert_eq!(bed.count("SELECT count(*) FROM runs").await, 20);
    bed.end().await;
}

#[tokio::test]
async fn a_crash_between_submit_and_moving_on_loses_and_doubles_nothing() {
    let bed = bed("2026-06-01T08:00:00Z").await;
    add(&bed, "daily", "0 9 * * *", "UTC", Missed::Skip).await;
    let proxy = Proxy::before(&bed.database_url).await;
    let engine = bed.engine_on(&proxy.url(&bed.database_url), 2);
    bed.set_clock("2026-06-01T09:00:00Z").await;
    // Cut where the workflow is written and the schedule is not moved yet: it is
    // one transaction, so neither happened.
    proxy.lose("UPDATE schedules", 1);
    assert!(submit_due_schedules(&engine).await.unwrap_err().is_transient());
    assert_eq!(proxy.lost(), 1);
    assert_eq!(bed.count("SELECT count(*) FROM workflows").await, 0);
    assert_eq!(audited(&bed).await, ["schedule.add"]);
    // Cut behind the commit: nobody knows, and looking again finds it done.
    engine.ready(bed.workspace, &echo()).await.unwrap();
    proxy.lose("COMMIT", 1);
    assert!(submit_due_schedules(&engine).await.unwrap_err().is_transient());
    assert_eq!(proxy.lost(), 2);
    look(&engine).await;
    look(&bed.engine).await;
    assert_eq!(runs(&bed, "daily").await, ["2026-06-01T09:00:00Z"]);
    assert_eq!(audited(&bed).await, ["schedule.add", "schedule.run"]);
    // Even a schedule that was thrown back finds the workflow by its key.
    bed.execute("UPDATE schedules SET next_at = '2026-06-01T09:00:00Z'").await;
    look(&bed.engine).await;
    assert_eq!(runs(&bed, "daily").await, ["2026-06-01T09:00:00Z"]);
    let row = view(&bed, "daily").await.row;
    assert!(row.next_at.unwrap().starts_with("2026-06-02T09:00:00"));
    bed.end().await;
}

#[tokio::test]
async fn times_missed_for_days_run_once_or_not_at_all() {
    let bed = bed("2026-06-01T08:00:00Z").await;
    add(&bed, "lasts", "0 9 * * *", "UTC", Missed::RunLast).await;
    add(&bed, "skips", "0 9 * * *", "UTC", Missed::Skip).await;
    bed.set_clock("2026-06-05T08:00:00Z").await;
    look(&bed.engine).await;
    assert_eq!(runs(&bed, "lasts").await, ["2026-06-04T09:00:00Z"]);
    assert_eq!(runs(&bed, "skips").await, Vec::<String>::new());
    let skipped = view(&bed, "skips").await;
    assert!(!skipped.why.needs_action);
    assert!(
        skipped.why.sentence.starts_with("schedule `skips` skipped Thu 2026-06-04 09:00 UTC (missed: nobody looked before 2026-06-05T08:00:00")
            && skipped.why.sentence.ends_with("; its next time is Fri 2026-06-05 09:00 UTC"),
        "{}",
        skipped.why.sentence
    );
    // A little late is no miss.
    bed.set_clock("2026-06-05T09:04:00Z").await;
    look(&bed.engine).await;
    assert_eq!(runs(&bed, "lasts").await.len(), 2);
    assert_eq!(runs(&bed, "skips").await, ["2026-06-05T09:00:00Z"]);
    assert_eq!(view(&bed, "skips").await.row.last_problem, None, "it goes well again");
    let actions = audited(&bed).await;
    assert_eq!(actions.iter().filter(|action| *action == "schedule.skip").count(), 1);
    assert_eq!(actions.iter().filter(|action| *action == "schedule.run").count(), 3);
    bed.end().await;
}

#[tokio::test]
async fn a_clock_change_makes_a_time_neither_vanish_nor_come_twice() {
    let bed = bed("2026-03-28T12:00:00Z").await;
    add(&bed, "night", "30 2 * * *", "Europe/Berlin", Missed::Skip).await;
    add(&bed, "hourly", "30 * * * *", "Europe/Berlin", Missed::Skip).await;
    let pass = async |day: &str, hours: std::ops::RangeInclusive<u32>| {
        for hour in hours {
            bed.set_clock(&format!("{day}T{hour:02}:30:30Z")).await;
            look(&bed.engine).await;
        }
    };
    // 02:30 is skipped on 29 March.
    bed.set_clock("2026-03-28T22:30:00Z").await;
    look(&bed.engine).await;
    pass("2026-03-29", 0..=3).await;
    assert_eq!(runs(&bed, "night").await, ["2026-03-29T01:30:00Z"]);
    assert_eq!(runs(&bed, "hourly").await.len(), 5);
    // And comes twice on 25 October.
    bed.set_clock("2026-10-24T23:35:30Z").await;
    look(&bed.engine).await;
    let before = runs(&bed, "hourly").await.len();
    pass("2026-10-25", 0..=3).await;
    assert_eq!(runs(&bed, "night").await, ["2026-03-29T01:30:00Z", "2026-10-25T00:30:00Z"]);
    assert_eq!(runs(&bed, "hourly").await.len(), before + 4, "what runs every hour runs every hour");
    bed.end().await;
}

#[tokio::test]
async fn schedules_run_only_while_the_policy_lets_them() {
    let bed = bed("2026-06-01T08:00:00Z").await;
    add(&bed, "lasts", "0 9 * * *", "UTC", Missed::RunLast).await;
    add(&bed, "skips", "0 9 * * *", "UTC", Missed::Skip).await;
    switch(&bed, false).await;
    bed.set_clock("2026-06-03T12:00:00Z").await;
    look(&bed.engine).await;
    assert_eq!(bed.count("SELECT count(*) FROM workflows").await, 0);
    let off = view(&bed, "lasts").await;
    assert_eq!(off.state, ScheduleState::Off);
    assert!(off.why.needs_action);
    assert_eq!(
        off.why.sentence,
        "schedule `lasts` does not run: recurring workflows are off in this workspace; `galley automation set --schedule-automation true` turns them on; the last of the times it missed then runs at once"
    );
    assert!(view(&bed, "skips").await.why.sentence.ends_with("; the times it missed are skipped"));
    // `galley why` knows it by its id.
    let why = bed.api.why_id(bed.workspace, off.row.id.0).await.unwrap();
    assert_eq!(why, off.why);
    switch(&bed, true).await;
    look(&bed.engine).await;
    assert_eq!(runs(&bed, "lasts").await, ["2026-06-03T09:00:00Z"]);
    assert_eq!(runs(&bed, "skips").await, Vec::<String>::new());
    assert_eq!(view(&bed, "lasts").await.state, ScheduleState::Active);
    // A workspace that never set a policy runs none.
    let other = bed.engine.create_workspace("other", 1, "test").await.unwrap().id;
    let new = NewSchedule {
        name: "quiet".into(),
        cron: "* * * * *".into(),
        time_zone: None,
        missed: Missed::RunLast,
        submit: echo(),
    };
    bed.api.add_schedule(other, new, "eve").await.unwrap();
    bed.set_clock("2026-06-03T12:30:00Z").await;
    look(&bed.engine).await;
    assert_eq!(runs(&bed, "quiet").await, Vec::<String>::new());
    bed.end().await;
}

#[tokio::test]
async fn a_refused_run_is_told_and_later_ones_go_on() {
    let bed = bed("2026-06-01T07:00:00Z").await;
    add(&bed, "daily", "0 9 * * *", "Europe/Lisbon", Missed::RunLast).await;
    let agents = |names: &[&str]| Some(names.iter().map(|name| AgentType::new(name).unwrap()).collect());
    policy(&bed, |config| config.enabled_agents = agents(&[])).await;
    bed.set_clock("2026-06-01T08:00:00Z").await;
    look(&bed.engine).await;
    let refused = view(&bed, "daily").await;
    assert!(refused.why.needs_action);
    assert_eq!(
        refused.why.sentence,
        "schedule `daily` could not run at Mon 2026-06-01 09:00 Europe/Lisbon: steps[0].agent: the agent `echo` is not enabled in this workspace; see `galley automation get`; `galley schedule run daily` tries it again when that is repaired; its next time is Tue 2026-06-02 09:00 Europe/Lisbon"
    );
    assert_eq!(audited(&bed).await, ["schedule.add", "schedule.refuse"]);
    // It is not tried again and again.
    look(&bed.engine).await;
    assert_eq!(audited(&bed).await.len(), 2);
    policy(&bed, |config| config.enabled_agents = None).await;
    bed.set_clock("2026-06-02T08:00:00Z").await;
    look(&bed.engine).await;
    assert_eq!(runs(&bed, "daily").await, ["2026-06-02T08:00:00Z"]);
    let well = view(&bed, "daily").await;
    assert_eq!(well.row.last_problem, None);
    assert!(well.why.sentence.contains("; the last one was workflow "), "{}", well.why.sentence);
    bed.end().await;
}

#[tokio::test]
async fn what_passes_while_it_is_paused_does_not_run() {
    let bed = bed("2026-06-01T08:00:00Z").await;
    add(&bed, "daily", "0 9 * * *", "UTC", Missed::RunLast).await;
    let (engine, workspace) = (&bed.engine, bed.workspace);
    let paused = engine.pause_schedule(workspace, "daily", "ana").await.unwrap();
    assert_eq!(paused.state, ScheduleState::Paused);
    assert!(
        paused.why.sentence.starts_with("schedule `daily` is paused by ana; `galley schedule resume daily`")
    );
    bed.set_clock("2026-06-03T12:00:00Z").await;
    look(&bed.another_engine()).await;
    assert_eq!(runs(&bed, "daily").await, Vec::<String>::new());
    let again = engine.pause_schedule(workspace, "daily", "eve").await.unwrap_err();
    assert!(matches!(again, EngineError::Conflict(ref told) if told.contains("already, by ana;")), "{again}");
    engine.resume_schedule(workspace, "daily", "ana").await.unwrap();
    look(engine).await;
    assert_eq!(runs(&bed, "daily").await, Vec::<String>::new(), "what was paused was not missed");
    bed.set_clock("2026-06-04T09:00:00Z").await;
    look(engine).await;
    assert_eq!(runs(&bed, "daily").await, ["2026-06-04T09:00:00Z"]);
    let resumed = engine.resume_schedule(workspace, "daily", "ana").await.unwrap_err();
    assert!(matches!(resumed, EngineError::Conflict(_)), "{resumed}");
    assert_eq!(audited(&bed).await, ["schedule.add", "schedule.pause", "schedule.resume", "schedule.run"]);
    bed.end().await;
}

/// The pause commits while the scheduler has written the workflow already and
/// waits for the schedule's row.
#[tokio::test]
async fn a_pause_that_meets_a_run_and_wins_leaves_nothing_behind() {
    let bed = bed("2026-06-01T08:00:00Z").await;
    add(&bed, "daily", "0 9 * * *", "UTC", Missed::RunLast).await;
    bed.set_clock("2026-06-01T09:00:00Z").await;
    let pool = sqlx::PgPool::connect(&bed.database_url).await.unwrap();
    let mut person = pool.begin().await.unwrap();
    sqlx::query("UPDATE schedules SET paused_by = 'ana', version = version + 1")
        .execute(&mut *person)
        .await
        .unwrap();
    let engine = bed.another_engine();
    let scheduler = tokio::spawn(async move { look(&engine).await });
    until("the scheduler waits for the row", async || {
        bed.count(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
                AND wait_event_type = 'Lock' AND query LIKE 'UPDATE schedules%'",
        )
        .await
            == 1
    })
    .await;
    person.commit().await.unwrap();
    scheduler.await.unwrap();
    assert_eq!(bed.count("SELECT count(*) FROM workflows").await, 0);
    assert_eq!(audited(&bed).await, ["schedule.add"]);
    pool.close().await;
    bed.end().await;
}

#[tokio::test]
async fn a_person_runs_it_now_once_per_key_and_it_goes_on_waiting() {
    let bed = bed("2026-06-01T08:00:00Z").await;
    add(&bed, "daily", "0 9 * * *", "UTC", Missed::RunLast).await;
    let (engine, workspace) = (&bed.engine, bed.workspace);
    engine.pause_schedule(workspace, "daily", "ana").await.unwrap();
    switch(&bed, false).await;
    let first = engine.run_schedule(workspace, "daily", "now-1", None, "ana").await.unwrap();
    let again = engine.run_schedule(workspace, "daily", "now-1", None, "ana").await.unwrap();
    assert_eq!((first.new, again.new, first.workflow), (true, false, again.workflow));
    let row = view(&bed, "daily").await.row;
    assert_eq!(row.last_workflow, Some(first.workflow));
    assert!(row.next_at.unwrap().starts_with("2026-06-01T09:00:00"));
    assert_eq!(row.paused_by.as_deref(), Some("ana"));
    let by = bed.text("SELECT string_agg(actor, ' ') FROM audit WHERE action = 'schedule.run'").await;
    assert_eq!(by, "ana");
    engine.remove_schedule(workspace, "daily", "ana").await.unwrap();
    let gone = engine.run_schedule(workspace, "daily", "now-2", None, "ana").await.unwrap_err();
    assert!(matches!(gone, EngineError::NotFound { kind: "schedule", .. }), "{gone}");
    assert_eq!(bed.count("SELECT count(*) FROM workflows").await, 1, "what it made stays");
    bed.end().await;
}

#[tokio::test]
async fn a_change_is_checked_as_a_whole_and_not_overwritten() {
    let bed = bed("2026-06-01T08:00:00Z").await;
    let (engine, workspace) = (&bed.engine, bed.workspace);
    let wrong = NewSchedule {
        name: "Daily!".into(),
        cron: "0 25 * * *".into(),
        time_zone: Some("Mars/Olympus".into()),
        missed: Missed::Skip,
        submit: request(json!([{ "name": "a", "agent": "nobody" }]), Value::Null),
    };
    let refused = engine.add_schedule(workspace, wrong, "ana").await.unwrap_err();
    let told = problems(&refused);
    let places: Vec<_> = told.iter().map(|problem| problem.split(": ").next().unwrap()).collect();
    assert_eq!(places, ["name", "cron", "timeZone", "submit.steps[0].agent"], "{told:?}");
    let seen = add(&bed, "daily", "0 9 * * *", "UTC", Missed::Skip).await.row.version;
    let change = |cron: &str, zone: Option<&str>| SetSchedule {
        cron: cron.into(),
        time_zone: zone.map(Into::into),
        missed: None,
        submit: echo(),
    };
    let changed = change("30 18 * * *", Some("Asia/Tokyo"));
    let changed = engine.set_schedule(workspace, "daily", changed, Some(seen), "ana").await.unwrap();
    assert!(changed.row.next_at.unwrap().starts_with("2026-06-01T09:30:00"));
    assert_eq!(changed.missed, Missed::Skip);
    let stale = engine.set_schedule(workspace, "daily", change("0 9 * * *", None), Some(seen), "eve").await;
    assert!(matches!(stale, Err(EngineError::Conflict(_))), "{stale:?}");
    let twice = NewSchedule {
        name: "daily".into(),
        cron: "0 9 * * *".into(),
        time_zone: None,
        missed: Missed::Skip,
        submit: echo(),
    };
    let twice = engine.add_schedule(workspace, twice, "eve").await;
    assert!(matches!(twice, Err(EngineError::Conflict(_))), "{twice:?}");
    // What was due under the old times is not run under the new ones.
    bed.set_clock("2026-06-01T09:31:00Z").await;
    look(engine).await;
    assert_eq!(runs(&bed, "daily").await, ["2026-06-01T09:30:00Z"]);
    // A page ends where it says.
    add(&bed, "weekly", "0 9 * * MON", "UTC", Missed::Skip).await;
    let (page, more) = engine.schedules(workspace, None, 1).await.unwrap();
    assert_eq!((page.len(), more.as_deref()), (1, Some("daily")));
    let (page, more) = engine.schedules(workspace, more.as_deref(), 1).await.unwrap();
    assert_eq!((page[0].row.name.as_str(), more), ("weekly", None));
    bed.end().await;
}
