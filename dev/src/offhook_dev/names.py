"""Topics and metrics are spelled in one place each; everything else must spell them the same, or import them."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from offhook.telemetry.metrics import METRICS
from offhook.topics import ALL_TOPICS

_TOPIC: Final = re.compile(r"\btelephony\.[a-z]+(?:-[a-z]+)*\.v\d+\b")
_METRIC: Final = re.compile(
    r"\boffhook_[a-z0-9]+(?:_[a-z0-9]+)*_(?:total|seconds|bytes|ratio|count|info|milliseconds)\b"
)
_TEXT: Final = {".py", ".md", ".yaml", ".yml", ".json", ".toml", ".sh"}
# The histogram's series, as Prometheus names them.
_SERIES: Final = ("", "_bucket", "_sum", "_count", "_total")


def misspelled(root: Path) -> Iterator[str]:
    """`file:line: what is wrong`, for every topic or metric that is not in its list."""
    topics = {topic.name for topic in ALL_TOPICS}
    metrics = {metric.name + series for metric in METRICS for series in _SERIES}
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=root, check=True, capture_output=True, text=True,
    )  # fmt: skip
    for name in filter(None, listed.stdout.split("\0")):
        path = root / name
        if path.suffix not in _TEXT or not path.is_file():
            continue
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
            for found in _TOPIC.findall(line):
                if found not in topics:
                    yield f"{name}:{number}: no topic is named {found} (see offhook.topics)"
            for found in _METRIC.findall(line):
                if found not in metrics:
                    yield f"{name}:{number}: no metric is named {found} (see offhook.telemetry.metrics)"
