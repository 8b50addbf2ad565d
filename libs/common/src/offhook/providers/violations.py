"""What a carrier noticed about a media server: counted without end, kept up to a bound."""

from typing import Final

from offhook.providers.base import Violation

_KEPT: Final = 1000


class ViolationLog:
    """The first 1000 violations, and how many there were."""

    def __init__(self) -> None:
        self.kept: list[Violation] = []
        self.count = 0

    def add(self, code: str, message: str) -> None:
        self.count += 1
        if len(self.kept) < _KEPT:
            self.kept.append(Violation(code, message[:300]))
