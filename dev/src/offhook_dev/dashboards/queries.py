"""The idioms of the dashboards' PromQL. Every series is chosen by the namespace and the pod at the top of the page."""

from typing import Final

from offhook_dev.dashboards.panels import Query

CHOSEN: Final = 'namespace=~"$namespace",pod=~"$pod"'
"""Both are `.*` for All, which also chooses series without these labels (compose has none)."""
_RATE: Final = "$__rate_interval"


def series(metric: str, labels: str = "") -> str:
    return f"{metric}{{{f'{labels},' if labels else ''}{CHOSEN}}}"


def total(metric: str, by: str = "", labels: str = "", how: str = "sum") -> str:
    """A gauge over all processes."""
    return f"{how} by ({by}) ({series(metric, labels)})" if by else f"{how}({series(metric, labels)})"


def rate(metric: str, by: str = "", labels: str = "", times: str = "") -> str:
    """A counter's growth a second (or `times` so much) over all processes."""
    grown = f"rate({series(metric, labels)}[{_RATE}])"
    return (f"sum by ({by}) ({grown})" if by else f"sum({grown})") + (f" * {times}" if times else "")


def quantile(q: float, metric: str, by: str = "", labels: str = "") -> str:
    groups = f"le, {by}" if by else "le"
    return f"histogram_quantile({q:g}, {rate(metric + '_bucket', groups, labels)})"


def quantiles(metric: str, *qs: float, labels: str = "", exemplars: bool = False) -> tuple[Query, ...]:
    """The same histogram at several quantiles: half of them, nearly all of them."""
    return tuple(
        Query(quantile(q, metric, labels=labels), f"p{q * 100:g}", exemplars and q == max(qs)) for q in qs
    )


def quantile_by(
    q: float, metric: str, by: str, labels: str = "", exemplars: bool = False
) -> tuple[Query, ...]:
    legend = " · ".join(f"{{{{{label.strip()}}}}}" for label in by.split(","))
    return (Query(quantile(q, metric, by, labels), legend, exemplars),)


def rates_by(metric: str, by: str, labels: str = "", times: str = "") -> tuple[Query, ...]:
    legend = " · ".join(f"{{{{{label.strip()}}}}}" for label in by.split(","))
    return (Query(rate(metric, by, labels, times), legend),)


def totals_by(metric: str, by: str, labels: str = "", how: str = "sum") -> tuple[Query, ...]:
    legend = " · ".join(f"{{{{{label.strip()}}}}}" for label in by.split(","))
    return (Query(total(metric, by, labels, how), legend),)
