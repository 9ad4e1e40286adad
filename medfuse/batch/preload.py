"""What a worker process of a local batch runs before anything else: it ends when its parent is gone.

A plugin comes too late for this: a worker that was being started again when the parent was killed never gets
    one, and would live on.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from distributed import Worker

PARENT = "MEDFUSE_BATCH_PARENT"  # environment: process id of the batch


def dask_setup(worker: Worker) -> None:
    """Called by dask.distributed as the worker starts, before it speaks to the scheduler."""
    logging.getLogger("tornado.application").addFilter(_worth_saying)
    if PARENT in os.environ:
        threading.Thread(
            target=_watch, args=(int(os.environ[PARENT]),), daemon=True, name="medfuse-parent"
        ).start()


def _worth_saying(record: logging.LogRecord) -> bool:
    """Not that a heartbeat was under way as the batch ended: after Ctrl-C it was a page of traceback."""
    error = record.exc_info[1] if record.exc_info else None
    return not (isinstance(error, RuntimeError) and "ConnectionPool is closed" in str(error))


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.3)
    os._exit(1)
