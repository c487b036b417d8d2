-- From draft to published once: accounts, policy, posts, approvals,
-- publications, daily limits, schedules.

-- The policy of a workspace. No row: the default, at version 0.
CREATE TABLE automation (
    workspace_id        uuid PRIMARY KEY,
    -- Compared by every intent: a change and an intent have one winner.
    version             bigint NOT NULL,
    config              json NOT NULL,
    -- The zone before the last change, and when the new one is in force: days
    -- that were begun are counted to their end.
    previous_time_zone  text,
    time_zone_since     timestamptz,
    updated_by          text NOT NULL,
    updated_at          timestamptz NOT NULL DEFAULT galley_now()
);

CREATE TABLE accounts (
    workspace_id      uuid NOT NULL,
    id                uuid NOT NULL,
    name              text NOT NULL,
    platform          text NOT NULL,
    -- Whose content it publishes: a webhook can carry what was written for x.
    content_platform  text NOT NULL,
    settings          json NOT NULL,
    -- Sealed; opened only by the process that publishes.
    credential        bytea NOT NULL,
    time_zone         text,
    -- Times of day, HH:MM, sorted; empty: any time.
    slots             text[] NOT NULL DEFAULT '{}',
    max_daily_posts   integer CONSTRAINT accounts_max_daily_positive CHECK (max_daily_posts > 0),
    created_by        text NOT NULL,
    created_at        timestamptz NOT NULL DEFAULT galley_now(),
    removed_at        timestamptz,
    PRIMARY KEY (workspace_id, id)
);
CREATE UNIQUE INDEX accounts_name_unique ON accounts (workspace_id, name) WHERE removed_at IS NULL;

-- Content for one account. Exactly one per publish step.
CREATE TABLE posts (
    workspace_id   uuid NOT NULL,
    id             uuid NOT NULL,
    workflow_id    uuid NOT NULL,
    step           smallint NOT NULL,
    step_name      text NOT NULL,
    account_id     uuid NOT NULL,
    -- Where its publish step stands, in the words of a post; written in the
    -- transaction that moves the step.
    state          text NOT NULL,
    -- The newest revision. Everything a person changes raises `version`, and
    -- the intent compares it.
    revision       integer NOT NULL,
    content_hash   text NOT NULL,
    version        integer NOT NULL DEFAULT 1,
    -- It waited for an approval once: loosening the policy does not release it.
    held           boolean NOT NULL DEFAULT false,
    slot_at        timestamptz,
    -- Who set the slot: a person's is not moved by spacing.
    slot_by        text,
    reason         text,
    created_at     timestamptz NOT NULL DEFAULT galley_now(),
    updated_at     timestamptz NOT NULL DEFAULT galley_now(),
    PRIMARY KEY (workspace_id, id),
    CONSTRAINT posts_one_per_step UNIQUE (workspace_id, workflow_id, step)
);
CREATE INDEX posts_slots ON posts (workspace_id, slot_at) WHERE slot_at IS NOT NULL;

CREATE TABLE post_revisions (
    workspace_id  uuid NOT NULL,
    post_id       uuid NOT NULL,
    revision      integer NOT NULL,
    content       json NOT NULL,
    content_hash  text NOT NULL,
    author        text NOT NULL,
    created_at    timestamptz NOT NULL DEFAULT galley_now(),
    PRIMARY KEY (workspace_id, post_id, revision)
);

-- Questions to a person: may these bytes go out (post), may this step run
-- with this input (go).
CREATE TABLE approvals (
    workspace_id  uuid NOT NULL,
    id            uuid NOT NULL,
    kind          text NOT NULL,
    workflow_id   uuid NOT NULL,
    step          smallint NOT NULL,
    step_name     text NOT NULL,
    post_id       uuid,
    revision      integer,
    content_hash  text NOT NULL,
    reason        text NOT NULL,
    status        text NOT NULL DEFAULT 'pending',
    asked_at      timestamptz NOT NULL DEFAULT galley_now(),
    expires_at    timestamptz NOT NULL,
    decided_by    text,
    decided_at    timestamptz,
    note          text,
    PRIMARY KEY (workspace_id, id)
);
CREATE UNIQUE INDEX approvals_one_question ON approvals (workspace_id, workflow_id, step) WHERE status = 'pending';
CREATE INDEX approvals_expiry ON approvals (expires_at) WHERE status = 'pending';

-- The one attempt-safe record that a post is going out or went out.
CREATE TABLE publications (
    workspace_id   uuid NOT NULL,
    effect_key     text NOT NULL,
    post_id        uuid NOT NULL,
    workflow_id    uuid NOT NULL,
    step           smallint NOT NULL,
    account_id     uuid NOT NULL,
    state          text NOT NULL,
    revision       integer NOT NULL,
    content_hash   text NOT NULL,
    payload        json NOT NULL,
    approval_id    uuid,
    -- The claim that may send it.
    nonce          bigint NOT NULL,
    sends          integer NOT NULL DEFAULT 0,
    -- When it was first meant to go out: part of what some platforms keep as
    -- key, so it never changes.
    intended_at    timestamptz NOT NULL,
    -- First send of which nobody knows the outcome: the key's window runs from
    -- here.
    first_sent_at  timestamptz,
    not_after      timestamptz NOT NULL,
    -- The place in the daily limits it holds.
    quota_day      date,
    quota_held     boolean NOT NULL DEFAULT false,
    remote_id      text,
    link           text,
    told           text,
    settled_by     text,
    settled_at     timestamptz,
    created_at     timestamptz NOT NULL DEFAULT galley_now(),
    PRIMARY KEY (workspace_id, effect_key),
    CONSTRAINT publications_one_per_post UNIQUE (workspace_id, post_id)
);

-- What was tried and what came of it; appended.
CREATE TABLE publication_events (
    workspace_id  uuid NOT NULL,
    effect_key    text NOT NULL,
    id            bigint GENERATED ALWAYS AS IDENTITY,
    at            timestamptz NOT NULL DEFAULT galley_now(),
    event         text NOT NULL,
    detail        text,
    PRIMARY KEY (workspace_id, effect_key, id)
);

-- How many places of a day are taken: by the workspace (nil id) and by each
-- account. This counter is what binds.
CREATE TABLE day_quota (
    workspace_id  uuid NOT NULL,
    account_id    uuid NOT NULL,
    day           date NOT NULL,
    used          integer NOT NULL DEFAULT 0 CONSTRAINT day_quota_used_range CHECK (used >= 0),
    PRIMARY KEY (workspace_id, account_id, day)
);

-- Workflows that are submitted again and again.
CREATE TABLE schedules (
    workspace_id     uuid NOT NULL,
    id               uuid NOT NULL,
    name             text NOT NULL,
    cron             text NOT NULL,
    time_zone        text NOT NULL,
    -- What happens with times that passed while nobody looked: skip, or run
    -- the last one.
    missed           text NOT NULL,
    submit           json NOT NULL,
    -- Rises with every change by a person; a run is fenced by it and next_at.
    version          bigint NOT NULL DEFAULT 1,
    -- Who paused it, if it is paused.
    paused_by        text,
    -- The time it waits for; in the past while the policy keeps schedules off.
    -- Null: its pattern has none any more.
    next_at          timestamptz,
    -- The last one that became a workflow, and the last one that did not since.
    last_at          timestamptz,
    last_workflow    uuid,
    last_problem     text,
    last_problem_at  timestamptz,
    created_by       text NOT NULL,
    created_at       timestamptz NOT NULL DEFAULT galley_now(),
    updated_by       text NOT NULL,
    updated_at       timestamptz NOT NULL DEFAULT galley_now(),
    PRIMARY KEY (workspace_id, id),
    CONSTRAINT schedules_name_unique UNIQUE (workspace_id, name)
);
CREATE INDEX schedules_next ON schedules (next_at) WHERE paused_by IS NULL;
