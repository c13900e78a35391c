-- A file whose text is not taken out yet; the row goes when it is.
CREATE TABLE document_files (
    document_id  uuid PRIMARY KEY REFERENCES documents (id) ON DELETE CASCADE,
    content      bytea NOT NULL
);
-- files are compressed already
ALTER TABLE document_files ALTER COLUMN content SET STORAGE EXTERNAL;
CREATE INDEX documents_content_hash ON documents (content_hash, collection);
