"""What models are told about files; the prompts have it from here."""

FILE_PATH_GUIDANCE = "Give absolute paths, as the host has them."

FILE_UPLOAD_GUIDANCE = "Small files go into the prompt, others are uploaded."
