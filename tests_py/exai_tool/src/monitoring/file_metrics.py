from prometheus_client import Counter, Gauge, Histogram

UPLOAD_ATTEMPTS = Counter("mcp_file_upload_attempts_total", "Uploads begun", ["provider", "user_id"])
UPLOAD_BYTES = Counter("mcp_file_upload_bytes_total", "Bytes sent", ["provider", "status"])
UPLOAD_DURATION = Histogram("mcp_file_upload_duration_seconds", "How long uploads took", ["provider"])
ACTIVE_UPLOADS = Gauge("mcp_file_active_uploads", "Uploads that are running")
DEDUPLICATION_HITS = Counter("mcp_file_deduplication_hits_total", "Uploads that were spared")
CIRCUIT_BREAKER_TRIPS = Counter("mcp_file_circuit_breaker_trips_total", "Breakers that opened", ["provider"])
DELETIONS = Counter("mcp_file_deletions_total", "Files deleted", ["provider", "reason"])


def record_upload_attempt(provider: str, user_id: str) -> None:
    UPLOAD_ATTEMPTS.labels(provider, user_id).inc()
    ACTIVE_UPLOADS.inc()


def record_upload_completion(provider: str, status: str, bytes_count: int, duration: float) -> None:
    UPLOAD_BYTES.labels(provider, status).inc(bytes_count)
    UPLOAD_DURATION.labels(provider).observe(duration)
    ACTIVE_UPLOADS.dec()


def record_deduplication_hit() -> None:
    DEDUPLICATION_HITS.inc()


def record_circuit_breaker_trip(provider: str) -> None:
    CIRCUIT_BREAKER_TRIPS.labels(provider).inc()


def record_file_deletion(provider: str, reason: str) -> None:
    DELETIONS.labels(provider, reason).inc()


def init_file_metrics() -> None:
    ACTIVE_UPLOADS.set(0)
