-- A publish step looks for the answers about it, a workflow for when it was
-- held up: neither should read the workspace's whole history of questions.
CREATE INDEX approvals_of_step ON approvals (workspace_id, workflow_id, step);
