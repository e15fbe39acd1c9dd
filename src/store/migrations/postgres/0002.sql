-- What people say of files, the trash, and what is asked for by these.
CREATE TABLE file_tags (
    tag       text NOT NULL,
    file_hash varchar(64) NOT NULL,
    PRIMARY KEY (tag, file_hash)
);
CREATE INDEX file_tags_by_hash ON file_tags (file_hash);

-- The tool's callers pass names such as "system" for users, whatever the column's type.
DO $$
BEGIN
    IF (SELECT data_type = 'uuid' FROM information_schema.columns
         WHERE table_schema = current_schema() AND table_name = 'file_uploads' AND column_name = 'user_id') THEN
        ALTER TABLE file_uploads ALTER COLUMN user_id TYPE text USING user_id::text;
    END IF;
END $$;

ALTER TABLE file_hashes ADD COLUMN IF NOT EXISTS trashed_at timestamptz;
CREATE INDEX IF NOT EXISTS file_hashes_in_trash ON file_hashes (created_at, id) WHERE trashed_at IS NOT NULL;

CREATE INDEX IF NOT EXISTS file_uploads_by_owner ON file_uploads (user_id, file_hash) WHERE user_id IS NOT NULL;
CREATE INDEX IF NOT EXISTS platform_file_registry_by_expiry
    ON platform_file_registry (expires_at) WHERE status = 'active' AND expires_at IS NOT NULL;

-- ===== health history and audit trail in partitions by month =====

-- Makes a plain table of at most so many bytes one with partitions, with its rows, indexes, owner and grants. One that
-- somebody has made more of (policies, triggers, checks, keys of others, views) is left as it is.
CREATE OR REPLACE FUNCTION exai_files_by_month(parent text, moment text, most bigint) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    plain oid := to_regclass(quote_ident(parent));
    before text := parent || '_plain';
    proprietor text := (SELECT relowner::regrole::text FROM pg_class WHERE oid = plain);
    indexes text[];
    granted text[];
    sentence text;
BEGIN
    IF (SELECT relkind <> 'r' OR relrowsecurity FROM pg_class WHERE oid = plain)
        OR pg_table_size(plain) > most
        OR EXISTS (SELECT 1 FROM pg_policy WHERE polrelid = plain)
        OR EXISTS (SELECT 1 FROM pg_trigger WHERE tgrelid = plain)
        OR EXISTS (SELECT 1 FROM pg_constraint WHERE conrelid = plain AND contype NOT IN ('p', 'n'))
        OR EXISTS (SELECT 1 FROM pg_constraint WHERE confrelid = plain)
        OR EXISTS (SELECT 1 FROM pg_attribute WHERE attrelid = plain AND attnum > 0
                                                AND (attidentity <> '' OR attacl IS NOT NULL))
        OR EXISTS (SELECT 1 FROM pg_index WHERE indrelid = plain AND indisunique AND NOT indisprimary)
        OR EXISTS (SELECT 1 FROM pg_depend d JOIN pg_class c ON c.oid = d.objid
                    WHERE d.refobjid = plain AND d.classid = 'pg_class'::regclass AND c.relkind = 'S')
        OR EXISTS (SELECT 1 FROM pg_depend d JOIN pg_rewrite r ON r.oid = d.objid
                    WHERE d.refobjid = plain AND d.classid = 'pg_rewrite'::regclass) THEN
        RETURN;
    END IF;
    SELECT coalesce(array_agg(pg_get_indexdef(indexrelid)), '{}') INTO indexes
      FROM pg_index WHERE indrelid = plain AND NOT indisunique;
    SELECT coalesce(array_agg(format('GRANT %s ON %I TO %s', a.privilege_type, parent,
                                     CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE a.grantee::regrole::text END)), '{}')
      INTO granted
      FROM pg_class c, aclexplode(c.relacl) a WHERE c.oid = plain;
    EXECUTE format('ALTER TABLE %I RENAME TO %I', parent, before);
    EXECUTE format('CREATE TABLE %I (LIKE %I INCLUDING DEFAULTS INCLUDING COMMENTS) PARTITION BY RANGE (%I)',
                   parent, before, moment);
    EXECUTE format('CREATE TABLE %I PARTITION OF %I DEFAULT', parent || '_default', parent);
    EXECUTE format('INSERT INTO %I SELECT * FROM %I', parent, before);
    EXECUTE format('DROP TABLE %I', before);
    -- What new tables are granted to is not what this one was.
    FOR sentence IN
        SELECT format('REVOKE ALL ON %I FROM %s', parent,
                      CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE a.grantee::regrole::text END)
          FROM pg_class c, aclexplode(c.relacl) a
         WHERE c.oid = to_regclass(quote_ident(parent)) AND a.grantee <> c.relowner
    LOOP
        EXECUTE sentence;
    END LOOP;
    IF proprietor <> current_user THEN
        EXECUTE format('ALTER TABLE %I OWNER TO %s', parent, proprietor);
        EXECUTE format('ALTER TABLE %I OWNER TO %s', parent || '_default', proprietor);
    END IF;
    EXECUTE format('CREATE INDEX ON %I (id)', parent);
    EXECUTE format('CREATE INDEX ON %I (%I)', parent, moment);
    FOREACH sentence IN ARRAY indexes || granted LOOP
        EXECUTE sentence;
    END LOOP;
END $$;

-- Partitions for each month of which there are rows, this one and the next; says how many it made.
CREATE OR REPLACE FUNCTION exai_files_make_months(parent text, moment text, at timestamptz) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
    month timestamptz;
    part text;
    made bigint := 0;
BEGIN
    IF (SELECT relkind FROM pg_class WHERE oid = to_regclass(quote_ident(parent))) IS DISTINCT FROM 'p' THEN
        RETURN 0;
    END IF;
    -- Nothing may come in between taking a month's rows out and putting them back as a partition.
    EXECUTE format('LOCK TABLE %I IN SHARE ROW EXCLUSIVE MODE', parent);
    FOR month IN EXECUTE format(
        'SELECT DISTINCT date_trunc(''month'', %I, ''UTC'') FROM %I WHERE %I IS NOT NULL
         UNION SELECT date_trunc(''month'', $1, ''UTC'')
         UNION SELECT date_trunc(''month'', date_trunc(''month'', $1, ''UTC'') + interval ''32 days'', ''UTC'')',
        moment, parent || '_default', moment) USING at
    LOOP
        part := parent || to_char(month AT TIME ZONE 'UTC', '"_"YYYY"_"MM');
        CONTINUE WHEN to_regclass(quote_ident(part)) IS NOT NULL;
        EXECUTE format('CREATE TABLE %I (LIKE %I INCLUDING DEFAULTS)', part, parent);
        EXECUTE format('WITH moved AS (DELETE FROM %I WHERE date_trunc(''month'', %I, ''UTC'') = $1 RETURNING *)
                        INSERT INTO %I SELECT * FROM moved', parent || '_default', moment, part) USING month;
        EXECUTE format('ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)', parent, part, month,
                       date_trunc('month', month + interval '32 days', 'UTC'));
        made := made + 1;
    END LOOP;
    RETURN made;
END $$;

-- Drops the partitions of months that had ended by then; says how many.
CREATE OR REPLACE FUNCTION exai_files_drop_months(parent text, at timestamptz) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    part text;
    dropped bigint := 0;
BEGIN
    FOR part IN
        SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
         WHERE i.inhparent = to_regclass(quote_ident(parent)) AND c.relname ~ '_[0-9]{4}_[0-9]{2}$'
           AND date_trunc('month', to_timestamp(right(c.relname, 7), 'YYYY_MM')::timestamp AT TIME ZONE 'UTC'
                                   + interval '32 days', 'UTC') <= at
    LOOP
        EXECUTE format('DROP TABLE %I', part);
        dropped := dropped + 1;
    END LOOP;
    RETURN dropped;
END $$;

-- Large ones are left for `db maintain`: others wait until this has ended.
SELECT exai_files_by_month('file_health_checks', 'checked_at', 64 << 20);
SELECT exai_files_by_month('file_audit_trail', 'created_at', 64 << 20);
SELECT exai_files_make_months('file_health_checks', 'checked_at', now());
SELECT exai_files_make_months('file_audit_trail', 'created_at', now());
