-- A workspace's own figures are read by time: without these they would read
-- its whole history.
CREATE INDEX finished_runs_by_time ON finished_runs (workspace_id, finished_at, id);
CREATE INDEX publications_by_time ON publications (workspace_id, settled_at) WHERE state = 'published';
