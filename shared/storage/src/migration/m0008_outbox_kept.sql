-- A published message stays until what caused it has ended: a Redis that loses what it held gets it again.
ALTER TABLE outbox ADD COLUMN published_at timestamptz;
DROP INDEX outbox_next;
CREATE INDEX outbox_next ON outbox (attempts, id) WHERE published_at IS NULL;
CREATE INDEX events_open ON events (task_id) WHERE state IN ('queued', 'running');
CREATE INDEX documents_open ON documents (task_id) WHERE state IN ('queued', 'processing');

-- A row that a relay holds is passed over, not waited for: the relay's housekeeping finds it later.
CREATE FUNCTION outbox_forget() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM outbox WHERE id IN (
        SELECT id FROM outbox WHERE task_id = OLD.task_id FOR UPDATE SKIP LOCKED
    );
    RETURN NULL;
END
$$;
CREATE TRIGGER events_ended AFTER UPDATE OF state ON events FOR EACH ROW
    WHEN (NEW.state IN ('succeeded', 'failed')) EXECUTE FUNCTION outbox_forget();
CREATE TRIGGER documents_ended AFTER UPDATE OF state, task_id ON documents FOR EACH ROW
    WHEN (NEW.state IN ('ready', 'failed') OR OLD.task_id <> NEW.task_id) EXECUTE FUNCTION outbox_forget();
CREATE TRIGGER documents_gone AFTER DELETE ON documents FOR EACH ROW EXECUTE FUNCTION outbox_forget();
