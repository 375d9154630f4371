"""A real Home Assistant core: started, set up and asked as its user does, by its own web server.

`KWS_TEST_HASS` names its program; docs/home-assistant.md says how to install it.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

PROGRAM = os.environ.get("KWS_TEST_HASS") or None

needs_home_assistant = pytest.mark.skipif(
    PROGRAM is None, reason="KWS_TEST_HASS names no hass, see docs/home-assistant.md (What was tried)"
)

AUTOMATIONS = "automations.yaml"
_CONFIGURATION = """
homeassistant: {{name: Test, country: GB, time_zone: Europe/London}}
http: {{server_host: 127.0.0.1, server_port: {port}}}
logger: {{default: warning, logs: {{kws_test: info}}}}
frontend:
config:
automation: !include automations.yaml
"""
_START_S, _REQUEST_S = 300.0, 60.0  # its first start writes byte code


class HomeAssistant:
    """Home Assistant with a configuration of its own in `folder`."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.url, self._folder = f"http://127.0.0.1:{port}", folder
        self.tokens: dict[str, Any] = {}
        """Of a user that has signed in, as the web page keeps them."""
        (folder / "configuration.yaml").write_text(_CONFIGURATION.format(port=port))
        (folder / AUTOMATIONS).write_text("[]\n")
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "HomeAssistant":
        try:
            self.start()
            self._sign_up()
        except BaseException:
            self.end(signal.SIGKILL)
            raise
        return self

    def __exit__(self, *_: Any) -> None:
        self.end(signal.SIGKILL)

    def start(self) -> None:
        """Returns when it has started entirely."""
        command = [str(PROGRAM), "-c", str(self._folder), "--skip-pip"]
        with (self._folder / "output").open("ab") as output:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        self._until(self._has_started, "its start", _START_S)

    def end(self, number: int = signal.SIGTERM) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(30)
        self._process = None

    @property
    def log(self) -> str:
        """Warnings, errors, and what automations write as `kws_test`, of all its starts."""
        return (self._folder / "output").read_text()

    def wait_for_line(self, text: str) -> str:
        """The first line of the log with this text."""
        self._until(lambda: text in self.log, text, 30)
        return next(line for line in self.log.splitlines() if text in line)

    def _has_started(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self.log
        with suppress(OSError):
            if not self.tokens:
                return bool(self.request("api/onboarding"))
            return bool(self.request("api/config")["state"] == "RUNNING")
        return False

    def _sign_up(self) -> None:
        """What its first page asks for."""
        client = {"client_id": f"{self.url}/"}
        user = {"name": "Ada", "username": "ada", "password": "ada", "language": "en"}
        code = self.request("api/onboarding/users", client | user)["auth_code"]
        form = urllib.parse.urlencode(client | {"grant_type": "authorization_code", "code": code}).encode()
        with urllib.request.urlopen(f"{self.url}/auth/token", form, _REQUEST_S) as answer:  # noqa: S310
            self.tokens = json.load(answer)
        with suppress(OSError):  # done, but then it wants to add a weather forecast and radio stations
            self.request("api/onboarding/core_config", client)
        self.request("api/onboarding/analytics", client)
        self.request("api/onboarding/integration", client | {"redirect_uri": f"{self.url}/"})
        self._until(self._has_started, "its start", _START_S)

    def request(self, path: str, body: Any = None) -> Any:
        """GET, or POST of JSON; OSError when it is refused."""
        request = urllib.request.Request(f"{self.url}/{path}")  # noqa: S310
        if body is not None:
            request.data = json.dumps(body).encode()
            request.add_header("Content-Type", "application/json")
        if self.tokens:
            request.add_header("Authorization", f"Bearer {self.tokens['access_token']}")
        try:
            with urllib.request.urlopen(request, timeout=_REQUEST_S) as answer:  # noqa: S310
                text = answer.read().decode()
        except urllib.error.HTTPError as error:
            raise OSError(f"{path}: {error.code} {error.read().decode()}") from None
        return json.loads(text) if text[:1] in '{["' else text

    def integrate(self, name: str, **answers: Any) -> None:
        """Settings, Devices & services, Add integration."""
        flow = self.request("api/config/config_entries/flow", {"handler": name})
        done = self.request(f"api/config/config_entries/flow/{flow['flow_id']}", answers)
        assert done["type"] == "create_entry", done

    def automate(self, name: str, **automation: Any) -> None:
        """Settings, Automations, Create automation; what exists under that name is replaced."""
        automation |= {"alias": name, "mode": "single"}
        self.request(f"api/config/automation/config/{name}", automation)

    def include(self, automations: str) -> None:
        """The file of automations, and Developer tools, YAML, Automations."""
        (self._folder / AUTOMATIONS).write_text(automations)
        self.call("automation.reload")

    def call(self, service: str, **data: Any) -> None:
        """Developer tools, Actions; `service` is e.g. switch.turn_on."""
        self.request(f"api/services/{service.replace('.', '/')}", data)

    def render(self, template: str) -> str:
        """Developer tools, Template."""
        return str(self.request("api/template", {"template": template}))

    def states(self) -> dict[str, dict[str, Any]]:
        """Of all entities: `state` and `attributes`."""
        return {each["entity_id"]: each for each in self.request("api/states")}

    def wait(self, entity: str, condition: Callable[[str], Any], seconds: float = 30) -> dict[str, Any]:
        """The entity, as soon as its state is as wanted."""
        found: dict[str, Any] = {}

        def is_found() -> bool:
            nonlocal found
            found = self.states().get(entity, {})
            return bool(found and condition(found["state"]))

        self._until(is_found, entity, seconds)
        return found

    def ask(self, command: dict[str, Any], *recording: Path) -> list[dict[str, Any]]:
        """Answer to a command of its web socket, and with a recording the events until its end."""
        told = self._run("web_socket.py", self.url, json.dumps(command), *map(str, recording))
        return [json.loads(line) for line in told.splitlines()]

    def look(self, path: str, picture: Path) -> str:
        """Text of a page in a browser; `picture` becomes a PNG of it."""
        return self._run("web_page.py", str(shutil.which("chromium")), self.url, path, str(picture))

    def _run(self, script: str, *arguments: str) -> str:
        """What a script beside this file prints, run by the Python of Home Assistant."""
        assert PROGRAM is not None
        python, path = Path(PROGRAM).with_name("python"), Path(__file__).with_name(script)
        environment = os.environ | {"HASS_TOKENS": json.dumps(self.tokens), "HOME": str(self._folder)}
        done = subprocess.run(
            [python, path, *arguments],
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def _until(self, condition: Callable[[], bool], what: str, seconds: float) -> None:
        end_s = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end_s, f"waited {seconds} s for {what}: {self.log}"
            time.sleep(0.2)
