"""Twilio's REST API: calls, and what `rest_numbers` does with the account and its numbers. Through the official SDK.

https://www.twilio.com/docs/voice/api/call-resource. Blocking: run it in a thread. Imported by number-sync only.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import cached_property
from typing import Any, Final
from urllib.parse import quote

from requests.exceptions import RequestException
from twilio.rest import Client

from offhook.events.calls import TERMINAL_STATUSES
from offhook.providers.base import AccountFacts, Dial, Dialled, Line, RestError, Seen, Settings
from offhook.providers.rest_transport import transport_error
from offhook.providers.twilio.rest_calls import TwilioCalls
from offhook.providers.twilio.rest_client import NOT_IN_PROGRESS, TwilioApi
from offhook.providers.twilio.rest_numbers import TwilioNumbers
from offhook.providers.twilio.retries import with_retries

_EVENTS: Final = ("initiated", "ringing", "answered", "completed")
_MAX_RING_S: Final = 600
_MAX_LENGTH_S: Final = 86_400
_DETECTION: Final = {"detect": "Enable", "detect-message-end": "DetectMessageEnd"}
# A call that is not in progress yet is asked for again after so long. Twilio names no time.
_TOO_EARLY_S: Final = 1.0


def call_parameters(dial: Dial) -> dict[str, Any]:
    """The arguments of the SDK's `calls.create`. All four events are asked for: by default only the last one
    comes. Who answers is found out while the call goes on: waiting for it would be seconds of silence for a person.
    """
    more: dict[str, Any] = {}
    if dial.time_limit_s is not None:
        more["time_limit"] = max(1, min(dial.time_limit_s, _MAX_LENGTH_S))
    if dial.machine_detection != "off":
        more |= {
            "machine_detection": _DETECTION[dial.machine_detection],
            "async_amd": "true",
            "async_amd_status_callback": with_retries(dial.amd_url),
            "async_amd_status_callback_method": "POST",
        }
    return {
        "to": dial.to_number,
        "from_": dial.from_number,
        "url": with_retries(dial.answer_url),
        "method": "POST",
        "fallback_url": with_retries(dial.fallback_url),
        "fallback_method": "POST",
        "status_callback": with_retries(dial.status_url),
        "status_callback_method": "POST",
        "status_callback_event": list(_EVENTS),
        "timeout": min(dial.ring_timeout_s, _MAX_RING_S),
        **more,
    }


class TwilioRest:
    """`base.Rest` for Twilio. Safe to share between threads."""

    def __init__(
        self,
        credentials: Mapping[str, str],
        base_url: str | None = None,
        timeout_s: float = 10,
        pace: Callable[[], None] | None = None,
    ) -> None:
        self._api = TwilioApi(credentials, base_url, timeout_s, pace)
        self._to_dial = self._api.client("dial")
        self._to_hang_up = self._api.client("hang-up")
        self._to_steer = self._api.client("steer")

    @cached_property
    def _numbers(self) -> TwilioNumbers:
        return TwilioNumbers(self._api)

    @cached_property
    def _calls(self) -> TwilioCalls:
        return TwilioCalls(self._api)

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
        self._update(self._to_hang_up, provider_call_id, status="completed")

    def look_at(self, provider_call_id: str) -> Seen | None:
        return self._calls.look_at(provider_call_id)

    def find(self, from_number: str, to_number: str, after: datetime, before: datetime) -> list[Seen]:
        return self._calls.find(from_number, to_number, after, before)

    def transfer(self, provider_call_id: str, document: str) -> None:
        self._update(self._to_steer, provider_call_id, twiml=document)

    def send_digits(self, provider_call_id: str, digits: str) -> None:
        raise RestError(
            "unsupported", "dtmf", "Twilio sends no keys into a call over REST: they are tones in its audio"
        )

    def _update(self, client: Client, call_sid: str, **parameters: str) -> None:
        try:
            client.calls(quote(call_sid, safe="")).update(**parameters)
        except RestError as error:
            if error.code != NOT_IN_PROGRESS:
                raise
            raise self._not_in_progress(call_sid, error) from error
        except RequestException as error:
            raise transport_error(error) from error
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            raise _unreadable() from error

    def _not_in_progress(self, call_sid: str, refusal: RestError) -> RestError:
        """The same code is said of a call that is over and of one that was not answered yet: a look tells which."""
        seen = self._calls.look_at(call_sid)
        if seen is None or seen.status in TERMINAL_STATUSES:
            return refusal
        message = f"{refusal} (the call is {seen.provider_status})"
        return RestError("too-early", refusal.code, message, _TOO_EARLY_S)

    def check(self) -> AccountFacts:
        return self._numbers.check()

    def lines(self, e164s: Sequence[str] | None = None) -> list[Line]:
        return self._numbers.lines(e164s)

    def shared(self) -> Settings:
        return {}

    def set_line(self, line: Line, settings: Settings) -> Line:
        return self._numbers.set_line(line, settings)

    def set_shared(self, settings: Settings) -> Settings:
        # There is nothing that several numbers of a Twilio account have in common.
        return {}


def _unreadable() -> RestError:
    return RestError("unknown-outcome", "unreadable", "Twilio said yes, in an answer that cannot be read")
