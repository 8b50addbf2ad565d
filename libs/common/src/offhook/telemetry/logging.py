"""Logging: one line per event on stderr, JSON for machines or coloured for people, with everything redacted.

Every line of a call carries `workflow_run_id` and `user_id` from context variables (`bind_call`), and the id
of the call's trace, whether or not tracing is on; the span's id when one is open. What libraries log through
the standard library takes the same way. From level info upwards, phone numbers are masked; secrets are at
every level.
"""

import logging
import sys
from collections.abc import Mapping
from contextvars import Token
from typing import TYPE_CHECKING, Any, Final

import msgspec
import structlog
from opentelemetry import trace
from structlog.typing import EventDict, Processor, WrappedLogger

from offhook.security.redaction import redact
from offhook.telemetry.tracing import call_span_context, call_trace_id
from offhook.telemetry.tracing import enabled as tracing_enabled

if TYPE_CHECKING:
    from offhook.settings import ServiceSettings

_LEVELS: Final = {
    "debug": 10,
    "info": 20,
    "warning": 30,
    "warn": 30,
    "error": 40,
    "critical": 50,
    "exception": 40,
}
# Libraries that say at info what only their developers want to know.
_QUIET: Final = {"aiokafka": logging.WARNING, "httpx": logging.WARNING, "uvicorn": logging.WARNING}
_MACHINE_MADE: Final = frozenset({"timestamp", "level", "logger", "service", "trace_id", "span_id"})
# Opaque ids: one of digits only is no phone number. (What is shaped like a secret goes from these, too.)
_IDS: Final = frozenset(
    {"workflow_run_id", "user_id", "workflow_id", "configuration_id", "number_id", "command_id", "event_id"}
)
# uvicorn reports an application's exception under this name, with the traceback; it stays.


def configure(service: str, settings: "ServiceSettings") -> None:
    """Set up logging for the whole process. Call it once, before anything is logged; calling it again
    replaces it.
    """
    level = _LEVELS[settings.log_level]
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _Origin(service),
        add_trace,
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,
        redact_event,
    ]
    renderer: Processor = (
        structlog.processors.JSONRenderer(serializer=_to_json)
        if settings.log_format == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=_plain_traceback)
    )
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.stdlib.PositionalArgumentsFormatter(),
            *(one for one in shared if not isinstance(one, structlog.stdlib.ExtraAdder)),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    last = [structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer]
    if settings.log_format == "console":
        last.insert(1, _for_people)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=last,
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name, least in _QUIET.items():
        logging.getLogger(name).setLevel(max(level, least))
    logging.captureWarnings(True)


class BoundCall:
    """The context of a call on every following log line of this task, until `unbind` or the end of the `with`
    block.
    """

    def __init__(self, tokens: Mapping[str, Token[Any]]) -> None:
        self._tokens = tokens

    def unbind(self) -> None:
        structlog.contextvars.reset_contextvars(**self._tokens)
        self._tokens = {}

    def __enter__(self) -> "BoundCall":
        return self

    def __exit__(self, *_: object) -> None:
        self.unbind()


def bind_call(workflow_run_id: str, user_id: str | None = None, **more: str) -> BoundCall:
    """From here on, log lines of this task (and of tasks it starts) name the call. Use it plainly or with
    `with`.
    """
    fields = {"workflow_run_id": workflow_run_id, **more}
    if user_id is not None:
        fields["user_id"] = user_id
    return BoundCall(structlog.contextvars.bind_contextvars(**fields))


def bind_user(user_id: str) -> None:
    """From here on, log lines of this task say whose call it is: for who learns it later than the call."""
    structlog.contextvars.bind_contextvars(user_id=user_id)


def redact_event(_: WrappedLogger, method: str, event: EventDict) -> EventDict:
    """The processor that takes secrets out of every value and, from info upwards, masks phone numbers."""
    numbers = _LEVELS.get(str(event.get("level", method)), 20) >= logging.INFO
    for name, value in event.items():
        # structlog's own (_record, _from_structlog), and what is digits by its nature.
        if not name.startswith("_") and name not in _MACHINE_MADE:
            event[name] = redact(name, value, numbers=numbers and name not in _IDS)
    return event


def add_trace(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Adds `trace_id`: that of the call the line names, else of the open span; and `span_id` when a span of it is open."""
    context = trace.get_current_span().get_span_context()
    run = event.get("workflow_run_id")
    if isinstance(run, str) and run:
        event["trace_id"] = call_trace_id(run)
        if context.is_valid and context.trace_id != call_span_context(run).trace_id:
            return event  # the request's own trace, which the call's links to
    elif context.is_valid:
        event["trace_id"] = f"{context.trace_id:032x}"
    if context.is_valid:
        event["span_id"] = f"{context.span_id:016x}"
    return event


class _Origin:
    def __init__(self, service: str) -> None:
        self._service = service

    def __call__(self, _: WrappedLogger, __: str, event: EventDict) -> EventDict:
        event["service"] = self._service
        event.pop("color_message", None)  # uvicorn's second copy of its message
        return event


def _for_people(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """A trace's id says nothing to somebody at a terminal, unless there are traces to look at."""
    if not tracing_enabled():
        event.pop("trace_id", None)
        event.pop("span_id", None)
    return event


def _to_json(event: EventDict, **_: Any) -> str:
    return msgspec.json.encode(event, enc_hook=str).decode()


def _plain_traceback(stream: Any, exc_info: Any) -> None:
    structlog.dev.plain_traceback(stream, exc_info)
