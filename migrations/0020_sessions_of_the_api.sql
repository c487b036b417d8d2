-- What the API shows of workers, and no more: what a gateway hands out
-- (`handed`) names steps of every workspace.
REVOKE SELECT ON sessions FROM galley_api;
GRANT SELECT (id, worker, host, pid, release, agents, concurrency, running, seq, started_at, renewed_at,
              closed_at, close_reason, swept_at) ON sessions TO galley_api;
