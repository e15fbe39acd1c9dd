-- The tables of the existing EXAI tool (dropin_contract.md §4.1), with its names, types and meaning, and ours. On a
-- database where the tool's migration ran, wholly or in part, this adds what is missing and keeps every row.

-- ===== the tool's tables, where they are not there =====

CREATE TABLE IF NOT EXISTS file_uploads (
    id         uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    created_at timestamptz DEFAULT now()
);
CREATE TABLE IF NOT EXISTS file_hashes (
    id               uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    file_hash        varchar(64) NOT NULL UNIQUE,
    original_file_id uuid,
    file_size        bigint NOT NULL,
    content_type     varchar(255),
    duplicate_count  int DEFAULT 0,
    created_at       timestamptz DEFAULT now(),
    updated_at       timestamptz DEFAULT now()
);
CREATE TABLE IF NOT EXISTS platform_file_registry (
    id                 uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    file_id            uuid,
    platform           varchar(50) NOT NULL,
    platform_file_id   varchar(255) NOT NULL,
    platform_url       text,
    platform_metadata  jsonb DEFAULT '{}',
    status             varchar(50) DEFAULT 'active',
    last_verified      timestamptz,
    verification_count int DEFAULT 0,
    created_at         timestamptz DEFAULT now(),
    updated_at         timestamptz DEFAULT now(),
    UNIQUE (platform, platform_file_id)
);
CREATE TABLE IF NOT EXISTS file_health_checks (
    id               uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    registry_id      uuid,
    status           varchar(50) NOT NULL,
    error_message    text,
    error_code       varchar(50),
    response_time_ms int,
    http_status_code int,
    checked_at       timestamptz DEFAULT now()
);
CREATE TABLE IF NOT EXISTS file_lifecycle_sync (
    id                 uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    file_id            uuid,
    platform           varchar(50) NOT NULL,
    local_status       varchar(50) NOT NULL,
    platform_status    varchar(50),
    sync_status        varchar(50) DEFAULT 'pending',
    sync_error         text,
    last_sync_at       timestamptz DEFAULT now(),
    next_sync_at       timestamptz,
    sync_attempt_count int DEFAULT 0,
    created_at         timestamptz DEFAULT now(),
    updated_at         timestamptz DEFAULT now()
);
CREATE TABLE IF NOT EXISTS file_recovery_attempts (
    id                uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    file_id           uuid,
    operation         varchar(100) NOT NULL,
    platform          varchar(50),
    attempt_number    int NOT NULL DEFAULT 1,
    error_message     text,
    error_code        varchar(50),
    recovery_strategy varchar(100),
    status            varchar(50) DEFAULT 'pending',
    next_retry_at     timestamptz,
    retry_delay_ms    int,
    created_at        timestamptz DEFAULT now(),
    completed_at      timestamptz
);
CREATE TABLE IF NOT EXISTS file_audit_trail (
    id                uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    file_id           uuid,
    operation         varchar(100) NOT NULL,
    platform          varchar(50),
    user_id           varchar(255),
    ip_address        inet,
    user_agent        text,
    operation_details jsonb DEFAULT '{}',
    status            varchar(50) NOT NULL,
    error_message     text,
    error_code        varchar(50),
    duration_ms       int,
    bytes_transferred bigint,
    created_at        timestamptz DEFAULT now()
);

-- ===== columns that a table of the tool's may lack =====

ALTER TABLE file_uploads
    ADD COLUMN IF NOT EXISTS filename              text,
    ADD COLUMN IF NOT EXISTS file_size             bigint,
    ADD COLUMN IF NOT EXISTS mime_type             text,
    ADD COLUMN IF NOT EXISTS storage_path          text,
    ADD COLUMN IF NOT EXISTS user_id               text,
    ADD COLUMN IF NOT EXISTS metadata              jsonb DEFAULT '{}',
    ADD COLUMN IF NOT EXISTS created_at            timestamptz DEFAULT now(),
    ADD COLUMN IF NOT EXISTS file_hash             varchar(64),
    ADD COLUMN IF NOT EXISTS is_duplicate          boolean DEFAULT false,
    ADD COLUMN IF NOT EXISTS original_file_id      uuid REFERENCES file_uploads (id) ON DELETE SET NULL,
    ADD COLUMN IF NOT EXISTS health_status         varchar(50) DEFAULT 'unknown',
    ADD COLUMN IF NOT EXISTS last_health_check     timestamptz,
    ADD COLUMN IF NOT EXISTS deduplication_checked boolean DEFAULT false;

ALTER TABLE platform_file_registry
    ADD COLUMN IF NOT EXISTS file_hash         varchar(64),
    ADD COLUMN IF NOT EXISTS account           text NOT NULL DEFAULT 'default',
    ADD COLUMN IF NOT EXISTS purpose           text NOT NULL DEFAULT '',
    ADD COLUMN IF NOT EXISTS remote_name       text,
    ADD COLUMN IF NOT EXISTS content_kind      text NOT NULL DEFAULT 'opaque',
    ADD COLUMN IF NOT EXISTS file_size         bigint,
    ADD COLUMN IF NOT EXISTS remote_created_at timestamptz,
    ADD COLUMN IF NOT EXISTS expires_at        timestamptz;

DO $$
DECLARE
    found record;
BEGIN
    -- Which table holds the files differs from one installation to the next, and with an unknown one as parent nobody
    -- else could write; and a deleted file must not take its audit trail along.
    FOR found IN
        SELECT con.conname, rel.relname
          FROM pg_constraint con JOIN pg_class rel ON rel.oid = con.conrelid
         WHERE con.contype = 'f' AND rel.relnamespace = current_schema()::regnamespace
           AND rel.relname IN ('file_hashes', 'platform_file_registry', 'file_health_checks', 'file_lifecycle_sync',
                               'file_recovery_attempts', 'file_audit_trail')
    LOOP
        EXECUTE format('ALTER TABLE %I DROP CONSTRAINT %I', found.relname, found.conname);
    END LOOP;
    -- What only some variants of the tool fill cannot be required of everyone.
    FOR found IN
        SELECT att.attname
          FROM pg_attribute att
         WHERE att.attrelid = 'file_uploads'::regclass AND att.attnum > 0 AND NOT att.attisdropped AND att.attnotnull
           AND NOT att.atthasdef AND att.attname NOT IN ('id')
           AND NOT EXISTS (SELECT 1 FROM pg_index i WHERE i.indrelid = att.attrelid AND i.indisprimary
                              AND att.attnum = ANY (i.indkey))
    LOOP
        EXECUTE format('ALTER TABLE file_uploads ALTER COLUMN %I DROP NOT NULL', found.attname);
    END LOOP;
    -- Files of more than 2 GiB.
    IF (SELECT atttypid = 'int4'::regtype FROM pg_attribute
         WHERE attrelid = 'file_uploads'::regclass AND attname = 'file_size') THEN
        ALTER TABLE file_uploads ALTER COLUMN file_size TYPE bigint;
    END IF;
    -- An installation whose files are in "files" (original_name, size_bytes, sha256): those that are referred to.
    IF (SELECT count(*) = 3 FROM pg_attribute
         WHERE attrelid = to_regclass('files') AND attname IN ('id', 'original_name', 'size_bytes')
           AND NOT attisdropped) THEN
        INSERT INTO file_uploads (id, filename, file_size, mime_type, file_hash, created_at)
        SELECT f.id, f.original_name, f.size_bytes, to_jsonb(f) ->> 'mime_type', to_jsonb(f) ->> 'sha256',
               COALESCE((to_jsonb(f) ->> 'created_at')::timestamptz, now())
          FROM files f
         WHERE f.id IN (SELECT file_id FROM platform_file_registry UNION SELECT original_file_id FROM file_hashes)
        ON CONFLICT (id) DO NOTHING;
    END IF;
END $$;

-- ===== what we know of the tool's rows =====

UPDATE platform_file_registry r
   SET file_hash = u.file_hash, file_size = COALESCE(r.file_size, u.file_size),
       remote_name = COALESCE(r.remote_name, u.filename), remote_created_at = COALESCE(r.remote_created_at, r.created_at)
  FROM file_uploads u WHERE u.id = r.file_id AND r.file_hash IS NULL;
INSERT INTO file_hashes (file_hash, original_file_id, file_size, content_type, created_at, updated_at)
SELECT DISTINCT ON (file_hash) file_hash, id, COALESCE(file_size, 0), mime_type, COALESCE(created_at, now()), now()
  FROM file_uploads WHERE file_hash IS NOT NULL ORDER BY file_hash, created_at
ON CONFLICT (file_hash) DO NOTHING;

-- What the tool writes from now on is known by its digest too.
CREATE OR REPLACE FUNCTION exai_files_know_digest() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    known file_uploads%ROWTYPE;
BEGIN
    IF NEW.file_hash IS NULL AND NEW.file_id IS NOT NULL THEN
        SELECT * INTO known FROM file_uploads WHERE id = NEW.file_id;
        NEW.file_hash := known.file_hash;
        NEW.file_size := COALESCE(NEW.file_size, known.file_size);
        NEW.remote_name := COALESCE(NEW.remote_name, known.filename);
    END IF;
    NEW.remote_created_at := COALESCE(NEW.remote_created_at, NEW.created_at, now());
    RETURN NEW;
END $$;
DROP TRIGGER IF EXISTS exai_files_know_digest ON platform_file_registry;
CREATE TRIGGER exai_files_know_digest BEFORE INSERT ON platform_file_registry
    FOR EACH ROW EXECUTE FUNCTION exai_files_know_digest();

CREATE OR REPLACE FUNCTION exai_files_spread_digest() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE platform_file_registry SET file_hash = NEW.file_hash WHERE file_id = NEW.id AND file_hash IS NULL;
    RETURN NULL;
END $$;
DROP TRIGGER IF EXISTS exai_files_spread_digest ON file_uploads;
CREATE TRIGGER exai_files_spread_digest AFTER UPDATE OF file_hash ON file_uploads
    FOR EACH ROW WHEN (OLD.file_hash IS NULL AND NEW.file_hash IS NOT NULL) EXECUTE FUNCTION exai_files_spread_digest();

-- The tool calls it and nothing ever defined it.
CREATE OR REPLACE FUNCTION increment_duplicate_count(hash_value text) RETURNS void LANGUAGE sql AS $$
    UPDATE file_hashes SET duplicate_count = COALESCE(duplicate_count, 0) + 1, updated_at = now()
     WHERE file_hash = hash_value
$$;

-- The guard behind every promise of "exactly once". Rows of the tool's have no purpose, and are not in it.
CREATE UNIQUE INDEX IF NOT EXISTS one_active_replica
    ON platform_file_registry (file_hash, platform, account, purpose) WHERE status = 'active' AND purpose <> '';
CREATE INDEX IF NOT EXISTS platform_file_registry_by_hash ON platform_file_registry (file_hash);
CREATE INDEX IF NOT EXISTS platform_file_registry_by_file ON platform_file_registry (file_id);
CREATE INDEX IF NOT EXISTS file_hashes_by_age ON file_hashes (created_at, id);
CREATE INDEX IF NOT EXISTS file_uploads_by_hash ON file_uploads (file_hash);
CREATE INDEX IF NOT EXISTS file_uploads_by_name ON file_uploads (filename);

-- ===== ours =====

-- What was begun: written before the first byte leaves, and the claim that makes others wait.
CREATE TABLE upload_intents (
    id            uuid PRIMARY KEY,
    file_hash     varchar(64) NOT NULL,
    platform      text NOT NULL,
    account       text NOT NULL,
    purpose       text NOT NULL,
    state         text NOT NULL CHECK (state IN ('sending', 'bound', 'failed')),
    owner         text NOT NULL,
    fence         bigint NOT NULL,
    lease_until   timestamptz NOT NULL,
    attempt       bigint NOT NULL,
    remote_name   text NOT NULL,
    file_size     bigint NOT NULL,
    first_sent_at timestamptz NOT NULL,
    last_sent_at  timestamptz NOT NULL,
    error         text,
    created_at    timestamptz NOT NULL,
    updated_at    timestamptz NOT NULL
);
CREATE UNIQUE INDEX one_open_intent
    ON upload_intents (file_hash, platform, account, purpose) WHERE state = 'sending';

-- Text a platform extracted: fetched once for each generation of its parser.
CREATE TABLE extracted_texts (
    file_hash    varchar(64) NOT NULL,
    platform     text NOT NULL,
    parser_epoch text NOT NULL,
    content      text NOT NULL,
    fetched_at   timestamptz NOT NULL,
    PRIMARY KEY (file_hash, platform, parser_epoch)
);

-- Circuit breakers and rate limits, where no Redis keeps them.
CREATE TABLE resilience_state (
    key        text PRIMARY KEY,
    state      text NOT NULL,
    updated_at timestamptz NOT NULL
);
