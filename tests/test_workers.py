"""Worker processes do their work, and are gone when the program that started them is."""

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
from conftest import program_environment

from kws.workers import workers

BUSY = """
import os, time
from kws.workers import workers

with workers(2) as pool:
    pids = {pool.submit(os.getpid).result() for _ in range(20)}
    pool.submit(time.sleep, 600)
    print(*pids, flush=True)
"""


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


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
        deadline = time.monotonic() + 20
        while any(map(is_alive, pids)) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not any(map(is_alive, pids))
