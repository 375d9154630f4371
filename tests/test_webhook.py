"""Webhooks against a real HTTP server: what arrives, what is tried again, what is given up."""

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from kws.errors import ConfigError
from kws.network.webhook import LIMIT, Webhook, WebhookSettings

EVENT = {"event": "detection", "keyword": "computer", "score": 0.9, "id": "1"}


class Web(ThreadingHTTPServer):
    """Answers with `codes` in turn, then 200."""

    daemon_threads = True

    def __init__(self):
        self.codes, self.got = [], []
        self.is_free = threading.Event()
        self.is_free.set()
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}/api/webhook/SECRET"


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.got.append((self.path, self.headers["Content-Type"], json.loads(body)))
        self.server.is_free.wait(10)
        self.send_response(self.server.codes.pop(0) if self.server.codes else 200)
        self.send_header("Location", "/elsewhere")
        self.end_headers()

    def do_GET(self):
        self.server.got.append((self.path, "GET", None))

    def log_message(self, *_):
        pass


@pytest.fixture
def web():
    with Web() as web:
        threading.Thread(target=web.serve_forever).start()
        yield web
        web.is_free.set()
        web.shutdown()


@pytest.fixture
def webhook():
    hooks = []

    def make(url, **more):
        hooks.append(Webhook(WebhookSettings(url, **more)))
        return hooks[-1]

    yield make
    for hook in hooks:
        hook.close()


def wait_for(condition, seconds=10):
    end_s = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end_s
        time.sleep(0.01)


def test_an_event_arrives_as_json(web, webhook):
    hook = webhook(web.url, keywords=("computer",))
    hook.put(EVENT)
    hook.put(EVENT | {"keyword": "alexa"})
    hook.put(EVENT | {"event": "near-miss"})
    hook.put(EVENT | {"id": "2"})
    wait_for(lambda: len(web.got) == 2)
    assert web.got[0] == ("/api/webhook/SECRET", "application/json", EVENT)
    assert web.got[1][2]["id"] == "2"


def test_a_server_in_trouble_is_asked_again(web, webhook):
    web.codes = [503, 429]
    webhook(web.url).put(EVENT)
    wait_for(lambda: len(web.got) == 3)
    assert {body["id"] for _, _, body in web.got} == {"1"}


@pytest.mark.parametrize("code", [301, 307, 404, 403])
def test_a_refusal_is_final_and_names_no_secret(web, webhook, caplog, code):
    web.codes = [code]
    hook = webhook(web.url)
    hook.put(EVENT)
    wait_for(lambda: f"it answers {code}" in caplog.text)
    hook.put(EVENT | {"id": "2"})
    wait_for(lambda: len(web.got) == 2)
    assert web.got[1][2]["id"] == "2"
    assert "SECRET" not in caplog.text


def test_a_server_that_is_not_there_costs_one_line(webhook, caplog):
    hook = webhook("http://127.0.0.1:1/", retry_seconds=2.0)
    hook.put(EVENT)
    wait_for(lambda: "given up" in caplog.text)
    assert "Connection refused" in caplog.text
    assert len(caplog.records) == 1


def test_a_server_that_hangs_holds_nobody_up(web, webhook):
    web.is_free.clear()
    hook = webhook(web.url, timeout_seconds=0.2, retry_seconds=0.0)
    start_s = time.monotonic()
    for number in range(10 * LIMIT):
        hook.put(EVENT | {"id": str(number)})
    assert time.monotonic() - start_s < 1
    wait_for(lambda: len(web.got) >= 2)  # the first was given up
    hook.close()


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"url": "file:///etc/passwd"}, "url must begin"),
        ({"url": "http://"}, "url must begin"),
        ({"url": "http://x:port/"}, "url must begin"),
        ({"url": "http://x/\nHost: y"}, "url must begin"),
        ({"timeout_seconds": 0.0}, "timeout_seconds"),
        ({"retry_seconds": -1.0}, "retry_seconds"),
    ],
)
def test_settings_that_cannot_be_meant(settings, complaint):
    with pytest.raises(ConfigError, match=complaint):
        WebhookSettings(**{"url": "http://x/"} | settings)
