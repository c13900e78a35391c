-- The steps of events whose type is a workflow: what went in, what came out.
CREATE TABLE event_steps (
    event_id     uuid NOT NULL REFERENCES events (id) ON DELETE CASCADE,
    name         text NOT NULL,
    position     integer NOT NULL,
    task         text NOT NULL,
    state        text NOT NULL DEFAULT 'pending'
                 CHECK (state IN ('pending', 'running', 'succeeded', 'failed', 'skipped')),
    task_id      text,
    input        jsonb,
    output       jsonb,
    error        text,
    attempts     integer NOT NULL DEFAULT 0,
    started_at   timestamptz,
    finished_at  timestamptz,
    PRIMARY KEY (event_id, name)
);
