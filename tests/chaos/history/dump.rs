//! The database after everything came to rest: every table that a promise is
//! about, row by row. The fields are the columns, named as they are; what a
//! column means is said in `migrations/`.

use galley_core::ids::{AccountId, ApprovalId, PostId, SessionId, StepIndex, WorkflowId, WorkspaceId};
use galley_core::run::{BadRun, Run};
use jiff::Timestamp;
use jiff::civil::Date;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Nothing of Galley knows this table: it is a witness.
const JOURNAL: &str = "
    CREATE TABLE run_journal (
        n bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, workspace_id uuid NOT NULL, id uuid NOT NULL,
        version bigint NOT NULL, run bytea NOT NULL, at timestamptz NOT NULL DEFAULT clock_timestamp());
    GRANT INSERT ON run_journal TO PUBLIC;
    CREATE FUNCTION run_journal() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        INSERT INTO run_journal (workspace_id, id, version, run)
        VALUES (NEW.workspace_id, NEW.id, NEW.version, NEW.run);
        RETURN NULL;
    END $$;
    CREATE TRIGGER run_journal AFTER INSERT OR UPDATE ON runs
        FOR EACH ROW EXECUTE FUNCTION run_journal();
    CREATE TRIGGER run_journal AFTER INSERT OR UPDATE ON finished_runs
        FOR EACH ROW EXECUTE FUNCTION run_journal();
    CREATE TABLE budget_journal (
        n bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, workspace_id uuid NOT NULL, name text NOT NULL,
        reserved_micros bigint NOT NULL, spent_micros bigint NOT NULL, limit_micros bigint NOT NULL);
    GRANT INSERT ON budget_journal TO PUBLIC;
    CREATE FUNCTION budget_journal() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        INSERT INTO budget_journal (workspace_id, name, reserved_micros, spent_micros, limit_micros)
        SELECT NEW.workspace_id, NEW.name, NEW.reserved_micros, NEW.spent_micros, b.day_micros
          FROM budgets b WHERE b.workspace_id = NEW.workspace_id AND b.day_micros IS NOT NULL;
        RETURN NULL;
    END $$;
    CREATE TRIGGER budget_journal AFTER INSERT OR UPDATE ON budget_counters
        FOR EACH ROW WHEN (NEW.period = 'day') EXECUTE FUNCTION budget_journal();";

macro_rules! tables {
    ($($(#[$doc:meta])* $table:ident: $row:ident $fields:tt)*) => {
        /// The tables of a dump, taken in one `REPEATABLE READ` transaction.
        #[derive(Clone, Debug, Default, PartialEq)]
        pub struct Dump {
            /// When it was taken, on the database's clock.
            pub at: Timestamp,
            $($(#[$doc])* pub $table: Vec<$row>,)*
        }

        impl Dump {
            /// Lets the database itself keep every version of every run, and what
            /// was reserved and spent of each day's limit at every moment, in the
            /// transaction that writes it. To be run once, after the migrations
            /// and before anything is submitted.
            pub const JOURNAL: &'static str = JOURNAL;

            /// The tables to read. For each, every row as
            /// `SELECT row_to_json(t)::text FROM <table> t` with
            /// `SET TimeZone = 'UTC'` makes one [`Line::Row`](super::Line::Row).
            pub const TABLES: &'static [&'static str] = &[$(stringify!($table)),*];

            /// The columns that are read of each table.
            pub const COLUMNS: &'static [(&'static str, &'static [&'static str])] =
                &[$((stringify!($table), columns!($fields))),*];

            /// Adds a row.
            ///
            /// # Errors
            /// A table or a row of another shape.
            pub fn add(&mut self, table: &str, row: Value) -> Result<(), serde_json::Error> {
                match table {
                    $(stringify!($table) => self.$table.push(serde_json::from_value(row)?),)*
                    other => {
                        return Err(serde::de::Error::custom(format!("no table `{other}` belongs to a dump")));
                    }
                }
                Ok(())
            }

            /// Every row with its table.
            ///
            /// # Errors
            /// Never: rows are plain data.
            pub fn rows(&self) -> Result<Vec<(&'static str, Value)>, serde_json::Error> {
                let mut rows = Vec::new();
                $(for row in &self.$table {
                    rows.push((stringify!($table), serde_json::to_value(row)?));
                })*
                Ok(rows)
            }
        }

        $(row! { $(#[$doc])* $row $fields })*
    };
}

macro_rules! columns {
    ({ $($field:ident: $type:ty),* $(,)? }) => { &[$(stringify!($field)),*] };
}

macro_rules! row {
    ($(#[$doc:meta])* $row:ident { $($field:ident: $type:ty),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[allow(missing_docs, reason = "the columns are documented in the migrations")]
        pub struct $row { $(pub $field: $type),* }
    };
}

tables! {
    /// What was submitted.
    workflows: WorkflowRow {
        workspace_id: WorkspaceId, id: WorkflowId, definition_id: i64, name: String, priority: i16,
        idempotency_key: String, input: Value, created_by: String, created_at: Timestamp,
    }
    /// The definitions that workflows run.
    definitions: DefinitionRow { id: i64, workspace_id: WorkspaceId, body: Value }
    /// Live workflows.
    runs: RunRow {
        workspace_id: WorkspaceId, id: WorkflowId, definition_id: i64, version: i64, running: i16,
        run: Bytes,
    }
    /// Workflows that are over.
    finished_runs: FinishedRow {
        workspace_id: WorkspaceId, id: WorkflowId, definition_id: i64, version: i64, state: String,
        finished_at: Timestamp, run: Bytes,
    }
    /// Every committed version of every run, where the recorder had it kept
    /// ([`Dump::JOURNAL`]); empty otherwise.
    run_journal: JournalRow {
        n: i64, workspace_id: WorkspaceId, id: WorkflowId, version: i64, run: Bytes, at: Timestamp,
    }
    /// Results of succeeded steps.
    results: ResultRow {
        workspace_id: WorkspaceId, workflow_id: WorkflowId, step: StepIndex, epoch: u32, nonce: i64,
        session: SessionId, duration_ms: i64, finished_at: Timestamp, output: Value,
    }
    /// What steps said to others.
    messages: MessageRow {
        workspace_id: WorkspaceId, workflow_id: WorkflowId, step: StepIndex, n: i16, seq: u64, content: Value,
    }
    /// Attempts that did not succeed.
    attempts: AttemptRow {
        workspace_id: WorkspaceId, workflow_id: WorkflowId, step: StepIndex, epoch: u32, nonce: i64,
        session: SessionId, outcome: String, class: String, message: String, ended_at: Timestamp,
    }
    /// Steps that wait for a time.
    timers: TimerRow {
        workspace_id: WorkspaceId, workflow_id: WorkflowId, step: StepIndex, epoch: u32, due_at: Timestamp,
    }
    /// Money by day, month and workflow.
    budget_counters: CounterRow {
        workspace_id: WorkspaceId, period: String, name: String, reserved_micros: i64, spent_micros: i64,
    }
    /// What was reserved and spent of a day's limit after each change, where
    /// the recorder had it kept ([`Dump::JOURNAL`]); empty otherwise.
    budget_journal: BudgetJournalRow {
        n: i64, workspace_id: WorkspaceId, name: String, reserved_micros: i64, spent_micros: i64,
        limit_micros: i64,
    }
    /// Calls and posts that may cost something.
    spend: SpendRow {
        workspace_id: WorkspaceId, workflow_id: WorkflowId, step: StepIndex, epoch: u32, nonce: i64, call: i32,
        step_name: String, account: Option<String>, day: Date, state: String, reserved_micros: i64,
        cost_micros: i64,
    }
    /// Steps that wait for money.
    budget_waits: BudgetWaitRow {
        workspace_id: WorkspaceId, workflow_id: WorkflowId, step: StepIndex, epoch: u32, needed_micros: i64,
    }
    /// Steps that died.
    dead_letters: LetterRow {
        workspace_id: WorkspaceId, workflow_id: WorkflowId, step: StepIndex, step_name: String, agent: String,
        reason: String, class: String, message: String, attempts: i32, crashes: i32, status: String,
        died_at: Timestamp, closed_at: Option<Timestamp>, closed_by: Option<String>,
    }
    /// Who did what.
    audit: AuditRow {
        workspace_id: WorkspaceId, id: i64, at: Timestamp, actor: String, action: String, object: String,
        detail: Option<Value>,
    }
    /// Policies.
    automation: AutomationRow {
        workspace_id: WorkspaceId, version: i64, config: Value, previous_time_zone: Option<String>,
        time_zone_since: Option<Timestamp>, updated_by: String, updated_at: Timestamp,
    }
    /// Accounts. The sealed credential is in the dump, too: it must not be an
    /// open one.
    accounts: AccountRow {
        workspace_id: WorkspaceId, id: AccountId, name: String, platform: String, settings: Value,
        credential: Bytes, time_zone: Option<String>, max_daily_posts: Option<i32>,
        removed_at: Option<Timestamp>,
    }
    /// Content for accounts.
    posts: PostRow {
        workspace_id: WorkspaceId, id: PostId, workflow_id: WorkflowId, step: StepIndex, step_name: String,
        account_id: AccountId, state: String, revision: i32, content_hash: String, version: i32, held: bool,
        slot_at: Option<Timestamp>, reason: Option<String>,
    }
    /// Its revisions.
    post_revisions: RevisionRow {
        workspace_id: WorkspaceId, post_id: PostId, revision: i32, content: Value, content_hash: String,
        author: String, created_at: Timestamp,
    }
    /// Questions to persons.
    approvals: ApprovalRow {
        workspace_id: WorkspaceId, id: ApprovalId, kind: String, workflow_id: WorkflowId, step: StepIndex,
        step_name: String, post_id: Option<PostId>, revision: Option<i32>, content_hash: String, reason: String,
        status: String, asked_at: Timestamp, expires_at: Timestamp, decided_by: Option<String>,
        decided_at: Option<Timestamp>, note: Option<String>,
    }
    /// What is going out or went out.
    publications: PublicationRow {
        workspace_id: WorkspaceId, effect_key: String, post_id: PostId, workflow_id: WorkflowId,
        step: StepIndex, account_id: AccountId, state: String, revision: i32, content_hash: String,
        payload: Value, approval_id: Option<ApprovalId>, nonce: i64, sends: i32, intended_at: Timestamp,
        first_sent_at: Option<Timestamp>, not_after: Timestamp, quota_day: Option<Date>, quota_held: bool,
        remote_id: Option<String>, settled_by: Option<String>,
    }
    /// What was tried about it.
    publication_events: EventRow {
        workspace_id: WorkspaceId, effect_key: String, id: i64, at: Timestamp, event: String,
        detail: Option<String>,
    }
    /// Places taken per day; the nil account is the workspace.
    day_quota: QuotaRow { workspace_id: WorkspaceId, account_id: AccountId, day: Date, used: i32 }
    /// Recurring workflows.
    schedules: ScheduleRow {
        workspace_id: WorkspaceId, id: uuid::Uuid, name: String, cron: String, time_zone: String,
        missed: String, version: i64, paused_by: Option<String>, next_at: Option<Timestamp>,
        last_at: Option<Timestamp>, last_workflow: Option<WorkflowId>, last_problem: Option<String>,
        created_by: String,
    }
    /// Workers.
    sessions: SessionRow {
        id: SessionId, worker: String, pid: i64, running: i32, closed_at: Option<Timestamp>,
        close_reason: Option<String>, swept_at: Option<Timestamp>,
    }
    /// Agent types and what operators set about them.
    agents: AgentRow { agent: String, paused: bool }
}

/// A `bytea` as `row_to_json` writes it: `\x` and hexadecimal digits.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Bytes(pub String);

impl Bytes {
    /// These bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(format!("\\x{}", hex::encode(bytes)))
    }

    /// The bytes; `None` when it is no such text.
    pub fn bytes(&self) -> Option<Vec<u8>> {
        hex::decode(self.0.strip_prefix("\\x")?).ok()
    }

    /// The run in these bytes, its own invariants checked.
    ///
    /// # Errors
    /// As [`Run::decode`].
    pub fn run(&self) -> Result<Run, BadRun> {
        let bytes = self.bytes().ok_or_else(|| BadRun::Bytes("no hexadecimal text".into()))?;
        Run::decode(&bytes)
    }
}
