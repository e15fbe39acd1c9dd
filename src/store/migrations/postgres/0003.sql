-- ===== the audit log: append-only, chained, its records the leaves of a signed tree =====

-- Set down in the transaction of the change; a moment later they are given their places in the log.
CREATE TABLE audit_pending (
    id     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    record text NOT NULL
);
CREATE TABLE audit_log (
    seq         bigint PRIMARY KEY,
    happened_at timestamptz NOT NULL,
    action      text NOT NULL,
    file_hash   varchar(64),
    record      text NOT NULL
);
CREATE INDEX audit_log_by_hash ON audit_log (file_hash, seq) WHERE file_hash IS NOT NULL;

-- Roots of whole subtrees: of 256 records (level 1), of 65,536 (level 2).
CREATE TABLE audit_tiles (
    level  bigint NOT NULL,
    number bigint NOT NULL,
    hash   text NOT NULL,
    PRIMARY KEY (level, number)
);
CREATE TABLE audit_checkpoints (
    size       bigint PRIMARY KEY,
    note       text NOT NULL,
    created_at timestamptz NOT NULL
);

-- ===== the journal: how far an open intent got, and all that is needed to finish it =====

-- Phase, of open intents: planned (not a byte has left), sending, unknown (sent, no answer), stored (as remote_id).
ALTER TABLE upload_intents
    ADD COLUMN phase     text NOT NULL DEFAULT 'sending',
    ADD COLUMN remote_id text,
    ADD COLUMN filename  text,
    ADD COLUMN mime_type text,
    ADD COLUMN user_id   text;
CREATE INDEX open_intents ON upload_intents (lease_until) WHERE state = 'sending';
CREATE INDEX IF NOT EXISTS unfinished_deletes
    ON platform_file_registry (updated_at) WHERE status IN ('deleting', 'retired');

-- What is being recovered: an intent or a delete that was cut short.
CREATE TABLE recoveries (
    kind        text NOT NULL CHECK (kind IN ('upload', 'delete')),
    -- The id of the intent, or of the replica's row.
    subject     uuid NOT NULL,
    attempts    bigint NOT NULL,
    next_try_at timestamptz NOT NULL,
    error       text,
    error_code  text,
    is_dead     boolean NOT NULL,
    created_at  timestamptz NOT NULL,
    updated_at  timestamptz NOT NULL,
    PRIMARY KEY (kind, subject)
);
ALTER TABLE file_recovery_attempts ADD COLUMN IF NOT EXISTS subject uuid;
CREATE INDEX IF NOT EXISTS file_recovery_attempts_by_subject ON file_recovery_attempts (subject, created_at);
CREATE INDEX IF NOT EXISTS file_health_checks_by_replica ON file_health_checks (registry_id, checked_at);

-- ===== what keeps a file: leases, pins, legal holds =====

CREATE TABLE holds (
    id         uuid PRIMARY KEY,
    file_hash  varchar(64) NOT NULL,
    kind       text NOT NULL CHECK (kind IN ('lease', 'pin', 'legal')),
    -- Of a lease: where the file has to be.
    platform   text,
    purpose    text,
    reason     text,
    until      timestamptz,
    created_at timestamptz NOT NULL
);
CREATE INDEX holds_by_hash ON holds (file_hash);

-- ===== kept copies, and work that watchers share =====

CREATE TABLE kept_copies (
    file_hash  varchar(64) PRIMARY KEY,
    file_size  bigint NOT NULL,
    kept_at    timestamptz NOT NULL,
    checked_at timestamptz
);
CREATE INDEX kept_copies_by_check ON kept_copies (checked_at);

CREATE TABLE watch_tasks (
    name        text PRIMARY KEY,
    owner       text NOT NULL,
    lease_until timestamptz NOT NULL,
    due_at      timestamptz NOT NULL
);
