-- Providers of a workspace's own: in place of the deployment's of the same name.

CREATE TABLE providers (
    workspace_id     uuid NOT NULL,
    -- What it speaks, and what agents call it: `openai`, `anthropic`, `gemini`, `ollama`.
    name             text NOT NULL,
    -- Null: the provider's public address.
    base_url         text,
    -- The model that answers when an agent names none.
    model            text NOT NULL,
    -- Calls at once from one worker process; null: any number.
    max_concurrency  integer CHECK (max_concurrency > 0),
    -- What models cost here, by name: {"m": {"input": …, "output": …, "maxOutput": …}}, as in core::money::Price.
    prices           json NOT NULL DEFAULT '{}',
    -- Rises with every change, also through a removal: whoever remembers one knows it is another.
    version          bigint NOT NULL,
    set_by           text NOT NULL,
    set_at           timestamptz NOT NULL DEFAULT galley_now(),
    PRIMARY KEY (workspace_id, name)
);
CREATE SEQUENCE provider_versions;

-- Their keys, sealed with the workspace's data key.
CREATE TABLE provider_keys (
    workspace_id  uuid NOT NULL,
    name          text NOT NULL,
    data_key      integer NOT NULL,
    sealed        bytea NOT NULL,
    sealed_at     timestamptz NOT NULL DEFAULT galley_now(),
    PRIMARY KEY (workspace_id, name)
);

SELECT galley_isolate(ARRAY['providers', 'provider_keys']);

-- The API sets them and cannot read a key; whoever runs agents can. A DELETE
-- reads the columns of its WHERE.
REVOKE ALL ON providers, provider_keys FROM galley_api, galley_engine, galley_publisher;
GRANT SELECT, INSERT, UPDATE, DELETE ON providers TO galley_api;
GRANT USAGE ON SEQUENCE provider_versions TO galley_api;
GRANT INSERT, DELETE ON provider_keys TO galley_api;
GRANT SELECT (workspace_id, name) ON provider_keys TO galley_api;
GRANT SELECT ON providers, provider_keys TO galley_engine, galley_publisher;
