-- pgvector is a trusted extension: whoever owns the database may create it.
CREATE EXTENSION IF NOT EXISTS vector;

CREATE TABLE events (
    id          uuid PRIMARY KEY,
    type        text NOT NULL,
    data        jsonb NOT NULL,
    state       text NOT NULL DEFAULT 'queued' CHECK (state IN ('queued', 'running', 'succeeded', 'failed')),
    task_id     text NOT NULL,
    output      jsonb,
    error       text,
    created_at  timestamptz NOT NULL DEFAULT now(),
    updated_at  timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX events_newest ON events (created_at DESC, id DESC);
CREATE INDEX events_state_newest ON events (state, created_at DESC, id DESC);
CREATE INDEX events_type_newest ON events (type, created_at DESC, id DESC);

-- A key belongs to one kind of request (scope). The hash tells the same request from another one.
CREATE TABLE idempotency_keys (
    scope         text NOT NULL,
    key           text NOT NULL,
    request_hash  text NOT NULL,
    answer        jsonb NOT NULL,
    created_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (scope, key)
);
CREATE INDEX idempotency_keys_oldest ON idempotency_keys (created_at);

-- Messages that must reach the broker. A row is deleted when its message was published.
CREATE TABLE outbox (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    queue       text NOT NULL,
    priority    smallint NOT NULL,
    task_id     text NOT NULL,
    message     text NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    attempts    integer NOT NULL DEFAULT 0,
    last_error  text
);
-- what was never tried comes first, so that one message that cannot be published holds up no other
CREATE INDEX outbox_next ON outbox (attempts, id);
CREATE INDEX outbox_task ON outbox (task_id);

CREATE TABLE documents (
    id            uuid PRIMARY KEY,
    title         text,
    collection    text NOT NULL,
    metadata      jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(metadata) = 'object'),
    language      text NOT NULL,
    media_type    text NOT NULL DEFAULT 'text/plain',
    content       text NOT NULL,
    content_hash  text NOT NULL,
    state         text NOT NULL DEFAULT 'queued' CHECK (state IN ('queued', 'processing', 'ready', 'failed')),
    chunks        integer NOT NULL DEFAULT 0,
    chunks_done   integer NOT NULL DEFAULT 0,
    error         text,
    task_id       text NOT NULL,
    -- the event that asked for it: one event makes one document, however often its task is delivered
    event_id      uuid UNIQUE REFERENCES events (id) ON DELETE SET NULL,
    created_at    timestamptz NOT NULL DEFAULT now(),
    updated_at    timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX documents_newest ON documents (created_at DESC, id DESC);
CREATE INDEX documents_collection_newest ON documents (collection, created_at DESC, id DESC);
CREATE INDEX documents_state_newest ON documents (state, created_at DESC, id DESC);
CREATE INDEX documents_metadata ON documents USING gin (metadata jsonb_path_ops);

-- collection and language repeat the document's (neither ever changes), so that an index scan over passages can decide
-- by itself. The column `embedding vector(n)` and its index are added once the model, and with it n, is known.
CREATE TABLE chunks (
    id           uuid PRIMARY KEY,
    document_id  uuid NOT NULL REFERENCES documents (id) ON DELETE CASCADE,
    position     integer NOT NULL,
    collection   text NOT NULL,
    language     regconfig NOT NULL,
    text         text NOT NULL,
    tokens       integer NOT NULL,
    words        tsvector NOT NULL GENERATED ALWAYS AS (to_tsvector(language, text)) STORED,
    UNIQUE (document_id, position)
);
CREATE INDEX chunks_words ON chunks USING gin (words);
CREATE INDEX chunks_collection_language ON chunks (collection, language);

-- At most one row: the model that made the vectors.
CREATE TABLE embedding_model (
    single      boolean PRIMARY KEY DEFAULT true CHECK (single),
    name        text NOT NULL,
    dimensions  integer NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now()
);
