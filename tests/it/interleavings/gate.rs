//! A gate before Postgres: each operation has a way through of its own, and
//! its database steps pass one at a time, when they are let.
//!
//! A step is what a client sends up to the point where it waits for an answer.
//! Steps that touch nothing anybody could meet on pass at once.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::io::{AsyncWriteExt, BufReader, BufWriter};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;

use super::footprint::{Footprint, Tables};
use crate::harness::{read_body, read_message, server_of, text_at, through, write_message};

/// Asked this often whether a step that gets no answer waits for a lock.
const LOOK: Duration = Duration::from_millis(1);

/// Far longer than any step takes: only a hang reaches it.
const PATIENCE: Duration = Duration::from_secs(60);

/// A step that waits at the gate.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    pub(crate) sql: String,
    pub(crate) footprint: Footprint,
}

/// One way through per actor. Stops when dropped.
pub(crate) struct Gate {
    shared: Arc<Shared>,
    ports: Vec<u16>,
    tasks: Vec<JoinHandle<()>>,
    server: String,
}

#[derive(Default)]
struct Shared {
    actors: Mutex<Vec<Actor>>,
    /// The keys of each workflow's rows, as statements' parameters have them.
    names: Vec<Vec<Vec<u8>>>,
    changed: Notify,
    /// Somebody was blocked before the last answer, and may still be.
    stuck: AtomicBool,
    /// Answers so far.
    answers: AtomicU64,
    /// Whose transactions ended since the gate was closed, in order.
    commits: Mutex<Vec<usize>>,
}

#[derive(Debug, Default)]
struct Actor {
    /// Whether its steps wait to be let.
    gated: bool,
    waiting: VecDeque<Waiting>,
    connections: BTreeMap<usize, Connection>,
    /// Whether its operation has ended.
    done: bool,
    /// Whether the step it was let is waiting for another actor's lock.
    blocked: bool,
}

#[derive(Debug)]
struct Waiting {
    step: Step,
    /// The number of its connection.
    connection: usize,
    pass: oneshot::Sender<()>,
}

#[derive(Debug, Default)]
struct Connection {
    pid: i32,
    /// Answers that are still to come.
    expected: usize,
    in_transaction: bool,
    /// What its transaction wrote or locked.
    held: Tables,
}

impl Actor {
    fn is_busy(&self) -> bool {
        self.connections.values().any(|connection| connection.expected > 0)
    }

    /// Nothing of it moves before somebody else does.
    fn rests(&self) -> bool {
        if self.blocked {
            return true;
        }
        // A transaction that was given up is rolled back in the background,
        // whatever its actor does meanwhile.
        let mine = self.waiting.front().map(|waiting| waiting.connection);
        let given_up = self.connections.iter().any(|(n, c)| c.in_transaction && Some(*n) != mine);
        (self.done || mine.is_some()) && !self.is_busy() && !given_up
    }
}

impl Gate {
    /// A gate with so many ways through to the server of this URL; `names`
    /// are the keys of each workflow's rows.
    pub(crate) async fn before(database_url: &str, actors: usize, names: Vec<Vec<Vec<u8>>>) -> Self {
        let server = server_of(database_url);
        let shared = Arc::new(Shared { names, ..Shared::default() });
        let (mut ports, mut tasks) = (Vec::new(), Vec::new());
        for actor in 0..actors {
            shared.actors.lock().unwrap().push(Actor::default());
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            ports.push(listener.local_addr().unwrap().port());
            let (server, shared) = (server.clone(), Arc::clone(&shared));
            tasks.push(tokio::spawn(async move {
                for number in 0.. {
                    let (client, _) = listener.accept().await.unwrap();
                    let Ok(server) = TcpStream::connect(&server).await else { continue };
                    tokio::spawn(Way { shared: Arc::clone(&shared), actor, number }.pass(client, server));
                }
            }));
        }
        Self { shared, ports, tasks, server: database_url.to_owned() }
    }

    /// The database's URL through an actor's way.
    pub(crate) fn url(&self, actor: usize) -> String {
        through(&self.server, self.ports[actor])
    }

    /// From here on the steps of the first `actors` wait to be let.
    pub(crate) fn close(&self, actors: usize) {
        self.shared.commits.lock().unwrap().clear();
        for actor in self.shared.actors.lock().unwrap().iter_mut().take(actors) {
            (actor.gated, actor.done, actor.blocked) = (true, false, false);
        }
    }

    /// Lets everything through.
    pub(crate) fn open(&self) {
        for actor in self.shared.actors.lock().unwrap().iter_mut() {
            actor.gated = false;
            for waiting in actor.waiting.drain(..) {
                waiting.pass.send(()).ok();
            }
        }
    }

    /// An actor's operation has ended.
    pub(crate) fn done(&self, actor: usize) {
        self.shared.actors.lock().unwrap()[actor].done = true;
        self.shared.changed.notify_one();
    }

    /// The steps that wait, by actor.
    pub(crate) fn waiting(&self) -> BTreeMap<usize, Step> {
        let actors = self.shared.actors.lock().unwrap();
        let steps = actors.iter().enumerate().filter(|(_, actor)| !actor.blocked);
        steps.filter_map(|(n, actor)| Some((n, actor.waiting.front()?.step.clone()))).collect()
    }

    pub(crate) fn all_done(&self) -> bool {
        self.shared.actors.lock().unwrap().iter().all(|actor| !actor.gated || actor.done)
    }

    /// Lets an actor's step pass.
    pub(crate) fn pass(&self, actor: usize) {
        let mut actors = self.shared.actors.lock().unwrap();
        let waiting = actors[actor].waiting.pop_front().expect("a step that waits");
        drop(actors);
        if waiting.step.footprint.publishes() {
            self.shared.commits.lock().unwrap().push(actor);
        }
        waiting.pass.send(()).ok();
    }

    /// Whose transactions ended since the gate was closed, in order.
    pub(crate) fn commits(&self) -> Vec<usize> {
        self.shared.commits.lock().unwrap().clone()
    }

    /// Waits until nothing moves: every operation has ended, waits at the gate,
    /// or waits in Postgres for another one's lock. `blocked` asks which of
    /// these backends do.
    ///
    /// # Panics
    /// When somebody moves for ever.
    pub(crate) async fn rest(&self, mut blocked: impl AsyncFnMut(Vec<i32>) -> Vec<i32>) {
        let begun = Instant::now();
        loop {
            assert!(begun.elapsed() < PATIENCE, "no rest: {:#?}", self.shared.actors.lock().unwrap());
            let (moving, suspects, everybody) = {
                let actors = self.shared.actors.lock().unwrap();
                let gated = || actors.iter().filter(|actor| actor.gated);
                let somebody =
                    gated().any(|a| !a.waiting.is_empty() && !a.blocked) || gated().all(|a| a.done);
                if gated().all(Actor::rests) && somebody {
                    return;
                }
                let pids = |actor: &Actor| actor.connections.values().map(|c| c.pid).collect::<Vec<_>>();
                let moving = gated().filter(|actor| !actor.rests()).count();
                let suspects = gated().filter(|actor| actor.is_busy()).count();
                (moving, suspects, gated().flat_map(pids).collect::<Vec<_>>())
            };
            let asked = suspects > 0 && moving > 0 && self.shared.stuck.load(Ordering::Relaxed);
            if !asked && tokio::time::timeout(LOOK, self.shared.changed.notified()).await.is_ok() {
                continue;
            }
            if suspects == 0 {
                continue;
            }
            let answers = self.shared.answers.load(Ordering::Relaxed);
            self.shared.stuck.store(false, Ordering::Relaxed);
            let waiting = blocked(everybody).await;
            if answers != self.shared.answers.load(Ordering::Relaxed) {
                // Somebody moved meanwhile: what was seen may be over.
                self.shared.stuck.store(true, Ordering::Relaxed);
                continue;
            }
            for actor in self.shared.actors.lock().unwrap().iter_mut().filter(|a| a.gated) {
                let of_actor = |c: &Connection| c.expected > 0 && waiting.contains(&c.pid);
                actor.blocked = actor.connections.values().any(of_actor);
            }
        }
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// One connection's way through.
#[derive(Clone)]
struct Way {
    shared: Arc<Shared>,
    actor: usize,
    number: usize,
}

/// What a client has sent and the server has not seen.
#[derive(Default)]
struct Sent {
    bytes: Vec<(u8, Vec<u8>)>,
    /// What it runs; preparing runs nothing.
    sql: Vec<String>,
    /// Numbers of the workflows that the parameters name.
    workflows: BTreeSet<usize>,
}

impl Way {
    fn with<T>(&self, change: impl FnOnce(&mut Connection) -> T) -> T {
        let mut actors = self.shared.actors.lock().unwrap();
        let done = change(actors[self.actor].connections.entry(self.number).or_default());
        drop(actors);
        self.shared.changed.notify_one();
        done
    }

    async fn pass(self, client: TcpStream, server: TcpStream) {
        client.set_nodelay(true).unwrap();
        server.set_nodelay(true).unwrap();
        // The server answers the greeting, too.
        self.with(|connection| connection.expected = 1);
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = server.into_split();
        let replies = tokio::spawn(self.clone().pass_replies(from_server, to_client));
        self.pass_steps(from_client, to_server).await.ok();
        replies.abort();
        self.shared.actors.lock().unwrap()[self.actor].connections.remove(&self.number);
        self.shared.changed.notify_one();
    }

    async fn pass_steps(&self, client: OwnedReadHalf, server: OwnedWriteHalf) -> std::io::Result<()> {
        let (mut client, mut server) = (BufReader::new(client), BufWriter::new(server));
        let startup = read_body(&mut client).await?;
        write_message(&mut server, None, &startup).await?;
        server.flush().await?;
        let mut prepared = HashMap::new();
        let mut bound = String::new();
        let mut sent = Sent::default();
        loop {
            let (kind, body) = read_message(&mut client).await?;
            match kind {
                b'P' => {
                    let (name, next) = text_at(&body, 0);
                    prepared.insert(name, text_at(&body, next).0);
                }
                b'B' => {
                    let (_, next) = text_at(&body, 0);
                    bound = prepared.get(&text_at(&body, next).0).cloned().unwrap_or_default();
                    sent.workflows.extend(self.workflows_in(&body));
                }
                b'E' => sent.sql.push(bound.clone()),
                b'Q' => sent.sql.push(text_at(&body, 0).0),
                _ => {}
            }
            sent.bytes.push((kind, body));
            let waits = matches!(kind, b'S' | b'Q');
            if waits {
                self.wait_for_my_turn(&sent).await;
            }
            if waits || matches!(kind, b'p' | b'X' | b'H') {
                for (kind, body) in std::mem::take(&mut sent).bytes {
                    write_message(&mut server, Some(kind), &body).await?;
                }
                server.flush().await?;
            }
        }
    }

    fn workflows_in(&self, parameters: &[u8]) -> impl Iterator<Item = usize> {
        let has = |name: &Vec<u8>| parameters.windows(name.len()).any(|part| part == name);
        let names = self.shared.names.iter().enumerate();
        names.filter(move |(_, names)| names.iter().any(has)).map(|(number, _)| number)
    }

    /// Returns when the step may pass; it is then counted as on its way.
    async fn wait_for_my_turn(&self, sent: &Sent) {
        let sql = sent.sql.join("; ");
        let one = sent.workflows.first().copied().filter(|_| sent.workflows.len() == 1);
        let word = sql.trim_start().get(..8).unwrap_or(sql.trim_start()).to_lowercase();
        let footprint = self.with(|connection| {
            if word.starts_with("commit") {
                return Footprint::of_commit(std::mem::take(&mut connection.held));
            }
            let of = Footprint::of(&sql, one);
            if connection.in_transaction {
                connection.held.extend(of.held());
                of
            } else {
                of.alone()
            }
        });
        let turn = {
            let mut actors = self.shared.actors.lock().unwrap();
            let actor = &mut actors[self.actor];
            if actor.gated && !footprint.is_silent() {
                let (pass, turn) = oneshot::channel();
                let step = Step { sql, footprint };
                actor.waiting.push_back(Waiting { step, connection: self.number, pass });
                Some(turn)
            } else {
                None
            }
        };
        if let Some(turn) = turn {
            self.shared.changed.notify_one();
            turn.await.ok();
        }
        self.with(|connection| connection.expected += 1);
    }

    async fn pass_replies(self, server: OwnedReadHalf, client: OwnedWriteHalf) {
        let (mut server, mut client) = (BufReader::new(server), BufWriter::new(client));
        while let Ok((kind, body)) = read_message(&mut server).await {
            if write_message(&mut client, Some(kind), &body).await.is_err() {
                return;
            }
            if kind == b'K' {
                let pid = i32::from_be_bytes([body[0], body[1], body[2], body[3]]);
                self.with(|connection| connection.pid = pid);
            }
            if kind == b'Z' {
                self.shared.answers.fetch_add(1, Ordering::Relaxed);
                // Whoever waited for its locks has them, or is asked again at
                // once.
                for actor in self.shared.actors.lock().unwrap().iter_mut().filter(|actor| actor.blocked) {
                    actor.blocked = false;
                    self.shared.stuck.store(true, Ordering::Relaxed);
                }
                self.with(|connection| {
                    connection.expected = connection.expected.saturating_sub(1);
                    connection.in_transaction = body[0] != b'I';
                    if !connection.in_transaction {
                        connection.held.clear();
                    }
                });
            }
            if server.buffer().is_empty() && client.flush().await.is_err() {
                return;
            }
        }
    }
}
