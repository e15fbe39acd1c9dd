-- Circuit breakers, as all processes on this file see them.
CREATE TABLE circuit_breakers (
    platform   TEXT NOT NULL,
    account    TEXT NOT NULL,
    operation  TEXT NOT NULL,
    state      TEXT NOT NULL,
    updated_at INTEGER NOT NULL,
    PRIMARY KEY (platform, account, operation)
) WITHOUT ROWID;
