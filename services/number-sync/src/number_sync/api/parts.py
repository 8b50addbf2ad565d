"""What the routes are made of."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from number_sync.configurations import Configurations
from number_sync.database import Database
from number_sync.numbers import Numbers
from number_sync.workflows import Workflows
from offhook.providers.base import ProviderAdapter

PREFIX: Final = "/api/v1"
CONFIGURATIONS: Final = "/telephony-configurations"
ONE_CONFIGURATION: Final = CONFIGURATIONS + "/{configuration_id}"

UserOf = Callable[..., Any]
"""A FastAPI dependency: the id of the user who asks."""


@dataclass(frozen=True, slots=True)
class Parts:
    """The domain, as the routes need it."""

    database: Database
    configurations: Configurations
    numbers: Numbers
    workflows: Workflows
    providers: Mapping[str, ProviderAdapter]
