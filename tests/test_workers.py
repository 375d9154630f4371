"""Worker processes do their work, and are gone when the program that started them is."""

import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
from conftest import is_alive, program_environment, until

from kws.workers import workers

BUSY = """
import os, time
from kws.workers import workers

with workers(2) as pool:
    pids = {pool.submit(os.getpid).result() for _ in range(20)}
    pool.submit(time.sleep, 600)
    print(*pids, flush=True)
"""


def test_every_worker_starts_as_it_is_told() -> None:
    with workers(2, partial(os.chdir, "/")) as pool:
        assert {pool.submit(os.getcwd).result() for _ in range(4)} == {"/"}
    assert Path.cwd() != Path("/")


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_workers_end_with_a_program_that_is_killed(tmp_path: Path, end: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", BUSY], stdout=subprocess.PIPE, text=True, env=program_environment(tmp_path)
    ) as program:
        assert program.stdout
        pids = [int(pid) for pid in program.stdout.readline().split()]
        assert pids
        assert all(map(is_alive, pids))
        program.send_signal(end)
        until(lambda: not any(map(is_alive, pids)), within_s=20)
