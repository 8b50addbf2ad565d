"""An agent that greets, listens, says back what it heard after a pause, and stops at once when interrupted.

`#` hangs up. Run it with `.venv/bin/python examples/echo_agent.py`, then point a workflow at ws://127.0.0.1:8765.
"""

import argparse
import asyncio

from offhook_agent import Agent, Call, Turn, TurnDetector, chime

agent = Agent()


@agent.on_call
async def talk(call: Call) -> None:
    keys = asyncio.create_task(hang_up_on_hash(call))
    try:
        if call.resume is None:
            await call.play(chime(sample_rate=call.sample_rate))
        turns = TurnDetector(call.sample_rate)
        heard: list[bytes] = []
        async for audio in call.audio():
            # Keep a little of what came before the turn was noticed: the first syllable is in it.
            heard = [*heard, audio] if turns.speaking else [*heard[-5:], audio]
            match turns.hear(audio):
                case Turn.STARTED:
                    await call.clear()
                case Turn.ENDED:
                    await call.play(b"".join(heard))
                    heard = []
    finally:
        keys.cancel()


async def hang_up_on_hash(call: Call) -> None:
    async for digit in call.digits():
        if digit == "#":
            await call.hang_up("the caller pressed #")


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--host", default="127.0.0.1")
    options.add_argument("--port", type=int, default=8765)
    chosen = options.parse_args()
    agent.run(chosen.host, chosen.port)
