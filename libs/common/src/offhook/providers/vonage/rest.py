"""Vonage's REST API for calls, through the official SDK. https://developer.vonage.com/en/api/voice

Blocking: run it in a thread. Imported by number-sync only.
"""

import logging
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote

from jwt.exceptions import PyJWTError
from pydantic import ValidationError
from requests import Response
from requests.exceptions import RequestException
from vonage_http_client.auth import Auth
from vonage_http_client.errors import HttpRequestError
from vonage_http_client.http_client import HttpClient, HttpClientOptions
from vonage_utils.errors import VonageError  # type: ignore[import-untyped]
from vonage_voice import CreateCallRequest, Voice
from vonage_voice.models import Phone, ToPhone

from offhook.providers.base import Dial, Dialled, RestError
from offhook.providers.rest_transport import Operation, RebasedSession, status_error, transport_error
from offhook.providers.vonage.numbers import from_e164

_MAX_RING_S: Final = 120
# A call cannot be ended in the first two seconds after it was created: Vonage answers 400.
# https://api.support.vonage.com/hc/en-us/articles/10359615124380
_TOO_EARLY_S: Final = 2.0

# The SDK logs what it sends, tokens included, and whole answers.
logging.getLogger("vonage").setLevel(logging.ERROR)


def call_parameters(dial: Dial) -> dict[str, Any]:
    """The arguments of the SDK's `CreateCallRequest`. Vonage has no fallback URL for one call: the
    application has it.
    """
    return {
        "to": [ToPhone(number=from_e164(dial.to_number))],
        "from_": Phone(number=from_e164(dial.from_number)),
        "answer_url": [dial.answer_url],
        "answer_method": "POST",
        "event_url": [dial.status_url],
        "event_method": "POST",
        "ringing_timer": max(1, min(dial.ring_timeout_s, _MAX_RING_S)),
    }


def error_of(operation: Operation, response: Response) -> RestError:
    """What an answer that is not a success means. Bodies differ between Vonage's APIs: the status decides."""
    status = response.status_code
    try:
        document = response.json()
    except (ValueError, RecursionError):
        document = None
    fields = document if isinstance(document, dict) else {}
    code = str(fields.get("type") or fields.get("error-code") or status).rpartition("#")[2][:80]
    words = [fields.get(name) for name in ("title", "detail", "error_title", "error-code-label")]
    said = ": ".join(str(word) for word in words if word)[:300] or "no message"
    message = f"Vonage answered {status}: {said}"
    if status == 400 and operation == "hang-up":
        return RestError("too-early", code, message, _TOO_EARLY_S)
    return status_error(operation, status, code, message, response.headers)


class VonageRest:
    """`base.Rest` for Vonage. Safe to share between threads."""

    def __init__(
        self, credentials: Mapping[str, str], base_url: str | None = None, timeout_s: float = 10
    ) -> None:
        try:
            auth = Auth(application_id=credentials["application_id"], private_key=credentials["private_key"])
            auth.generate_application_jwt()
        except (VonageError, PyJWTError, ValueError, TypeError) as error:
            # Without the error's words: the SDK may quote the key in them.
            raise RestError("credentials", "private-key", "the private key cannot sign a token") from error
        self._voice = Voice(_HttpClient(auth, base_url, timeout_s))

    def dial(self, dial: Dial) -> Dialled:
        try:
            request = CreateCallRequest(**call_parameters(dial))
        except (ValidationError, VonageError) as error:
            raise RestError(
                "rejected", "invalid-request", f"Vonage's SDK refuses the call: {error}"[:300]
            ) from error
        try:
            call = self._voice.create_call(request)
        except RequestException as error:
            raise transport_error(error) from error
        except HttpRequestError as error:
            raise error_of("dial", error.response) from error
        except VonageError as error:
            raise RestError("credentials", "private-key", str(error)[:300]) from error
        except (ValidationError, TypeError, RecursionError) as error:
            raise _unreadable() from error
        return Dialled(call.uuid, call.conversation_uuid, call.status)

    def hang_up(self, provider_call_id: str) -> None:
        try:
            self._voice.hangup(quote(provider_call_id, safe=""))
        except RequestException as error:
            raise transport_error(error) from error
        except HttpRequestError as error:
            raise error_of("hang-up", error.response) from error
        except VonageError as error:
            raise RestError("credentials", "private-key", str(error)[:300]) from error
        except RecursionError as error:
            raise _unreadable() from error


def _unreadable() -> RestError:
    return RestError("unknown-outcome", "unreadable", "Vonage's answer cannot be read")


class _HttpClient(HttpClient):  # type: ignore[misc]  # the SDK has no types
    """The SDK's client with our session.

    `pool_maxsize` is 1 because the SDK reads it as how often to repeat a request, POST or not, whose
    connection was lost.
    """

    def __init__(self, auth: Auth, base_url: str | None, timeout_s: float) -> None:
        super().__init__(auth, HttpClientOptions(pool_maxsize=1, max_retries=0))
        self._session = RebasedSession(base_url, timeout_s)
