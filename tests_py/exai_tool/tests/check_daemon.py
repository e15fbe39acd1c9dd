import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

DAEMON = Path(__file__).parents[1] / "scripts" / "ws" / "run_ws_daemon.py"
SUPABASE = {"SUPABASE_URL": "http://127.0.0.1:9", "SUPABASE_SERVICE_ROLE_KEY": "service-role"}


@pytest.mark.parametrize("credentials", [pytest.param(SUPABASE, id="supabase"), pytest.param({}, id="without")])
def test_the_daemon_boots_and_stops(credentials):
    unset = {name: value for name, value in os.environ.items() if not name.startswith("SUPABASE_")}
    daemon = subprocess.Popen(
        [sys.executable, str(DAEMON)],
        env={**unset, **credentials, "EXAI_WS_PORT": "0"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with daemon:
        assert daemon.stdout.readline() == "the daemon listens\n"
        daemon.send_signal(signal.SIGTERM)
        said = daemon.communicate(timeout=30)[1]
    assert daemon.returncode == 0, said
    assert ("FileLifecycleManager stopped" in said) is bool(credentials)
