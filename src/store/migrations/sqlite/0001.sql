-- One row per content.
CREATE TABLE file_hashes (
    id               TEXT PRIMARY KEY,
    file_hash        TEXT NOT NULL UNIQUE,
    original_file_id TEXT REFERENCES file_uploads (id) DEFERRABLE INITIALLY DEFERRED,
    file_size        INTEGER NOT NULL,
    content_type     TEXT,
    duplicate_count  INTEGER NOT NULL DEFAULT 0,
    created_at       INTEGER NOT NULL,
    updated_at       INTEGER NOT NULL
);

-- One row per name a content was handed over under.
CREATE TABLE file_uploads (
    id                    TEXT PRIMARY KEY,
    filename              TEXT NOT NULL,
    file_size             INTEGER NOT NULL,
    mime_type             TEXT,
    storage_path          TEXT,
    user_id               TEXT,
    metadata              TEXT NOT NULL DEFAULT '{}',
    file_hash             TEXT NOT NULL,
    is_duplicate          INTEGER NOT NULL DEFAULT 0,
    original_file_id      TEXT REFERENCES file_uploads (id) ON DELETE SET NULL,
    health_status         TEXT NOT NULL DEFAULT 'unknown',
    last_health_check     INTEGER,
    deduplication_checked INTEGER NOT NULL DEFAULT 1,
    created_at            INTEGER NOT NULL,
    UNIQUE (file_hash, filename)
);

-- One row per copy on a platform.
CREATE TABLE platform_file_registry (
    id                 TEXT PRIMARY KEY,
    file_id            TEXT NOT NULL REFERENCES file_uploads (id),
    file_hash          TEXT NOT NULL,
    platform           TEXT NOT NULL,
    account            TEXT NOT NULL,
    purpose            TEXT NOT NULL,
    platform_file_id   TEXT NOT NULL,
    platform_url       TEXT,
    platform_metadata  TEXT NOT NULL DEFAULT '{}',
    remote_name        TEXT NOT NULL,
    content_kind       TEXT NOT NULL,
    file_size          INTEGER NOT NULL,
    status             TEXT NOT NULL DEFAULT 'active',
    last_verified      INTEGER,
    verification_count INTEGER NOT NULL DEFAULT 0,
    remote_created_at  INTEGER NOT NULL,
    expires_at         INTEGER,
    created_at         INTEGER NOT NULL,
    updated_at         INTEGER NOT NULL,
    UNIQUE (platform, platform_file_id)
);

-- The guard behind every promise of "exactly once".
CREATE UNIQUE INDEX one_active_replica
    ON platform_file_registry (file_hash, platform, account, purpose) WHERE status = 'active';

-- What was begun: written before the first byte leaves, and the claim that makes others wait.
CREATE TABLE upload_intents (
    id          TEXT PRIMARY KEY,
    file_hash   TEXT NOT NULL,
    platform    TEXT NOT NULL,
    account     TEXT NOT NULL,
    purpose     TEXT NOT NULL,
    state       TEXT NOT NULL CHECK (state IN ('sending', 'bound', 'failed')),
    owner       TEXT NOT NULL,
    fence       INTEGER NOT NULL,
    lease_until INTEGER NOT NULL,
    attempt     INTEGER NOT NULL,
    remote_name TEXT NOT NULL,
    file_size   INTEGER NOT NULL,
    first_sent_at INTEGER NOT NULL,
    last_sent_at  INTEGER NOT NULL,
    error       TEXT,
    created_at  INTEGER NOT NULL,
    updated_at  INTEGER NOT NULL
);
CREATE UNIQUE INDEX one_open_intent
    ON upload_intents (file_hash, platform, account, purpose) WHERE state = 'sending';

-- Digests of local files that have not changed since: they are not read again.
CREATE TABLE known_sources (
    device     INTEGER NOT NULL,
    inode      INTEGER NOT NULL,
    file_size  INTEGER NOT NULL,
    mtime_ns   INTEGER NOT NULL,
    ctime_ns   INTEGER NOT NULL,
    file_hash  TEXT NOT NULL,
    mime_type  TEXT NOT NULL,
    path       TEXT,
    seen_at    INTEGER NOT NULL,
    PRIMARY KEY (device, inode)
) WITHOUT ROWID;
CREATE INDEX known_sources_by_hash ON known_sources (file_hash);

-- Text a platform extracted: fetched once for each generation of its parser.
CREATE TABLE extracted_texts (
    file_hash    TEXT NOT NULL,
    platform     TEXT NOT NULL,
    parser_epoch TEXT NOT NULL,
    content      TEXT NOT NULL,
    fetched_at   INTEGER NOT NULL,
    PRIMARY KEY (file_hash, platform, parser_epoch)
) WITHOUT ROWID;
