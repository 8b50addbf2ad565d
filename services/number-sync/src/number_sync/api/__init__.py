"""The HTTP API: configurations, their phone numbers, and workflows. Errors are problems (RFC 9457).

Everybody sees what is his own; what is somebody else's does not exist. Lists come in pages: `next_cursor` is what to
give as `cursor` for the following one.
"""

from typing import Final

from fastapi import APIRouter

from number_sync.api import configurations, numbers, workflows
from number_sync.api.parts import PREFIX, Parts, UserOf
from number_sync.api.problems import install_errors

__all__: Final = ("PREFIX", "Parts", "UserOf", "create_router", "install_errors")


def create_router(parts: Parts, user_of: UserOf) -> APIRouter:
    """All routes. `user_of` is the dependency that says who asks, and refuses who may not (401)."""
    router = APIRouter(prefix=PREFIX)
    for resource in (configurations, numbers, workflows):
        router.include_router(resource.create_router(parts, user_of))
    return router
