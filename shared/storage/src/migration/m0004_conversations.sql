-- What was asked and answered in a talk. A task answers once, however often it is delivered.
CREATE TABLE conversation_turns (
    id               bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    conversation_id  uuid NOT NULL,
    task_id          text NOT NULL UNIQUE,
    question         text NOT NULL,
    answer           text NOT NULL,
    citations        jsonb NOT NULL,
    model            text NOT NULL,
    created_at       timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX conversation_turns_in_order ON conversation_turns (conversation_id, id);
