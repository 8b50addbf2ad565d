"""What a Vonage call was set up with."""

from dataclasses import dataclass
from typing import Any, Literal

from carrier_sim.vonage.applications import Webhook


@dataclass(frozen=True, slots=True)
class Source:
    """Where instructions come from: a webhook, or an NCCO that is there already."""

    webhook: Webhook | None = None
    actions: Any = None


@dataclass(frozen=True, slots=True)
class Detection:
    """Answering machine detection. `beep`: also tell when the machine's beep is heard. `advanced`: the newer kind, whose
    events carry `uuid` where the older kind's carry `call_uuid`.
    """

    hangs_up: bool = False
    advanced: bool = False
    mode: Literal["default", "detect", "detect_beep"] = "default"
    beep_timeout_s: float = 45.0

    @property
    def waits_for_beep(self) -> bool:
        return self.mode == "detect_beep"


@dataclass(frozen=True, slots=True)
class Plan:
    """What the call was set up with. `event` None: nobody is told."""

    source: Source
    fallback: Webhook | None
    event: Webhook | None
    ring_timeout_s: float = 60.0
    time_limit_s: float = 7200.0
    detection: Detection | None = None
    send_digits: str = ""
