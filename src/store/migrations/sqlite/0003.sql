-- Platforms under the names that the existing EXAI tool gives them: kimi, glm.
UPDATE platform_file_registry SET platform = CASE platform WHEN 'moonshot' THEN 'kimi' WHEN 'zai' THEN 'glm' ELSE platform END;
UPDATE upload_intents SET platform = CASE platform WHEN 'moonshot' THEN 'kimi' WHEN 'zai' THEN 'glm' ELSE platform END;
UPDATE extracted_texts SET platform = CASE platform WHEN 'moonshot' THEN 'kimi' WHEN 'zai' THEN 'glm' ELSE platform END;

CREATE INDEX file_hashes_by_age ON file_hashes (created_at, id);
CREATE INDEX file_uploads_by_name ON file_uploads (filename);
