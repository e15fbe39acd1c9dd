-- What people say of files, the trash, and what is asked for by these.
CREATE TABLE file_tags (
    tag       text NOT NULL,
    file_hash varchar(64) NOT NULL,
    PRIMARY KEY (tag, file_hash)
);
CREATE INDEX file_tags_by_hash ON file_tags (file_hash);

ALTER TABLE file_hashes ADD COLUMN IF NOT EXISTS trashed_at timestamptz;
CREATE INDEX IF NOT EXISTS file_hashes_in_trash ON file_hashes (created_at, id) WHERE trashed_at IS NOT NULL;

CREATE INDEX IF NOT EXISTS file_uploads_by_owner ON file_uploads (user_id, file_hash) WHERE user_id IS NOT NULL;
CREATE INDEX IF NOT EXISTS platform_file_registry_by_expiry
    ON platform_file_registry (expires_at) WHERE status = 'active' AND expires_at IS NOT NULL;
