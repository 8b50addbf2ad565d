"""Why media sessions end."""

from dataclasses import dataclass
from typing import Final

from offhook.events import Party


@dataclass(frozen=True, slots=True)
class Ending:
    """Why a session is over. `reason` stands in `MediaStopped`, `told_agent` in the agent's `stop`."""

    reason: str
    ended_by: Party
    told_agent: str
    words: str = ""


# The documented reasons of MediaStopped.
CARRIER_STOP: Final = Ending("carrier-stop", Party.CARRIER, "caller-hangup")
CARRIER_CLOSED: Final = Ending("carrier-closed", Party.CARRIER, "caller-hangup")
CARRIER_LOST: Final = Ending("carrier-lost", Party.CARRIER, "carrier-lost")
CARRIER_SILENT: Final = Ending("carrier-silent", Party.CARRIER, "carrier-lost")
CARRIER_PROTOCOL: Final = Ending("carrier-protocol", Party.CARRIER, "carrier-lost")
AGENT_UNREACHABLE: Final = Ending("agent-unreachable", Party.PLATFORM, "shutdown")
SUPERSEDED: Final = Ending("superseded", Party.PLATFORM, "superseded")
SHUTDOWN: Final = Ending("shutdown", Party.PLATFORM, "shutdown")
HANG_UP_ORDERED: Final = Ending("hang-up-ordered", Party.PLATFORM, "caller-hangup")
AGENT_JOINED: Final = Ending("agent-joined", Party.AGENT, "transfer")


def agent_hangup(words: str) -> Ending:
    return Ending("agent-hangup", Party.AGENT, "agent-hangup", words)
