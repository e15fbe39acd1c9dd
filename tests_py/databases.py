"""Where the tests' registries are: in files or, with EXAI_TEST_STORE=postgres, in databases behind a pooler."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import uuid
from pathlib import Path
from urllib.parse import quote

import canaries

IS_POSTGRES = {None: False, "sqlite": False, "postgres": True}[os.environ.get("EXAI_TEST_STORE")]

_databases: dict[str, str] = {}

made: list[str] = []
"""The databases of this run, by a way that asks for no password."""


def new_database(server: str = "EXAI_TEST_PGBOUNCER") -> str:
    """The URL of a new, empty database on a server that `.ci/with-postgres` has started."""
    name = f"test_{uuid.uuid4().hex}"
    psql(os.environ["EXAI_TEST_POSTGRES"], f"CREATE DATABASE {name}")
    made.append(os.environ["EXAI_TEST_POSTGRES"].replace("/postgres?", f"/{name}?"))
    # The server asks for none, and so has no need of the right one.
    password = quote(canaries.CANARIES["the password of the database"], safe="")
    return os.environ[server].replace("/postgres?", f"/{name}?").replace("//postgres@", f"//postgres:{password}@")


def place(path: str | os.PathLike[str]) -> str:
    """The registry that a test means by a path."""
    text = os.fspath(path)
    if not IS_POSTGRES or "://" in text:
        return text
    if text == ":memory:":
        return new_database()
    return _databases.setdefault(text, new_database())


def psql(url: str, sql: str) -> str:
    without_password = re.sub("//postgres:[^@]*@", "//postgres@", url)
    command = ["psql", without_password, "--no-psqlrc", "--tuples-only", "--no-align", "--command", sql]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def query(registry: str, sql: str) -> str:
    """What a registry holds, asked by another process: two SQLite libraries must not have one file open in one."""
    if "://" in registry:
        done = psql(registry, "SELECT 1 WHERE to_regclass('upload_intents') IS NOT NULL")
        return psql(registry, sql) if done else ""
    if not Path(registry).exists():
        return ""
    code = """if True:
        import sqlite3, sys
        connection = sqlite3.connect(sys.argv[1], timeout=10)
        rows = connection.execute(sys.argv[2]).fetchall()
        connection.commit()
        print("\\n".join("|".join(map(str, row)) for row in rows))"""
    done = subprocess.run([sys.executable, "-c", code, registry, sql], capture_output=True, text=True, check=False)
    return done.stdout.strip()
