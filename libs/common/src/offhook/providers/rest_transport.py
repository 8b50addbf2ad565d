"""What the vendors' SDKs have in common underneath: `requests`, its trust in certificates, and its failures.

Imported by the `rest` modules, and by who wants to know their `answers`. TLS certificates are always checked. `requests` reads
`REQUESTS_CA_BUNDLE` itself; here `SSL_CERT_FILE`, which everything else on a machine reads, is honoured as
well.
"""

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from email.utils import parsedate_to_datetime
from typing import Any, Final, Literal
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from requests.exceptions import (
    ConnectionError as RequestsConnectionError,
)
from requests.exceptions import (
    ConnectTimeout,
    InvalidURL,
    ProxyError,
    RequestException,
)
from urllib3.exceptions import HTTPError, MaxRetryError, NewConnectionError
from urllib3.exceptions import SSLError as TlsError

from offhook.providers.base import RestError

Operation = Literal["dial", "hang-up", "steer", "read", "write"]
"""What is asked for. `steer` gives a live call other instructions, or keys. `read` and `write` may be repeated without
harm: `write` is about settings, not about calls."""

UNREADABLE: Final = "answer-unreadable"
NO_ANSWER: Final = "no-answer"

_POOL: Final = 16
_BUNDLES: Final = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
# Longer is not waited for a connection: nothing has been asked yet, so asking again is harmless.
_CONNECT_TIMEOUT_S: Final = 5.0
# A page of a thousand Twilio numbers has about 1.5 MB. More than this nobody has to tell us.
_MAX_ANSWER_BYTES: Final = 16 * 1024 * 1024
# A server that sends a byte a second is never silent: the whole answer must be there within so many timeouts.
_ANSWER_TIMEOUTS: Final = 3.0
_CHUNK_BYTES: Final = 64 * 1024
_MAX_RETRY_AFTER_S: Final = 3600.0


def rebased(url: str, base_url: str | None) -> str:
    """`url` with scheme, host and port replaced by those of `base_url` (and its path put in front)."""
    if base_url is None:
        return url
    parts = urlsplit(url)
    return base_url.rstrip("/") + parts.path + (f"?{parts.query}" if parts.query else "")


_answers: ContextVar[list[int] | None] = ContextVar("answers", default=None)


@contextmanager
def answers() -> Iterator[list[int]]:
    """The statuses of the answers to what this thread asks meanwhile, in order: nobody else is told of those that were
    understood."""
    heard: list[int] = []
    token = _answers.set(heard)
    try:
        yield heard
    finally:
        _answers.reset(token)


class RebasedSession(requests.Session):
    """A session that asks `base_url` in place of the vendor's host, with our timeouts, and that never repeats
    a request by itself: a repeated request to dial is a second phone that rings.

    `pace` is called before every request that leaves. Answers are bounded in size and in time.
    """

    def __init__(
        self, base_url: str | None, timeout_s: float, pace: Callable[[], None] | None = None
    ) -> None:
        super().__init__()
        self._base_url = base_url
        self._pace = pace
        self._answer_s = timeout_s * _ANSWER_TIMEOUTS
        self._timeouts = (min(timeout_s, _CONNECT_TIMEOUT_S), timeout_s)
        self.mount("https://", HTTPAdapter(pool_maxsize=_POOL, max_retries=0))
        self.mount("http://", HTTPAdapter(pool_maxsize=_POOL, max_retries=0))
        bundle = os.environ.get("SSL_CERT_FILE")
        if bundle and not any(os.environ.get(name) for name in _BUNDLES):
            self.verify = bundle

    # Both SDKs come through these two.
    def prepare_request(self, request: requests.Request) -> requests.PreparedRequest:
        request.url = rebased(str(request.url), self._base_url)
        return super().prepare_request(request)

    def send(self, request: requests.PreparedRequest, **options: Any) -> requests.Response:
        if self._pace is not None:
            self._pace()
        options |= {"timeout": self._timeouts, "allow_redirects": False, "stream": True}
        response = super().send(request, **options)
        with response:
            self._read(response)
        if (heard := _answers.get()) is not None:
            heard.append(response.status_code)
        return response

    def _read(self, response: requests.Response) -> None:
        until = time.monotonic() + self._answer_s
        content = bytearray()
        try:
            while chunk := response.raw.read1(_CHUNK_BYTES, decode_content=True):
                content += chunk
                if len(content) > _MAX_ANSWER_BYTES:
                    raise RequestException(f"an answer of more than {_MAX_ANSWER_BYTES} bytes")
                if time.monotonic() > until:
                    raise RequestException(f"the answer was not complete after {self._answer_s:.0f} s")
        except HTTPError as error:
            raise RequestsConnectionError(error) from error
        # Where `Response.content` keeps what it has read.
        response._content = bytes(content)
        response._content_consumed = True


def transport_error(error: RequestException, operation: Operation = "dial") -> RestError:
    """What a request without an answer means: never sent, or sent and its outcome unknown."""
    about_calls = operation in ("dial", "hang-up", "steer")
    code = type(error).__name__ if about_calls else NO_ANSWER
    if isinstance(error, InvalidURL | ConnectTimeout | ProxyError) or _was_never_sent(error):
        return RestError("unavailable", code, f"the provider cannot be reached: {_short(error)}")
    return RestError(
        "unavailable" if operation == "read" else "unknown-outcome",
        code,
        f"the provider's answer was lost: {_short(error)}",
    )


def unreadable(operation: Operation, message: str) -> RestError:
    """What an answer that nobody can read means. After a `write` the next look tells what came of it."""
    return RestError("unavailable" if operation == "read" else "unknown-outcome", UNREADABLE, message)


def json_object(text: str) -> dict[str, Any] | None:
    """The JSON object an answer consists of; None when it is anything else."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


def is_markup(text: str) -> bool:
    """Whether this is a page for a browser. The vendors' APIs answer JSON or nothing: somebody else answered."""
    return text.lstrip("\ufeff \t\r\n")[:1] == "<"


def status_error(
    operation: Operation, status: int, code: str, message: str, headers: Mapping[str, str]
) -> RestError:
    """What an HTTP status means where the vendor's own error code says no more.

    A server that fails while it dials may have dialled. Not even 503 says that it has not begun: proxies
    answer so when the server behind them goes away in the middle of a request. Where a vendor's own error
    code says it, the vendor's module knows.
    """
    retry_after_s = retry_after(headers)
    if operation in ("read", "write"):
        return _settings_error(operation, status, code, message, retry_after_s)
    if status in (401, 403):
        return RestError("credentials", code, message)
    if status == 404:
        return RestError("rejected" if operation == "dial" else "gone", code, message)
    if status == 429:
        return RestError("busy", code, message, retry_after_s)
    if status >= 500 and operation == "hang-up":
        return RestError("unavailable", code, message, retry_after_s)
    if status >= 500 or status < 400:
        return RestError("unknown-outcome", code, message)
    return RestError("rejected", code, message)


def _settings_error(
    operation: Operation, status: int, code: str, message: str, retry_after_s: float | None
) -> RestError:
    if status < 400:
        return unreadable(operation, message)
    if status in (401, 403):
        return RestError("credentials", code, message)
    if status == 404:
        return RestError("gone", code, message)
    if status == 429:
        return RestError("busy", code, message, retry_after_s)
    if status >= 500 or status == 408:
        return RestError("unavailable", code, message, retry_after_s)
    return RestError("rejected", code, message)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """`Retry-After` in seconds, 0 to an hour. A date counts from the answer's own `Date`. RFC 9110, 10.2.3"""
    text = (headers.get("Retry-After") or headers.get("retry-after") or "").strip()
    if text.isascii() and text.isdigit():
        return min(float(text), _MAX_RETRY_AFTER_S) if len(text) < 10 else _MAX_RETRY_AFTER_S
    until, now = _moment(text), _moment(headers.get("Date") or headers.get("date") or "")
    if until is None or now is None:
        return None
    return min(max(until - now, 0.0), _MAX_RETRY_AFTER_S)


def _moment(text: str) -> float | None:
    try:
        return parsedate_to_datetime(text).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None


def _was_never_sent(error: RequestException) -> bool:
    if not isinstance(error, RequestsConnectionError) or not error.args:
        return False
    cause = error.args[0]
    # Without retries of its own, urllib3 wraps in MaxRetryError what fails before the request is sent.
    reason = cause.reason if isinstance(cause, MaxRetryError) else cause
    return isinstance(reason, NewConnectionError) or (
        isinstance(reason, TlsError) and "CERTIFICATE_VERIFY_FAILED" in str(reason)
    )


def _short(error: Exception) -> str:
    """The reason alone: around it the libraries write the URL, with the account and the number in it."""
    cause = error.args[0] if error.args else error
    reason = cause.reason if isinstance(cause, MaxRetryError) and cause.reason is not None else cause
    text = str(reason)
    # "HTTPSConnection(host='api.example.com', port=443): Failed to …"
    head, separator, said = text.partition("): ")
    return (said if separator and "Connection" in head else text)[:200]
