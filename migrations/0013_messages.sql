-- What agents of one workflow say to each other, and what they remember
-- together. Both are written in the transaction of the result of the step that
-- says it.

CREATE TABLE messages (
    workspace_id  uuid NOT NULL,
    workflow_id   uuid NOT NULL,
    -- Which of the step's messages, from 0. A step succeeds once.
    step          smallint NOT NULL,
    n             smallint NOT NULL,
    -- The run's change in which it was sent: order and resumption.
    seq           bigint NOT NULL,
    id            uuid NOT NULL,
    step_name     text NOT NULL,
    from_agent    text NOT NULL,
    -- Null: all.
    to_agent      text,
    kind          text NOT NULL CHECK (kind IN ('request', 'response', 'notification', 'feedback')),
    priority      smallint NOT NULL,
    content       json NOT NULL,
    sealed        bytea,
    -- Of a response: the request it answers.
    in_reply_to   uuid,
    -- Of a request: open, answered, timed_out, undeliverable, unanswered. Of a
    -- response: accepted, late.
    state         text,
    expires_at    timestamptz,
    -- Of a request: when its answer was written.
    answered_at   timestamptz,
    sent_at       timestamptz NOT NULL DEFAULT galley_now(),
    PRIMARY KEY (workspace_id, workflow_id, step, n)
);
CREATE INDEX messages_open ON messages (expires_at) WHERE state = 'open';
CREATE INDEX messages_sent ON messages (workspace_id, sent_at);

-- The last value of each key, with who wrote it.
CREATE TABLE shared_context (
    workspace_id  uuid NOT NULL,
    workflow_id   uuid NOT NULL,
    key           text NOT NULL,
    version       integer NOT NULL,
    value         json NOT NULL,
    sealed        bytea,
    -- Who wrote it last, and which of the step's entries it was.
    step          smallint NOT NULL,
    n             smallint NOT NULL,
    seq           bigint NOT NULL,
    step_name     text NOT NULL,
    agent         text NOT NULL,
    updated_at    timestamptz NOT NULL DEFAULT galley_now(),
    PRIMARY KEY (workspace_id, workflow_id, key)
);

SELECT galley_isolate(ARRAY['messages', 'shared_context']);
REVOKE ALL ON messages, shared_context FROM galley_api, galley_engine, galley_publisher;
GRANT SELECT ON messages, shared_context TO galley_api;
GRANT UPDATE (state) ON messages TO galley_api;
GRANT SELECT, INSERT, UPDATE, DELETE ON messages, shared_context TO galley_engine, galley_publisher;
