-- Periodic tasks. When each is due is decided by whoever reads this: here they are only kept.
CREATE TABLE schedules (
    id               uuid PRIMARY KEY,
    name             text NOT NULL CONSTRAINT schedules_name UNIQUE,
    task             text NOT NULL,
    args             jsonb NOT NULL DEFAULT '[]' CHECK (jsonb_typeof(args) = 'array'),
    kwargs           jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(kwargs) = 'object'),
    options          jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(options) = 'object'),
    -- one of the two
    crontab          text,
    every_seconds    double precision,
    relative         boolean NOT NULL DEFAULT false,
    timezone         text,
    enabled          boolean NOT NULL DEFAULT true,
    -- what was due before it was made, enabled or given other times is not made up for
    active_since     timestamptz NOT NULL DEFAULT now(),
    -- copies of what the scheduler remembers
    last_run_at      timestamptz,
    total_run_count  bigint NOT NULL DEFAULT 0,
    last_task_id     text,
    created_at       timestamptz NOT NULL DEFAULT now(),
    updated_at       timestamptz NOT NULL DEFAULT now(),
    CHECK ((crontab IS NULL) <> (every_seconds IS NULL))
);
CREATE INDEX schedules_newest ON schedules (created_at DESC, id DESC);
