-- What a kept answer saved: the cost of the call that it stood for.
ALTER TABLE deliberations ADD COLUMN saved_micros bigint NOT NULL DEFAULT 0;
