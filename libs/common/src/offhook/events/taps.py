"""What is told on `telephony.media-taps.v1`: the audio of calls whose workflow is recorded, a second at a time.

A *stream* is one audio connection of a carrier to a bridge; a call has a further one when the bridge or its connection
was lost. Seconds of a stream are numbered; a number that never comes is a gap. Both channels are what was to be heard
on the line: the agent's is what the caller heard, without what a `clear` took back.
"""

import base64
from datetime import datetime
from typing import ClassVar, Final, Literal

from pydantic import Field

from offhook.events.calls import CallEventData

TAP_MS: Final = 1000
"""What one record holds; the last one of a stream holds less."""

# A second of 16-bit PCM at 24 kHz, in base64.
_MAX_CHARS: Final = 64_000


class AudioTap(CallEventData):
    """One second of one stream. `offset_ms` is since the stream's start, which was at `started_at` by the bridge's clock.

    `caller` and `agent` are base64 (RFC 4648, section 4) of `duration_ms` of mono audio each, mu-law or 16-bit
    little-endian PCM, as the carrier's stream has it. `last`: the stream ended with this one, in order.
    """

    TYPE: ClassVar[str] = "media.audio-tap.v1"
    epoch: int = Field(ge=0)
    stream_id: str = Field(max_length=200)
    index: int = Field(ge=0)
    offset_ms: int = Field(ge=0)
    duration_ms: int = Field(ge=0, le=TAP_MS)
    started_at: datetime
    encoding: Literal["mulaw", "pcm_s16le"]
    sample_rate: Literal[8000, 16000, 24000]
    caller: str = Field(max_length=_MAX_CHARS)
    agent: str = Field(max_length=_MAX_CHARS)
    last: bool = False

    @property
    def caller_audio(self) -> bytes:
        """Raises `ValueError` when it is not base64."""
        return base64.b64decode(self.caller, validate=True)

    @property
    def agent_audio(self) -> bytes:
        """Raises `ValueError` when it is not base64."""
        return base64.b64decode(self.agent, validate=True)
