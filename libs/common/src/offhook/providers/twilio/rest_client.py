"""Requests to Twilio's REST API through the official SDK, and what its refusals mean.

Blocking: run it in a thread. Imported by number-sync only. https://www.twilio.com/docs/usage/requests-to-twilio
"""

import logging
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal

from requests.exceptions import RequestException
from twilio.http.http_client import TwilioHttpClient
from twilio.http.response import Response
from twilio.rest import Client

from offhook.providers.base import RestError
from offhook.providers.rest_transport import (
    Operation,
    RebasedSession,
    is_markup,
    json_object,
    retry_after,
    status_error,
    transport_error,
    unreadable,
)

_HOST: Final = "https://api.twilio.com"

# The SDK logs every answer whole, phone numbers included, at INFO.
_silent: Final = logging.getLogger("offhook.providers.twilio.sdk")
_silent.setLevel(logging.ERROR)

_Kind = Literal["credentials", "rejected", "gone", "busy", "unavailable"]
NOT_IN_PROGRESS: Final = "21220"
# https://www.twilio.com/docs/api/errors: where the code says more than the HTTP status.
_KINDS: Final[dict[int, _Kind]] = {
    10001: "credentials",  # account is not active
    10004: "busy",  # too many concurrent calls
    20003: "credentials",
    20005: "credentials",  # account not active
    20006: "credentials",  # access denied
    20008: "credentials",  # test credentials on a live resource
    20429: "busy",
    20503: "unavailable",
    21220: "gone",  # call is not in progress
}


def error_of(operation: Operation, status: int, headers: Mapping[str, str], text: str) -> RestError:
    """What an answer that is not a success means."""
    fields = json_object(text) or {}
    code = fields.get("code")
    message = f"Twilio answered {status}: {str(fields.get('message') or 'no message')[:300]}"
    kind = _KINDS.get(code) if isinstance(code, int) else None
    if kind is not None:
        return RestError(kind, str(code), message, retry_after(headers))
    if operation in ("read", "write") and status in (400, 403, 404) and is_markup(text):
        return unreadable(operation, f"an answer {status} with a web page in place of Twilio's words")
    return status_error(operation, status, str(code or status)[:40], message, headers)


class TwilioApi:
    """One account's way to the API: with the API key where there is one, or with the Auth Token."""

    def __init__(
        self,
        credentials: Mapping[str, str],
        base_url: str | None,
        timeout_s: float,
        pace: Callable[[], None] | None,
    ) -> None:
        self.account: Final = credentials["account_sid"]
        self.has_key: Final = bool(credentials.get("api_key_sid") and credentials.get("api_key_secret"))
        self._by_token = (self.account, credentials["auth_token"])
        self._by_key = (
            (credentials["api_key_sid"], credentials["api_key_secret"]) if self.has_key else self._by_token
        )
        self._network = (base_url, timeout_s, pace)

    def client(self, operation: Operation, *, by_token: bool = False) -> Client:
        """The SDK. It raises `RestError` for every answer that is not a success."""
        user, secret = self._by_token if by_token else self._by_key
        http = _HttpClient(operation, *self._network)
        return Client(user, secret, account_sid=self.account, http_client=http)


def ask(
    client: Client,
    operation: Operation,
    method: Literal["GET", "POST"],
    path: str,
    *,
    params: Mapping[str, str] | None = None,
    data: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """One request, its answer raw: the SDK's models drop what they do not know, and fail on odd dates. `path` begins
    with a slash. Raises `RestError`."""
    try:
        response = client.request(method, _HOST + path, params=params, data=data)
    except RequestException as error:
        raise transport_error(error, operation) from error
    document = json_object(response.text)
    if document is None:
        raise unreadable(operation, "Twilio's answer is not a JSON object")
    return document


class _HttpClient(TwilioHttpClient):  # type: ignore[misc]  # the SDK has no types
    """Sends to `base_url`; raises `RestError` itself, for the SDK's own exceptions lose the headers."""

    def __init__(
        self, operation: Operation, base_url: str | None, timeout_s: float, pace: Callable[[], None] | None
    ) -> None:
        super().__init__(timeout=timeout_s, logger=_silent)
        self._operation: Operation = operation
        self.session = RebasedSession(base_url, timeout_s, pace)

    def request(self, *args: Any, **options: Any) -> Response:
        response: Response = super().request(*args, **options)
        if not 200 <= response.status_code < 300:
            raise error_of(self._operation, response.status_code, response.headers or {}, response.text)
        return response
