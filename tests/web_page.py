"""Run by Home Assistant's own Python: a page of it in a headless Chromium, as its user sees it.

Arguments: Chromium, address of Home Assistant, path of the page, PNG file to write. The tokens of the user
are in the environment. Prints the text of the page.
"""

# ruff: noqa: T201

import asyncio
import base64
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import aiohttp

SIZE = "1100,1500"
DRAWING_S = 20.0  # no event tells that a page made of web components is complete
TEXT = """
(function text(node) {
  if (node.nodeType === Node.TEXT_NODE) return node.textContent.trim() + "\\n";
  if (["STYLE", "SCRIPT"].includes(node.nodeName)) return "";
  return [...(node.shadowRoot ? node.shadowRoot.childNodes : []), ...node.childNodes].map(text).join("");
})(document.body)
"""


class Chromium:
    """One page of it, by the DevTools protocol."""

    def __init__(self, web_socket: aiohttp.ClientWebSocketResponse) -> None:
        self._web_socket, self._count = web_socket, 0

    async def do(self, method: str, **parameters: object) -> dict:
        self._count += 1
        await self._web_socket.send_json({"id": self._count, "method": method, "params": parameters})
        while (answer := await self._web_socket.receive_json()).get("id") != self._count:
            pass
        return answer["result"]


async def look(address: str, url: str, path: str, picture: Path) -> None:
    tokens = json.loads(os.environ["HASS_TOKENS"])
    tokens |= {"hassUrl": url, "clientId": f"{url}/", "expires": 32503680000000}
    async with (
        aiohttp.ClientSession() as session,
        session.put(f"http://{address}/json/new?{url}/manifest.json") as page,
        session.ws_connect((await page.json())["webSocketDebuggerUrl"], max_msg_size=0) as web_socket,
    ):
        chromium = Chromium(web_socket)
        await asyncio.sleep(2)
        signed_in = f"localStorage.setItem('hassTokens', {json.dumps(json.dumps(tokens))})"
        await chromium.do("Runtime.evaluate", expression=signed_in)
        await chromium.do("Page.navigate", url=f"{url}/{path}")
        await asyncio.sleep(DRAWING_S)
        text = await chromium.do("Runtime.evaluate", expression=TEXT)
        print(re.sub(r"\s*\n\s*", "\n", text["result"]["value"]))
        drawn = await chromium.do("Page.captureScreenshot", format="png")
        picture.write_bytes(base64.b64decode(drawn["data"]))


def main(program: str, url: str, path: str, picture: str) -> None:
    with tempfile.TemporaryDirectory() as profile:
        options = ["--headless=new", "--no-sandbox", "--disable-gpu", f"--window-size={SIZE}"]
        options += ["--remote-debugging-port=0", f"--user-data-dir={profile}", "about:blank"]
        with subprocess.Popen([program, *options], stderr=subprocess.PIPE, text=True) as browser:
            try:
                told = next(found for line in browser.stderr if (found := re.search(r"ws://([^/]+)/", line)))
                asyncio.run(look(told[1], url, path, Path(picture)))
            finally:
                browser.kill()


if __name__ == "__main__":
    main(*sys.argv[1:])
