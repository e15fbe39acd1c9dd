-- Circuit breakers and rate limits, as all processes on this file see them: JSON by key, such as
-- "breaker/moonshot/default/upload" and "pace/moonshot/default".
CREATE TABLE resilience_state (
    key        TEXT PRIMARY KEY,
    state      TEXT NOT NULL,
    updated_at INTEGER NOT NULL
) WITHOUT ROWID;
