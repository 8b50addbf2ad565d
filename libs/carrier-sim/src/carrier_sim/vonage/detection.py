"""Answering machine detection: who answered is told to the event URL.

https://developer.vonage.com/en/voice/voice-api/guides/advanced-machine-detection
"""

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from carrier_sim.callee import Callee
from carrier_sim.vonage.fields import timestamp
from carrier_sim.vonage.plan import Detection

if TYPE_CHECKING:
    from carrier_sim.vonage.call import VonageCall

# Real detection takes some seconds; tests need not.
_DETECTION_S: Final = 1.0
_BEEP_S: Final = 0.5


async def detect(call: "VonageCall", callee: Callee) -> None:
    """Find out who answered, if that was asked for. A fax is a machine."""
    wanted = call.plan.detection
    if wanted is None:
        return
    await asyncio.sleep(_DETECTION_S)
    if callee.answered_by == "human":
        _tell(call, wanted, "human")
        return
    _tell(call, wanted, "machine")
    if wanted.hangs_up:
        call.end("carrier", "machine-detected")
    elif wanted.waits_for_beep and callee.answered_by == "machine":
        await asyncio.sleep(max(0.0, callee.greeting_s - _DETECTION_S) + _BEEP_S)
        _tell(call, wanted, "machine", sub_state="beep_start")
    elif wanted.waits_for_beep:
        await asyncio.sleep(wanted.beep_timeout_s)
        _tell(call, wanted, "machine", sub_state="beep_timeout")


def _tell(call: "VonageCall", wanted: Detection, status: str, **extra: str) -> None:
    if call.plan.event is None:
        return
    fields = call.call_fields()
    if not wanted.advanced:
        # The older kind names the call otherwise: https://developer.vonage.com/en/voice/voice-api/webhook-reference
        fields["call_uuid"] = fields.pop("uuid")
    told = {"status": status, "direction": call.direction, "timestamp": timestamp(datetime.now(UTC))}
    call.post(status, call.plan.event, fields | told | extra)
