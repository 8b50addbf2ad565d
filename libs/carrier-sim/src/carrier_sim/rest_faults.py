"""What the carriers' REST APIs do on bad days: rules a test sets, each for some requests, some number of times."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from fnmatch import fnmatchcase
from typing import Any, ClassVar, Literal

from pydantic import ConfigDict

Misdeed = Literal[
    "status", "html", "truncated", "wrong-shape", "huge", "silence", "cut", "slow"
]  # fmt: skip
Provider = Literal["twilio", "vonage"]

_MAX_RULES = 100
_MAX_TEXT = 64 * 1024
_MAX_HUGE = 1024 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class RestFault:
    """One rule. Which requests: `provider`, `method`, `path` (a shell pattern over the path without its query, as
    `*/IncomingPhoneNumbers*`) and `account` (Account SID or API key); what is None matches everything. The first
    rule that matches is applied; `skip` matching requests are left alone first, then `times` are hit (None: all).

    `do`: what happens.

    - `status`: the provider's own error of that HTTP `status`, with its own `code` where one is given (Twilio's number,
      Vonage's problem type or error code), and with `retry_after` as the Retry-After header, as written.
    - `html`: an HTML page, as a proxy in between would send, with `status` (200 unless given).
    - `truncated`: the work is done, and the answer is the first half of its body.
    - `wrong-shape`: JSON that nobody described: `body`, or an array of odd things.
    - `huge`: JSON of `huge_bytes`, without a Content-Length.
    - `silence`: the connection is held, and nothing ever comes.
    - `cut`: the connection is reset instead of an answer.
    - `slow`: the work is done, and the answer comes `delay_s` later.

    `work`: the request is carried out before it is answered wrongly (for `truncated` and `slow` it always is).
    `delay_s` is waited before any misdeed.
    """

    do: Misdeed = "status"
    provider: Provider | None = None
    method: str | None = None
    path: str | None = None
    account: str | None = None
    status: int | None = None
    code: int | str | None = None
    retry_after: int | str | None = None
    body: str | None = None
    huge_bytes: int = 32 * 1024 * 1024
    delay_s: float = 0.0
    work: bool = False
    skip: int = 0
    times: int | None = None

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    def __post_init__(self) -> None:
        if self.do == "status" and (self.status is None or not 400 <= self.status <= 599):
            raise ValueError(f"status: an HTTP error from 400 to 599 expected, got {self.status}")
        if self.status is not None and not 200 <= self.status <= 599:
            raise ValueError(f"status: 200 to 599 expected, got {self.status}")
        if self.retry_after is not None and re.search(r"[\r\n]", str(self.retry_after)):
            raise ValueError("retry_after: one line expected")
        if self.body is not None and len(self.body) > _MAX_TEXT:
            raise ValueError(f"body: at most {_MAX_TEXT} characters expected")
        if not 0 < self.huge_bytes <= _MAX_HUGE:
            raise ValueError(f"huge_bytes: 1 to {_MAX_HUGE} expected, got {self.huge_bytes}")
        if not 0.0 <= self.delay_s <= 3600.0:
            raise ValueError(f"delay_s: 0 to 3600 expected, got {self.delay_s}")
        if self.skip < 0 or (self.times is not None and self.times < 0):
            raise ValueError("skip and times: 0 or more expected")

    @property
    def works(self) -> bool:
        """Whether the request is carried out."""
        return self.work or self.do in ("truncated", "slow")

    def matches(self, provider: Provider, method: str, path: str, account: str) -> bool:
        return (
            self.provider in (None, provider)
            and (self.method is None or self.method.upper() == method.upper())
            and (self.path is None or fnmatchcase(path, self.path))
            and self.account in (None, account)
        )

    def to_dict(self) -> dict[str, Any]:
        """The rule as it was written, without what is at its default."""
        shown = {f.name: getattr(self, f.name) for f in fields(self)}
        return {"do": self.do} | {f.name: shown[f.name] for f in fields(self) if shown[f.name] != f.default}


@dataclass(slots=True)
class _Armed:
    rule: RestFault
    matched: int = 0
    hit: int = 0


class RestFaults:
    """The rules in force, in order, and how often each was applied."""

    def __init__(self, rules: Iterable[RestFault] = ()) -> None:
        self._armed: list[_Armed] = []
        self.replace(rules)

    @property
    def rules(self) -> Sequence[RestFault]:
        return tuple(armed.rule for armed in self._armed)

    def replace(self, rules: Iterable[RestFault]) -> None:
        """These rules instead of all others; they count from zero. Raises `ValueError` when they are too many."""
        armed = [_Armed(rule) for rule in rules]
        if len(armed) > _MAX_RULES:
            raise ValueError(f"at most {_MAX_RULES} rules expected, got {len(armed)}")
        self._armed = armed

    def take(self, provider: Provider, method: str, path: str, account: str) -> RestFault | None:
        """What happens to this request, if anything; it counts."""
        for armed in self._armed:
            rule = armed.rule
            if rule.times is not None and armed.hit >= rule.times:
                continue
            if not rule.matches(provider, method, path, account):
                continue
            armed.matched += 1
            if armed.matched > rule.skip:
                armed.hit += 1
                return rule
        return None

    def to_list(self) -> list[dict[str, Any]]:
        """The rules with `matched` and `hit`, how often they were."""
        return [a.rule.to_dict() | {"matched": a.matched, "hit": a.hit} for a in self._armed]
