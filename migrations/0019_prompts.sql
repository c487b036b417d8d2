-- Prompts of a workspace's own: in place of the deployment's, for agents that are
-- defined as data.

CREATE TABLE prompts (
    workspace_id  uuid NOT NULL,
    agent         text NOT NULL,
    -- 1, 2, … of this agent; the highest is in force. Old ones are kept for a while.
    version       bigint NOT NULL CHECK (version > 0),
    -- What results know it by. Null: the deployment's is in force again.
    prompt        text,
    -- {"system": …, "user": …}
    content       json NOT NULL,
    -- The same, sealed for its row; `content` says null then.
    sealed        bytea,
    -- SHA-256 of the content.
    hash          text,
    set_by        text NOT NULL,
    set_at        timestamptz NOT NULL DEFAULT galley_now(),
    PRIMARY KEY (workspace_id, agent, version)
);

SELECT galley_isolate(ARRAY['prompts']);

-- The API sets them, whoever runs agents reads them. None is ever rewritten.
REVOKE ALL ON prompts FROM galley_api, galley_engine, galley_publisher;
GRANT SELECT, INSERT, DELETE ON prompts TO galley_api;
GRANT SELECT ON prompts TO galley_engine, galley_publisher;
