"""The fixtures, as other people's tests use them."""

from __future__ import annotations

import pytest

pytest_plugins = ["pytester"]


def test_the_fixtures_are_found_without_being_imported(pytester: pytest.Pytester):
    pytester.makepyfile(
        """
        def test_my_pipeline_survives_an_outage(exai_files_sim, exai_files_client):
            exai_files_sim.moonshot.fail_next(status=503)
            record = exai_files_client.upload(b"hello", name="a.txt", to="moonshot")
            assert len(exai_files_sim.moonshot.files) == 1
            assert len(exai_files_sim.moonshot.requests) == 3  # refused, looked for, sent

        def test_time_passes(exai_files_sim, exai_files_client, exai_files_clock):
            exai_files_client.upload(b"hello", name="a.txt", to="zai")
            exai_files_clock.advance(181 * 86_400)
            assert exai_files_client.list_remote("zai") == []

        async def awaited(client):
            return await client.upload(b"hello", name="a.txt", to="moonshot")

        def test_async(exai_files_async_client):
            import asyncio
            assert asyncio.run(awaited(exai_files_async_client)).size == 5
        """
    )
    pytester.runpytest_subprocess("-q").assert_outcomes(passed=3)


def test_a_fault_that_never_fires_fails_the_test_and_the_seed_is_shown(pytester: pytest.Pytester):
    pytester.makepyfile(
        """
        def test_nothing_happens(exai_files_sim):
            exai_files_sim.moonshot.fail_next(status=503)
        """
    )
    result = pytester.runpytest_subprocess("-q", "--exai_files-seed=42")
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*never fired*"])
    result.stdout.fnmatch_lines(["*seed 42*"])
