-- How long a workspace's things are kept, and that an erased one stays erased.
ALTER TABLE workspaces
    -- The tombstone: everything in it is gone, its name too; nobody is let into
    -- it and nothing is accepted for it any more.
    ADD COLUMN erased_at    timestamptz,
    -- Days after which what is finished is forgotten; null: never.
    ADD COLUMN retain_days  integer CONSTRAINT workspaces_retain_days_range CHECK (retain_days BETWEEN 1 AND 36500);

-- What is forgotten with a workflow is found by it.
CREATE INDEX approvals_of_workflow ON approvals (workspace_id, workflow_id);

-- A key of an erased workspace opens nothing.
CREATE OR REPLACE FUNCTION galley_api_key(wanted text)
    RETURNS TABLE (workspace_id uuid, hash bytea, roles text[], valid boolean)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS
$$
    SELECT k.workspace_id, k.hash, k.roles,
           k.revoked_at IS NULL AND k.expires_at > galley_now()
           AND EXISTS (SELECT 1 FROM workspaces w WHERE w.id = k.workspace_id AND w.erased_at IS NULL)
      FROM api_keys k WHERE k.prefix = wanted LIMIT 8
$$;
