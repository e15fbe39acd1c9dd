"""Says whether the time limits fit together."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))


def main():
    from config import TimeoutConfig

    TimeoutConfig.validate_all()
    print(TimeoutConfig.get_timeout_summary())


if __name__ == "__main__":
    main()
