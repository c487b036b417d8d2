//! What every dispatch queue must do. Each case runs against the twin and
//! against Redis.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use galley_core::ticket::Ticket;
use galley_queue::{AgentControl, Controls, LARGEST_POP, MemoryQueue, Unbuilt, Wake};

use crate::server::some_redis;
use crate::tickets::*;

macro_rules! conformance {
    ($($case:ident)*) => {$(
        mod $case {
            use super::*;

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn memory() {
                cases::$case(Arc::new(MemoryQueue::new())).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn redis() {
                let (_server, queue) = some_redis();
                cases::$case(queue).await;
            }
        }
    )*};
}

conformance! {
    what_is_pushed_comes_out_once
    known_tickets_are_ignored
    urgent_first_then_in_order
    agents_do_not_mix
    large_batches_are_cut
    a_backlog_does_not_delay_others
    coming_back_at_once_does_not_starve_a_backlog
    being_idle_earns_nothing
    weights_share
    a_pause_holds_everything
    what_is_told_late_undoes_nothing_newer
    the_limit_of_an_agent_holds
    the_limit_of_a_workspace_holds_it_alone
    limits_hold_under_concurrent_pops
    given_back_comes_first_and_in_order
    unclaimed_tickets_come_back
    claimed_tickets_stay
    what_is_in_flight_can_be_looked_at
    settling_forgets_and_pushes
    what_is_done_is_forgotten_even_if_it_came_back
    repeating_a_call_changes_nothing
    an_agent_is_served_when_it_is_built
    a_rebuild_counts_what_runs
    depths_show_what_is_there
    work_wakes_its_agent_only
    room_wakes_whoever_waits_for_it
    cancellations_reach_every_listener
    it_answers
}

mod cases {
    use super::*;

    pub(super) async fn what_is_pushed_comes_out_once(queue: Queue) {
        let all = tickets(1, 0..5);
        assert_eq!(push(&queue, &all).await, 5);
        let first = popped(&queue, 3).await;
        assert_eq!(first.tickets, all[..3]);
        assert_eq!(first.ready_left, 2);
        assert_eq!(pop(&queue, 10).await, all[3..]);
        let empty = popped(&queue, 10).await;
        assert_eq!((empty.tickets, empty.ready_left, empty.paused, empty.unbuilt), (vec![], 0, false, false));
        assert_eq!(push(&queue, &[]).await, 0);
    }

    pub(super) async fn known_tickets_are_ignored(queue: Queue) {
        let one = ticket(1, 1);
        assert_eq!(push(&queue, &[one, one]).await, 1, "twice in one call");
        assert_eq!(push(&queue, &[one]).await, 0, "ready");
        assert_eq!(pop(&queue, 9).await, [one]);
        assert_eq!(push(&queue, &[one]).await, 0, "in flight");
        assert_eq!(pop(&queue, 9).await, []);
        let next_epoch = Ticket { epoch: 2, ..one };
        assert_eq!(push(&queue, &[next_epoch]).await, 1, "another epoch is another ticket");
        done(&queue, &[one]).await;
        assert_eq!(push(&queue, &[one]).await, 1, "forgotten");
    }

    pub(super) async fn urgent_first_then_in_order(queue: Queue) {
        push(&queue, &[urgent(1, 10, 9), urgent(1, 11, 5), urgent(1, 12, 0), urgent(1, 13, 5)]).await;
        push(&queue, &[urgent(1, 5, 5), urgent(1, 4, 0)]).await;
        let order: Vec<u128> =
            pop(&queue, 10).await.iter().map(|ticket| ticket.workflow.0.as_u128()).collect();
        assert_eq!(order, [12, 4, 11, 13, 5, 10]);
    }

    pub(super) async fn agents_do_not_mix(queue: Queue) {
        let reader = agent("reader");
        let one = ticket(1, 1);
        assert_eq!(
            queue.push(&[(writer(), one), (reader.clone(), one), (writer(), ticket(1, 2))]).await,
            Ok(3)
        );
        let read = queue.pop(&reader, 9, LATER, Unbuilt::Serve).await.unwrap();
        assert_eq!(read.tickets, [one]);
        assert_eq!(pop(&queue, 9).await.len(), 2);
        assert_eq!(queue.pop(&agent("nobody"), 9, LATER, Unbuilt::Serve).await.unwrap().tickets, []);
    }

    pub(super) async fn large_batches_are_cut(queue: Queue) {
        let all = tickets(1, 0..2_500);
        assert_eq!(push(&queue, &all).await, 2_500);
        let first = popped(&queue, usize::MAX).await;
        assert_eq!(first.tickets, all[..LARGEST_POP]);
        assert_eq!(first.ready_left, 1_500);
        queue.give_back(&writer(), &first.tickets).await.unwrap();
        let mut seen = Vec::new();
        for _ in 0..3 {
            seen.extend(pop(&queue, 1_000).await);
        }
        assert_eq!(seen, all);
        queue.give_back(&writer(), &seen).await.unwrap();
        assert_eq!(pop(&queue, 1_000).await, all[..1_000], "many given back keep their order");
        queue.claimed(&for_writer(&all), LATER).await.unwrap();
        done(&queue, &all).await;
        let depth = queue.depths(&[writer()]).await.unwrap().remove(0);
        assert_eq!((depth.ready, depth.in_flight, depth.workspaces), (0, 0, 0));
    }

    pub(super) async fn a_backlog_does_not_delay_others(queue: Queue) {
        push(&queue, &tickets(1, 0..100_000)).await;
        for batch in [1, 100, 1_000] {
            // The backlog has been served alone for a while.
            for _ in 0..5 {
                assert_eq!(pop(&queue, batch).await.len(), batch);
            }
            let other = ticket(2, batch as u128);
            push(&queue, &[other]).await;
            let mut pops = 1;
            while !pop(&queue, batch).await.contains(&other) {
                pops += 1;
            }
            assert!(pops <= 3, "a single step waited for {pops} pops of {batch}");
        }
    }

    pub(super) async fn coming_back_at_once_does_not_starve_a_backlog(queue: Queue) {
        push(&queue, &tickets(1, 0..200)).await;
        push(&queue, &[ticket(2, 0)]).await;
        let mut backlog = 0;
        for n in 1..=100 {
            let served = pop(&queue, 1).await;
            backlog += of(1, &served);
            if of(2, &served) == 1 {
                push(&queue, &[ticket(2, n)]).await;
            }
        }
        assert!((45..=55).contains(&backlog), "the backlog got {backlog} of 100");
    }

    pub(super) async fn being_idle_earns_nothing(queue: Queue) {
        push(&queue, &tickets(1, 0..2_000)).await;
        assert_eq!(pop(&queue, 1_000).await.len(), 1_000);
        push(&queue, &tickets(2, 0..1_000)).await;
        let both = pop(&queue, 100).await;
        assert!((45..=55).contains(&of(1, &both)), "who was served before got {}", of(1, &both));
        // And being served earns no debt once everything was empty.
        while !pop(&queue, 1_000).await.is_empty() {}
        push(&queue, &tickets(3, 0..100)).await;
        push(&queue, &tickets(1, 5_000..5_100)).await;
        assert_eq!(of(1, &pop(&queue, 100).await), 50);
    }

    pub(super) async fn weights_share(queue: Queue) {
        let weights = vec![(workspace(1), 3), (workspace(3), 1_000)];
        let controls = Controls { agents: vec![(writer(), AgentControl::default())], weights };
        queue.mirror(&controls).await.unwrap();
        push(&queue, &tickets(1, 0..1_000)).await;
        push(&queue, &tickets(2, 0..1_000)).await;
        let heavy = of(1, &pop(&queue, 400).await);
        assert!((295..=305).contains(&heavy), "weight 3 against 1 got {heavy} of 400");
        push(&queue, &tickets(3, 0..1_000)).await;
        let heaviest = of(3, &pop(&queue, 520).await);
        assert!((480..=505).contains(&heaviest), "weight 100 against 3 and 1 got {heaviest} of 520");
        // What is not named any more is 1 again.
        queue.mirror(&Controls { weights: vec![], ..controls }).await.unwrap();
        let equal = of(1, &pop(&queue, 300).await);
        assert!((90..=110).contains(&equal), "equal weights gave {equal} of 300");
    }

    pub(super) async fn a_pause_holds_everything(queue: Queue) {
        push(&queue, &tickets(1, 0..3)).await;
        control(&queue, AgentControl { paused: true, ..AgentControl::default() }).await;
        push(&queue, &[ticket(2, 9)]).await;
        let held = popped(&queue, 9).await;
        assert_eq!((held.tickets.len(), held.paused, held.ready_left), (0, true, 4));
        control(&queue, AgentControl::default()).await;
        assert_eq!(pop(&queue, 9).await.len(), 4);
    }

    pub(super) async fn what_is_told_late_undoes_nothing_newer(queue: Queue) {
        let at = |version, paused| AgentControl { paused, version, ..AgentControl::default() };
        push(&queue, &tickets(1, 0..2)).await;
        control(&queue, at(2, true)).await;
        control(&queue, at(1, false)).await;
        assert!(popped(&queue, 9).await.paused, "read before the pause, told after it");
        control(&queue, at(2, true)).await;
        control(&queue, at(3, false)).await;
        assert_eq!(pop(&queue, 9).await.len(), 2);
    }

    pub(super) async fn the_limit_of_an_agent_holds(queue: Queue) {
        control(&queue, at_most(3)).await;
        push(&queue, &tickets(1, 0..5)).await;
        push(&queue, &tickets(2, 0..5)).await;
        let first = pop(&queue, 2).await;
        let second = pop(&queue, 9).await;
        assert_eq!((first.len(), second.len()), (2, 1));
        assert_eq!(pop(&queue, 9).await, []);
        queue.claimed(&for_writer(&first), LATER).await.unwrap();
        assert_eq!(pop(&queue, 9).await, [], "claimed counts once, and counts");
        done(&queue, &first[..1]).await;
        assert_eq!(pop(&queue, 9).await.len(), 1);
        queue.give_back(&writer(), &second).await.unwrap();
        assert_eq!(pop(&queue, 9).await.len(), 1);
        control(&queue, at_most(5)).await;
        assert_eq!(pop(&queue, 9).await.len(), 2);
        control(&queue, at_most(0)).await;
        done(&queue, &first).await;
        assert_eq!(pop(&queue, 9).await, []);
        control(&queue, AgentControl::default()).await;
        assert_eq!(pop(&queue, 99).await.len(), 4);
    }

    pub(super) async fn the_limit_of_a_workspace_holds_it_alone(queue: Queue) {
        control(&queue, at_most_each(2)).await;
        push(&queue, &tickets(1, 0..5)).await;
        push(&queue, &tickets(2, 0..1)).await;
        let first = pop(&queue, 9).await;
        assert_eq!((of(1, &first), of(2, &first)), (2, 1));
        assert_eq!(pop(&queue, 9).await, []);
        push(&queue, &tickets(2, 1..9)).await;
        assert_eq!(pop(&queue, 9).await, [ticket(2, 1)], "the other has room for one");
        done(&queue, &[ticket(1, 0)]).await;
        assert_eq!(pop(&queue, 9).await, [ticket(1, 2)]);
        queue.give_back(&writer(), &[ticket(1, 1)]).await.unwrap();
        assert_eq!(pop(&queue, 9).await, [ticket(1, 1)]);
        // A step that starts elsewhere (a rebuild) counts too.
        done(&queue, &[ticket(1, 1)]).await;
        queue.claimed(&for_writer(&[ticket(1, 77)]), LATER).await.unwrap();
        assert_eq!(pop(&queue, 9).await, []);
        control(&queue, at_most_each(3)).await;
        let more = pop(&queue, 9).await;
        assert_eq!((of(1, &more), of(2, &more)), (1, 1));
        control(&queue, AgentControl::default()).await;
        assert_eq!(pop(&queue, 99).await.len(), 7);
    }

    pub(super) async fn limits_hold_under_concurrent_pops(queue: Queue) {
        const EACH: usize = 4;
        const ALL: usize = 10;
        control(
            &queue,
            AgentControl {
                paused: false,
                max_running: Some(ALL as u32),
                max_running_per_workspace: Some(EACH as u32),
                version: 0,
            },
        )
        .await;
        for of in 1..=4 {
            push(&queue, &tickets(of, 0..100)).await;
        }
        let running: Arc<[AtomicUsize; 5]> = Arc::default();
        let started = Arc::new(AtomicUsize::new(0));
        let workers: Vec<_> = (0..8)
            .map(|_| {
                let (queue, running, started) = (queue.clone(), running.clone(), started.clone());
                tokio::spawn(async move {
                    while started.load(Ordering::SeqCst) < 400 {
                        let got = pop(&queue, 3).await;
                        for ticket in &got {
                            let of = (1..=4).find(|n| workspace(*n) == ticket.workspace).unwrap() as usize;
                            started.fetch_add(1, Ordering::SeqCst);
                            assert!(
                                running[of].fetch_add(1, Ordering::SeqCst) < EACH,
                                "too many of one workspace"
                            );
                            assert!(running[0].fetch_add(1, Ordering::SeqCst) < ALL, "too many of the agent");
                        }
                        tokio::task::yield_now().await;
                        for ticket in &got {
                            let of = (1..=4).find(|n| workspace(*n) == ticket.workspace).unwrap() as usize;
                            running[of].fetch_sub(1, Ordering::SeqCst);
                            running[0].fetch_sub(1, Ordering::SeqCst);
                        }
                        done(&queue, &got).await;
                    }
                })
            })
            .collect();
        for worker in workers {
            worker.await.unwrap();
        }
        assert_eq!(started.load(Ordering::SeqCst), 400, "each ticket once");
    }

    pub(super) async fn given_back_comes_first_and_in_order(queue: Queue) {
        push(&queue, &tickets(1, 0..6)).await;
        let taken = pop(&queue, 4).await;
        queue.give_back(&writer(), &taken[2..]).await.unwrap();
        queue.give_back(&writer(), &taken[..2]).await.unwrap();
        push(&queue, &[urgent(1, 100, 0), urgent(1, 101, 9)]).await;
        let order: Vec<u128> =
            pop(&queue, 9).await.iter().map(|ticket| ticket.workflow.0.as_u128()).collect();
        assert_eq!(order, [100, 0, 1, 2, 3, 4, 5, 101]);
    }

    pub(super) async fn unclaimed_tickets_come_back(queue: Queue) {
        push(&queue, &tickets(1, 0..4)).await;
        let lost = queue.pop(&writer(), 3, NOW, Unbuilt::Serve).await.unwrap().tickets;
        assert_eq!(queue.expire(&writer(), 2).await, Ok(2), "no more than asked");
        assert_eq!(queue.expire(&writer(), 100).await, Ok(1));
        assert_eq!(queue.expire(&writer(), 100).await, Ok(0));
        let again = pop(&queue, 9).await;
        assert_eq!(again.len(), 4);
        assert_eq!(again[3], ticket(1, 3), "what came back goes first");
        let set = |tickets: &[Ticket]| tickets.iter().copied().collect::<HashSet<_>>();
        assert_eq!(set(&again[..3]), set(&lost));
        assert_eq!(queue.expire(&writer(), 100).await, Ok(0), "these have time");
    }

    pub(super) async fn claimed_tickets_stay(queue: Queue) {
        push(&queue, &tickets(1, 0..2)).await;
        queue.pop(&writer(), 2, NOW, Unbuilt::Serve).await.unwrap();
        assert_eq!(queue.claimed(&for_writer(&tickets(1, 0..1)), LATER).await, Ok(vec![]));
        assert_eq!(queue.expire(&writer(), 100).await, Ok(1));
        // A claim that was slower than its deadline takes it out again, and is
        // told that its place was gone.
        assert_eq!(queue.claimed(&for_writer(&tickets(1, 0..2)), LATER).await, Ok(tickets(1, 1..2)));
        assert_eq!(pop(&queue, 9).await, []);
        let depth = queue.depths(&[writer()]).await.unwrap().remove(0);
        assert_eq!((depth.ready, depth.in_flight, depth.workspaces), (0, 2, 0));
    }

    pub(super) async fn what_is_in_flight_can_be_looked_at(queue: Queue) {
        push(&queue, &tickets(1, 0..5)).await;
        queue.pop(&writer(), 2, NOW, Unbuilt::Serve).await.unwrap();
        pop(&queue, 2).await;
        let look = async |from, max| queue.in_flight(&writer(), from, max).await.unwrap();
        let set = |tickets: Vec<Ticket>| tickets.into_iter().collect::<HashSet<_>>();
        assert_eq!(set(look(0, 10).await), set(tickets(1, 0..4)));
        assert_eq!(set(look(0, 2).await), set(tickets(1, 0..2)), "the nearest deadlines first");
        assert_eq!(set(look(2, 2).await), set(tickets(1, 2..4)));
        assert_eq!(look(4, 9).await, []);
        assert_eq!(look(0, 0).await, []);
    }

    pub(super) async fn settling_forgets_and_pushes(queue: Queue) {
        let reader = agent("reader");
        push(&queue, &tickets(1, 0..2)).await;
        pop(&queue, 2).await;
        let next = [(reader.clone(), ticket(1, 7)), (writer(), ticket(1, 8)), (writer(), ticket(1, 1))];
        assert_eq!(queue.settle(&for_writer(&tickets(1, 0..1)), &next).await, Ok(2), "one still runs");
        let depths = queue.depths(&[writer(), reader]).await.unwrap();
        assert_eq!((depths[0].ready, depths[0].in_flight), (1, 1));
        assert_eq!((depths[1].ready, depths[1].in_flight), (1, 0));
    }

    pub(super) async fn what_is_done_is_forgotten_even_if_it_came_back(queue: Queue) {
        push(&queue, &tickets(1, 0..2)).await;
        queue.pop(&writer(), 2, NOW, Unbuilt::Serve).await.unwrap();
        queue.expire(&writer(), 9).await.unwrap();
        done(&queue, &tickets(1, 0..1)).await;
        assert_eq!(pop(&queue, 9).await, [ticket(1, 1)]);
    }

    pub(super) async fn repeating_a_call_changes_nothing(queue: Queue) {
        control(&queue, at_most_each(3)).await;
        for _ in 0..2 {
            push(&queue, &tickets(1, 0..6)).await;
        }
        let taken = pop(&queue, 9).await;
        assert_eq!(taken.len(), 3);
        for _ in 0..2 {
            queue.claimed(&for_writer(&taken), LATER).await.unwrap();
        }
        for _ in 0..2 {
            queue.give_back(&writer(), &taken[2..]).await.unwrap();
        }
        for _ in 0..2 {
            queue.settle(&for_writer(&taken[..1]), &for_writer(&[ticket(2, 0)])).await.unwrap();
            control(&queue, at_most_each(3)).await;
        }
        let depth = queue.depths(&[writer()]).await.unwrap().remove(0);
        assert_eq!((depth.ready, depth.in_flight, depth.workspaces), (5, 1, 2));
        let rest = pop(&queue, 9).await;
        assert_eq!((of(1, &rest), of(2, &rest)), (2, 1), "the limit still counts right");
    }

    pub(super) async fn an_agent_is_served_when_it_is_built(queue: Queue) {
        let agents = [writer(), agent("reader")];
        let strict =
            |queue: Queue| async move { queue.pop(&writer(), 9, LATER, Unbuilt::Refuse).await.unwrap() };
        push(&queue, &tickets(1, 0..2)).await;
        let refused = strict(queue.clone()).await;
        assert_eq!((refused.tickets.len(), refused.unbuilt, refused.ready_left), (0, true, 2));
        assert_eq!(pop(&queue, 1).await.len(), 1, "whoever knows better is served");
        assert_eq!(queue.unbuilt(&agents).await.unwrap(), agents);

        let build = queue.begin_build(&agents[..1]).await.unwrap();
        assert!(strict(queue.clone()).await.unbuilt, "begun is not ended");
        let same = queue.begin_build(&agents).await.unwrap();
        assert_eq!(queue.mark_built(&build).await.unwrap(), [], "another rebuilder does not void this one");
        assert_eq!(strict(queue.clone()).await.tickets.len(), 1);
        assert_eq!(queue.unbuilt(&agents).await.unwrap(), agents[1..]);
        assert_eq!(queue.mark_built(&same).await.unwrap(), []);
        assert_eq!(queue.unbuilt(&agents).await.unwrap(), []);
    }

    pub(super) async fn a_rebuild_counts_what_runs(queue: Queue) {
        let build = queue.begin_build(&[writer()]).await.unwrap();
        control(&queue, at_most(3)).await;
        queue.claimed(&for_writer(&tickets(1, 0..2)), LATER).await.unwrap();
        assert_eq!(push(&queue, &tickets(1, 0..6)).await, 4);
        assert_eq!(queue.mark_built(&build).await.unwrap(), []);
        let popped = queue.pop(&writer(), 9, LATER, Unbuilt::Refuse).await.unwrap();
        assert_eq!((popped.tickets.len(), popped.ready_left), (1, 3));
    }

    pub(super) async fn depths_show_what_is_there(queue: Queue) {
        let reader = agent("reader");
        push(&queue, &tickets(1, 0..3)).await;
        push(&queue, &tickets(2, 0..1)).await;
        control(&queue, AgentControl { paused: true, ..AgentControl::default() }).await;
        let depths = queue.depths(&[reader.clone(), writer()]).await.unwrap();
        assert_eq!((&depths[0].agent, depths[0].ready, depths[0].paused), (&reader, 0, false));
        assert_eq!((&depths[1].agent, depths[1].ready, depths[1].in_flight), (&writer(), 4, 0));
        assert_eq!((depths[1].workspaces, depths[1].paused), (2, true));
        control(&queue, AgentControl::default()).await;
        pop(&queue, 3).await;
        let depth = queue.depths(&[writer()]).await.unwrap().remove(0);
        assert_eq!((depth.ready, depth.in_flight, depth.workspaces, depth.paused), (1, 3, 1, false));
    }

    pub(super) async fn work_wakes_its_agent_only(queue: Queue) {
        let reader = agent("reader");
        let mut wakes = queue.wakes(&[writer()]);
        assert_eq!(next(&mut wakes).await, Wake::Resync, "listening begins");
        queue.push(&[(reader, ticket(1, 1))]).await.unwrap();
        push(&queue, &[ticket(1, 1)]).await;
        assert_eq!(next(&mut wakes).await, Wake::Work(writer()));
        // Known: nobody is woken for it. The cancellation comes right after.
        push(&queue, &[ticket(1, 1)]).await;
        queue.announce_cancel(&[workflow(9)]).await.unwrap();
        assert_eq!(next(&mut wakes).await, Wake::Cancelled(workflow(9)));
        pop(&queue, 1).await;
        queue.give_back(&writer(), &[ticket(1, 1)]).await.unwrap();
        assert_eq!(next(&mut wakes).await, Wake::Work(writer()));
        queue.pop(&writer(), 1, NOW, Unbuilt::Serve).await.unwrap();
        queue.expire(&writer(), 1).await.unwrap();
        assert_eq!(next(&mut wakes).await, Wake::Work(writer()));
    }

    pub(super) async fn room_wakes_whoever_waits_for_it(queue: Queue) {
        control(&queue, at_most(1)).await;
        push(&queue, &tickets(1, 0..3)).await;
        let first = pop(&queue, 9).await;
        let mut wakes = queue.wakes(&[writer()]);
        assert_eq!(next(&mut wakes).await, Wake::Resync);
        done(&queue, &first).await;
        assert_eq!(next(&mut wakes).await, Wake::Work(writer()));
        control(&queue, at_most(2)).await;
        assert_eq!(next(&mut wakes).await, Wake::Work(writer()));
        control(&queue, at_most(2)).await;
        queue.announce_cancel(&[workflow(9)]).await.unwrap();
        assert_eq!(next(&mut wakes).await, Wake::Cancelled(workflow(9)), "no change, no wake-up");
    }

    pub(super) async fn cancellations_reach_every_listener(queue: Queue) {
        let mut one = queue.wakes(&[writer()]);
        let mut two = queue.wakes(&[]);
        assert_eq!((next(&mut one).await, next(&mut two).await), (Wake::Resync, Wake::Resync));
        let many: Vec<_> = (0..700).map(workflow).collect();
        queue.announce_cancel(&many).await.unwrap();
        queue.announce_cancel(&[]).await.unwrap();
        for workflow in many {
            assert_eq!(next(&mut one).await, Wake::Cancelled(workflow));
            assert_eq!(next(&mut two).await, Wake::Cancelled(workflow));
        }
    }

    pub(super) async fn it_answers(queue: Queue) {
        assert_eq!(queue.ping().await, Ok(()));
    }
}
