"""One alert, and the idioms of the expressions alerts are made of."""

from dataclasses import dataclass
from typing import Literal

Severity = Literal["page", "ticket"]
"""`page` wakes somebody: callers are being hurt, or will be within the hour. `ticket` is for the next working day."""


@dataclass(frozen=True, slots=True)
class Alert:
    """`expr` is PromQL and holds for `for_` before anybody is told. `page` is the runbook `docs/runbooks/<page>.md`, in which
    the alert has a heading. `summary` may use `{{ $labels.… }}`.
    """

    name: str
    expr: str
    for_: str
    severity: Severity
    page: str
    summary: str

    @property
    def runbook(self) -> str:
        """Path of the runbook below the repository's root, with its anchor."""
        return f"docs/runbooks/{self.page}.md#{self.name.lower()}"


def happened(series: str, within: str, by: str = "") -> str:
    """The counter `series` was incremented within this time. A counter that appears is at 1 already, and its first increment
    is no increase in Prometheus' eyes: the second half is for that.
    """
    group = f"sum by ({by})" if by else "sum"
    return (
        f"{group} (increase({series}[{within}])) > 0"
        f" or {group} ({series} unless {series} offset {within}) > 0"
    )


def quantile(q: float, metric: str, *, selector: str = "", by: str = "", over: str = "5m") -> str:
    """A quantile of the histogram `metric` over all processes, for each `by`."""
    groups = f"le, {by}" if by else "le"
    return f"histogram_quantile({q:g}, sum by ({groups}) (rate({metric}_bucket{selector}[{over}])))"


def share(part: str, whole: str, *, by: str = "", over: str = "10m", at_least: float = 0.02) -> str:
    """Which share of the counter `whole` the counter `part` is, where there are at least so many a second."""
    group = f"sum by ({by})" if by else "sum"
    total = f"{group} (rate({whole}[{over}]))"
    return f"{group} (rate({part}[{over}])) / ({total} > {at_least:g})"
