-- ===== the audit log: append-only, chained, its records the leaves of a signed tree =====

CREATE TABLE audit_log (
    seq         INTEGER PRIMARY KEY,
    happened_at INTEGER NOT NULL,
    action      TEXT NOT NULL,
    file_hash   TEXT,
    record      TEXT NOT NULL
);
CREATE INDEX audit_log_by_hash ON audit_log (file_hash, seq) WHERE file_hash IS NOT NULL;

-- Roots of whole subtrees: of 256 records (level 1), of 65,536 (level 2).
CREATE TABLE audit_tiles (
    level  INTEGER NOT NULL,
    number INTEGER NOT NULL,
    hash   TEXT NOT NULL,
    PRIMARY KEY (level, number)
) WITHOUT ROWID;

CREATE TABLE audit_checkpoints (
    size       INTEGER PRIMARY KEY,
    note       TEXT NOT NULL,
    created_at INTEGER NOT NULL
);

-- ===== the journal: how far an open intent got, and all that is needed to finish it =====

-- Of open intents: planned (not a byte has left), sending, unknown (sent, no answer), stored (as remote_id).
ALTER TABLE upload_intents ADD COLUMN phase TEXT NOT NULL DEFAULT 'sending';
ALTER TABLE upload_intents ADD COLUMN remote_id TEXT;
ALTER TABLE upload_intents ADD COLUMN filename TEXT;
ALTER TABLE upload_intents ADD COLUMN mime_type TEXT;
ALTER TABLE upload_intents ADD COLUMN user_id TEXT;
CREATE INDEX open_intents ON upload_intents (lease_until) WHERE state = 'sending';
CREATE INDEX unfinished_deletes ON platform_file_registry (updated_at) WHERE status IN ('deleting', 'retired');

-- What is being recovered: an intent or a delete that was cut short.
CREATE TABLE recoveries (
    kind        TEXT NOT NULL CHECK (kind IN ('upload', 'delete')),
    -- The id of the intent, or of the replica's row.
    subject     TEXT NOT NULL,
    attempts    INTEGER NOT NULL,
    next_try_at INTEGER NOT NULL,
    error       TEXT,
    error_code  TEXT,
    is_dead     INTEGER NOT NULL,
    created_at  INTEGER NOT NULL,
    updated_at  INTEGER NOT NULL,
    PRIMARY KEY (kind, subject)
) WITHOUT ROWID;

-- As the existing tool has them.
CREATE TABLE file_recovery_attempts (
    id                TEXT PRIMARY KEY,
    file_id           TEXT,
    operation         TEXT NOT NULL,
    platform          TEXT,
    attempt_number    INTEGER NOT NULL,
    error_message     TEXT,
    error_code        TEXT,
    recovery_strategy TEXT,
    status            TEXT NOT NULL,
    next_retry_at     INTEGER,
    retry_delay_ms    INTEGER,
    created_at        INTEGER NOT NULL,
    completed_at      INTEGER,
    subject           TEXT
);
CREATE INDEX file_recovery_attempts_by_subject ON file_recovery_attempts (subject, created_at);
-- As the existing tool has them.
CREATE TABLE file_health_checks (
    id               TEXT PRIMARY KEY,
    registry_id      TEXT,
    status           TEXT NOT NULL,
    error_message    TEXT,
    error_code       TEXT,
    response_time_ms INTEGER,
    http_status_code INTEGER,
    checked_at       INTEGER NOT NULL
);
CREATE INDEX file_health_checks_by_replica ON file_health_checks (registry_id, checked_at);

-- ===== what keeps a file: leases, pins, legal holds =====

CREATE TABLE holds (
    id         TEXT PRIMARY KEY,
    file_hash  TEXT NOT NULL,
    kind       TEXT NOT NULL CHECK (kind IN ('lease', 'pin', 'legal')),
    -- Of a lease: where the file has to be.
    platform   TEXT,
    purpose    TEXT,
    reason     TEXT,
    until      INTEGER,
    created_at INTEGER NOT NULL
);
CREATE INDEX holds_by_hash ON holds (file_hash);

-- ===== kept copies, and work that watchers share =====

CREATE TABLE kept_copies (
    file_hash  TEXT PRIMARY KEY,
    file_size  INTEGER NOT NULL,
    kept_at    INTEGER NOT NULL,
    checked_at INTEGER
) WITHOUT ROWID;
CREATE INDEX kept_copies_by_check ON kept_copies (checked_at);

CREATE TABLE watch_tasks (
    name        TEXT PRIMARY KEY,
    owner       TEXT NOT NULL,
    lease_until INTEGER NOT NULL,
    due_at      INTEGER NOT NULL
) WITHOUT ROWID;
