-- Until when a content is wanted; NULL for ever.
ALTER TABLE file_hashes ADD COLUMN IF NOT EXISTS keep_until timestamptz;
ALTER TABLE upload_intents ADD COLUMN IF NOT EXISTS keep_until timestamptz;
CREATE INDEX IF NOT EXISTS file_hashes_to_go ON file_hashes (keep_until) WHERE keep_until IS NOT NULL;
-- When somebody was last given a copy, to the hour: what is used least makes room first.
ALTER TABLE platform_file_registry ADD COLUMN IF NOT EXISTS used_at timestamptz;
-- What a look at a file was told, besides its status.
ALTER TABLE file_health_checks ADD COLUMN IF NOT EXISTS bytes_read bigint
