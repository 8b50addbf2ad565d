"""The policy of trying again."""

from typing import get_args

import pytest

from number_sync.retries import Kind, delay_s


@pytest.mark.parametrize("kind", get_args(Kind))
def test_every_kind_of_failure_ends_after_a_bounded_time(kind: Kind) -> None:
    for command in ("originate", "hangup"):
        waited, attempts = 0.0, 0
        while (wait := delay_s(command, kind, attempts, None)) is not None:
            waited += wait
            attempts += 1
        assert attempts < 20
        assert waited < 120


def test_a_dial_whose_outcome_is_unknown_is_never_tried_again() -> None:
    assert delay_s("originate", "unknown-outcome", 0, None) is None


def test_ending_a_call_waits_out_the_seconds_in_which_it_is_too_early() -> None:
    waits = [delay_s("hangup", "too-early", attempt, None) or 0 for attempt in range(5)]
    assert sum(waits) > 2


@pytest.mark.parametrize(("asked", "expected"), [(None, 1.0), (0.1, 1.0), (7.0, 7.0), (9999.0, 60.0)])
def test_the_providers_wish_is_honoured_up_to_a_minute(asked: float | None, expected: float) -> None:
    assert delay_s("originate", "busy", 0, asked) == expected
