"""When a command is tried again. Pure; the table is the policy.

An Originate may be tried again only when the provider has surely not accepted it: `unknown-outcome` is not in its
row. Ending a call that has ended is harmless, so a HangUp may always be tried again.
"""

from collections.abc import Mapping
from typing import Final, Literal

Kind = Literal[
    "credentials",
    "rejected",
    "unsupported",
    "gone",
    "too-early",
    "busy",
    "unavailable",
    "unknown-outcome",
    "not-ended",
]

# Seconds to wait before each further attempt; after the last one the command has failed.
_BACKOFF: Final = (1.0, 2.0, 4.0, 8.0, 16.0)
# Whoever waits for a look at a call asks again by himself.
_LOOK: Final = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
# Vonage refuses to end a call within about two seconds of its creation.
_SOON: Final = (0.7, 0.7, 1.0, 1.0, 1.0, 2.0, 2.0, 4.0, 8.0)

_RETRIES: Final[Mapping[str, Mapping[str, tuple[float, ...]]]] = {
    "originate": {"busy": _BACKOFF, "unavailable": _BACKOFF},
    "hangup": {"too-early": _SOON, "busy": _BACKOFF, "unavailable": _BACKOFF, "unknown-outcome": _BACKOFF},
    "observe": {"busy": _LOOK, "unavailable": _LOOK, "unknown-outcome": _LOOK},
    # Not after `unknown-outcome`: a phone might ring twice, or a key be pressed twice.
    "transfer": {"too-early": _SOON, "busy": _BACKOFF, "unavailable": _BACKOFF},
    "dtmf": {"too-early": _SOON, "busy": _SOON, "unavailable": _SOON},
    "give-back": {
        "too-early": _SOON,
        "busy": _BACKOFF,
        "unavailable": _BACKOFF,
        "unknown-outcome": _BACKOFF,
    },
    "confirm": {
        "too-early": _SOON,
        "busy": _LOOK,
        "unavailable": _LOOK,
        "unknown-outcome": _LOOK,
        "not-ended": (2.0, 4.0, 8.0, 16.0),
    },
}
_LONGEST_S: Final = 60.0


def delay_s(command: str, kind: str, attempts: int, retry_after_s: float | None) -> float | None:
    """How long to wait before trying again after `attempts` earlier attempts and this one; None: give up.

    The provider's `Retry-After` is honoured where it is longer, up to a minute.
    """
    waits = _RETRIES[command].get(kind, ())
    if attempts >= len(waits):
        return None
    return min(max(waits[attempts], retry_after_s or 0.0), _LONGEST_S)
