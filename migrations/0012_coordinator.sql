-- What the coordinator keeps: answers, what was seen of models, and how each
-- attempt came to its model.

-- Answers that are given again to the same question. Losing them loses money
-- and nothing else.
CREATE TABLE responses (
    workspace_id  uuid NOT NULL,
    key           bytea NOT NULL,
    agent         text NOT NULL,
    -- Null while somebody is asking, until `lease_until`.
    output        json,
    model         text,
    cost_micros   bigint NOT NULL DEFAULT 0,
    asker         bigint NOT NULL,
    lease_until   timestamptz NOT NULL,
    kept_until    timestamptz,
    kept_at       timestamptz,
    hits          bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (workspace_id, key)
);
CREATE INDEX responses_until ON responses ((coalesce(kept_until, lease_until)));

-- Sums that forget, per model of an agent: see core::choice.
CREATE TABLE experience (
    workspace_id   uuid NOT NULL,
    agent          text NOT NULL,
    model          text NOT NULL,
    weight         double precision NOT NULL,
    successes      double precision NOT NULL,
    rating_weight  double precision NOT NULL DEFAULT 0,
    rating_sum     double precision NOT NULL DEFAULT 0,
    cost_sum       double precision NOT NULL,
    latency_sum    double precision NOT NULL,
    PRIMARY KEY (workspace_id, agent, model)
);

-- The same over all workspaces: sums, and nothing of anybody's.
CREATE TABLE fleet_experience (
    agent          text NOT NULL,
    model          text NOT NULL,
    weight         double precision NOT NULL,
    successes      double precision NOT NULL,
    rating_weight  double precision NOT NULL DEFAULT 0,
    rating_sum     double precision NOT NULL DEFAULT 0,
    cost_sum       double precision NOT NULL,
    latency_sum    double precision NOT NULL,
    PRIMARY KEY (agent, model)
);

-- Why an attempt used the model it used.
CREATE TABLE deliberations (
    workspace_id  uuid NOT NULL,
    workflow_id   uuid NOT NULL,
    step          smallint NOT NULL,
    epoch         integer NOT NULL,
    nonce         bigint NOT NULL,
    prompt        text NOT NULL,
    model         text NOT NULL,
    reason        text NOT NULL,
    scores        json NOT NULL,
    calls         smallint NOT NULL,
    PRIMARY KEY (workspace_id, workflow_id, step, epoch, nonce)
);

SELECT galley_isolate(ARRAY['responses', 'experience', 'deliberations']);
REVOKE ALL ON responses, experience, deliberations FROM galley_api, galley_engine, galley_publisher;
GRANT SELECT (workspace_id, agent, cost_micros, kept_at, hits) ON responses TO galley_api;
GRANT SELECT ON experience, deliberations TO galley_api;
GRANT SELECT, INSERT, UPDATE, DELETE ON responses TO galley_engine, galley_publisher;
GRANT SELECT, INSERT, UPDATE ON experience, fleet_experience TO galley_engine, galley_publisher;
GRANT SELECT, INSERT, DELETE ON deliberations TO galley_engine, galley_publisher;
