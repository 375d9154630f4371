"""`kws service`: set the always-on service up, renew it, or remove it."""

import argparse
import os
import pwd
import sys
from pathlib import Path

from kws import installer
from kws.errors import ConfigError
from kws.installer import Layout, Step


def run(options: argparse.Namespace) -> int:
    """Do, or only tell, every step."""
    installer.check_instance(options.instance)
    if options.user and os.geteuid() == 0:
        _carry_out(_as_user(options), options.dry_run)
        return 0
    layout = installer.user_layout() if options.user else installer.SYSTEM
    if not options.dry_run:
        installer.check_rights(layout)
    os.umask(0o022)  # a private one would hide the program from the service's account
    _carry_out(_steps(options, layout), options.dry_run)
    if options.action == "install" and not options.dry_run:
        _explain(options, layout)
    return 0


def _steps(options: argparse.Namespace, layout: Layout) -> list[Step]:
    if options.action == "uninstall":
        return installer.uninstall(layout, options.instance, options.purge)
    installer.check(layout)
    if options.action == "upgrade":
        return installer.upgrade(layout)
    if options.led:
        installer.check_led(layout)
    chosen = [name for name in installer.DROP_INS if getattr(options, name.removesuffix(".conf"))]
    return installer.install(layout, options.instance, chosen)


def _as_user(options: argparse.Namespace) -> list[Step]:
    """`sudo kws service ... --user`: let the user's services run without a login, then do it as that user."""
    name = os.environ.get("SUDO_USER", "root")
    if name == "root":
        raise ConfigError(
            "--user is for the user at the microphone; run it as that user, or by sudo from there"
        )
    user = pwd.getpwnam(name)
    again = [sys.executable, "-m", "kws", *sys.argv[1:]]
    environment = [f"HOME={user.pw_dir}", f"XDG_RUNTIME_DIR=/run/user/{user.pw_uid}"]
    steps = [installer.command("runuser", "-u", name, "--", "env", *environment, *again)]
    if options.action == "install":
        first = installer.command("loginctl", "enable-linger", name)
        steps = [first, installer.command("systemctl", "start", f"user@{user.pw_uid}.service"), *steps]
    return steps


def _carry_out(steps: list[Step], is_dry_run: bool) -> None:
    for step in steps:
        print(step.text, flush=True)
        if not is_dry_run:
            step.do()


def _explain(options: argparse.Namespace, layout: Layout) -> None:
    unit = f"kws@{options.instance}" if options.instance else "kws"
    user = "" if layout.is_system else "--user "
    instance = f" --instance {options.instance}" if options.instance else ""
    print(f"\nnow       {installer.status_line(layout, options.instance)}")
    print(f"settings  {layout.config(options.instance)}, then: systemctl {user}reload {unit}")
    print(f"status    {layout.program}/bin/kws status{instance}")
    print(f"log       journalctl {user}-u {unit} -f")
    name = pwd.getpwuid(os.geteuid()).pw_name
    if not layout.is_system and not Path("/var/lib/systemd/linger", name).is_file():
        print(f"It ends when {name} logs out; to run it always: sudo loginctl enable-linger {name}")
