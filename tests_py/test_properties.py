"""Laws, tried on whatever Hypothesis comes up with; a failing example is printed with how to repeat it."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

import exai_files

TRIES = settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

NAMES = st.text(st.characters(exclude_categories=["Cc", "Cs"], exclude_characters="/\\"), min_size=1, max_size=60)


@TRIES
@given(content=st.binary(min_size=1, max_size=4_000), name=NAMES)
def test_what_a_platform_returns_as_bytes_is_what_was_uploaded(sim, shared_client, content, name):
    try:
        record = shared_client.upload(content, name=f"{name}.jsonl", to="moonshot", purpose="batch")
    except exai_files.InvalidRequestError:
        assume(False)  # a bidirectional control, or too long once encoded
    assert shared_client.content(record).data == content
    again = shared_client.upload(content, name=f"{name}.jsonl", to="moonshot", purpose="batch")
    assert again.replicas[0].origin == "already-there"
    stored = next(file for file in sim.moonshot.files if file.id == record.replicas[0].remote_id)
    assert len(stored.filename.encode()) <= 255
    assert unicodedata.is_normalized("NFC", stored.filename)


@TRIES
@given(reference=st.text(max_size=80))
def test_no_reference_breaks_the_registry(shared_client, reference):
    with pytest.raises((exai_files.NotFoundError, exai_files.ConflictError)):
        shared_client.get(reference + "\x00 is in no name")


@pytest.fixture
def shared_client(sim):
    sim.moonshot.set(max_files=100_000)
    with sim.client() as client:
        yield client
