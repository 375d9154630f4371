"""The service as it is shipped: its units, and what the installer would do."""

import grp
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

from kws import installer, program
from kws.cli import main
from kws.errors import KwsError

SERVICE = ROOT / "service"
SYSTEM_UNITS = ("kws.service", "kws@.service")
USER_UNITS = ("user/kws.service", "user/kws@.service")
needs_analyze = pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="needs systemd-analyze")


def analyze(*arguments, home):
    return subprocess.run(
        ["systemd-analyze", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"XDG_RUNTIME_DIR": str(home)},
    )


@pytest.fixture
def unit(tmp_path):
    """Copy a shipped unit to where its program exists."""

    def copy(name):
        text = (SERVICE / name).read_text()
        path = tmp_path / Path(name).name
        path.write_text(re.sub(r"(?m)^ExecStart=\S+", f"ExecStart={sys.executable}", text))
        return path

    return copy


@needs_analyze
@pytest.mark.parametrize("name", [*SYSTEM_UNITS, *USER_UNITS])
def test_systemd_has_nothing_to_say_about_a_unit(unit, name, tmp_path):
    # The exit code says little: an unknown key is a message and 0.
    whose = "--user" if name in USER_UNITS else "--system"
    done = analyze(whose, "verify", unit(name), home=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def exposure(done):
    """What a service could do, by systemd's own measure, 0 to 10."""
    return float(re.search(r"exposure level for \S+: ([0-9.]+)", done.stdout)[1])


@needs_analyze
@pytest.mark.parametrize("name", SYSTEM_UNITS)
def test_service_may_do_little(unit, name, tmp_path):
    done = analyze("security", "--offline=true", "--threshold=10", unit(name), home=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert exposure(done) <= 1.0


@needs_analyze
def test_drop_in_opens_the_network_and_nothing_else(unit, tmp_path):
    path = unit("kws.service")
    closed = analyze("security", "--offline=true", path, home=tmp_path)
    (tmp_path / "kws.service.d").mkdir()
    shutil.copy(SERVICE / "network.conf", tmp_path / "kws.service.d")
    assert analyze("verify", path, home=tmp_path).stderr == ""
    opened = analyze("security", "--offline=true", path, home=tmp_path)

    def open_doors(done):
        return {line.split()[1] for line in done.stdout.splitlines() if line.startswith("✗")}

    assert open_doors(opened) - open_doors(closed) == {
        "PrivateNetwork=",
        "IPAddressDeny=",
        "RestrictAddressFamilies=~AF_(INET|INET6)",
    }


@needs_analyze
@pytest.mark.parametrize("name", SYSTEM_UNITS)
def test_drop_in_for_lamps_opens_the_pins_and_nothing_else(unit, name, tmp_path):
    path = unit(name)
    closed = exposure(analyze("security", "--offline=true", path, home=tmp_path))
    (tmp_path / f"{name}.d").mkdir()
    shutil.copy(SERVICE / "led.conf", tmp_path / f"{name}.d")
    assert analyze("verify", path, home=tmp_path).stderr == ""
    assert exposure(analyze("security", "--offline=true", path, home=tmp_path)) == closed
    assert settings((SERVICE / "led.conf").read_text()) == [
        "[Service]",
        "SupplementaryGroups=gpio",
        "DeviceAllow=char-gpiochip rw",
    ]


@pytest.mark.parametrize("folder", [".", "user"])
def test_template_is_the_service_with_names_of_its_own(folder):
    one, many = ((SERVICE / folder / name).read_text() for name in SYSTEM_UNITS)
    many = (
        many.replace("wake words, %i", "wake words").replace("kws-%i", "kws").replace("%i.yaml", "kws.yaml")
    )
    assert settings(many) == settings(one)


def settings(text):
    return [line for line in text.splitlines() if not line.startswith("#")]


def test_every_setting_stands_on_a_line_of_its_own():
    # systemd takes a comment at the end of a line as part of the value.
    for name in (*SYSTEM_UNITS, *USER_UNITS, *installer.DROP_INS):
        assert not [line for line in settings((SERVICE / name).read_text()) if "#" in line or ";" in line]


@pytest.fixture
def layout(tmp_path, monkeypatch):
    """A machine's places, in a folder; the program may be copied from anywhere."""
    monkeypatch.setattr(installer.program, "distributions", list)
    return installer.Layout(
        program=tmp_path / "opt" / "kws",
        configs=tmp_path / "etc" / "kws",
        units=tmp_path / "units",
        states=(tmp_path / "lib", tmp_path / "lib" / "private"),
        rules=tmp_path / "rules",
        systemctl=("systemctl",),
    )


def do(steps):
    for step in steps:
        step.do()


def test_program_of_a_checkout_can_be_copied(tmp_path):
    try:
        importlib.metadata.distribution("kws")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("kws runs from its source here, nobody has installed it")
    program.copy(tmp_path / "kws-1")
    program.link(tmp_path / "kws", tmp_path / "kws-1")
    listen = [
        tmp_path / "kws" / "bin" / "kws",
        "listen",
        "--source",
        ROOT / "models" / "default" / "example.flac",
    ]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(listen, capture_output=True, text=True, check=False, cwd=tmp_path, env=environment)
    assert (done.returncode, done.stderr, done.stdout.count("\n")) == (0, "", 3)
    packages = {path.name for path in tmp_path.glob("kws-1/lib/python3*/site-packages/*")}
    assert {"kws", "numpy", "onnxruntime"} <= packages
    assert not packages & {"torch", "onnx", "pytest", "pip"}


def test_first_installation_names_every_file_and_command(layout):
    steps = [step.text for step in installer.install(layout)]
    copy = re.fullmatch(rf"copy to {layout.program}-\S+-\d+: ", steps[1])
    assert copy
    assert [steps[0], *steps[2:7]] == [
        f"write {layout.configs}/kws.yaml",
        f"write {layout.units}/kws.service",
        f"write {layout.units}/kws@.service",
        f"write {layout.rules}/70-kws-power.rules",
        f"link {layout.program} to {steps[1].split('/')[-1].removesuffix(': ')}",
        "systemctl daemon-reload",
    ]
    assert steps[-1] == "systemctl enable --now kws.service"
    assert not layout.units.exists()  # naming is not doing


def test_configuration_is_written_once(layout):
    layout.configs.mkdir(parents=True)
    (layout.configs / "kitchen.yaml").write_text("model: mine")
    steps = installer.install(layout, "kitchen")
    assert steps[0].text == f"keep {layout.configs}/kitchen.yaml"
    steps[0].do()
    assert (layout.configs / "kitchen.yaml").read_text() == "model: mine"
    assert installer.install(layout, "hall")[0].text == f"write {layout.configs}/hall.yaml"


@pytest.mark.parametrize("option", ["network", "led"])
def test_sandbox_is_opened_only_when_asked_for(layout, option, monkeypatch, capsys):
    monkeypatch.setattr(installer, "SYSTEM", layout)
    monkeypatch.setattr(installer, "check", lambda _: None)
    monkeypatch.setattr(grp, "getgrall", lambda: [grp.struct_group(("gpio", "x", 986, []))])

    def steps(*options):
        assert main(["service", "install", "--dry-run", *options]) == 0
        return {line for line in capsys.readouterr().out.splitlines() if line.startswith("write ")}

    assert steps(f"--{option}") - steps() == {
        f"write {layout.units}/{unit}.d/{option}.conf" for unit in SYSTEM_UNITS
    }


def test_rights_that_systemd_cannot_give_are_not_installed(layout, monkeypatch, capsys):
    monkeypatch.setattr(installer, "SYSTEM", layout)
    monkeypatch.setattr(installer, "check", lambda _: None)
    monkeypatch.setattr(grp, "getgrall", list)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert main(["service", "install", "--led", "--dry-run"]) == 1
    assert "no group gpio that may use /dev/gpiochip*; make it" in capsys.readouterr().err
    assert main(["service", "install", "--led", "--user", "--dry-run"]) == 1
    assert "run: sudo usermod -aG gpio $USER" in capsys.readouterr().err


def test_program_folder_of_somebody_else_is_left_alone(layout):
    layout.program.mkdir(parents=True)
    with pytest.raises(KwsError, match="not a link that kws has made; move it away"):
        installer.install(layout)


def test_nothing_to_upgrade(layout):
    with pytest.raises(KwsError, match="run: kws service install"):
        installer.upgrade(layout)


def test_uninstalling_leaves_settings_and_state_unless_purged(layout):
    folders = [layout.configs, layout.states[0] / "kws", layout.program.parent / "kws-0.1.0-1700000000"]
    other = layout.program.parent / "kws-models"
    for folder in [*folders, other, layout.units]:
        folder.mkdir(parents=True)
    (layout.units / "kws.service").touch()
    for unit in SYSTEM_UNITS:
        (layout.units / f"{unit}.d").mkdir()
        for drop_in in installer.DROP_INS:
            (layout.units / f"{unit}.d" / drop_in).touch()
    (layout.units / "kws.service.d" / "override.conf").touch()  # of `systemctl edit`
    layout.program.symlink_to(folders[2].name)
    plain = [step.text for step in installer.uninstall(layout)]
    assert plain == [
        "systemctl stop kws.service 'kws@*.service'",
        "systemctl disable kws.service",
        f"remove {layout.units}/kws.service",
        f"remove {layout.units}/kws.service.d/network.conf",
        f"remove {layout.units}/kws.service.d/led.conf",
        f"remove {layout.units}/kws@.service.d",
        "systemctl daemon-reload",
        f"remove {layout.program}",
        f"remove {folders[2]}",
    ]
    purged = installer.uninstall(layout, is_purge=True)
    assert {step.text for step in purged} - set(plain) == {f"remove {folder}" for folder in folders[:2]}
    do(step for step in purged if step.text.startswith("remove"))
    assert not any(path.exists() for path in [*folders, layout.program])
    assert other.exists()


def test_folder_of_drop_ins_goes_that_was_emptied_by_hand(layout):
    empty = layout.units / "kws.service.d"
    empty.mkdir(parents=True)
    assert f"remove {empty}" in [step.text for step in installer.uninstall(layout)]


def test_uninstalling_an_instance_leaves_the_others(layout):
    for name in ("kitchen", "hall"):
        link = layout.units / "multi-user.target.wants" / f"kws@{name}.service"
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(layout.units / "kws@.service")
    (layout.units / "kws@.service").touch()
    assert [step.text for step in installer.uninstall(layout, "kitchen")] == [
        "systemctl stop kws@kitchen.service",
        "systemctl disable kws@kitchen.service",
    ]
    steps = [step.text for step in installer.uninstall(layout)]
    assert steps[1] == "systemctl disable kws.service kws@hall.service kws@kitchen.service"


def test_user_s_service_is_in_his_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("XDG_CONFIG_HOME", "XDG_STATE_HOME"):
        monkeypatch.delenv(name, raising=False)
    layout = installer.user_layout()
    assert not layout.is_system
    assert layout.units == tmp_path / ".config" / "systemd" / "user"
    unit = (SERVICE / "user" / "kws.service").read_text()
    program = layout.program.relative_to(tmp_path)
    assert f"ExecStart=%h/{program}/bin/python -m kws run --config %E/kws/kws.yaml" in unit


@pytest.mark.parametrize("python", ["/root/.pyenv/bin/python3", "/home/pi/venv/bin/python"])
def test_python_in_a_home_is_refused_for_a_system_service(layout, python, monkeypatch):
    monkeypatch.setattr(installer.program, "base_python", lambda: Path(python))
    with pytest.raises(KwsError, match=r"may not look into a home.*/usr/bin/python3 -m venv"):
        installer.check(layout)


def test_installing_needs_root(layout, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(KwsError, match=r"needs root.*sudo"):
        installer.check_rights(layout)


@pytest.mark.parametrize("name", ["kws", "../x", "a b", "living room", ""])
def test_instance_needs_a_name_that_systemd_takes(name, capsys):
    assert main(["service", "install", "--instance", name, "--dry-run"]) == 2
    assert "is no name; use letters" in capsys.readouterr().err


def test_failed_start_puts_the_old_program_back(layout, tmp_path, monkeypatch):
    log = tmp_path / "log"
    systemctl = tmp_path / "systemctl"
    # It fails as long as the link names the new program.
    systemctl.write_text(
        f"#!/bin/sh\necho $* '->' $(readlink {layout.program}) >> {log}\n"
        f"case $1 in list-units) echo kws.service loaded active;; "
        f"restart) readlink {layout.program} | grep -q 1700000000;; esac\n"
    )
    systemctl.chmod(0o755)
    layout = installer.Layout(**(vars(layout) | {"systemctl": (str(systemctl),)}))
    old = layout.program.with_name("kws-0.1.0-1700000000")
    (old / "bin").mkdir(parents=True)
    layout.program.symlink_to(old.name)
    layout.units.mkdir()
    (layout.units / "kws.service").write_text("old")
    monkeypatch.setattr(installer.program, "copy", lambda folder: (folder / "bin").mkdir(parents=True))
    steps = installer.upgrade(layout)
    with pytest.raises(
        KwsError, match=r"restart kws.service failed; .*; until then the old program runs again"
    ):
        do(steps)
    assert layout.program.resolve() == old
    assert (layout.units / "kws.service").read_text() == "old"
    assert log.read_text().splitlines()[-1] == f"restart kws.service -> {old.name}"


def test_dry_run_needs_neither_root_nor_systemd(monkeypatch, capsys, layout):
    monkeypatch.setattr(installer, "SYSTEM", layout)
    monkeypatch.setattr(installer, "check", lambda _: None)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert main(["service", "install", "--dry-run"]) == 0
    assert "systemctl enable --now kws.service" in capsys.readouterr().out
    assert not layout.units.exists()
    assert main(["service", "install"]) == 1
    assert "needs root" in capsys.readouterr().err


def test_root_sets_a_user_s_service_up_as_that_user(monkeypatch, capsys):
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setenv("SUDO_USER", "games")
    assert main(["service", "install", "--user", "--dry-run"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "loginctl enable-linger games"
    assert lines[2].startswith("runuser -u games -- env HOME=/usr/games XDG_RUNTIME_DIR=/run/user/5 ")
    monkeypatch.delenv("SUDO_USER")
    assert main(["service", "install", "--user", "--dry-run"]) == 2
