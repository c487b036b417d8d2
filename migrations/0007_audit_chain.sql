-- The audit as a chain: nobody changes, removes or inserts a row unnoticed.

-- txid: the transaction that wrote the row. Numbers are drawn before their
-- rows commit, so a sealer that went by them could pass one that comes late;
-- by transactions it knows what can still come (pg_snapshot_xmin).
ALTER TABLE audit
    ADD COLUMN request_id   text,
    -- Hashes of what was there before and is there since, where a row is about
    -- something that has a content.
    ADD COLUMN before_hash  text,
    ADD COLUMN after_hash   text,
    ADD COLUMN txid         xid8 NOT NULL DEFAULT pg_current_xact_id();
CREATE INDEX audit_txid ON audit (txid, id);

-- A row's place in its workspace's chain. seq has no gap; hash covers the hash
-- before it and everything about the row (src/core/chain.rs).
CREATE TABLE audit_seals (
    workspace_id  uuid NOT NULL,
    seq           bigint NOT NULL,
    audit_id      bigint NOT NULL,
    hash          bytea NOT NULL,
    sealed_at     timestamptz NOT NULL,
    PRIMARY KEY (workspace_id, seq),
    CONSTRAINT audit_seals_once UNIQUE (workspace_id, audit_id)
);

-- The last place of each chain.
CREATE TABLE audit_heads (
    workspace_id  uuid PRIMARY KEY,
    seq           bigint NOT NULL,
    hash          bytea NOT NULL
);

-- One row: whoever holds it is the sealer. Every row whose (txid, id) is at or
-- before the mark is sealed, and none of them can come any more.
CREATE TABLE audit_sealer (
    one        boolean PRIMARY KEY DEFAULT true CONSTRAINT audit_sealer_is_one CHECK (one),
    mark_txid  xid8 NOT NULL,
    mark_id    bigint NOT NULL
);
INSERT INTO audit_sealer (mark_txid, mark_id) VALUES ('0', 0);

SELECT galley_isolate(ARRAY['audit_seals', 'audit_heads']);

-- Append-only for every process; only a scheduler appends to the chain.
REVOKE UPDATE, DELETE, TRUNCATE ON audit FROM galley_api, galley_engine, galley_publisher;
REVOKE ALL ON audit_seals, audit_heads, audit_sealer FROM galley_api, galley_engine, galley_publisher;
GRANT SELECT ON audit_seals, audit_heads TO galley_api, galley_publisher;
GRANT SELECT, INSERT ON audit_seals TO galley_engine;
GRANT SELECT, INSERT, UPDATE ON audit_heads TO galley_engine;
GRANT SELECT, UPDATE ON audit_sealer TO galley_engine;
