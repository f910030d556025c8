"""Processes that do not outlive the one that started them."""

from __future__ import annotations

import _thread
import os
import signal
import threading
import time
from collections.abc import Callable


def end_with_parent(wait_for_parent: Callable[[], object], *, cleaning_seconds: float = 0.0) -> None:
    """End this process when its parent is gone, whatever it is at. To be called from the main thread.

    Parameters
    ----------
    wait_for_parent : callable
        Returns once the parent is gone: one that waits for :attr:`multiprocessing.Process.sentinel`, or reads a pipe.
    cleaning_seconds : float
        How long the main thread may take to remove what is half done: it is interrupted first, as by Ctrl-C.
    """
    if cleaning_seconds:
        # A shell has its background jobs, and all that these start, ignore it: then nothing would be removed.
        signal.signal(signal.SIGINT, signal.default_int_handler)

    def watch() -> None:
        wait_for_parent()
        if cleaning_seconds:
            _interrupt_main_thread()
            time.sleep(cleaning_seconds)
        os._exit(1)

    threading.Thread(target=watch, name="end-with-parent", daemon=True).start()


def _interrupt_main_thread() -> None:
    if hasattr(signal, "pthread_kill"):  # which also ends what it waits for
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
    else:
        _thread.interrupt_main()
