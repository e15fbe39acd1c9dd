"""What models are told about files."""

FILE_PATH_GUIDANCE = "Give absolute paths."

FILE_UPLOAD_GUIDANCE = "Small files go into the prompt, others are uploaded."

SMART_FILE_QUERY_GUIDANCE = "Ask about a file by its path."
