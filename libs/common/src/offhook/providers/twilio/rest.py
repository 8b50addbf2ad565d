"""Twilio's REST API: calls, and what `rest_numbers` does with the account and its numbers. Through the official SDK.

https://www.twilio.com/docs/voice/api/call-resource. Blocking: run it in a thread. Imported by number-sync only.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, Final
from urllib.parse import quote

from requests.exceptions import RequestException

from offhook.providers.base import AccountFacts, Dial, Dialled, Line, RestError, Settings
from offhook.providers.rest_transport import transport_error
from offhook.providers.twilio.rest_client import TwilioApi
from offhook.providers.twilio.rest_numbers import TwilioNumbers

_EVENTS: Final = ("initiated", "ringing", "answered", "completed")
_MAX_RING_S: Final = 600


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

    @cached_property
    def _numbers(self) -> TwilioNumbers:
        return TwilioNumbers(self._api)

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
