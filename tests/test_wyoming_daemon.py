"""`wyoming:` in kws.yaml: the server as a thread of the daemon, which listens whatever becomes of it."""

import asyncio
import re
import shutil
import socket
import time

import numpy as np
import pytest
from conftest import RATE_HZ, run_python
from daemons import needs_microphone, room, running  # noqa: F401 (a fixture)
from wyoming.audio import AudioChunk
from wyoming.client import AsyncClient
from wyoming.info import Describe
from wyoming_server import ANSWER_SECONDS, chunks, names, read, say, told

from kws.manifest import MANIFEST_FILE


@pytest.fixture
def settings(toy_folder):
    return {
        "model": str(toy_folder),
        "wyoming": {"uri": "tcp://127.0.0.1:0", "models": [str(toy_folder)], "refractory_seconds": 1.0},
    }


def serving(daemon, count=1):
    """Where the daemon has said that it serves, for the `count`th time."""
    end_s = time.monotonic() + ANSWER_SECONDS
    while len(found := re.findall(r"serving at (tcp://\S+)", daemon.log.read_text())) < count:
        assert time.monotonic() < end_s, daemon.log.read_text()
        time.sleep(0.05)
    return found[-1]


def talk(uri, *what):
    async def conversation():
        async with AsyncClient.from_uri(uri) as client:
            await say(client, *what)
            return await told(client)

    return names(asyncio.run(conversation()))


def test_daemon_hears_for_others_until_it_is_reloaded_without(settings, notes):
    with running(None, settings) as daemon:
        daemon.told("READY=1")
        first = serving(daemon)
        assert talk(first, *chunks(notes)) == ["low_note", "high_note"]
        assert not daemon.heard(), "what others send is no event of the daemon"

        settings["wyoming"]["refractory_seconds"] = 5.0
        daemon.write(settings)
        daemon.ask("reload")
        second = serving(daemon, 2)
        assert talk(second, *chunks(notes)) == ["low_note"]
        with pytest.raises(ConnectionRefusedError):
            talk(first)

        daemon.write(settings | {"wyoming": None})
        daemon.ask("reload")
        with pytest.raises(ConnectionRefusedError):
            talk(second)
        assert daemon.end() == 0
        assert "Traceback" not in daemon.log.read_text()


def test_reload_serves_the_models_that_are_there_by_then(settings, toy_folder, notes, tmp_path):
    async def until_it_is_let_go(client, daemon, uri):
        await say(client, *chunks(notes))
        assert names(await told(client)) == ["low_note", "high_note"]
        await asyncio.to_thread(daemon.ask, "reload")
        await say(client, *chunks(notes))
        assert names(await told(client)) == ["low_note", "high_note"], "nothing has changed"
        renamed(folder, "low note", "deep note")
        await asyncio.to_thread(daemon.ask, "reload")
        assert await read(client) is None

    async def conversation(daemon, uri):
        async with AsyncClient.from_uri(uri) as client:
            await until_it_is_let_go(client, daemon, uri)

    folder = shutil.copytree(toy_folder, tmp_path / "model")
    settings["wyoming"]["models"] = [str(folder)]
    with running(None, settings) as daemon:
        daemon.told("READY=1")
        asyncio.run(conversation(daemon, serving(daemon)))
        new = serving(daemon, 2)
        assert words(new) == ["deep_note", "high_note"]
        assert talk(new, *chunks(notes)) == ["deep_note", "high_note"]

        shutil.rmtree(folder)
        daemon.ask("reload")
        while f"there is no model '{folder}'" not in daemon.log.read_text():
            assert daemon.status()
        shutil.copytree(toy_folder, folder)
        assert words(serving(daemon, 3)) == ["low_note", "high_note"], "what is missing is waited for"
        assert daemon.end() == 0
        assert "Traceback" not in daemon.log.read_text()


def renamed(folder, old, new):
    """Another model in the same place."""
    path = folder / MANIFEST_FILE
    path.write_text(path.read_text().replace(old, new))


def words(uri):
    """What the server offers."""

    async def asked():
        async with AsyncClient.from_uri(uri) as client:
            await say(client, Describe())
            (info,) = await told(client)
            return [model["name"] for model in info.data["wake"][0]["models"]]

    return asyncio.run(asked())


def test_settings_that_cannot_be_served_are_tried_anew_at_the_next_reload(settings, toy_folder, tmp_path):
    folder = shutil.copytree(toy_folder, tmp_path / "model")
    manifest = folder / MANIFEST_FILE
    good = manifest.read_text()
    manifest.write_text(good.replace("keywords", "keywrods"))
    settings["wyoming"]["models"] = [str(folder)]
    with running(None, settings) as daemon:
        daemon.told("READY=1")
        while "Wyoming: not served" not in daemon.log.read_text():
            assert daemon.status()
            time.sleep(0.05)
        manifest.write_text(good)
        daemon.ask("reload")
        assert words(serving(daemon)) == ["low_note", "high_note"]


def test_clients_are_let_go_when_the_daemon_ends(settings):
    async def until_the_end(daemon, uri):
        async with AsyncClient.from_uri(uri) as client:
            await say(client, Describe(), *chunks(np.zeros(RATE_HZ, np.float32)))
            assert (await read(client)).type == "info"
            code = await asyncio.to_thread(daemon.end)
            assert await read(client) is None
            return code

    with running(None, settings) as daemon:
        assert asyncio.run(until_the_end(daemon, serving(daemon))) == 0
        assert "Traceback" not in daemon.log.read_text()


@pytest.mark.system
@needs_microphone
def test_flood_of_audio_does_not_keep_the_daemon_from_its_own_microphone(room, settings, notes):  # noqa: F811
    """Four clients send hours as fast as they are taken, while words are spoken in the room."""
    minute = AudioChunk(rate=RATE_HZ, width=2, channels=1, audio=bytes(250_000))

    async def flood(uri, until):
        async def one():
            async with AsyncClient.from_uri(uri) as client:
                while not until.done():
                    await say(client, minute)

        await asyncio.gather(*(one() for _ in range(4)))

    async def speak(daemon, uri):
        spoken = asyncio.create_task(asyncio.to_thread(in_the_room, daemon))
        await asyncio.gather(spoken, flood(uri, spoken))

    def in_the_room(daemon):
        time.sleep(1)
        room.say(notes)
        daemon.wait(lambda status: status["keywords"]["high note"]["detections"])

    with running(room, settings) as daemon:
        daemon.told("READY=1")
        asyncio.run(speak(daemon, serving(daemon)))
        assert daemon.heard() == ["low note", "high note"]
        assert daemon.status()["audio"]["lost_ms"] == 0
        assert daemon.end() == 0


def test_port_that_is_taken_delays_the_server_only(settings):
    with socket.create_server(("127.0.0.1", 0)) as other:
        uri = f"tcp://127.0.0.1:{other.getsockname()[1]}"
        settings["wyoming"]["uri"] = uri
        with running(None, settings) as daemon:
            daemon.told("READY=1")
            while "trying again" not in daemon.log.read_text():
                assert daemon.status()
                time.sleep(0.05)
            other.close()
            assert serving(daemon) == uri
            assert talk(uri, Describe()) == ["info"]


def test_missing_model_does_not_keep_the_daemon_from_listening(settings):
    settings["wyoming"]["models"] = ["nothing"]
    with running(None, settings) as daemon:
        daemon.told("READY=1")
        while "there is no model 'nothing'" not in daemon.log.read_text():
            assert daemon.status()
            time.sleep(0.05)
        assert daemon.end() == 0


def test_daemon_without_it_loads_nothing_of_it(tmp_path):
    code = "import sys, kws.daemon.appliance; print(*sys.modules, sep='\\n')"
    done = run_python(code, tmp_path)
    assert done.returncode == 0, done.stderr
    assert not {"asyncio", "wyoming", "zeroconf"} & set(done.stdout.split())
