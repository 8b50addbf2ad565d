"""Serve phone calls with a voice agent.

    from offhook_agent import Agent, Call

    agent = Agent()

    @agent.on_call
    async def answer(call: Call) -> None:
        async for audio in call.audio():
            await call.play(audio)

    agent.run(port=8765)

The media-bridge dials the agent's WebSocket for every call and speaks `offhook.pcm.v1` (docs/agent-protocol.md).
"""

from offhook_agent.agent import Agent
from offhook_agent.call import Call, CallEnded, Consultation, RequestRefused
from offhook_agent.tones import chime
from offhook_agent.turns import Turn, TurnDetector

__all__ = [
    "Agent",
    "Call",
    "CallEnded",
    "Consultation",
    "RequestRefused",
    "Turn",
    "TurnDetector",
    "chime",
]
