"""What the routes are made of."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from number_sync.configurations import Configurations
from number_sync.database import Database
from number_sync.imports import Imports
from number_sync.numbers import Numbers
from number_sync.trials import Trials
from number_sync.verification import Verifier
from number_sync.workflows import Workflows
from offhook.providers.base import ProviderAdapter

PREFIX: Final = "/api/v1"
CONFIGURATIONS: Final = "/telephony-configurations"
ONE_CONFIGURATION: Final = CONFIGURATIONS + "/{configuration_id}"

UserOf = Callable[..., Any]
"""A FastAPI dependency: the id of the user who asks."""

CheckNow = Callable[[str], Awaitable[None]]
"""Has a number, named by its id, compared with the provider at once."""


@dataclass(frozen=True, slots=True)
class Parts:
    """The domain, as the routes need it."""

    database: Database
    configurations: Configurations
    numbers: Numbers
    workflows: Workflows
    verifier: Verifier
    imports: Imports
    trials: Trials
    check_now: CheckNow
    providers: Mapping[str, ProviderAdapter]
