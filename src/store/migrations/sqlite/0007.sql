-- What an account holds, among the rows of all that it ever held.
CREATE INDEX platform_file_registry_by_account ON platform_file_registry (platform, status, account);

-- Files on their way from one platform to another.
CREATE TABLE moves (
    id            TEXT PRIMARY KEY,
    file_hash     TEXT NOT NULL,
    from_platform TEXT NOT NULL,
    account       TEXT NOT NULL,
    to_platform   TEXT NOT NULL,
    purpose       TEXT,
    lease_until   INTEGER NOT NULL,
    created_at    INTEGER NOT NULL,
    updated_at    INTEGER NOT NULL
);

-- SQLite cannot change a check: the table is made anew.
ALTER TABLE recoveries RENAME TO recoveries_before;
CREATE TABLE recoveries (
    kind        TEXT NOT NULL CHECK (kind IN ('upload', 'delete', 'move')),
    -- The id of the intent, of the replica's row, or of the move.
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
INSERT INTO recoveries SELECT * FROM recoveries_before;
DROP TABLE recoveries_before;

-- Why a noted copy is not to be relied on: 'begun', 'removed', 'missing', 'damaged'; NULL while it is there.
ALTER TABLE kept_copies ADD COLUMN gone TEXT;
-- How long a copy that is being made has to live.
ALTER TABLE upload_intents ADD COLUMN needed_until INTEGER;
