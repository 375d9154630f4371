"""Worker processes of long commands: they end with the program that started them, however that ended.

Fresh processes, no copies: a copy of one that holds an ONNX Runtime session or threads of torch may hang.
"""

import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context, parent_process
from threading import Thread


def workers(count: int | None, start: Callable[[], object] | None = None) -> ProcessPoolExecutor:
    """So many processes (None: one for each core), each of which calls `start` first."""
    return ProcessPoolExecutor(count, get_context("spawn"), initializer=_begin, initargs=(start,))


def _begin(start: Callable[[], object] | None) -> None:
    # The pool's pipes do not tell: every worker holds both of their ends.
    Thread(target=_end_with_parent, daemon=True).start()
    if start:
        start()


def _end_with_parent() -> None:
    parent = parent_process()
    assert parent is not None  # noqa: S101 (multiprocessing started this process)
    parent.join()
    os._exit(1)
