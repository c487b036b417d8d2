//! What only a server can do to us: be emptied, restarted, filled, cut off.

use galley_queue::{AgentControl, Popped, QueueError, Unbuilt, Wake};

use crate::server::Server;
use crate::tickets::*;

async fn strict(queue: &Queue) -> Popped {
    queue.pop(&writer(), 9, LATER, Unbuilt::Refuse).await.unwrap()
}

async fn build(queue: &Queue, to: AgentControl) {
    let build = queue.begin_build(&[writer()]).await.unwrap();
    control(queue, to).await;
    assert_eq!(queue.mark_built(&build).await.unwrap(), []);
}

/// Until the queue answers again after a fault: a call may fail, not for ever.
async fn recovered(queue: &Queue) {
    for _ in 0..50 {
        if queue.ping().await.is_ok() {
            return;
        }
    }
    panic!("the queue did not come back");
}

#[tokio::test]
async fn an_emptied_redis_violates_neither_pause_nor_limit() {
    let server = Server::start();
    let queue = server.queue();
    build(&queue, AgentControl { paused: true, max_running: Some(1), ..AgentControl::default() }).await;
    push(&queue, &tickets(1, 0..5)).await;
    assert!(strict(&queue).await.paused);

    server.say::<()>("FLUSHALL").await;
    assert_eq!(queue.unbuilt(&[writer()]).await.unwrap(), [writer()]);
    assert_eq!(push(&queue, &tickets(1, 0..5)).await, 5, "pushes go in meanwhile");
    let refused = strict(&queue).await;
    assert_eq!((refused.tickets.len(), refused.unbuilt), (0, true));

    build(&queue, AgentControl { paused: true, max_running: Some(1), ..AgentControl::default() }).await;
    assert!(strict(&queue).await.paused);
    control(&queue, at_most(1)).await;
    assert_eq!(strict(&queue).await.tickets.len(), 1);
    assert_eq!(strict(&queue).await.tickets.len(), 0);
}

#[tokio::test]
async fn emptied_during_a_rebuild_voids_it() {
    let server = Server::start();
    let queue = server.queue();
    let lost = queue.begin_build(&[writer()]).await.unwrap();
    control(&queue, at_most(1)).await;
    server.say::<()>("FLUSHALL").await;
    assert_eq!(queue.mark_built(&lost).await.unwrap(), [writer()]);
    // Not even when a new rebuild has begun.
    let newer = queue.begin_build(&[writer()]).await.unwrap();
    assert_eq!(queue.mark_built(&lost).await.unwrap(), [writer()]);
    assert!(strict(&queue).await.unbuilt);
    assert_eq!(queue.mark_built(&newer).await.unwrap(), []);
}

#[tokio::test]
async fn losing_one_key_of_the_counts_is_noticed() {
    let server = Server::start();
    let queue = server.queue();
    for key in ["flight", "running", "control"] {
        build(&queue, at_most_each(2)).await;
        push(&queue, &tickets(1, 0..9)).await;
        assert_eq!(strict(&queue).await.tickets.len(), 2, "before {key} is lost");
        server.say::<()>(&format!("DEL galley:{{writer}}:{key}")).await;
        assert!(strict(&queue).await.unbuilt, "{key}");
        build(&queue, at_most_each(2)).await;
        assert!(!strict(&queue).await.unbuilt, "a rebuild mends {key}");
        done(&queue, &tickets(1, 0..9)).await;
        let depth = queue.depths(&[writer()]).await.unwrap().remove(0);
        assert_eq!((depth.ready, depth.in_flight, depth.built), (0, 0, true), "after {key}");
    }
}

#[tokio::test]
async fn forgotten_scripts_are_loaded_again() {
    let server = Server::start();
    let queue = server.queue();
    let both = [(writer(), ticket(1, 0)), (agent("reader"), ticket(1, 0))];
    for n in 0..3 {
        server.say::<()>("SCRIPT FLUSH").await;
        let epoch = |(agent, ticket): &(_, galley_core::ticket::Ticket)| {
            (galley_core::ids::AgentType::clone(agent), galley_core::ticket::Ticket { epoch: n, ..*ticket })
        };
        let these: Vec<_> = both.iter().map(epoch).collect();
        assert_eq!(queue.push(&these).await, Ok(2), "each counts once");
        server.say::<()>("SCRIPT FLUSH").await;
        assert_eq!(pop(&queue, 9).await.len(), 1);
        assert_eq!(queue.settle(&these, &these).await, Ok(2));
        done(&queue, &[these[0].1]).await;
    }
}

#[tokio::test]
async fn a_restart_is_survived_and_noticed() {
    let mut server = Server::start();
    let queue = server.queue();
    build(&queue, at_most(5)).await;
    push(&queue, &tickets(1, 0..3)).await;
    assert_eq!(strict(&queue).await.tickets.len(), 3);
    let mut wakes = queue.wakes(&[writer()]);
    assert_eq!(next(&mut wakes).await, Wake::Resync);

    server.kill();
    let down = queue.push(&for_writer(&tickets(1, 0..3))).await;
    assert!(matches!(down, Err(QueueError::Unavailable { .. })), "{down:?}");
    server.run();
    recovered(&queue).await;
    assert_eq!(next(&mut wakes).await, Wake::Resync);
    assert!(strict(&queue).await.unbuilt);
    assert_eq!(push(&queue, &tickets(1, 0..3)).await, 3);
    assert_eq!(next(&mut wakes).await, Wake::Work(writer()));
}

#[tokio::test]
async fn old_data_after_a_restart_is_not_trusted() {
    let mut server = Server::start();
    let queue = server.queue();
    build(&queue, at_most(2)).await;
    server.say::<()>("SAVE").await;
    // These run, and the snapshot does not know.
    push(&queue, &tickets(1, 0..2)).await;
    assert_eq!(strict(&queue).await.tickets.len(), 2);
    server.kill();
    server.run();
    recovered(&queue).await;
    let depth = queue.depths(&[writer()]).await.unwrap().remove(0);
    assert_eq!((depth.in_flight, depth.built), (0, false));
    push(&queue, &tickets(1, 2..9)).await;
    assert!(strict(&queue).await.unbuilt, "or the limit would be broken");
}

#[tokio::test]
async fn cut_connections_come_back() {
    let server = Server::start();
    let queue = server.queue();
    let mut wakes = queue.wakes(&[writer()]);
    assert_eq!(next(&mut wakes).await, Wake::Resync);
    queue.ping().await.unwrap();
    for kind in ["normal", "pubsub"] {
        server.say::<()>(&format!("CLIENT KILL TYPE {kind} SKIPME yes")).await;
    }
    recovered(&queue).await;
    assert_eq!(next(&mut wakes).await, Wake::Resync);
    assert_eq!(push(&queue, &[ticket(1, 1)]).await, 1);
    assert_eq!(next(&mut wakes).await, Wake::Work(writer()));
}

#[tokio::test]
async fn a_full_redis_refuses_pushes_and_still_drains() {
    let server = Server::start();
    let queue = server.queue();
    control(&queue, at_most(10)).await;
    push(&queue, &tickets(1, 0..5)).await;
    server.say::<()>("CONFIG SET maxmemory 1").await;
    let refused = queue.push(&for_writer(&tickets(2, 0..1))).await;
    assert!(matches!(refused, Err(QueueError::Refused { .. })), "{refused:?}");
    let taken = pop(&queue, 3).await;
    assert_eq!(taken.len(), 3);
    queue.claimed(&for_writer(&taken), LATER).await.unwrap();
    queue.give_back(&writer(), &taken[2..]).await.unwrap();
    done(&queue, &taken[..2]).await;
    let depth = queue.depths(&[writer()]).await.unwrap().remove(0);
    assert_eq!((depth.ready, depth.in_flight), (3, 0));
    server.say::<()>("CONFIG SET maxmemory 0").await;
    assert_eq!(push(&queue, &tickets(2, 0..1)).await, 1);
}

#[tokio::test]
async fn nobody_there_is_an_error_that_says_so() {
    let mut server = Server::start();
    server.kill();
    let queue = server.queue();
    let error = queue.ping().await.unwrap_err();
    assert!(matches!(error, QueueError::Unavailable { doing: "ping", .. }), "{error:?}");
    assert!(error.to_string().contains("cannot be reached"), "{error}");
}

#[tokio::test]
async fn every_key_of_an_agent_has_its_hash_tag_and_none_is_left_over() {
    let server = Server::start();
    let queue = server.queue();
    let reader = agent("reader");
    build(&queue, at_most_each(50)).await;
    let all: Vec<_> = (1..20).flat_map(|of| tickets(of, 0..20)).collect();
    queue.push(&all.iter().map(|ticket| (reader.clone(), *ticket)).collect::<Vec<_>>()).await.unwrap();
    push(&queue, &all).await;
    let mut taken = pop(&queue, 200).await;
    let keys: Vec<String> = server.say("KEYS *").await;
    assert!(keys.len() > 20, "{keys:?}");
    for key in &keys {
        assert!(key.starts_with("galley:{writer}:") || key.starts_with("galley:{reader}:"), "{key}");
    }
    taken.extend(pop(&queue, 1_000).await);
    assert_eq!(taken.len(), all.len());
    done(&queue, &taken).await;
    queue.pop(&reader, 1_000, LATER, Unbuilt::Serve).await.unwrap();
    queue.settle(&all.iter().map(|ticket| (reader.clone(), *ticket)).collect::<Vec<_>>(), &[]).await.unwrap();
    let mut left: Vec<String> = server.say("KEYS *").await;
    left.sort();
    assert_eq!(left, ["galley:{reader}:control", "galley:{writer}:control"]);
}
