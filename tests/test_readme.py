"""The example of the README is run as it stands there."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import program_environment

from kws.manifest import MANIFEST_FILE

ROOT = Path(__file__).parent.parent


@pytest.mark.skipif(
    not (ROOT / "models" / "default" / MANIFEST_FILE).is_file(), reason="the shipped model is not there yet"
)
def test_python_example_hears_the_bundled_recording(tmp_path: Path) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"^```python\n(.*?)^```", readme, re.MULTILINE | re.DOTALL)
    done = subprocess.run(
        [sys.executable, "-c", example],
        cwd=ROOT,
        env=program_environment(tmp_path),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    heard = [line.split()[2] for line in done.stdout.splitlines()]
    assert heard == ["alexa", "computer", "jarvis"]
