-- What people say of files, the trash, and what is asked for by these.
CREATE TABLE file_tags (
    tag       TEXT NOT NULL,
    file_hash TEXT NOT NULL,
    PRIMARY KEY (tag, file_hash)
) WITHOUT ROWID;
CREATE INDEX file_tags_by_hash ON file_tags (file_hash);

ALTER TABLE file_hashes ADD COLUMN trashed_at INTEGER;
CREATE INDEX file_hashes_in_trash ON file_hashes (created_at, id) WHERE trashed_at IS NOT NULL;

CREATE INDEX file_uploads_by_owner ON file_uploads (user_id, file_hash) WHERE user_id IS NOT NULL;
CREATE INDEX platform_file_registry_by_expiry
    ON platform_file_registry (expires_at) WHERE status = 'active' AND expires_at IS NOT NULL;
