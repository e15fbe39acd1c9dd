"""The main job, without a key and without a server: `python -m exai_files.demo`.

Starts the simulator, uploads the sample files that come with the package to Moonshot and Z.ai, does it again, reads
one back and prints where everything is.
"""

from __future__ import annotations

import importlib.util
import sys
import tempfile
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import exai_files
from exai_files import progress

if TYPE_CHECKING:
    from exai_files.client import Client
    from exai_files.records import FileRecord

SAMPLES = Path(__file__).parent / "samples"
PLATFORMS = ["moonshot", "zai"]


def sample_files() -> list[Path]:
    """The sample files: a PDF, a .docx, a .png, a UTF-8 and a GBK text, a .jsonl."""
    return sorted(path for path in SAMPLES.iterdir() if path.suffix in {".pdf", ".docx", ".png", ".txt", ".jsonl"})


def main() -> None:
    with tempfile.TemporaryDirectory() as home, exai_files.Simulator() as simulator:
        with simulator.client(registry=Path(home) / "registry.db") as files:
            print(f"1. {len(sample_files())} sample files to {' and '.join(PLATFORMS)}, simulated on this machine")
            upload_all(files)
            before = len(uploads(simulator))
            print(f"   {before} uploads were sent\n\n2. The same once more")
            records = upload_all(files)
            print(f"   {len(uploads(simulator)) - before} uploads were sent: everything was there already")
            paper = next(record for record in records if record.name == "paper.pdf")
            print(f"\n3. The text Moonshot made of {paper.name}\n")
            print("\n".join(f"   {line}" for line in files.text(paper, platform="moonshot").splitlines()))
            print("\n4. Where each file is\n")
            print_places(list(files.list()))


def upload_all(files: Client) -> list[FileRecord]:
    with _bars() as show:
        return [files.upload(path, to=PLATFORMS, progress=show) for path in sample_files()]


def uploads(simulator: exai_files.Simulator) -> list[dict[str, Any]]:
    return simulator.truth(operation="upload")


def print_places(records: list[FileRecord]) -> None:
    for record in records:
        print(f"   {record.digest[:19]}…  {record.size:>6} B  {record.name}")
        for replica in record.replicas:
            print(
                f"      {replica.platform:<9} {replica.purpose:<13} {replica.remote_id}  gives back {replica.content}"
            )


def _bars() -> AbstractContextManager[Any]:
    """Bars where rich is installed; one line a transfer where it is not."""
    if importlib.util.find_spec("rich"):
        return progress.rich(file=sys.stdout)
    return nullcontext(lambda transfer: print("  ", transfer) if transfer.is_done else None)


if __name__ == "__main__":
    main()
