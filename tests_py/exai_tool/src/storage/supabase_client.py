"""Supabase over REST. Making a storage manager asks the network, and whoever makes one waits for it."""

import json
import logging
import os
from dataclasses import dataclass, field
from urllib.parse import urlencode
from urllib.request import Request, urlopen

from src.resilience.circuit_breaker_manager import circuit_breaker_manager

logger = logging.getLogger(__name__)


@dataclass
class Result:
    data: list = field(default_factory=list)


class Query:
    def __init__(self, url, key):
        self._url, self._headers = url, {"apikey": key, "Content-Type": "application/json"}
        self._method, self._body, self._filters = "GET", None, []

    def _as(self, method, body=None):
        self._method, self._body = method, body
        return self

    def select(self, columns="*"):
        self._filters.append(("select", columns))
        return self

    def insert(self, row):
        return self._as("POST", row)

    def update(self, row):
        return self._as("PATCH", row)

    def delete(self):
        return self._as("DELETE")

    def filter(self, column, operator, value):
        self._filters.append((column, f"{operator}.{value}"))
        return self

    def eq(self, column, value):
        return self.filter(column, "eq", value)

    def lt(self, column, value):
        return self.filter(column, "lt", value)

    def execute(self):
        body = None if self._body is None else json.dumps(self._body).encode()
        headers = {**self._headers, "Prefer": "return=representation"}
        request = Request(f"{self._url}?{urlencode(self._filters)}", body, headers, method=self._method)
        with urlopen(request, timeout=5) as response:
            return Result(json.loads(response.read() or b"[]"))


class RestClient:
    def __init__(self, url, key):
        self._url, self._key = url.rstrip("/") + "/rest/v1", key

    def table(self, name):
        return Query(f"{self._url}/{name}", self._key)

    def rpc(self, function, arguments):
        return Query(f"{self._url}/rpc/{function}", self._key).insert(arguments)


class SupabaseStorageManager:
    def __init__(self):
        self.url = os.getenv("SUPABASE_URL", "")
        self.key = os.getenv("SUPABASE_SERVICE_ROLE_KEY", "")
        self.enabled = bool(self.url and self.key)
        if self.enabled:
            self._prewarm()

    def _prewarm(self):
        try:
            self.get_client().table("schema_version").select().execute()
        except Exception as error:
            circuit_breaker_manager.record_failure("supabase")
            logger.warning("no answer from Supabase: %s", error)

    def get_client(self):
        if not (self.url and self.key):
            raise RuntimeError("Supabase is not configured")
        return RestClient(self.url, self.key)


def get_storage_manager():
    return SupabaseStorageManager()
