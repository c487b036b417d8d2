-- Money. A call that costs something is reserved at its upper bound before it
-- is made, and settled after; what calls may cost together never exceeds a
-- limit. Amounts are millionths of a US dollar.

-- What a workspace may spend. Null: no limit.
CREATE TABLE budgets (
    workspace_id     uuid PRIMARY KEY,
    day_micros       bigint CHECK (day_micros >= 0),
    month_micros     bigint CHECK (month_micros >= 0),
    workflow_micros  bigint CHECK (workflow_micros >= 0),
    warn_percent     smallint NOT NULL DEFAULT 80 CHECK (warn_percent BETWEEN 1 AND 100),
    version          bigint NOT NULL DEFAULT 1,
    set_by           text NOT NULL,
    set_at           timestamptz NOT NULL DEFAULT galley_now()
);

-- One row per day, month and workflow in which something was reserved. Locked
-- in the order of the primary key.
CREATE TABLE budget_counters (
    workspace_id     uuid NOT NULL,
    -- `day`, `month`, `workflow`.
    period           text NOT NULL,
    -- `2026-11-26`, `2026-11`, the workflow's id.
    name             text NOT NULL,
    reserved_micros  bigint NOT NULL DEFAULT 0 CHECK (reserved_micros >= 0),
    spent_micros     bigint NOT NULL DEFAULT 0 CHECK (spent_micros >= 0),
    -- A workflow's own limit, in place of the workspace's.
    own_limit        bigint CHECK (own_limit >= 0),
    warned_at        timestamptz,
    PRIMARY KEY (workspace_id, period, name)
) WITH (fillfactor = 50);

-- The ledger: one row per call that may cost something.
CREATE TABLE spend (
    workspace_id     uuid NOT NULL,
    workflow_id      uuid NOT NULL,
    step             smallint NOT NULL,
    epoch            integer NOT NULL,
    nonce            bigint NOT NULL,
    -- Which call of the attempt, from 0.
    call             smallint NOT NULL,
    session          bigint NOT NULL,
    step_name        text NOT NULL,
    agent            text NOT NULL,
    provider         text NOT NULL,
    model            text NOT NULL,
    -- The day it is counted in; its month follows.
    day              date NOT NULL,
    -- `reserved`, `settled`, `estimated` (nobody can know: charged at its bound).
    state            text NOT NULL DEFAULT 'reserved',
    reserved_micros  bigint NOT NULL,
    cost_micros      bigint NOT NULL DEFAULT 0,
    tokens_in        integer NOT NULL DEFAULT 0,
    tokens_out       integer NOT NULL DEFAULT 0,
    reserved_at      timestamptz NOT NULL DEFAULT galley_now(),
    settled_at       timestamptz,
    PRIMARY KEY (workspace_id, workflow_id, step, epoch, nonce, call)
);
CREATE INDEX spend_open ON spend (reserved_at) WHERE state = 'reserved';
CREATE INDEX spend_by_day ON spend (workspace_id, day);

-- Steps that wait for money.
CREATE TABLE budget_waits (
    workspace_id   uuid NOT NULL,
    workflow_id    uuid NOT NULL,
    step           smallint NOT NULL,
    epoch          integer NOT NULL,
    needed_micros  bigint NOT NULL,
    since          timestamptz NOT NULL DEFAULT galley_now(),
    PRIMARY KEY (workspace_id, workflow_id, step)
);
CREATE INDEX budget_waits_by_age ON budget_waits (since);

SELECT galley_isolate(ARRAY['budgets', 'budget_counters', 'spend', 'budget_waits']);

-- The API sets limits and reads; only who makes calls spends. A ledger grows.
REVOKE INSERT, UPDATE, DELETE ON budgets, budget_counters, spend, budget_waits
  FROM galley_api, galley_engine, galley_publisher;
GRANT INSERT, UPDATE ON budgets TO galley_api;
GRANT INSERT (workspace_id, period, name, own_limit), UPDATE (own_limit) ON budget_counters TO galley_api;
GRANT INSERT, UPDATE ON budget_counters, spend TO galley_engine, galley_publisher;
-- A cancel ends a wait, whoever cancels.
GRANT DELETE ON budget_waits TO galley_api;
GRANT INSERT, UPDATE, DELETE ON budget_waits TO galley_engine, galley_publisher;
