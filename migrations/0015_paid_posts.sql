-- Posts that cost something are drawn from the same budgets as calls, by the
-- transaction of their intent.
ALTER TABLE spend
    -- The account that was published to, for a post: its row is settled by what
    -- becomes of the post, never by what becomes of a worker.
    ADD COLUMN account text;

ALTER TABLE publications
    -- What the account says a post costs, reserved with the intent.
    ADD COLUMN price_micros bigint NOT NULL DEFAULT 0 CHECK (price_micros >= 0);

-- What a person finds out about a post settles its bill, in the transaction of
-- their answer.
GRANT UPDATE (state, cost_micros, tokens_in, tokens_out, settled_at) ON spend TO galley_api;
GRANT UPDATE (reserved_micros, spent_micros) ON budget_counters TO galley_api;

-- `approvals_of_step` begins with the same columns.
DROP INDEX approvals_of_workflow;
