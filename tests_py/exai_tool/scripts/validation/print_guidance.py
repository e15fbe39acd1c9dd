# No `if __name__ == "__main__"`: importing it runs it.
from pathlib import Path

from configurations import file_handling_guidance as guidance

print(guidance.FILE_PATH_GUIDANCE)
Path("guidance.txt").write_text(guidance.FILE_PATH_GUIDANCE)
