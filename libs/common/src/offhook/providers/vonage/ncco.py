"""NCCO: what Vonage shall do with a call. https://developer.vonage.com/en/voice/voice-api/ncco-reference

A JSON array of actions. There is no action to hang up or to reject: a call ends when its actions end.
"""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from offhook.identities import is_id
from offhook.providers.base import InstructionError
from offhook.providers.vonage.numbers import from_e164, to_e164

CONTENT_TYPE: Final = "application/json"
SAMPLE_RATES: Final = (8000, 16000, 24000)
MAX_TEXT: Final = 1000
MAX_RING_S: Final = 120
# https://developer.vonage.com/en/voice/voice-api/concepts/websockets
MAX_HEADERS: Final = 512
# They would hide the fields of the first message, into which the headers are flattened.
_RESERVED_HEADERS: Final = frozenset({"event", "content-type"})


def sample_rate_for(wish: int) -> int:
    """The lowest rate Vonage has that is not below `wish`, else its highest. In Hz."""
    return next((rate for rate in SAMPLE_RATES if rate >= wish), SAMPLE_RATES[-1])


def connect_websocket(media_url: str, sample_rate: int, headers: Mapping[str, str], event_url: str) -> bytes:
    """Connect the call's audio to `media_url`, both ways.

    The synchronous event URL is what lets a call outlive its bridge: Vonage posts `disconnected` there when
    the socket was closed, and takes a new NCCO from the answer. `headers` come back in the first message.
    Raises `InstructionError`.
    """
    if sample_rate not in SAMPLE_RATES:
        raise InstructionError(f"a sample rate of {sample_rate} Hz: Vonage has {SAMPLE_RATES}")
    if _RESERVED_HEADERS & headers.keys():
        raise InstructionError(
            f"headers named {sorted(_RESERVED_HEADERS & headers.keys())} collide with Vonage's own"
        )
    size = len(msgspec.json.encode(headers))
    if size > MAX_HEADERS:
        raise InstructionError(f"headers of {size} bytes: Vonage takes at most {MAX_HEADERS}")
    endpoint = {
        "type": "websocket",
        "uri": media_url,
        "content-type": f"audio/l16;rate={sample_rate}",
        "headers": headers,
        # Vonage then signs the upgrade as it signs webhooks.
        "authorization": {"type": "vonage"},
    }
    return _document(
        {
            "action": "connect",
            "eventType": "synchronous",
            "eventUrl": [event_url],
            "eventMethod": "POST",
            "endpoint": [endpoint],
        }
    )


def connect_phone(to: str, from_number: str, ring_timeout_s: int, event_url: str) -> bytes:
    """Dial another party and connect the two. All events of that party's leg go to `event_url`; because it is
    synchronous, the answer to one that says the party was not reached may be a new NCCO. Raises `InstructionError`."""
    for number in (to, from_number):
        if not to_e164(from_e164(number)).startswith("+"):
            raise InstructionError(f"not an E.164 number: {number[:40]!r}")
    return _document(
        {
            "action": "connect",
            "from": from_e164(from_number),
            "timeout": max(1, min(ring_timeout_s, MAX_RING_S)),
            "eventType": "synchronous",
            "eventUrl": [event_url],
            "eventMethod": "POST",
            "endpoint": [{"type": "phone", "number": from_e164(to)}],
        }
    )


def conversation(name: str, *, starts: bool, music_url: str | None = None) -> bytes:
    """Enter a named conversation of the application, which ends when whoever came through this leaves; it begins when
    somebody enters with `starts`. Until then Vonage plays `music_url`. Raises `InstructionError`."""
    if not is_id(name):
        raise InstructionError(f"a conversation is named like a run; got {name[:80]!r}")
    action = {"action": "conversation", "name": name, "startOnEnter": starts, "endOnExit": True}
    if music_url is not None:
        action["musicOnHoldUrl"] = [music_url]
    return _document(action)


def notify(event_url: str) -> bytes:
    """Tell `event_url`, which may answer with a new NCCO; without one the call ends.

    https://developer.vonage.com/en/voice/voice-api/ncco-reference#notify
    """
    return _document({"action": "notify", "payload": {}, "eventUrl": [event_url], "eventMethod": "POST"})


def say_and_hang_up(text: str, language: str) -> bytes:
    """Speak at most 1000 characters of `text`; the call ends with the last action."""
    action = {"action": "talk", "text": text[:MAX_TEXT].encode("utf-8", "replace").decode()}
    # A BCP-47 tag such as `en-US`; without one Vonage speaks American English.
    if language and len(language) <= 16 and language.replace("-", "").isalnum() and language.isascii():
        action["language"] = language
    return _document(action)


def hang_up() -> bytes:
    """No action: the call ends. Also the most silent refusal there is; whether it is billed is not
    documented."""
    return _document()


def _document(*actions: dict[str, Any]) -> bytes:
    return msgspec.json.encode(actions)
