"""Says whether shadow mode is on."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from config import MigrationConfig


def main():
    print(MigrationConfig.get_status())


if __name__ == "__main__":
    main()
