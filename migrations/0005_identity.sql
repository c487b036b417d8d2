-- Who is let in, and who no more. Tokens are signed and not stored; what is
-- stored is which of them ended early. API keys are stored as hashes.

-- A token that was revoked by its id. It can be forgotten once no token that
-- was issued before can still hold.
CREATE TABLE revoked_tokens (
    workspace_id  uuid NOT NULL,
    id            text NOT NULL,
    revoked_at    timestamptz NOT NULL DEFAULT galley_now(),
    forget_at     timestamptz NOT NULL,
    PRIMARY KEY (workspace_id, id)
);

-- A subject all of whose tokens that were issued until then are revoked.
CREATE TABLE revoked_subjects (
    workspace_id  uuid NOT NULL,
    subject       text NOT NULL,
    until         timestamptz NOT NULL,
    forget_at     timestamptz NOT NULL,
    PRIMARY KEY (workspace_id, subject)
);

-- A key for scripts. Its secret is random and 256 bits long, so a plain hash
-- keeps it.
CREATE TABLE api_keys (
    workspace_id  uuid NOT NULL,
    prefix        text NOT NULL,
    name          text NOT NULL,
    hash          bytea NOT NULL CHECK (octet_length(hash) = 32),
    roles         text[] NOT NULL,
    created_by    text NOT NULL,
    created_at    timestamptz NOT NULL DEFAULT galley_now(),
    expires_at    timestamptz NOT NULL,
    -- To the hour.
    used_at       timestamptz,
    revoked_at    timestamptz,
    PRIMARY KEY (workspace_id, prefix)
);
CREATE INDEX api_keys_by_prefix ON api_keys (prefix);

SELECT galley_isolate(ARRAY['revoked_tokens', 'revoked_subjects', 'api_keys']);

-- The API alone asks who somebody is. A key is revoked, never removed.
REVOKE ALL ON revoked_tokens, revoked_subjects, api_keys FROM galley_engine, galley_publisher;
REVOKE DELETE ON api_keys FROM galley_api;

-- Whose key this is has to be known before there is a workspace to be held to.
-- Whoever does not know the prefix learns nothing here, whoever knows it learns
-- a hash.
CREATE FUNCTION galley_api_key(wanted text)
    RETURNS TABLE (workspace_id uuid, hash bytea, roles text[], valid boolean)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS
$$
    SELECT k.workspace_id, k.hash, k.roles, k.revoked_at IS NULL AND k.expires_at > galley_now()
      FROM api_keys k WHERE k.prefix = wanted LIMIT 8
$$;
REVOKE EXECUTE ON FUNCTION galley_api_key(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION galley_api_key(text) TO galley_api;
