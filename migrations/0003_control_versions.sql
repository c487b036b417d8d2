-- Which change of an agent's controls is the newest: what is told to Redis late,
-- by somebody who read before, must not undo it.
ALTER TABLE agents ADD COLUMN control_version bigint NOT NULL DEFAULT 0;
