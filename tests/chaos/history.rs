//! What a fault run leaves behind, as data: who asked for what and what they
//! were told, what the platform and the providers really did, what the
//! database holds in the end. The checker is a function over this and nothing
//! else, so a failing run can be judged again on another machine, long after.
//!
//! On disk it is one JSON object per line ([`Line`]), appended while the run
//! goes on: a harness that dies leaves everything up to that moment. Whoever
//! records must never tidy up: what was not known is [`Reply::Unknown`], what
//! was not looked at is absent.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use galley_core::ids::{AccountId, ApprovalId, PostId, WorkflowId, WorkspaceId};
use galley_core::publish::Capability;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

mod dump;

pub use dump::{
    AccountRow, AgentRow, ApprovalRow, AttemptRow, AuditRow, AutomationRow, BudgetJournalRow, BudgetWaitRow,
    Bytes, CounterRow, DefinitionRow, Dump, EventRow, FinishedRow, JournalRow, LetterRow, MessageRow,
    PostRow, PublicationRow, QuotaRow, ResultRow, RevisionRow, RunRow, ScheduleRow, SessionRow, SpendRow,
    TimerRow, WorkflowRow,
};

/// Everything about one fault run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct History {
    /// What was set up before anything happened.
    pub facts: Facts,
    /// What clients asked for, in the order their replies came.
    pub ops: Vec<Op>,
    /// What event streams told, in the order it was received.
    pub events: Vec<StreamEvent>,
    /// What the platforms really show.
    pub effects: Vec<Effect>,
    /// What the providers were really called for.
    pub calls: Vec<Call>,
    /// What the providers really charged.
    pub bills: Vec<Bill>,
    /// The database after everything came to rest.
    pub dump: Dump,
    /// What was still moving then.
    pub leftovers: Leftovers,
    /// Which faults happened and which rescue paths were walked.
    pub seen: Seen,
}

/// What was set up before anything happened.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Facts {
    /// What everything random was drawn from.
    pub seed: u64,
    /// How long faults were injected.
    pub minutes: f64,
    /// Which run this is: `ci`, `long`, the name of a planted bug …
    pub mode: String,
    /// The database's time (`galley_now()`) at millisecond 0 of the log. All
    /// `*_ms` of a history are monotonic milliseconds since then.
    pub began_at: Timestamp,
    /// How far the database's clock and the log's may be apart, milliseconds;
    /// only used where nothing better than clocks tells an order.
    pub clock_slack_ms: u64,
    /// The tenants.
    pub workspaces: Vec<Workspace>,
    /// Their accounts on the platforms of the run.
    pub accounts: Vec<Account>,
    /// Credentials and keys made for this run: none may show up in the dump;
    /// the recorder looks for them in logs and Redis itself
    /// ([`Leftovers::secrets`]).
    pub secrets: Vec<String>,
    /// Kinds of faults that this run has to have injected, see [`Seen::faults`].
    pub needed_faults: Vec<String>,
    /// Rescue paths that this run has to have walked, see [`Seen::paths`].
    pub needed_paths: Vec<String>,
    /// How much of some faults this run has to have injected at least.
    #[serde(default)]
    pub needed_sums: Vec<NeededSum>,
}

/// A number of faults without which a run does not count.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NeededSum {
    /// What people call them.
    pub what: String,
    /// The kinds that count, by the beginnings of their names; all when empty.
    pub kinds: Vec<String>,
    /// How many there have to be.
    pub least: u64,
}

/// A tenant of the run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Workspace {
    /// Its id.
    pub id: WorkspaceId,
    /// Its name.
    pub name: String,
    /// A text that is part of every brief, post, name and note submitted in
    /// this workspace, and of nothing else.
    pub canary: String,
}

/// An account of the run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// Its id in Galley.
    pub id: AccountId,
    /// Whose.
    pub workspace: WorkspaceId,
    /// Its name in Galley.
    pub name: String,
    /// What the platform calls it: [`Effect::account`]. One handle belongs to
    /// one account.
    pub handle: String,
    /// What the platform can tell about a post that may be out.
    pub capability: Capability,
}

/// One request of a client, from its first byte to its reply. A request that
/// is sent again is another operation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Op {
    /// Its number in the run.
    pub id: u64,
    /// The tenant whose token it carried.
    pub workspace: WorkspaceId,
    /// The token's subject: what audit rows call the actor. A subject of its
    /// own for each mutation makes the audit check exact.
    pub actor: String,
    /// When it was sent.
    pub began_ms: u64,
    /// When its reply was read, or nobody waited any more.
    pub ended_ms: u64,
    /// What was asked.
    pub ask: Ask,
    /// What was answered.
    pub reply: Reply,
    /// The canaries (of any workspace) found anywhere in the reply.
    #[serde(default)]
    pub canaries: Vec<String>,
}

/// What a client asks for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Ask {
    /// Submit a workflow. [`Told::workflow`] has the id.
    Submit {
        /// The `Idempotency-Key`.
        key: String,
        /// What kind of workflow: `chain`, `diamond`, `publish` … for people.
        shape: String,
        /// Names the request's body: two submits of one key with different
        /// bodies must not both be accepted.
        body: u64,
    },
    /// Read a workflow: [`Told::state`], [`Told::seq`], [`Told::steps`].
    Look {
        /// Which.
        workflow: WorkflowId,
    },
    /// Read a post: [`Told::post`].
    LookPost {
        /// Which.
        post: PostId,
    },
    /// Cancel a workflow.
    Cancel {
        /// Which.
        workflow: WorkflowId,
    },
    /// Answer a question with yes.
    Approve {
        /// Which question.
        approval: ApprovalId,
        /// What it is about.
        about: Subject,
        /// The hash that was shown.
        hash: String,
    },
    /// Answer a question with no.
    Reject {
        /// Which question.
        approval: ApprovalId,
        /// What it is about.
        about: Subject,
    },
    /// Say no to a post, whatever it waits for.
    RejectPost {
        /// Which.
        post: PostId,
    },
    /// A new revision of a post.
    Edit {
        /// Which.
        post: PostId,
        /// The content hash of the new text.
        hash: String,
        /// Whether it is approved along with the edit.
        approve: bool,
    },
    /// Another slot for a post.
    Reschedule {
        /// Which.
        post: PostId,
    },
    /// Say what became of a post in doubt.
    Resolve {
        /// Which.
        post: PostId,
        /// What was said.
        said: Resolution,
        /// How many effects the platform's ledger showed for its key when the
        /// person looked.
        ledger: u32,
    },
    /// Send dead letters back to their queues, or give them up.
    Repair {
        /// Which of the two.
        how: Repair,
        /// The tasks (`workflow.step`) that were named; empty when a filter
        /// chose: then [`Told::repaired`] has them.
        tasks: Vec<String>,
    },
    /// Replace the policy.
    SetPolicy {
        /// The config as it was sent, with every field.
        config: Value,
    },
    /// Anything else that leaves an audit row: accounts, pauses, schedules …
    Other {
        /// The audit's action: `account.add`, `queue.pause` …
        action: String,
        /// The audit's object.
        object: String,
    },
}

/// What a question is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    /// May these bytes go out?
    Post(PostId),
    /// May this step (`workflow.step`) run?
    Task(String),
}

/// What a person says about a post in doubt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resolution {
    /// It is there.
    Published,
    /// It is not there: send it.
    NotThere,
    /// It is not there, and shall not be.
    GivenUp,
}

/// What is done about dead letters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Repair {
    /// Tried again.
    Retry,
    /// Tried again with another input.
    EditAndRetry,
    /// Given up.
    Discard,
}

/// How a request ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// A success was read to its end.
    Done(Told),
    /// A 4xx was read to its end: nothing was done.
    Refused {
        /// The status.
        status: u16,
        /// The problem's type or title.
        problem: String,
    },
    /// Anything else (5xx, cut, silent): it was done, or not, or will be.
    Unknown {
        /// What was seen.
        why: String,
    },
}

/// What a success told, as far as the request's kind has it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Told {
    /// The workflow's id.
    pub workflow: Option<WorkflowId>,
    /// Where the workflow stands.
    pub state: Option<String>,
    /// Its change number.
    pub seq: Option<u64>,
    /// Where each step stands, by its name (`content.0` for a child).
    pub steps: BTreeMap<String, String>,
    /// Where the post stands.
    pub post: Option<ToldPost>,
    /// The tasks that were repaired.
    pub repaired: Vec<String>,
}

/// What a client was told about a post.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToldPost {
    /// Which.
    pub id: PostId,
    /// Its state's word.
    pub state: String,
    /// Its newest revision.
    pub revision: i32,
    /// The hash of that.
    pub hash: String,
}

/// One event that a client of an event stream received.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamEvent {
    /// The follower: one client that follows one workflow and resumes after
    /// every cut, with the last `id` it received.
    pub stream: u64,
    /// Which connection of the follower: 0, 1, 2 …
    pub connection: u32,
    /// The `Last-Event-ID` this connection was opened with; 0 for none.
    pub behind: u64,
    /// The tenant.
    pub workspace: WorkspaceId,
    /// The workflow.
    pub workflow: WorkflowId,
    /// When it was received.
    pub at_ms: u64,
    /// The event's `id`, if it had one.
    pub id: Option<u64>,
    /// The step's name; `None`: the event is about the workflow.
    pub step: Option<String>,
    /// Where the step or the workflow stands.
    pub state: String,
    /// The event's change number.
    pub seq: u64,
}

/// One post that a platform really shows. Platforms are never killed: this is
/// the truth.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Effect {
    /// The key or trace key it came with.
    pub key: String,
    /// The account's name on the platform, [`Account::handle`].
    pub account: String,
    /// By which endpoint: `idempotent`, `verifiable`, `blind`.
    pub endpoint: String,
    /// The text that people see.
    pub text: String,
    /// The link that went with it.
    #[serde(default)]
    pub link: Option<String>,
    /// When it appeared, on the platform's clock.
    pub at: Timestamp,
    /// What the platform took for it, millionths of a US dollar.
    #[serde(default)]
    pub cost_micros: u64,
}

/// One call that a provider really received. Providers are never killed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Call {
    /// Drawn for this call. The step's output carries it as its field `call`.
    pub call: String,
    /// The workflow.
    pub workflow: WorkflowId,
    /// The step's name.
    pub step: String,
    /// The step's effect key, where the provider was told.
    #[serde(default)]
    pub key: Option<String>,
    /// When the call came in.
    pub at_ms: u64,
    /// What the step's input held of its parents: the parent's name and the
    /// field `call` of its result (children of an expansion: of each).
    #[serde(default)]
    pub saw: BTreeMap<String, Vec<String>>,
    /// The field `call` of every message that the step was told, in order.
    #[serde(default)]
    pub heard: Vec<String>,
    /// The canaries (of any workspace) found anywhere in what came in.
    #[serde(default)]
    pub canaries: Vec<String>,
}

/// What a provider really charged for one call. Providers are never killed:
/// whoever died with the answer, or never got one, has been charged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bill {
    /// The tenant.
    pub workspace: WorkspaceId,
    /// The workflow.
    pub workflow: WorkflowId,
    /// The step's name.
    pub step: String,
    /// Millionths of a US dollar.
    pub micros: u64,
}

/// What was still moving when everything should have been at rest.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Leftovers {
    /// Sessions of Postgres that were idle in a transaction.
    pub idle_in_transaction: u64,
    /// Tickets that Redis counted as in flight, by agent.
    pub in_flight: BTreeMap<String, u64>,
    /// Tickets that lay ready in Redis, by agent.
    pub ready: BTreeMap<String, u64>,
    /// Where one of [`Facts::secrets`] was found: a log file, a Redis key.
    pub secrets: Vec<String>,
    /// Where something of one workspace was found with something of another: a
    /// log line, a Redis member.
    pub crossed: Vec<String>,
    /// What does not hold about the audit's chains.
    pub chains: Vec<String>,
}

/// What really happened during the run, counted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Seen {
    /// Injected faults by kind.
    pub faults: BTreeMap<String, u64>,
    /// Walked rescue paths by the names of the probe's registry.
    pub paths: BTreeMap<String, u64>,
}

/// One line of the file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Line {
    /// Once, first.
    Facts(Facts),
    /// A request ended.
    Op(Op),
    /// An event stream told something.
    Event(StreamEvent),
    /// A platform shows a post.
    Effect(Effect),
    /// A provider was called.
    Call(Call),
    /// A provider charged for a call.
    Bill(Bill),
    /// When the dump was taken, on the database's clock.
    Dumped(Timestamp),
    /// A row of the dump.
    Row {
        /// Its table, one of [`Dump::TABLES`].
        table: String,
        /// What `row_to_json` made of it, with `TimeZone` set to UTC.
        row: Value,
    },
    /// What was still moving.
    Leftovers(Leftovers),
    /// What happened, counted.
    Seen(Seen),
}

/// Why a history cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum BadHistory {
    /// The file cannot be read or written.
    #[error("{0}")]
    File(#[from] io::Error),
    /// A line is not what it should be.
    #[error("line {line}: {problem}")]
    Line {
        /// Its number, from 1.
        line: usize,
        /// What is wrong.
        problem: String,
    },
    /// The first line is missing: nothing was set up.
    #[error("there are no facts: the run never began")]
    NoFacts,
}

/// Appends to a history while the run goes on; shared by all who record.
#[derive(Debug)]
pub struct Recorder {
    file: Mutex<File>,
}

impl Recorder {
    /// A new file.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn create(path: &Path) -> Result<Self, BadHistory> {
        Ok(Self { file: Mutex::new(File::create(path)?) })
    }

    /// Appends a line; it is in the operating system's hands when this returns.
    ///
    /// # Errors
    /// The disk is full, or gone.
    pub fn write(&self, line: &Line) -> Result<(), BadHistory> {
        let mut bytes = serde_json::to_vec(line).map_err(io::Error::from)?;
        bytes.push(b'\n');
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(file.write_all(&bytes)?)
    }
}

impl History {
    /// Reads a file that a [`Recorder`] wrote. A last line without its end is
    /// what a killed harness leaves: it is ignored.
    ///
    /// # Errors
    /// See [`BadHistory`].
    pub fn read(path: &Path) -> Result<Self, BadHistory> {
        let mut history = Self::default();
        let mut reader = BufReader::new(File::open(path)?);
        let (mut text, mut number) = (Vec::new(), 0);
        loop {
            text.clear();
            if reader.read_until(b'\n', &mut text)? == 0 || text.last() != Some(&b'\n') {
                break;
            }
            number += 1;
            let bad =
                |problem: serde_json::Error| BadHistory::Line { line: number, problem: problem.to_string() };
            let line: Line = serde_json::from_slice(&text).map_err(bad)?;
            if (number == 1) != matches!(line, Line::Facts(_)) {
                return Err(BadHistory::NoFacts);
            }
            history.add(line).map_err(bad)?;
        }
        if number == 0 { Err(BadHistory::NoFacts) } else { Ok(history) }
    }

    /// Adds what a line tells.
    ///
    /// # Errors
    /// A row that its table does not have.
    pub fn add(&mut self, line: Line) -> Result<(), serde_json::Error> {
        match line {
            Line::Facts(facts) => self.facts = facts,
            Line::Op(op) => self.ops.push(op),
            Line::Event(event) => self.events.push(event),
            Line::Effect(effect) => self.effects.push(effect),
            Line::Call(call) => self.calls.push(call),
            Line::Bill(bill) => self.bills.push(bill),
            Line::Dumped(at) => self.dump.at = at,
            Line::Row { table, row } => self.dump.add(&table, row)?,
            Line::Leftovers(leftovers) => self.leftovers = leftovers,
            Line::Seen(seen) => self.seen = seen,
        }
        Ok(())
    }

    /// Writes it all: what a [`Recorder`] would have written.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), BadHistory> {
        let recorder = Recorder::create(path)?;
        recorder.write(&Line::Facts(self.facts.clone()))?;
        for op in &self.ops {
            recorder.write(&Line::Op(op.clone()))?;
        }
        for event in &self.events {
            recorder.write(&Line::Event(event.clone()))?;
        }
        for effect in &self.effects {
            recorder.write(&Line::Effect(effect.clone()))?;
        }
        for call in &self.calls {
            recorder.write(&Line::Call(call.clone()))?;
        }
        for bill in &self.bills {
            recorder.write(&Line::Bill(bill.clone()))?;
        }
        recorder.write(&Line::Dumped(self.dump.at))?;
        for (table, row) in self.dump.rows().map_err(io::Error::from)? {
            recorder.write(&Line::Row { table: table.to_owned(), row })?;
        }
        recorder.write(&Line::Leftovers(self.leftovers.clone()))?;
        recorder.write(&Line::Seen(self.seen.clone()))
    }
}
