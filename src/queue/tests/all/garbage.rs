//! Garbage that others put into our keys is dropped, once, and stops nobody.

use galley_queue::AgentControl;

use crate::server::Server;
use crate::tickets::*;

const KEYS: [&str; 5] = ["control", "turn", "flight", "running", "weight"];

/// The ready queue of the only workspace that waits.
async fn ready_key(server: &Server) -> String {
    let names: Vec<String> = server.say("ZRANGE galley:{writer}:turn 0 -1").await;
    assert_eq!(names.len(), 1, "{names:?}");
    format!("galley:{{writer}}:ready:{}", names[0])
}

#[tokio::test]
async fn a_key_of_a_wrong_type_is_healed() {
    let server = Server::start();
    let queue = server.queue();
    for (n, key) in KEYS.into_iter().enumerate() {
        for kind in ["SET galley:{writer}:KEY x", "RPUSH galley:{writer}:KEY x"] {
            server.say::<()>("FLUSHALL").await;
            control(&queue, at_most_each(50)).await;
            push(&queue, &tickets(1, 0..3)).await;
            assert_eq!(pop(&queue, 1).await.len(), 1);
            server.say::<()>(&format!("DEL galley:{{writer}}:{key}")).await;
            server.say::<()>(&kind.replace("KEY", key)).await;
            // Any call may be the first to meet it.
            match n {
                0 => drop(queue.depths(&[writer()]).await.unwrap()),
                1 => control(&queue, AgentControl::default()).await,
                2 => done(&queue, &tickets(1, 0..1)).await,
                _ => queue.give_back(&writer(), &tickets(1, 0..1)).await.unwrap(),
            }
            // What was lost with the key is pushed again by the reconciler.
            push(&queue, &tickets(1, 0..4)).await;
            let rest = pop(&queue, 9).await;
            for ticket in tickets(1, 1..4) {
                assert_eq!(rest.iter().filter(|other| **other == ticket).count(), 1, "{key}: {rest:?}");
            }
            done(&queue, &rest).await;
            assert_eq!(pop(&queue, 9).await, [], "{key}");
            let build = queue.begin_build(&[writer()]).await.unwrap();
            assert_eq!(queue.mark_built(&build).await.unwrap(), [], "{key}");
            assert_eq!(queue.unbuilt(&[writer()]).await.unwrap(), [], "{key}");
        }
    }
}

#[tokio::test]
async fn a_ready_queue_of_a_wrong_type_is_healed() {
    let server = Server::start();
    let queue = server.queue();
    push(&queue, &tickets(1, 0..3)).await;
    let key = ready_key(&server).await;
    server.say::<()>(&format!("SET {key} x")).await;
    push(&queue, &tickets(2, 0..1)).await;
    assert_eq!(pop(&queue, 9).await, tickets(2, 0..1), "its neighbours are served");
    push(&queue, &tickets(1, 0..3)).await;
    server.say::<()>(&format!("SET {key} x")).await;
    assert_eq!(push(&queue, &tickets(1, 0..3)).await, 3, "a push heals it");
    assert_eq!(pop(&queue, 9).await, tickets(1, 0..3));
}

#[tokio::test]
async fn members_nobody_can_read_are_dropped_and_counted() {
    let server = Server::start();
    let queue = server.queue();
    control(&queue, at_most(3)).await;
    push(&queue, &tickets(1, 0..3)).await;
    let key = ready_key(&server).await;
    let foreign = "AAAAAAAAAAAAAAAAAAAAAA|AAAAAAAAAAAAAAAAAAAAAA.1.1.0.5";
    for bad in [&b"nonsense"[..], b"\xff\x00\xfe", b"", foreign.as_bytes()] {
        server.raw::<()>(&[b"ZADD", key.as_bytes(), b"1", bad]).await;
    }
    let mut seen = Vec::new();
    let mut garbage = 0;
    for _ in 0..4 {
        let popped = popped(&queue, 9).await;
        garbage += popped.garbage;
        seen.extend(popped.tickets);
    }
    assert_eq!((seen, garbage), (tickets(1, 0..3), 4));
    let depth = queue.depths(&[writer()]).await.unwrap().remove(0);
    assert_eq!((depth.ready, depth.in_flight), (0, 3), "garbage holds no room");
}

#[tokio::test]
async fn workspaces_nobody_can_read_are_dropped() {
    let server = Server::start();
    let queue = server.queue();
    push(&queue, &tickets(1, 0..2)).await;
    server.say::<()>("ZADD galley:{writer}:turn 0 nobody 1 !!!!!!!!!!!!!!!!!!!!!!").await;
    server.say::<()>("ZADD galley:{writer}:ready:nobody 1 a 2 b").await;
    server.say::<()>("ZADD galley:{writer}:ready:!!!!!!!!!!!!!!!!!!!!!! 1 a").await;
    let popped = popped(&queue, 9).await;
    assert_eq!((popped.tickets, popped.garbage), (tickets(1, 0..2), 3));
    let keys: Vec<String> = server.say("KEYS *:ready:*").await;
    assert_eq!(keys, [""; 0]);
    let depth = queue.depths(&[writer()]).await.unwrap().remove(0);
    assert_eq!((depth.workspaces, depth.in_flight), (0, 2));
}

#[tokio::test]
async fn entries_in_flight_nobody_can_read_are_dropped() {
    let server = Server::start();
    let queue = server.queue();
    push(&queue, &tickets(1, 0..1)).await;
    queue.pop(&writer(), 1, NOW, galley_queue::Unbuilt::Serve).await.unwrap();
    for bad in [&b"nonsense"[..], b"\xff\x00", b"AAAAAAAAAAAAAAAAAAAAAA|", b"AAAAAAAAAAAAAAAAAAAAAA|x"] {
        server.raw::<()>(&[b"ZADD", b"galley:{writer}:flight", b"0", bad]).await;
    }
    // A last digit is all a script can check; the rest is found at the pop.
    server.say::<()>("ZADD galley:{writer}:flight 0 AAAAAAAAAAAAAAAAAAAAAA|x.1").await;
    assert_eq!(queue.expire(&writer(), 99).await, Ok(2));
    let popped = popped(&queue, 9).await;
    assert_eq!((popped.tickets, popped.garbage), (tickets(1, 0..1), 1));
    let depth = queue.depths(&[writer()]).await.unwrap().remove(0);
    assert_eq!((depth.ready, depth.in_flight), (0, 1));
}
