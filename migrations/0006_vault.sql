-- Credentials in envelopes, out of the API's reach.

-- One data key per workspace, wrapped by a key that the database never sees.
CREATE TABLE data_keys (
    workspace_id  uuid NOT NULL,
    version       integer NOT NULL,
    -- Which of the deployment's keys wraps it.
    kek_version   integer NOT NULL,
    wrapped       bytea NOT NULL,
    created_at    timestamptz NOT NULL DEFAULT galley_now(),
    wrapped_at    timestamptz NOT NULL DEFAULT galley_now(),
    PRIMARY KEY (workspace_id, version)
);

-- What was accounts.credential. The column stays, for workers a release older,
-- until `galley secret rotate` empties it; a later release drops it.
CREATE TABLE credentials (
    workspace_id  uuid NOT NULL,
    account_id    uuid NOT NULL,
    -- Null: the first format, sealed with the deployment's key itself.
    data_key      integer,
    sealed        bytea NOT NULL,
    sealed_at     timestamptz NOT NULL DEFAULT galley_now(),
    PRIMARY KEY (workspace_id, account_id)
);
INSERT INTO credentials (workspace_id, account_id, sealed)
SELECT workspace_id, id, credential FROM accounts WHERE removed_at IS NULL AND octet_length(credential) > 0;
ALTER TABLE accounts ALTER COLUMN credential SET DEFAULT '';

-- Whether an account works: asked by the API, which cannot open a credential,
-- answered by a worker that publishes.
CREATE TABLE account_checks (
    workspace_id  uuid NOT NULL,
    id            uuid NOT NULL,
    account_id    uuid NOT NULL,
    asked_by      text NOT NULL,
    asked_at      timestamptz NOT NULL DEFAULT galley_now(),
    taken_at      timestamptz,
    answered_at   timestamptz,
    ok            boolean,
    told          text,
    PRIMARY KEY (workspace_id, id)
);
CREATE INDEX account_checks_open ON account_checks (asked_at) WHERE taken_at IS NULL;

SELECT galley_isolate(ARRAY['data_keys', 'credentials', 'account_checks']);

-- The API adds and removes credentials and cannot read one, old or new; only
-- who publishes can. A DELETE reads the columns of its WHERE.
REVOKE ALL ON credentials, data_keys FROM galley_api, galley_engine, galley_publisher;
GRANT INSERT, DELETE ON credentials TO galley_api;
GRANT SELECT (workspace_id, account_id) ON credentials TO galley_api;
GRANT SELECT, INSERT ON data_keys TO galley_api;
GRANT SELECT, INSERT, UPDATE, DELETE ON credentials TO galley_publisher;
GRANT SELECT, INSERT, UPDATE ON data_keys TO galley_publisher;

REVOKE ALL ON account_checks FROM galley_api, galley_engine, galley_publisher;
GRANT SELECT, INSERT, DELETE ON account_checks TO galley_api;
GRANT SELECT, INSERT, UPDATE, DELETE ON account_checks TO galley_publisher;

REVOKE SELECT ON accounts FROM galley_api, galley_engine;
GRANT SELECT (workspace_id, id, name, platform, content_platform, settings, time_zone, slots, max_daily_posts,
              created_by, created_at, removed_at)
   ON accounts TO galley_api, galley_engine;
