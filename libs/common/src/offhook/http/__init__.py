"""The HTTP side every service has: health, metrics, problems for errors, bounded requests, an orderly end."""

from offhook.http.app import create_app
from offhook.http.problems import Problem
from offhook.http.readiness import Readiness
from offhook.http.server import ListenError, run, serve

__all__ = ["ListenError", "Problem", "Readiness", "create_app", "run", "serve"]
