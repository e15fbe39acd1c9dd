-- What `auth login` has fetched, sealed with the master key.
CREATE TABLE stored_credentials (
    platform   TEXT NOT NULL,
    account    TEXT NOT NULL,
    sealed     TEXT NOT NULL,
    updated_at INTEGER NOT NULL,
    PRIMARY KEY (platform, account)
) STRICT, WITHOUT ROWID;

-- Who is getting new tokens for which old ones, wherever those are kept.
CREATE TABLE credential_refreshes (
    subject     TEXT NOT NULL PRIMARY KEY,
    fence       INTEGER NOT NULL,
    owner       TEXT,
    lease_until INTEGER,
    spending    TEXT,
    tries       INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- What users have handed over. It counts while it is on a platform, on its way there, or was admitted a moment ago.
CREATE TABLE user_files (
    user_id        TEXT NOT NULL,
    file_hash      TEXT NOT NULL,
    file_size      INTEGER NOT NULL,
    admitted_until INTEGER NOT NULL,
    PRIMARY KEY (user_id, file_hash)
) STRICT, WITHOUT ROWID;
CREATE INDEX user_files_by_content ON user_files (file_hash);
