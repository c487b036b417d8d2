-- Prompts and outputs sealed at rest, for workspaces that ask for it.

-- Since when what is new is sealed; null: it is stored in the clear.
ALTER TABLE workspaces ADD COLUMN sealed_since timestamptz;

-- What the JSON column beside it would hold (it says null then), sealed with
-- the workspace's data key and bound to the row. Null: in the clear.
ALTER TABLE workflows ADD COLUMN sealed bytea;
ALTER TABLE results ADD COLUMN sealed bytea;
ALTER TABLE step_inputs ADD COLUMN sealed bytea;
ALTER TABLE schedules ADD COLUMN sealed bytea;

-- Whoever runs or starts steps opens and seals content, so it reads data keys.
-- Credentials stay out of its reach.
GRANT SELECT ON data_keys TO galley_engine;
