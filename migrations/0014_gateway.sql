-- Workers in any language: a gateway speaks for them, and keeps nothing.

-- What was handed to a worker outside and is not acknowledged yet, each with
-- the millisecond it was handed out: `<ms> <lease>`. References, no content. A
-- reply that never arrived is found by it, and its steps go back.
ALTER TABLE sessions ADD COLUMN handed text[] NOT NULL DEFAULT '{}';

-- The gateway is the engine's role, and asks which tokens ended early.
GRANT SELECT ON revoked_tokens, revoked_subjects TO galley_engine;
