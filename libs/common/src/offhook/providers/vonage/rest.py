"""Vonage's REST API: calls, and what `rest_settings` does with the application and the numbers. Through the official SDK.

https://developer.vonage.com/en/api/voice. Blocking: run it in a thread. Imported by number-sync only.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import cached_property
from typing import Any, Final
from urllib.parse import quote

from pydantic import ValidationError
from requests.exceptions import RequestException
from vonage_http_client.errors import HttpRequestError
from vonage_utils.errors import VonageError  # type: ignore[import-untyped]
from vonage_voice import CreateCallRequest, Voice
from vonage_voice.models import AdvancedMachineDetection, Phone, ToPhone

from offhook.events.calls import TERMINAL_STATUSES, CallStatus
from offhook.providers.base import AccountFacts, Dial, Dialled, Line, RestError, Seen, Settings
from offhook.providers.rest_transport import Operation, transport_error
from offhook.providers.vonage.numbers import from_e164
from offhook.providers.vonage.rest_calls import VonageCalls
from offhook.providers.vonage.rest_client import API_HOST, TOO_EARLY_S, VonageApi, error_of
from offhook.providers.vonage.rest_settings import VonageSettings

_MAX_RING_S: Final = 120
_MAX_LENGTH_S: Final = 86_400
# `continue`: the call goes on while Vonage listens; who answered comes as an event.
# https://developer.vonage.com/en/voice/voice-api/concepts/advanced-machine-detection
_DETECTION: Final = {"detect": "detect", "detect-message-end": "detect_beep"}
# What a call can be sent: https://developer.vonage.com/en/api/voice#startDTMF. `p` waits half a second.
_DIGITS: Final = re.compile(r"[0-9*#wW]+", re.ASCII)
_UNANSWERED: Final = frozenset({CallStatus.INITIATED, CallStatus.RINGING})


def call_parameters(dial: Dial) -> dict[str, Any]:
    """The arguments of the SDK's `CreateCallRequest`. Vonage has no fallback URL for one call: the
    application has it. Nor one for who answered: that comes with all other events.
    """
    more: dict[str, Any] = {}
    if dial.time_limit_s is not None:
        more["length_timer"] = max(1, min(dial.time_limit_s, _MAX_LENGTH_S))
    if dial.machine_detection != "off":
        more["advanced_machine_detection"] = AdvancedMachineDetection(
            behavior="continue", mode=_DETECTION[dial.machine_detection]
        )
    return {
        "to": [ToPhone(number=from_e164(dial.to_number))],
        "from_": Phone(number=from_e164(dial.from_number)),
        "answer_url": [dial.answer_url],
        "answer_method": "POST",
        "event_url": [dial.status_url],
        "event_method": "POST",
        "ringing_timer": max(1, min(dial.ring_timeout_s, _MAX_RING_S)),
        **more,
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
        self._calls = VonageCalls(self._api.by_token())

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
        self._put("hang-up", provider_call_id, "", {"action": "hangup"})

    def look_at(self, provider_call_id: str) -> Seen | None:
        return self._calls.look_at(provider_call_id)

    def find(self, from_number: str, to_number: str, after: datetime, before: datetime) -> list[Seen]:
        return self._calls.find(from_number, to_number, after, before)

    def transfer(self, provider_call_id: str, document: str) -> None:
        destination = {"type": "ncco", "ncco": json.loads(document)}
        self._put("steer", provider_call_id, "", {"action": "transfer", "destination": destination})

    def send_digits(self, provider_call_id: str, digits: str) -> None:
        if _DIGITS.fullmatch(digits) is None:
            raise RestError("rejected", "digits", "Vonage can press 0-9, * and #, and wait")
        keys = digits.lower().replace("w", "p")
        self._put("steer", provider_call_id, "/dtmf", {"digits": keys})

    def _put(self, operation: Operation, uuid: str, sub_path: str, body: Mapping[str, Any]) -> None:
        """Not through the SDK's own methods: they insist on answers in full, and on actions as its models know them."""
        try:
            path = f"/v1/calls/{quote(uuid, safe='')}{sub_path}"
            self._voice.http_client.put(API_HOST, path, dict(body))
        except RequestException as error:
            raise transport_error(error) from error
        except HttpRequestError as error:
            raise self._refusal(operation, uuid, error_of(operation, error.response)) from error
        except VonageError as error:
            raise RestError("credentials", "private-key", str(error)[:300]) from error
        except RecursionError as error:
            raise _unreadable() from error

    def _refusal(self, operation: Operation, uuid: str, refusal: RestError) -> RestError:
        """A 400 has many reasons, and its words are not documented; the state the call is in tells them apart."""
        if refusal.kind not in ("too-early", "rejected"):
            return refusal
        try:
            seen = self._calls.look_at(uuid)
        except RestError as error:
            # Refused, nothing has happened: asking again is harmless.
            return refusal if refusal.kind == "too-early" else error
        if seen is None or seen.status in TERMINAL_STATUSES:
            return RestError("gone", refusal.code, f"{refusal} (the call is over)")
        if operation == "hang-up" or seen.status in _UNANSWERED:
            message = f"{refusal} (the call is {seen.provider_status})"
            return RestError("too-early", refusal.code, message, TOO_EARLY_S)
        return refusal

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
