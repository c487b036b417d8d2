-- The durable engine. Postgres decides, Redis hints.
-- Every tenant row's keys and unique indexes begin with workspace_id.
-- Changes of this schema follow expand/contract: a worker one release older
-- keeps working on it.

-- Durable time. Tests replace this function to move the clock; a production
-- start refuses any other body.
CREATE FUNCTION galley_now() RETURNS timestamptz LANGUAGE sql STABLE AS 'SELECT now()';

CREATE TABLE workspaces (
    id          uuid PRIMARY KEY,
    name        text NOT NULL,
    -- Share of the fair scheduler.
    weight      integer NOT NULL DEFAULT 1 CONSTRAINT workspaces_weight_range CHECK (weight BETWEEN 1 AND 1000),
    created_at  timestamptz NOT NULL DEFAULT galley_now(),
    CONSTRAINT workspaces_name_unique UNIQUE (name)
);

-- Agent types as workers registered them, and what operators set about them.
CREATE TABLE agents (
    agent                      text PRIMARY KEY,
    spec                       json NOT NULL,
    paused                     boolean NOT NULL DEFAULT false,
    paused_by                  text,
    paused_reason              text,
    max_running                integer CONSTRAINT agents_max_running_positive CHECK (max_running > 0),
    max_running_per_workspace  integer CONSTRAINT agents_max_per_workspace_positive CHECK (max_running_per_workspace > 0),
    registered_at              timestamptz NOT NULL DEFAULT galley_now(),
    updated_at                 timestamptz NOT NULL DEFAULT galley_now()
);

-- One row per worker process, renewed every two seconds whatever is in flight.
CREATE TABLE sessions (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    worker        text NOT NULL,
    host          text NOT NULL,
    pid           integer NOT NULL,
    release       text NOT NULL,
    agents        text[] NOT NULL,
    concurrency   integer NOT NULL,
    running       integer NOT NULL DEFAULT 0,
    -- Moves with every renewal. The reaper watches it on its own monotonic
    -- clock, so that no wall clock is ever compared.
    seq           bigint NOT NULL DEFAULT 0,
    started_at    timestamptz NOT NULL DEFAULT galley_now(),
    renewed_at    timestamptz NOT NULL DEFAULT galley_now(),
    closed_at     timestamptz,
    close_reason  text,
    -- Set once every step of a closed session was given back or taken away.
    swept_at      timestamptz
);
CREATE INDEX sessions_unswept ON sessions (id) WHERE swept_at IS NULL;

-- Definitions are content: stored once per workspace, named by their hash,
-- never changed.
CREATE TABLE definitions (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    workspace_id  uuid NOT NULL,
    hash          bytea NOT NULL,
    body          json NOT NULL,
    created_at    timestamptz NOT NULL DEFAULT galley_now(),
    CONSTRAINT definitions_hash_unique UNIQUE (workspace_id, hash)
);

CREATE TABLE templates (
    workspace_id   uuid NOT NULL,
    name           text NOT NULL,
    version        integer NOT NULL,
    body           json NOT NULL,
    created_by     text NOT NULL,
    created_at     timestamptz NOT NULL DEFAULT galley_now(),
    PRIMARY KEY (workspace_id, name, version)
);

-- What was submitted. Appended once, never rewritten.
CREATE TABLE workflows (
    workspace_id     uuid NOT NULL,
    id               uuid NOT NULL,
    definition_id    bigint NOT NULL,
    name             text NOT NULL,
    template         text,
    priority         smallint NOT NULL,
    idempotency_key  text NOT NULL,
    request_hash     bytea NOT NULL,
    input            json NOT NULL,
    traceparent      text,
    created_by       text NOT NULL,
    created_at       timestamptz NOT NULL DEFAULT galley_now(),
    PRIMARY KEY (workspace_id, id),
    CONSTRAINT workflows_idempotency_key UNIQUE (workspace_id, idempotency_key)
);

-- Live state: one narrow row per unfinished workflow, compare-and-set on
-- version. Nothing that changes is indexed, so every update stays on its page.
CREATE TABLE runs (
    workspace_id   uuid NOT NULL,
    id             uuid NOT NULL,
    definition_id  bigint NOT NULL,
    version        bigint NOT NULL,
    changed_at     timestamptz NOT NULL DEFAULT galley_now(),
    -- How many of its steps are running: lets the reaper read only those runs.
    running        smallint NOT NULL DEFAULT 0,
    run            bytea NOT NULL,
    PRIMARY KEY (workspace_id, id)
) WITH (
    fillfactor = 60,
    autovacuum_vacuum_scale_factor = 0.05,
    autovacuum_vacuum_cost_delay = 1
);
-- Runs are small and change often: compressing them only costs.
ALTER TABLE runs ALTER COLUMN run SET STORAGE EXTERNAL;

-- Final state: moved here when every step is final.
CREATE TABLE finished_runs (
    workspace_id   uuid NOT NULL,
    id             uuid NOT NULL,
    definition_id  bigint NOT NULL,
    version        bigint NOT NULL,
    state          text NOT NULL,
    finished_at    timestamptz NOT NULL DEFAULT galley_now(),
    run            bytea NOT NULL,
    PRIMARY KEY (workspace_id, id)
);

-- Exactly one row per succeeded step, with the winning epoch and nonce.
CREATE TABLE results (
    workspace_id  uuid NOT NULL,
    workflow_id   uuid NOT NULL,
    step          smallint NOT NULL,
    epoch         integer NOT NULL,
    nonce         bigint NOT NULL,
    session       bigint NOT NULL,
    duration_ms   integer NOT NULL,
    tokens_in     integer NOT NULL DEFAULT 0,
    tokens_out    integer NOT NULL DEFAULT 0,
    cost_micros   bigint NOT NULL DEFAULT 0,
    cache_hit     boolean NOT NULL DEFAULT false,
    finished_at   timestamptz NOT NULL DEFAULT galley_now(),
    provider      text,
    model         text,
    output        json NOT NULL,
    PRIMARY KEY (workspace_id, workflow_id, step)
);

-- The attempts that did not succeed, and their bills.
CREATE TABLE attempts (
    workspace_id  uuid NOT NULL,
    workflow_id   uuid NOT NULL,
    step          smallint NOT NULL,
    epoch         integer NOT NULL,
    nonce         bigint NOT NULL,
    session       bigint NOT NULL,
    outcome       text NOT NULL,
    class         text NOT NULL,
    message       text NOT NULL,
    duration_ms   integer,
    tokens_in     integer NOT NULL DEFAULT 0,
    tokens_out    integer NOT NULL DEFAULT 0,
    cost_micros   bigint NOT NULL DEFAULT 0,
    provider      text,
    model         text,
    ended_at      timestamptz NOT NULL DEFAULT galley_now(),
    PRIMARY KEY (workspace_id, workflow_id, step, epoch, nonce)
);

-- Inputs that a person replaced when replaying a dead step.
CREATE TABLE step_inputs (
    workspace_id  uuid NOT NULL,
    workflow_id   uuid NOT NULL,
    step          smallint NOT NULL,
    epoch         integer NOT NULL,
    input         json NOT NULL,
    edited_by     text NOT NULL,
    edited_at     timestamptz NOT NULL DEFAULT galley_now(),
    PRIMARY KEY (workspace_id, workflow_id, step, epoch)
);

-- Steps that wait for a time.
CREATE TABLE timers (
    workspace_id  uuid NOT NULL,
    workflow_id   uuid NOT NULL,
    step          smallint NOT NULL,
    epoch         integer NOT NULL,
    due_at        timestamptz NOT NULL,
    PRIMARY KEY (workspace_id, workflow_id, step)
);
CREATE INDEX timers_due ON timers (due_at);

CREATE TABLE dead_letters (
    workspace_id  uuid NOT NULL,
    workflow_id   uuid NOT NULL,
    step          smallint NOT NULL,
    step_name     text NOT NULL,
    agent         text NOT NULL,
    reason        text NOT NULL,
    class         text NOT NULL,
    message       text NOT NULL,
    fingerprint   text NOT NULL,
    attempts      integer NOT NULL,
    crashes       integer NOT NULL,
    status        text NOT NULL DEFAULT 'open',
    died_at       timestamptz NOT NULL DEFAULT galley_now(),
    closed_at     timestamptz,
    closed_by     text,
    PRIMARY KEY (workspace_id, workflow_id, step)
);
CREATE INDEX dead_letters_open ON dead_letters (workspace_id, fingerprint) WHERE status = 'open';

-- What people, keys and schedulers did, in the transaction that did it.
CREATE TABLE audit (
    workspace_id  uuid NOT NULL,
    id            bigint GENERATED ALWAYS AS IDENTITY,
    at            timestamptz NOT NULL DEFAULT galley_now(),
    actor         text NOT NULL,
    action        text NOT NULL,
    object        text NOT NULL,
    detail        json,
    PRIMARY KEY (workspace_id, id)
);
