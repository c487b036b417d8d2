//! Workspaces that have their prompts and outputs sealed at rest: all that
//! workflows do goes on, nothing of it is in a row in the clear, and a row that
//! was touched says so.

use galley_core::ids::WorkflowKey;
use galley_core::message::{MessageType, Remembering, Saying};
use galley_core::report::StepError;
use galley_core::run::WorkflowState;
use galley_core::schedule::Missed;
use galley_engine::store::{LetterFilter, Role};
use galley_engine::{EngineError, Keyring, NewSchedule, Opener, Repair, seal_workspace};
use serde_json::value::to_raw_value;
use serde_json::{Value, json};

use crate::canary::{holds, rows};
use crate::harness::posts::{account, autonomous};
use crate::harness::{Agents, Bed, KEY, Network, Setup, answer, request, retry, until};

/// What no row may hold.
const INPUT: &str = "cnryIn";
const OUTPUT: &str = "cnryOut";
const EDIT: &str = "cnryEdit";
const SCHEDULE: &str = "cnrySchedule";

fn agents() -> Agents {
    Agents::default()
        .with("planner", retry(2), |step| async move {
            let (about, ideas) = (&step.input["brief"]["about"], &step.input["brief"]["ideas"]);
            let word = if about == "old" { "words" } else { OUTPUT };
            let told = to_raw_value(&json!({ "told": word })).unwrap();
            let said = answer(&json!({ "ideas": ideas, "note": format!("{word} of {about}") }))?;
            Ok(said
                .saying(Saying::new(MessageType::Notification, told.clone()))
                .remembering(Remembering::new("voice", told)))
        })
        .with("drafter", retry(2), |step| async move {
            answer(&json!({ "draft": format!("{OUTPUT} {}", step.input["item"]) }))
        })
        // Wants a person to look at what it is given.
        .with("strict", retry(1), |step| async move {
            match step.input["params"].get("checked") {
                Some(checked) => answer(&json!({ "ok": checked, "note": OUTPUT })),
                None => Err(StepError::permanent("unchecked", "nobody has checked this")),
            }
        })
        .with("writer", retry(2), |step| async move {
            let plan = &step.input["results"]["plan"];
            assert!(plan["note"].as_str().unwrap().contains(INPUT), "{plan}");
            let told = step.inbox.messages.iter().map(|message| message.content.get());
            let known = step.inbox.context.iter().map(|entry| entry.value.get());
            let heard: Vec<_> = told.chain(known).collect();
            assert!(heard.len() == 2 && heard.iter().all(|heard| heard.contains(OUTPUT)), "{heard:?}");
            answer(&json!({ "platform": "network", "text": "a post that all may read", "note": OUTPUT }))
        })
}

fn steps() -> Value {
    json!([
        { "name": "plan", "agent": "planner" },
        { "name": "draft", "agent": "drafter", "needs": ["plan"],
          "forEach": { "step": "plan", "path": "/ideas", "max": 5 } },
        { "name": "check", "agent": "strict", "needs": ["draft"] },
        { "name": "write", "agent": "writer", "needs": ["plan", "check"],
          "when": "results.plan.ideas.size() == 3 && brief.about.size() > 3" },
        { "name": "never", "agent": "writer", "needs": ["plan"], "when": "results.plan.ideas.size() > 3" },
        { "name": "publish", "agent": "publisher", "needs": ["write"], "input": { "account": "main" } },
    ])
}

fn brief() -> Value {
    json!({ "about": format!("{INPUT} tea"), "ideas": [INPUT, "two", "three"] })
}

/// Waits for the only open dead letter of a kind; its message.
async fn letter(bed: &Bed, class: &str) -> String {
    let mut message = String::new();
    until(&format!("there is a dead letter: {class}"), async || {
        let letters =
            bed.api.store().list_letters(bed.workspace, &LetterFilter::default(), None, 10).await.unwrap();
        let found = letters.into_iter().find(|letter| letter.class == class && letter.status == "open");
        message = found.map(|letter| letter.message).unwrap_or_default();
        !message.is_empty()
    })
    .await;
    message
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sealed_workspace_works_and_shows_nothing() {
    let network = Network::new();
    let mut bed =
        Bed::with(Setup { network: Some(network.clone()), nervous: true, ..Setup::default() }).await;
    let acme = bed.workspace;
    account(&bed, "main", json!({ "settings": { "kind": "idempotent" } })).await;
    autonomous(&bed).await;
    bed.serve(&agents()).await;
    let (owner, keyring) = (bed.engine_as(Role::Login), Keyring::single(KEY).unwrap());
    let seal = async |on: bool| seal_workspace(owner.store(), Some(&keyring), acme, on, "ada").await.unwrap();

    // What is there before stays as it is.
    let plain = json!([{ "name": "plan", "agent": "planner" }]);
    let old = bed.submit(plain.clone(), json!({ "about": "old", "ideas": [] })).await;
    bed.finish(old, WorkflowState::Succeeded).await;
    assert!(seal(true).await);
    assert!(!seal(true).await, "it is on already");
    let other = bed.engine.create_workspace("other", 1, "test").await.unwrap().id;

    let key = bed.submit(steps(), brief()).await;
    letter(&bed, "unchecked").await;
    let why = bed.api.why(key, Some("check")).await.unwrap().sentence;
    assert!(why.contains("galley dead"), "{why}");
    let edited =
        json!({ "brief": brief(), "params": { "checked": format!("{EDIT} by ada") }, "results": {} });
    bed.api.repair(key, "check", Repair::Retry, Some(edited.clone()), "ada").await.unwrap();
    let history = bed.finish(key, WorkflowState::Succeeded).await;
    assert_eq!(network.texts(), ["a post that all may read"]);

    // The API process reads all of it.
    assert_eq!(history.input, brief());
    let step = |name: &str| history.workflow.run.find_step(&history.workflow.plan, name).unwrap();
    assert_eq!(history.step_input(step("check")), edited);
    let checked = history.output(step("check")).unwrap();
    assert_eq!(checked["ok"], edited["params"]["checked"]);
    assert_eq!(bed.count("SELECT count(*) FROM results WHERE sealed IS NOT NULL").await, 7);
    assert_eq!(bed.count("SELECT count(*) FROM results WHERE sealed IS NULL").await, 1, "the old one");
    assert_eq!(bed.api.history(old).await.unwrap().input["about"], "old");

    // A schedule's request, too.
    let schedule = NewSchedule {
        name: "daily".into(),
        cron: "0 9 * * *".into(),
        time_zone: None,
        missed: Missed::default(),
        submit: request(plain.clone(), json!({ "about": SCHEDULE, "ideas": [] })),
    };
    bed.api.add_schedule(bed.workspace, schedule, "ada").await.unwrap();
    let view = bed.api.schedule(bed.workspace, "daily").await.unwrap();
    assert_eq!(view.submit.input["about"], SCHEDULE);
    let run = bed.api.run_schedule(bed.workspace, "daily", "now", None, "ada").await.unwrap();
    let run = WorkflowKey { workspace: bed.workspace, workflow: run.workflow };
    bed.finish(run, WorkflowState::Succeeded).await;

    let words = [INPUT, OUTPUT, EDIT, SCHEDULE];
    for (table, _, text) in rows(&bed).await {
        assert!(!words.iter().any(|word| holds(&text, word)), "{table}: {text}");
    }
    let same = bed.submit_in(other, plain.clone(), json!({ "about": INPUT, "ideas": [] })).await;
    bed.finish(same, WorkflowState::Succeeded).await;
    let clear = bed.count("SELECT count(*) FROM workflows WHERE sealed IS NULL").await;
    assert_eq!(clear, 2, "the old one and the other workspace's are in the clear");

    // Whoever exports has all of it.
    let opener = Opener::of(owner.store(), Some(&keyring), acme).await.unwrap();
    let mut exported = String::new();
    let handed = owner.store().export_workspace(bed.workspace, |line| {
        exported.push_str(&opener.line(line)?);
        Ok::<_, String>(())
    });
    handed.await.unwrap().unwrap();
    for word in words {
        assert!(exported.contains(word), "{word} is not in the export");
    }

    touched_rows_say_so(&mut bed, key).await;
    without_keys(&bed, key).await;
    assert!(seal(false).await);
    let after = bed.submit(plain, json!({ "about": "after", "ideas": [] })).await;
    bed.finish(after, WorkflowState::Succeeded).await;
    assert_eq!(bed.count("SELECT count(*) FROM workflows WHERE input->>'about' = 'after'").await, 1);
    let told = bed.texts("SELECT action FROM audit WHERE action LIKE 'workspace.encrypt%' ORDER BY id").await;
    assert_eq!(told, ["workspace.encrypt", "workspace.encrypt_off"]);
    owner.store().close().await;
    bed.end().await;
}

/// Rows that somebody changed or moved: each reader has an error with a name,
/// and a step that needs one becomes a dead letter.
async fn touched_rows_say_so(bed: &mut Bed, done: WorkflowKey) {
    let flip = |table: &str, id: &str| {
        format!(
            "UPDATE {table} SET sealed = set_byte(sealed, 40, get_byte(sealed, 40) # 1)
              WHERE {id} = '{}'",
            done.workflow
        )
    };
    let refused = async |what: &str| {
        let told = bed.api.history(done).await.map(|_| ()).unwrap_err();
        assert!(matches!(&told, EngineError::Sealed(why) if why.contains(what)), "{told:?}");
        assert!(told.to_string().contains(&done.workflow.to_string()), "{told}");
    };
    for (table, id, what) in [
        ("workflows", "id", "the input of workflow"),
        ("results", "workflow_id", "the output of step 0"),
        ("step_inputs", "workflow_id", "the edited input of step"),
    ] {
        bed.execute(&flip(table, id)).await;
        refused(what).await;
        bed.execute(&flip(table, id)).await;
    }
    // A neighbour's bytes.
    bed.execute(&format!(
        "UPDATE results SET sealed = (SELECT sealed FROM results WHERE workflow_id = '{0}' AND step = 0)
          WHERE workflow_id = '{0}' AND step = 2",
        done.workflow
    ))
    .await;
    refused("the output of step 2").await;

    // A worker that remembers nothing meets a touched output: in an input that
    // it puts together, and in a condition.
    let late = Agents::default().with("late", retry(1), |_| async { answer(&json!(null)) });
    bed.register(&late).await;
    let steps = json!([
        { "name": "plan", "agent": "planner", "needs": [] },
        { "name": "gate", "agent": "late", "needs": [] },
        { "name": "cond", "agent": "late", "needs": ["plan", "gate"], "when": "results.plan.ideas.size() > 0" },
        { "name": "each", "agent": "late", "needs": ["plan", "gate"],
          "forEach": { "step": "plan", "path": "/ideas", "max": 5 } },
        { "name": "after", "agent": "late", "needs": ["plan"] },
    ]);
    let key = bed.submit(steps, json!({ "about": INPUT, "ideas": [1] })).await;
    let of = format!("workflow_id = '{}' AND step = 0", key.workflow);
    until("it is planned", async || {
        bed.count(&format!("SELECT count(*) FROM results WHERE {of}")).await == 1
    })
    .await;
    bed.execute(&format!(
        "UPDATE results SET sealed = set_byte(sealed, 40, get_byte(sealed, 40) # 1) WHERE {of}"
    ))
    .await;
    bed.start_worker(&late, 4).await;
    let dead = format!(
        "SELECT step_name || ' ' || class || ': ' || message FROM dead_letters
          WHERE workflow_id = '{}' ORDER BY step_name",
        key.workflow
    );
    until("all three are dead", async || bed.texts(&dead).await.len() == 3).await;
    let why = format!(
        "the output of step 0 of workflow {} cannot be opened: it was sealed with another key, moved here \
         from another row, or is damaged",
        key.workflow
    );
    let told = [("after", "sealed_content"), ("cond", "condition"), ("each", "condition")]
        .map(|(step, class)| format!("{step} {class}: {why}"));
    assert_eq!(bed.texts(&dead).await, told);
    bed.api.cancel(key, "ada").await.unwrap();
    until("it is over", async || bed.api.workflow(key).await.unwrap().state == WorkflowState::Cancelled)
        .await;
}

/// A process without the secret keys stores nothing rather than storing it in
/// the clear.
async fn without_keys(bed: &Bed, done: WorkflowKey) {
    let keyless = bed.engine_without_keys();
    let submit = request(json!([{ "name": "plan", "agent": "planner" }]), json!({ "about": INPUT }));
    let before = bed.count("SELECT count(*) FROM workflows").await;
    for refused in [
        keyless.submit(&bed.context(), &submit).await.map(|_| ()),
        keyless.history(done).await.map(|_| ()),
        keyless.schedule(bed.workspace, "daily").await.map(|_| ()),
    ] {
        let told = refused.unwrap_err();
        assert!(matches!(&told, EngineError::Sealed(why) if why.contains("no secret key")), "{told:?}");
    }
    assert_eq!(bed.count("SELECT count(*) FROM workflows").await, before);
    keyless.store().close().await;
}
