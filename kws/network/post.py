"""One HTTP POST of JSON."""

import http.client
import urllib.error
import urllib.request
from typing import Any

_AGAIN = (408, 425, 429)  # as any 5xx: later it may be well; what else is refused stays refused


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A redirected POST would arrive as a GET without its body, perhaps somewhere else."""

    def redirect_request(self, *_: Any) -> None:
        """Refuse."""
        return


_opener = urllib.request.build_opener(_NoRedirects)


def post(url: str, body: bytes, timeout_s: float) -> tuple[str | None, bool]:
    """Send it.

    Args:
        url: http or https.
        body: JSON.
        timeout_s: For the server to take it and to answer.

    Returns:
        What went wrong, None for nothing, and whether another attempt may help.
    """
    headers = {"Content-Type": "application/json", "User-Agent": "kws"}
    try:
        request = urllib.request.Request(url, body, headers)  # noqa: S310 (WebhookSettings checks it)
        with _opener.open(request, timeout=timeout_s):
            return None, False
    except urllib.error.HTTPError as error:
        error.close()
        return f"it answers {error.code} {error.reason}", error.code >= 500 or error.code in _AGAIN
    except (OSError, http.client.HTTPException, ValueError) as error:
        return f"it cannot be reached ({getattr(error, 'reason', None) or error})", True
