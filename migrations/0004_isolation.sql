-- Who may see what: the roles of Galley's processes, and row-level security
-- on every table that belongs to workspaces.
--
-- The roles are the cluster's, not the database's: another deployment on it,
-- or whoever runs the server, may have made them before.
DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['galley_api', 'galley_engine', 'galley_publisher'] LOOP
        IF NOT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = name) THEN
            BEGIN
                EXECUTE format('CREATE ROLE %I NOLOGIN', name);
            EXCEPTION
                -- Another migrator was faster.
                WHEN duplicate_object OR unique_violation THEN NULL;
                WHEN insufficient_privilege THEN
                    RAISE EXCEPTION 'the role % is missing, and this login may not make it', name
                        USING HINT = 'as a superuser: CREATE ROLE galley_api; CREATE ROLE galley_engine; CREATE ROLE galley_publisher; then grant the three to this login';
            END;
        END IF;
        -- A deployment with one login for everything takes its roles on.
        IF NOT pg_has_role(current_user, name, 'MEMBER') THEN
            BEGIN
                EXECUTE format('GRANT %I TO %I', name, current_user);
            EXCEPTION WHEN insufficient_privilege THEN NULL;
            END;
        END IF;
    END LOOP;
END
$$;

-- The workspaces that a transaction of the API is held to. Not set, or set in
-- an earlier transaction of the connection ('' then): none.
CREATE FUNCTION galley_workspaces() RETURNS uuid[] LANGUAGE sql STABLE PARALLEL SAFE AS
    $$ SELECT nullif(current_setting('app.workspace', true), '')::uuid[] $$;

-- Puts tables with a workspace_id under row-level security. A migration that
-- makes such a table calls it; a test fails on any table that was left out.
-- The owner's own policy is for migrations, which move rows of all workspaces;
-- no role of Galley's processes is the owner.
CREATE FUNCTION galley_isolate(tables text[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY tables LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', name);
        EXECUTE format(
            'CREATE POLICY tenant ON %I TO galley_api
                 USING (workspace_id = ANY ((SELECT galley_workspaces())::uuid[]))
                 WITH CHECK (workspace_id = ANY ((SELECT galley_workspaces())::uuid[]))', name);
        EXECUTE format(
            'CREATE POLICY fleet ON %I TO galley_engine, galley_publisher USING (true) WITH CHECK (true)', name);
        EXECUTE format('CREATE POLICY owner ON %I TO CURRENT_USER USING (true) WITH CHECK (true)', name);
        EXECUTE format(
            'GRANT SELECT, INSERT, UPDATE, DELETE ON %I TO galley_api, galley_engine, galley_publisher', name);
    END LOOP;
END
$$;
REVOKE EXECUTE ON FUNCTION galley_isolate(text[]) FROM PUBLIC;

SELECT galley_isolate(ARRAY[
    'definitions', 'templates', 'workflows', 'runs', 'finished_runs', 'results', 'attempts', 'step_inputs',
    'timers', 'dead_letters', 'audit', 'automation', 'accounts', 'posts', 'post_revisions', 'approvals',
    'publications', 'publication_events', 'day_quota', 'schedules'
]);

-- The audit log only grows.
REVOKE UPDATE, DELETE ON audit FROM galley_api, galley_engine, galley_publisher;

-- What belongs to no workspace. Sessions are the workers' own.
GRANT SELECT ON _sqlx_migrations TO galley_api, galley_engine, galley_publisher;
GRANT SELECT, INSERT, UPDATE ON workspaces, agents TO galley_api, galley_engine, galley_publisher;
GRANT SELECT, INSERT, UPDATE, DELETE ON sessions TO galley_engine, galley_publisher;
GRANT SELECT ON sessions TO galley_api;
