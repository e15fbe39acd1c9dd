-- The existing tool's classes write into these tables whatever file they name, as on PostgreSQL: SQLite cannot drop a
-- reference or a NOT NULL, so two tables are made anew. (Foreign keys are off while steps are taken.)
CREATE TABLE file_hashes_anew (
    id               TEXT PRIMARY KEY,
    file_hash        TEXT NOT NULL UNIQUE,
    original_file_id TEXT,
    file_size        INTEGER NOT NULL,
    content_type     TEXT,
    duplicate_count  INTEGER NOT NULL DEFAULT 0,
    created_at       INTEGER NOT NULL,
    updated_at       INTEGER NOT NULL,
    trashed_at       INTEGER,
    keep_until       INTEGER
);
INSERT INTO file_hashes_anew
SELECT id, file_hash, original_file_id, file_size, content_type, duplicate_count, created_at, updated_at, trashed_at,
       keep_until
  FROM file_hashes;
DROP TABLE file_hashes;
ALTER TABLE file_hashes_anew RENAME TO file_hashes;
CREATE INDEX file_hashes_by_age ON file_hashes (created_at, id);
CREATE INDEX file_hashes_in_trash ON file_hashes (created_at, id) WHERE trashed_at IS NOT NULL;
CREATE INDEX file_hashes_to_go ON file_hashes (keep_until) WHERE keep_until IS NOT NULL;

CREATE TABLE platform_file_registry_anew (
    id                 TEXT PRIMARY KEY,
    file_id            TEXT,
    file_hash          TEXT,
    platform           TEXT NOT NULL,
    account            TEXT NOT NULL DEFAULT 'default',
    purpose            TEXT NOT NULL DEFAULT '',
    platform_file_id   TEXT NOT NULL,
    platform_url       TEXT,
    platform_metadata  TEXT NOT NULL DEFAULT '{}',
    remote_name        TEXT,
    content_kind       TEXT NOT NULL DEFAULT 'opaque',
    file_size          INTEGER,
    status             TEXT NOT NULL DEFAULT 'active',
    last_verified      INTEGER,
    verification_count INTEGER NOT NULL DEFAULT 0,
    remote_created_at  INTEGER,
    expires_at         INTEGER,
    created_at         INTEGER NOT NULL,
    updated_at         INTEGER NOT NULL,
    used_at            INTEGER,
    UNIQUE (platform, platform_file_id)
);
INSERT INTO platform_file_registry_anew
SELECT id, file_id, file_hash, platform, account, purpose, platform_file_id, platform_url, platform_metadata, remote_name,
       content_kind, file_size, status, last_verified, verification_count, remote_created_at, expires_at, created_at,
       updated_at, used_at
  FROM platform_file_registry;
DROP TABLE platform_file_registry;
ALTER TABLE platform_file_registry_anew RENAME TO platform_file_registry;
-- The guard behind every promise of "exactly once".
CREATE UNIQUE INDEX one_active_replica
    ON platform_file_registry (file_hash, platform, account, purpose) WHERE status = 'active';
CREATE INDEX platform_file_registry_by_file ON platform_file_registry (file_id);
CREATE INDEX unfinished_deletes ON platform_file_registry (updated_at) WHERE status IN ('deleting', 'retired');
CREATE INDEX platform_file_registry_by_expiry
    ON platform_file_registry (expires_at) WHERE status = 'active' AND expires_at IS NOT NULL;
CREATE INDEX platform_file_registry_by_account ON platform_file_registry (platform, status, account);

CREATE TABLE file_lifecycle_sync (
    id                 TEXT PRIMARY KEY,
    file_id            TEXT,
    platform           TEXT NOT NULL,
    local_status       TEXT NOT NULL,
    platform_status    TEXT,
    sync_status        TEXT DEFAULT 'pending',
    sync_error         TEXT,
    last_sync_at       INTEGER,
    next_sync_at       INTEGER,
    sync_attempt_count INTEGER NOT NULL DEFAULT 0,
    created_at         INTEGER NOT NULL,
    updated_at         INTEGER NOT NULL
);
CREATE INDEX file_lifecycle_sync_by_file ON file_lifecycle_sync (file_id, created_at);

CREATE TABLE file_audit_trail (
    id                TEXT PRIMARY KEY,
    file_id           TEXT,
    operation         TEXT NOT NULL,
    platform          TEXT,
    user_id           TEXT,
    ip_address        TEXT,
    user_agent        TEXT,
    operation_details TEXT NOT NULL DEFAULT '{}',
    status            TEXT NOT NULL,
    error_message     TEXT,
    error_code        TEXT,
    duration_ms       INTEGER,
    bytes_transferred INTEGER,
    created_at        INTEGER NOT NULL
);
CREATE INDEX file_audit_trail_by_file ON file_audit_trail (file_id, created_at);

-- Rows that are still to be written where they are mirrored: each once, however often it has changed since.
CREATE TABLE mirror_queue (
    seq      INTEGER PRIMARY KEY AUTOINCREMENT,
    of_table TEXT NOT NULL,
    row_id   TEXT NOT NULL,
    error    TEXT,
    UNIQUE (of_table, row_id)
);
CREATE INDEX mirror_queue_waiting ON mirror_queue (of_table, seq) WHERE error IS NULL;
