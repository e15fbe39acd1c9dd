-- Until when a content is wanted; NULL for ever.
ALTER TABLE file_hashes ADD COLUMN keep_until INTEGER;
ALTER TABLE upload_intents ADD COLUMN keep_until INTEGER;
CREATE INDEX file_hashes_to_go ON file_hashes (keep_until) WHERE keep_until IS NOT NULL;
-- When somebody was last given a copy, to the hour: what is used least makes room first.
ALTER TABLE platform_file_registry ADD COLUMN used_at INTEGER;
-- What a look at a file was told, besides its status.
ALTER TABLE file_health_checks ADD COLUMN bytes_read INTEGER;
