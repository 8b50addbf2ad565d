"""Where a configuration may call, and how much at a time, as people write it. Pure.

The rules are applied by whoever takes an order to call; they are only kept and published here.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

import phonenumbers

from number_sync.errors import InvalidError
from offhook.records import DiallingRules

FIELD: Final = "dialling_rules"
MOST_PREFIXES: Final = 100
MOST_CONCURRENT_CALLS: Final = 100_000
MOST_CALLS_PER_S: Final = 1000.0

_PREFIX: Final = re.compile(r"\+[1-9][0-9]{0,14}")
_DECORATION: Final = re.compile(r"[\s().\-/]")  # as people write numbers


def accept(given: Mapping[str, Iterable[str]]) -> dict[str, Any]:
    """The rules as they are stored: country codes in capitals and prefixes in E.164, sorted, each once.

    Raises `InvalidError` for `dialling_rules.<field>`.
    """
    rules = DiallingRules(
        countries=_countries(given.get("countries", ())),
        allowed_prefixes=_prefixes("allowed_prefixes", given.get("allowed_prefixes", ())),
        denied_prefixes=_prefixes("denied_prefixes", given.get("denied_prefixes", ())),
    )
    both = sorted(set(rules.allowed_prefixes) & set(rules.denied_prefixes))
    if both:
        raise InvalidError(f"{FIELD}.denied_prefixes", f"{both[0]} is also among those always allowed")
    return rules.model_dump(mode="json")


def _countries(given: Iterable[str]) -> tuple[str, ...]:
    found = set()
    for text in given:
        code = text.strip().upper()
        if code not in phonenumbers.SUPPORTED_REGIONS:
            raise InvalidError(
                f"{FIELD}.countries", "a country is a two-letter code such as US or GB (ISO 3166-1)"
            )
        found.add(code)
    return tuple(sorted(found))


def _prefixes(field: str, given: Iterable[str]) -> tuple[str, ...]:
    found = set()
    for text in given:
        prefix = _DECORATION.sub("", text)
        if not _PREFIX.fullmatch(prefix):
            raise InvalidError(
                f"{FIELD}.{field}", "a prefix is + and the first digits of a number, such as +4420 or +1900"
            )
        found.add(prefix)
    if len(found) > MOST_PREFIXES:
        raise InvalidError(f"{FIELD}.{field}", f"at most {MOST_PREFIXES} of them")
    return tuple(sorted(found))
