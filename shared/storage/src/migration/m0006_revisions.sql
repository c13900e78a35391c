-- A document that is handed in again keeps its id and gets the next revision; work on an older one ends when it sees that.
ALTER TABLE documents ADD COLUMN revision integer NOT NULL DEFAULT 1;
-- which languages there are, one after the other
CREATE INDEX chunks_language ON chunks (language);
