"""Run by Home Assistant's own Python, which has a web socket client: one command, and its answers as lines.

Arguments: address of Home Assistant, the command (JSON), and for an assist pipeline the recording to play to
it at the pace of time (WAV, 16 kHz, 16 bit, mono). The tokens of the user are in the
environment.
"""

# ruff: noqa: T201

import asyncio
import json
import os
import sys
import wave
from contextlib import suppress

import aiohttp

CHUNK_S = 0.064


async def converse(url: str, command: dict, recording: str | None) -> None:
    async with aiohttp.ClientSession() as session, session.ws_connect(f"{url}/api/websocket") as web_socket:
        await web_socket.receive_json()
        token = json.loads(os.environ["HASS_TOKENS"])["access_token"]
        await web_socket.send_json({"type": "auth", "access_token": token})
        assert (await web_socket.receive_json())["type"] == "auth_ok"
        await web_socket.send_json({"id": 1, **command})
        playing = None
        async with asyncio.timeout(50):
            while True:
                message = await web_socket.receive_json()
                if message["type"] == "result":
                    assert message["success"], message
                    if recording is None:
                        print(json.dumps(message["result"]))
                        return
                    continue
                event = message["event"]
                print(json.dumps(event))
                if event["type"] == "run-start":
                    handler = event["data"]["runner_data"]["stt_binary_handler_id"]
                    playing = asyncio.create_task(play(web_socket, handler, recording))
                if event["type"] == "run-end":
                    break
        playing.cancel()
        with suppress(asyncio.CancelledError):
            await playing


async def play(web_socket: aiohttp.ClientWebSocketResponse, handler: int, recording: str) -> None:
    """Each message is the number of the handler, one byte, and audio; without audio it is the end."""
    with wave.open(recording) as audio:
        while chunk := audio.readframes(round(CHUNK_S * audio.getframerate())):
            await web_socket.send_bytes(bytes([handler]) + chunk)
            await asyncio.sleep(CHUNK_S)
    await web_socket.send_bytes(bytes([handler]))


if __name__ == "__main__":
    asyncio.run(converse(sys.argv[1], json.loads(sys.argv[2]), sys.argv[3] if len(sys.argv) > 3 else None))
