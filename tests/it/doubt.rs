//! A post in doubt as people meet it: over the API, found, answered, answered
//! twice.

use galley_api::views::Role;
use galley_core::run::WorkflowState;
use serde_json::{Value, json};

use crate::harness::posts::{autonomous, bed, in_state, submit};
use crate::harness::{Api, Fault, Network, until};

/// The one post in doubt, as the API shows it.
async fn doubtful(api: &Api) -> (String, Value) {
    let (status, listed) = api.get("/v1/posts?state=in_doubt").await;
    assert_eq!((status, listed["items"].as_array().unwrap().len()), (200, 1), "{listed}");
    let path = format!("/v1/posts/{}", listed["items"][0]["id"].as_str().unwrap());
    let (status, shown) = api.get(&path).await;
    assert_eq!((status, &shown["publication"]["state"]), (200, &json!("in_doubt")), "{shown}");
    (format!("{path}/resolve"), shown["publication"]["sends"].clone())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_person_settles_a_doubt_over_the_api_both_ways() {
    let network = Network::new();
    let bed = bed(&network).await;
    autonomous(&bed).await;
    let api = Api::of(&bed, Role::Operator).await;

    network.fail([Fault::LoseReply]);
    let key = submit(&bed, "blind", "there").await;
    in_state(&bed, key, "in_doubt").await;
    let (resolve, sends) = doubtful(&api).await;
    let there = json!({ "resolution": "published", "sends": sends, "link": "https://example.com/1" });
    let (status, post) = api.post(&resolve, &there).await;
    assert_eq!((status, &post["state"]), (200, &json!("published")), "{post}");
    bed.finish(key, WorkflowState::Succeeded).await;

    network.fail([Fault::LoseRequest]);
    let key = submit(&bed, "blind", "not there").await;
    in_state(&bed, key, "in_doubt").await;
    let (resolve, sends) = doubtful(&api).await;
    let (status, post) = api.post(&resolve, &json!({ "resolution": "not_there", "sends": sends })).await;
    assert_eq!(status, 200, "{post}");
    bed.finish(key, WorkflowState::Succeeded).await;

    let (status, problem) = api.post(&resolve, &there).await;
    assert_eq!(status, 409, "{problem}");
    assert_eq!(network.texts(), ["there", "not there"]);
    drop(api);
    bed.end().await;
}

/// Whoever asks again because the reply was lost answers the doubt they looked
/// into, not the one that came of their answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_comes_twice_settles_no_later_doubt() {
    let network = Network::new();
    let bed = bed(&network).await;
    autonomous(&bed).await;
    let api = Api::of(&bed, Role::Operator).await;
    network.fail([Fault::LoseRequest, Fault::LoseReply]);
    let key = submit(&bed, "blind", "once").await;
    in_state(&bed, key, "in_doubt").await;
    let (resolve, sends) = doubtful(&api).await;
    let answer = json!({ "resolution": "not_there", "sends": sends });
    let (status, post) = api.post(&resolve, &answer).await;
    assert_eq!(status, 200, "{post}");
    // It went out, and that reply was lost, too.
    let later = "SELECT count(*) FROM publications WHERE sends = 2 AND state = 'in_doubt'";
    until("there is a later doubt", || async { bed.count(later).await == 1 }).await;
    let (status, problem) = api.post(&resolve, &answer).await;
    assert_eq!(status, 409, "{problem}");
    assert!(problem["detail"].as_str().unwrap().contains("look at the account again"), "{problem}");
    let (resolve, sends) = doubtful(&api).await;
    let (status, post) = api.post(&resolve, &json!({ "resolution": "published", "sends": sends })).await;
    assert_eq!(status, 200, "{post}");
    bed.finish(key, WorkflowState::Succeeded).await;
    assert_eq!(network.texts(), ["once"]);
    drop(api);
    bed.end().await;
}
