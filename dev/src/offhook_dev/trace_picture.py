"""A trace as a picture for the documentation: each span a bar, below what caused it."""

from collections.abc import Iterator
from html import escape
from typing import Final

from offhook_dev.otlp import Seen, Trace

_COLOURS: Final = {
    "webhook-gateway": "#2563eb",
    "media-bridge": "#059669",
    "call-tracker": "#7c3aed",
    "number-sync": "#d97706",
}
_WIDTH: Final = 1180
_NAMES: Final = 400
_ROW: Final = 22
_TOP: Final = 56
_STYLE: Final = (
    ".page{fill:#fff}text{font:12px system-ui,sans-serif;fill:#1f2937}.head{font-weight:600;font-size:15px}.quiet{fill:#6b7280}"
    ".bad{fill:#b91c1c}.row{fill:#f3f4f6}"
    "@media (prefers-color-scheme:dark){text{fill:#e5e7eb}.quiet{fill:#9ca3af}.bad{fill:#f87171}.row{fill:#1f2937}"
    ".page{fill:#111827}}"
)


def draw(trace: Trace, title: str) -> str:
    """The trace as SVG."""
    rows = [(span, depth) for root in trace.roots for span, depth in _in_order(trace, root, 0)]
    first = min(span.began for span, _ in rows)
    last = max(span.ended for span, _ in rows)
    scale = (_WIDTH - _NAMES - 90) / max(1, last - first)
    height = _TOP + _ROW * len(rows) + 14
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="{escape(title)}">',
        f"<style>{_STYLE}</style>",
        f'<rect class="page" width="{_WIDTH}" height="{height}"/>',
        f'<text class="head" x="12" y="22">{escape(title)}</text>',
        *_legend(),
    ]
    for index, (span, depth) in enumerate(rows):
        y = _TOP + _ROW * index
        x = _NAMES + (span.began - first) * scale
        width = max(2.0, (span.ended - span.began) * scale)
        took = (span.ended - span.began) / 1e6
        told = f"{took / 1000:.2f} s" if took >= 1000 else f"{took:.1f} ms"
        error = f" {span.error}" if span.error is not None else ""
        tone = ' class="bad"' if error else ""
        if index % 2 == 0:
            parts.append(f'<rect class="row" y="{y}" width="{_WIDTH}" height="{_ROW}"/>')
        name, colour = escape(_short(span)), _COLOURS.get(span.service, "#6b7280")
        parts.append(
            f'<text{tone} x="{12 + 14 * depth}" y="{y + 15}">'
            f"{name}{escape(error)}</text>"
            f'<rect x="{x:.1f}" y="{y + 5}" width="{width:.1f}" height="12" rx="2" fill="{colour}"/>'
            f'<text class="quiet" x="{min(x + width + 6, _WIDTH - 60):.1f}" y="{y + 15}">{told}</text>'
        )
    return "\n".join([*parts, "</svg>", ""])


def _in_order(trace: Trace, span: Seen, depth: int) -> Iterator[tuple[Seen, int]]:
    yield span, depth
    for child in trace.children_of(span):
        yield from _in_order(trace, child, depth + 1)


def _short(span: Seen) -> str:
    """Its name; of an event the type as well, for that is what one looks for."""
    kind = str(span.attributes.get("offhook.event_type", "")).removeprefix("offhook.")
    name = span.name.replace("telephony.", "")
    return f"{name.partition(' ')[0]} {kind}" if kind else name


def _legend() -> Iterator[str]:
    x = 12
    for service, colour in _COLOURS.items():
        yield f'<rect x="{x}" y="33" width="11" height="11" rx="2" fill="{colour}"/>'
        yield f'<text class="quiet" x="{x + 16}" y="43">{service}</text>'
        x += 130
