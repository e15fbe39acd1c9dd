-- What `auth login` has fetched, sealed with the master key.
CREATE TABLE IF NOT EXISTS stored_credentials (
    platform   text NOT NULL,
    account    text NOT NULL,
    sealed     text NOT NULL,
    updated_at timestamptz NOT NULL,
    PRIMARY KEY (platform, account)
);

-- Who is getting new tokens for which old ones, wherever those are kept.
CREATE TABLE IF NOT EXISTS credential_refreshes (
    subject     text PRIMARY KEY,
    fence       bigint NOT NULL,
    owner       text,
    lease_until timestamptz,
    spending    text,
    tries       bigint NOT NULL
);

-- What users have handed over. It counts while it is on a platform, on its way there, or was admitted a moment ago.
CREATE TABLE IF NOT EXISTS user_files (
    user_id        text NOT NULL,
    file_hash      text NOT NULL,
    file_size      bigint NOT NULL,
    admitted_until timestamptz NOT NULL,
    PRIMARY KEY (user_id, file_hash)
);
CREATE INDEX IF NOT EXISTS user_files_by_content ON user_files (file_hash);
