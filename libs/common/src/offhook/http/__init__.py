"""The HTTP side every service has: health, metrics, problems for errors, bounded requests, an orderly end."""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from offhook.http.app import create_app
    from offhook.http.problems import Problem
    from offhook.http.readiness import Readiness
    from offhook.http.server import ListenError, run, serve

__all__ = ["ListenError", "Problem", "Readiness", "create_app", "run", "serve"]

_HOMES: Final = {
    "create_app": "app",
    "Problem": "problems",
    "Readiness": "readiness",
    "ListenError": "server",
    "run": "server",
    "serve": "server",
}


def __getattr__(name: str) -> Any:
    # Only when asked for: `offhook.http.probe` is to start in an instant, without a web framework.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
