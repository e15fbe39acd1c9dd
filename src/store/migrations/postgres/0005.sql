-- What an account holds, among the rows of all that it ever held.
CREATE INDEX IF NOT EXISTS platform_file_registry_by_account ON platform_file_registry (platform, status, account);

-- Files on their way from one platform to another.
CREATE TABLE IF NOT EXISTS moves (
    id            uuid PRIMARY KEY,
    file_hash     text NOT NULL,
    from_platform text NOT NULL,
    account       text NOT NULL,
    to_platform   text NOT NULL,
    purpose       text,
    lease_until   timestamptz NOT NULL,
    created_at    timestamptz NOT NULL,
    updated_at    timestamptz NOT NULL
);
ALTER TABLE recoveries
    DROP CONSTRAINT IF EXISTS recoveries_kind_check,
    ADD CONSTRAINT recoveries_kind_check CHECK (kind IN ('upload', 'delete', 'move'));

-- Why a noted copy is not to be relied on: 'begun', 'removed', 'missing', 'damaged'; NULL while it is there.
ALTER TABLE kept_copies ADD COLUMN IF NOT EXISTS gone text;
-- How long a copy that is being made has to live.
ALTER TABLE upload_intents ADD COLUMN IF NOT EXISTS needed_until timestamptz
