"""Twilio's REST API for calls, through the official SDK. https://www.twilio.com/docs/voice/api/call-resource

Blocking: run it in a thread. Imported by number-sync only.
"""

import json
import logging
from collections.abc import Mapping
from typing import Any, Final, Literal
from urllib.parse import quote

from requests.exceptions import RequestException
from twilio.http.http_client import TwilioHttpClient
from twilio.http.response import Response
from twilio.rest import Client

from offhook.providers.base import Dial, Dialled, RestError
from offhook.providers.rest_transport import (
    Operation,
    RebasedSession,
    retry_after,
    status_error,
    transport_error,
)

_EVENTS: Final = ("initiated", "ringing", "answered", "completed")
_MAX_RING_S: Final = 600

# The SDK logs every answer whole, phone numbers included, at INFO.
_silent: Final = logging.getLogger("offhook.providers.twilio.sdk")
_silent.setLevel(logging.ERROR)

_Kind = Literal["credentials", "rejected", "gone", "busy", "unavailable"]
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


def call_parameters(dial: Dial) -> dict[str, Any]:
    """The arguments of the SDK's `calls.create`. All four events are asked for: by default only the last one
    comes.
    """
    return {
        "to": dial.to_number,
        "from_": dial.from_number,
        "url": dial.answer_url,
        "method": "POST",
        "fallback_url": dial.fallback_url,
        "fallback_method": "POST",
        "status_callback": dial.status_url,
        "status_callback_method": "POST",
        "status_callback_event": list(_EVENTS),
        "timeout": min(dial.ring_timeout_s, _MAX_RING_S),
    }


def error_of(operation: Operation, status: int, headers: Mapping[str, str], text: str) -> RestError:
    """What an answer that is not a success means."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        document = None
    fields = document if isinstance(document, dict) else {}
    code = fields.get("code")
    message = f"Twilio answered {status}: {str(fields.get('message') or 'no message')[:300]}"
    kind = _KINDS.get(code) if isinstance(code, int) else None
    if kind is not None:
        return RestError(kind, str(code), message, retry_after(headers))
    return status_error(operation, status, str(code or status)[:40], message, headers)


class TwilioRest:
    """`base.Rest` for Twilio. Safe to share between threads."""

    def __init__(
        self, credentials: Mapping[str, str], base_url: str | None = None, timeout_s: float = 10
    ) -> None:
        account = credentials["account_sid"]
        with_key = bool(credentials.get("api_key_sid") and credentials.get("api_key_secret"))
        user = credentials["api_key_sid"] if with_key else account
        secret = credentials["api_key_secret"] if with_key else credentials["auth_token"]

        def client(operation: Operation) -> Client:
            http = _HttpClient(operation, base_url, timeout_s)
            return Client(user, secret, account_sid=account, http_client=http)

        self._to_dial = client("dial")
        self._to_hang_up = client("hang-up")

    def dial(self, dial: Dial) -> Dialled:
        try:
            call = self._to_dial.calls.create(**call_parameters(dial))
            call_sid, status = call.sid, call.status
        except RequestException as error:
            raise transport_error(error) from error
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            raise _unreadable() from error
        if not isinstance(call_sid, str) or not call_sid:
            raise _unreadable()
        return Dialled(call_sid, None, str(status))

    def hang_up(self, provider_call_id: str) -> None:
        try:
            self._to_hang_up.calls(quote(provider_call_id, safe="")).update(status="completed")
        except RequestException as error:
            raise transport_error(error) from error
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            raise _unreadable() from error


def _unreadable() -> RestError:
    return RestError("unknown-outcome", "unreadable", "Twilio said yes, in an answer that cannot be read")


class _HttpClient(TwilioHttpClient):  # type: ignore[misc]  # the SDK has no types
    """Sends to `base_url`; raises `RestError` itself, for the SDK's own exceptions lose the headers."""

    def __init__(self, operation: Operation, base_url: str | None, timeout_s: float) -> None:
        super().__init__(timeout=timeout_s, logger=_silent)
        self._operation: Operation = operation
        self.session = RebasedSession(base_url, timeout_s)

    def request(self, *args: Any, **options: Any) -> Response:
        response: Response = super().request(*args, **options)
        if not 200 <= response.status_code < 300:
            raise error_of(self._operation, response.status_code, response.headers or {}, response.text)
        return response
