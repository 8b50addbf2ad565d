"""The person on the phone: a script of steps, and how it is played on a line."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from carrier_sim import audio
from carrier_sim.line import Line


@dataclass(frozen=True, slots=True)
class Say:
    """Speak: a WAV file (16-bit), or so many seconds of speech-like sound (the same for the same `seed`)."""

    what: float | str | Path = 2.0
    seed: int | None = None

    def pcm(self, sample_rate: int, default_seed: int) -> bytes:
        if isinstance(self.what, int | float):
            seed = default_seed if self.seed is None else self.seed
            return audio.speech(float(self.what), sample_rate, seed)
        return audio.read_wav(Path(self.what), sample_rate)


@dataclass(frozen=True, slots=True)
class Wait:
    """Say nothing for so many seconds."""

    seconds: float = 1.0


@dataclass(frozen=True, slots=True)
class WaitForAgent:
    """Wait until the agent has spoken and then been quiet for `quiet_s`; give up after `timeout_s`, which the report shows."""

    quiet_s: float = 0.7
    timeout_s: float = 20.0


@dataclass(frozen=True, slots=True)
class Press:
    """Press keys: `0`-`9`, `*`, `#`, and `w` for half a second's pause."""

    digits: str = "1"


@dataclass(frozen=True, slots=True)
class Beep:
    """A plain tone of `hz` for so many seconds, as machines make them."""

    seconds: float = 0.4
    hz: float = 1000.0


@dataclass(frozen=True, slots=True)
class BargeIn:
    """Wait until the agent has been speaking for `after_s`, then speak over it for `seconds`."""

    after_s: float = 0.6
    seconds: float = 1.0
    timeout_s: float = 20.0


@dataclass(frozen=True, slots=True)
class HangUp:
    """Put the phone down."""


@dataclass(frozen=True, slots=True)
class StayUntilHungUp:
    """Stay on the line until the other side ends the call, at most `max_s` seconds."""

    max_s: float = 60.0


Step = Say | Wait | WaitForAgent | Press | Beep | BargeIn | HangUp | StayUntilHungUp


def _default_steps() -> tuple[Step, ...]:
    return (WaitForAgent(timeout_s=8.0), Say(2.0), WaitForAgent(), HangUp())


@dataclass(frozen=True, slots=True)
class Caller:
    """What the person on the phone does once the line is open; after the last step they hang up.

    `at_once`: they begin when they pick up, and wait for nobody at the other end, as machines do.
    """

    steps: Sequence[Step] = field(default_factory=_default_steps)
    seed: int = 1
    at_once: bool = False

    @classmethod
    def from_data(cls, data: Any) -> "Caller":
        """Read a script as configuration files hold it: a list of steps, each a name or a mapping of one name.

        `[{wait_for_agent: {quiet_s: 1}}, {say: 2.5}, {say: hello.wav}, {press: "12#"}, hang_up]`
        """
        if data is None:
            return cls()
        seed, at_once = 1, False
        if isinstance(data, dict):
            seed, at_once = int(data.get("seed", 1)), bool(data.get("at_once", False))
            data = data.get("steps")
        if not isinstance(data, list):
            raise ValueError(f"a caller's script is a list of steps, got {type(data).__name__}")
        return cls(steps=tuple(_step(item) for item in data), seed=seed, at_once=at_once)


_STEPS: dict[str, type[Step]] = {
    "say": Say,
    "wait": Wait,
    "wait_for_agent": WaitForAgent,
    "press": Press,
    "beep": Beep,
    "barge_in": BargeIn,
    "hang_up": HangUp,
    "stay_until_hung_up": StayUntilHungUp,
}


def _step(item: Any) -> Step:
    name, value = (item, None) if isinstance(item, str) else next(iter(item.items()))
    kind = _STEPS.get(name)
    if kind is None:
        raise ValueError(f"unknown step {name!r}; known: {', '.join(_STEPS)}")
    if value is None:
        return kind()
    if isinstance(value, dict):
        known = {f.name for f in fields(kind)}
        if unknown := set(value) - known:
            raise ValueError(
                f"step {name}: unknown {', '.join(sorted(unknown))}; known: {', '.join(sorted(known))}"
            )
        return _make(kind, value)
    if not fields(kind):
        raise ValueError(f"step {name} takes no value, got {value!r}")
    return _make(kind, {fields(kind)[0].name: str(value) if kind is Press else value})


def _make(kind: Callable[..., Step], values: dict[str, Any]) -> Step:
    return kind(**values)


Ending = Literal["hung-up", "script-ended", "gave-up-waiting-for-the-end"]


async def play(caller: Caller, line: Line) -> Ending:
    """Play the script on an open line; returns when the person puts the phone down. Cancelled when the other
    side ends the call.
    """
    for index, step in enumerate(caller.steps):
        match step:
            case Say():
                await line.say(step.pcm(line.sample_rate, caller.seed * 1000 + index))
            case Wait(seconds):
                await line.pause(seconds)
            case WaitForAgent(quiet_s, timeout_s):
                if not await line.wait_for_agent(quiet_s, timeout_s):
                    line.report.unmet.append(
                        f"step {index + 1}: no words from the agent within {timeout_s:g} s"
                    )
            case Press(digits):
                for digit in digits:
                    await line.press(digit)
            case Beep(seconds, hz):
                await line.say(audio.tone(seconds, hz, line.sample_rate))
            case BargeIn(after_s, seconds, timeout_s):
                pcm = audio.speech(seconds, line.sample_rate, caller.seed * 1000 + index)
                if not await line.barge_in(pcm, after_s, timeout_s):
                    line.report.unmet.append(f"step {index + 1}: the agent did not speak for {after_s:g} s")
            case HangUp():
                return "hung-up"
            case StayUntilHungUp(max_s):
                await line.pause(max_s)
                line.report.unmet.append(f"step {index + 1}: the call was not ended within {max_s:g} s")
                return "gave-up-waiting-for-the-end"
    return "script-ended"
