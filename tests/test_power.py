"""Power on fake machines: which figure is told, of which kind, and why not a better one."""

from pathlib import Path

import pytest

from kws.power import Power


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


ZERO_2_W = {
    "proc/device-tree/model": "Raspberry Pi Zero 2 W Rev 1.0\0",
    "proc/stat": "cpu  1000 0 1000 38000 0 0 0 0 0 0\ncpu0 0\ncpu1 0\ncpu2 0\ncpu3 0\nintr 0\n",
}


def test_board_without_meter_is_estimated_from_the_table(tmp_path):
    report = Power(root=tree(tmp_path, ZERO_2_W)).report(cpu_s_per_s=0.01)
    # 5 % of 4 cores are 0.2 busy cores; a busy core adds (2.3 - 0.5) / 4 = 0.45 W.
    assert report["machine"]["watts"] == pytest.approx(0.5 + 0.2 * 0.45)
    assert report["daemon"]["watts"] == pytest.approx(0.01 * 0.45)
    assert report["machine"]["kind"] == report["daemon"]["kind"] == "estimated"
    assert report["energy_per_day_wh"]["daemon"] == pytest.approx(24 * 0.0045)
