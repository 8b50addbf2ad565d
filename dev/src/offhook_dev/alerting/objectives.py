"""What is promised, and the alerts on how fast the promise is being broken.

An objective allows a share of bad events; that share of a month is its error budget. An alert fires when the budget burns so
fast that it matters, seen over a long window (so that it is no blip) and a short one (so that it stops soon after the cause).
Method and figures: https://sre.google/workbook/alerting-on-slos/ (multiple windows, multiple burn rates).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from offhook_dev.alerting.alert import Alert, Severity


@dataclass(frozen=True, slots=True)
class Objective:
    """Of what `everything` counts, the share `promised` is `good`; both are PromQL rates over 5 minutes, without labels.

    `fast` is the severity of burning a month's budget within two days. `at_least` bad ones must have been within the long
    window: one bad call in a quiet night wakes nobody.
    """

    name: str
    title: str
    promise: str
    promised: float
    good: str
    everything: str
    page: str
    fast: Severity
    at_least: int = 5

    @property
    def budget(self) -> float:
        """The share that may be bad."""
        return round(1 - self.promised, 6)

    def ratio(self, window: str) -> str:
        """The recorded share of bad events over a window of `WINDOWS`."""
        return f"offhook:{self.name}:bad_ratio:{window}"


def _within(metric: str, seconds: str, selector: str = "") -> str:
    labels = ",".join(part for part in (selector, f'le="{seconds}"') if part)
    return f"sum(rate({metric}_bucket{{{labels}}}[5m]))"


def _count(metric: str) -> str:
    return f"sum(rate({metric}_count[5m]))"


OBJECTIVES: Final = (
    Objective(
        "webhooks", "Webhooks",
        "99.9 % of the providers' requests are answered within 1 s, and do not fail.", 0.999,
        _within("offhook_webhook_seconds", "1.0", 'outcome!="failed"'), _count("offhook_webhook_seconds"),
        "webhooks", "page",
    ),
    Objective(
        "calls", "Calls",
        "99.5 % of the calls end without a fault of the platform.", 0.995,
        'sum(rate(offhook_call_ends_total{fault!="platform"}[5m]))', "sum(rate(offhook_call_ends_total[5m]))",
        "calls", "page",
    ),
    Objective(
        "instructions", "Instructions",
        "99 % of the calls have their instructions within 0.1 s of the provider's question.", 0.99,
        _within("offhook_instructions_seconds", "0.1"), _count("offhook_instructions_seconds"),
        "webhooks", "ticket",
    ),
    Objective(
        "audio", "Audio",
        "99 % of the time the bridge holds audio back for no more than 10 ms.", 0.99,
        _within("offhook_media_held_seconds", "0.01"), _count("offhook_media_held_seconds"),
        "audio", "page",
    ),
    Objective(
        "records", "Records",
        "99 % of the events are in the call's record, and so in the API, within 0.5 s.", 0.99,
        _within("offhook_call_event_age_seconds", "0.5"), _count("offhook_call_event_age_seconds"),
        "records", "ticket",
    ),
)  # fmt: skip

WINDOWS: Final = ("5m", "30m", "1h", "2h", "6h", "1d", "3d")
_SECONDS: Final = {"1h": 3600, "6h": 21600, "1d": 86400, "3d": 259200}
# (how many times too fast, long window, short window): 2 % and 5 % of the month's budget gone; 10 % and 10 %.
_FAST: Final = ((14.4, "1h", "5m"), (6.0, "6h", "30m"))
_SLOW: Final = ((3.0, "1d", "2h"), (1.0, "3d", "6h"))


def recording_rules() -> Iterator[dict[str, Any]]:
    """Rates of all and of bad events, and the share of bad ones over each window, computed from these rates."""
    for objective in OBJECTIVES:
        prefix = f"offhook:{objective.name}"
        yield {"record": f"{prefix}:all:rate5m", "expr": objective.everything}
        good = f"({objective.good} or vector(0))"
        yield {"record": f"{prefix}:bad:rate5m", "expr": f"clamp_min({objective.everything} - {good}, 0)"}
        for window in WINDOWS:
            yield {
                "record": objective.ratio(window),
                "expr": f"avg_over_time({prefix}:bad:rate5m[{window}]) / avg_over_time({prefix}:all:rate5m[{window}])",
            }


def burn_alerts() -> Iterator[Alert]:
    """Two alerts for each objective: the budget burns fast, the budget burns slowly."""
    for objective in OBJECTIVES:
        name = objective.title
        yield Alert(
            f"{name}ObjectiveBurnsFast", _burning(objective, _FAST), "2m", objective.fast, objective.page,
            f"{objective.promise} Now so many are bad that the month's allowance is gone within days.",
        )  # fmt: skip
        yield Alert(
            f"{name}ObjectiveBurnsSlowly", _burning(objective, _SLOW), "15m", "ticket", objective.page,
            f"{objective.promise} If it goes on like this, the month's allowance will not last.",
        )  # fmt: skip


def _burning(objective: Objective, speeds: tuple[tuple[float, str, str], ...]) -> str:
    parts = []
    for times, long, short in speeds:
        limit = f"{times * objective.budget:.6g}"
        bad = f"avg_over_time(offhook:{objective.name}:bad:rate5m[{long}]) * {_SECONDS[long]}"
        parts.append(
            f"({objective.ratio(long)} > {limit} and {objective.ratio(short)} > {limit}"
            f" and {bad} >= {objective.at_least})"
        )
    return "\nor\n".join(parts)
