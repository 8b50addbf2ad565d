"""A switchboard: `1` puts the caller through at once, `2` after asking the other party, who takes the call with `1`.

Run it with `.venv/bin/python examples/switchboard_agent.py --to +15550001111`, then point a workflow at ws://127.0.0.1:8766.
"""

import argparse
import asyncio
from contextlib import suppress

from offhook_agent import Agent, Call, CallEnded, chime

agent = Agent()
destination = "+15550001111"


@agent.on_call
async def answer(call: Call) -> None:
    await call.play(chime(sample_rate=call.sample_rate))
    if call.consultation is not None:
        await ask(call)
    else:
        await connect(call)


async def connect(call: Call) -> None:
    """The caller's side. Should nobody take the call, it comes back as a new one, and the caller may choose again."""
    call.on_transfer(lambda result: print(f"{call.from_number}: nobody took the call ({result})"))
    call.on_answered_by(lambda result: print(f"{call.to_number}: a {result} picked up"))
    async for digit in call.digits():
        if digit in "12":
            with suppress(CallEnded):
                await call.transfer(destination, "cold" if digit == "1" else "warm")


async def ask(call: Call) -> None:
    """The other party's side of a warm transfer. Whoever does not press `1` within 15 seconds has declined."""
    with suppress(TimeoutError):
        async with asyncio.timeout(15):
            async for digit in call.digits():
                if digit == "1":
                    await call.join()
                    break
            async for _ in call.audio():
                pass  # until the carrier has put the two together


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--host", default="127.0.0.1")
    options.add_argument("--port", type=int, default=8766)
    options.add_argument("--to", default=destination, help="who takes the calls (E.164)")
    chosen = options.parse_args()
    destination = chosen.to
    agent.run(chosen.host, chosen.port)
