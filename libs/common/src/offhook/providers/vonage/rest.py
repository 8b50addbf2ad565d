"""Vonage's REST API: calls, and what `rest_settings` does with the application and the numbers. Through the official SDK.

https://developer.vonage.com/en/api/voice. Blocking: run it in a thread. Imported by number-sync only.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, Final
from urllib.parse import quote

from pydantic import ValidationError
from requests.exceptions import RequestException
from vonage_http_client.errors import HttpRequestError
from vonage_utils.errors import VonageError  # type: ignore[import-untyped]
from vonage_voice import CreateCallRequest, Voice
from vonage_voice.models import Phone, ToPhone

from offhook.providers.base import AccountFacts, Dial, Dialled, Line, RestError, Settings
from offhook.providers.rest_transport import transport_error
from offhook.providers.vonage.numbers import from_e164
from offhook.providers.vonage.rest_client import VonageApi, error_of
from offhook.providers.vonage.rest_settings import VonageSettings

_MAX_RING_S: Final = 120


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


class VonageRest:
    """`base.Rest` for Vonage. Safe to share between threads. Raises `RestError` when the private key cannot sign."""

    def __init__(
        self,
        credentials: Mapping[str, str],
        base_url: str | None = None,
        timeout_s: float = 10,
        pace: Callable[[], None] | None = None,
    ) -> None:
        self._api = VonageApi(credentials, base_url, timeout_s, pace)
        self._voice = Voice(self._api.by_token())

    @cached_property
    def _settings(self) -> VonageSettings:
        return VonageSettings(self._api)

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

    def check(self) -> AccountFacts:
        return self._settings.check()

    def lines(self, e164s: Sequence[str] | None = None) -> list[Line]:
        return self._settings.lines(e164s)

    def shared(self) -> Settings:
        return self._settings.shared()

    def set_line(self, line: Line, settings: Settings) -> Line:
        return self._settings.set_line(line, settings)

    def set_shared(self, settings: Settings) -> Settings:
        return self._settings.set_shared(settings)


def _unreadable() -> RestError:
    return RestError("unknown-outcome", "unreadable", "Vonage's answer cannot be read")
