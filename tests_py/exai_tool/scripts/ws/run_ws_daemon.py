"""Boots the daemon: the lifecycle manager, then the server, until it is told to stop."""

import asyncio
import logging
import os
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

logger = logging.getLogger("daemon")


async def main_with_monitoring():
    lifecycle_manager = None
    try:
        from src.file_management.lifecycle_manager import FileLifecycleManager
        from src.storage.supabase_singleton import get_supabase_client

        lifecycle_manager = FileLifecycleManager(get_supabase_client(use_admin=True))
        await lifecycle_manager.start()
        logger.info("FileLifecycleManager of %s started", FileLifecycleManager.__module__)
    except Exception as error:
        lifecycle_manager = None
        logger.error("no FileLifecycleManager: %s", error)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    port = int(os.getenv("EXAI_WS_PORT", "8079"))
    async with await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", port):
        print("the daemon listens", flush=True)
        await stop.wait()
    if lifecycle_manager:
        await lifecycle_manager.stop()
        logger.info("FileLifecycleManager stopped")


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    asyncio.run(main_with_monitoring())
