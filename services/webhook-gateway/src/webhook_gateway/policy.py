"""What to answer a verified request with. Pure: records and marks in, a decision out.

Theory of operation. A request that asks for instructions is first *routed*: which configuration, number and
workflow it belongs to, or why it belongs to none (`Route`). Then the route meets the call's *marks*, the
short-lived facts the services share about the call (it was ended on purpose, no agent could be reached, it
has connected too often), and the two give a `Decision`. Every decision that does not connect has a `reason`,
the same word in the audit, the events and the metrics.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from offhook.events import TransferResult
from offhook.identities import inbound_run_id
from offhook.records import ConfigurationRecord, NoAgentFallback, NumberRecord, WorkflowRecord

_DEFAULT_WORDS: Final = NoAgentFallback()


class Reason(StrEnum):
    """Why a verified call is not connected."""

    NUMBER_UNKNOWN = "number-unknown"
    NUMBER_INACTIVE = "number-inactive"
    NUMBER_WITHOUT_WORKFLOW = "number-without-workflow"
    CONFIGURATION_PAUSED = "configuration-paused"
    WORKFLOW_UNKNOWN = "workflow-unknown"
    FOREIGN_TENANT = "foreign-tenant"
    FOREIGN_CALL = "foreign-call"
    OUTBOUND_FALLBACK = "outbound-fallback"
    NO_PUBLIC_URL = "no-public-url"
    ENDED = "ended"
    CALL_OVER = "call-over"
    NO_AGENT = "no-agent"
    RECONNECT_LIMIT = "reconnect-limit"
    LIMIT_REACHED = "limit-reached"
    TRANSFERRED = "transferred"
    JOINED = "joined"
    CONSULTATION_OVER = "consultation-over"


@dataclass(frozen=True, slots=True)
class Route:
    """Where a call belongs. `trouble` is None when it can be connected: then `workflow` is not None.

    `number` and `workflow` may be known in spite of trouble (an inactive number still names its workflow).
    """

    configuration: ConfigurationRecord
    number: NumberRecord | None = None
    workflow: WorkflowRecord | None = None
    trouble: Reason | None = None


@dataclass(frozen=True, slots=True)
class CallMarks:
    """What the services share about one call, as Redis holds it; the defaults are what is assumed while Redis
    is away.

    `ended`: it was ended on purpose. `no_agent`: the bridge gave up on agents. `over`: the provider said that
    it has ended. `foreign`: the run belongs to another call. `connects`: instructions to connect in the
    running window, this one included. `join`: the agent puts the caller of that run through to this call;
    `join_over`: who waits no more.
    """

    ended: bool = False
    no_agent: bool = False
    over: bool = False
    foreign: bool = False
    connects: int = 1
    join: str = ""
    join_over: bool = False


@dataclass(frozen=True, slots=True)
class Limits:
    """How often one call may connect: `per_window` times in the window of the counter, `per_call` times in
    all."""

    per_window: int = 10
    per_call: int = 200


@dataclass(frozen=True, slots=True)
class Connect:
    """Connect the call to the workflow's agent, after a wait of `delay_s` seconds."""

    workflow: WorkflowRecord
    delay_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Say:
    """Say this to the caller, then end the call."""

    text: str
    language: str
    reason: Reason


@dataclass(frozen=True, slots=True)
class End:
    """End the call without words."""

    reason: Reason


@dataclass(frozen=True, slots=True)
class Refuse:
    """Refuse the call before it is answered: there is no place for it."""

    reason: Reason


@dataclass(frozen=True, slots=True)
class Join:
    """Put the call together with the caller who waits in `room`."""

    room: str
    reason: Reason = Reason.JOINED


Decision = Connect | Say | End | Refuse | Join

FindNumber = Callable[[ConfigurationRecord, str], NumberRecord | None]
FindWorkflow = Callable[[str], WorkflowRecord | None]


def route_inbound(
    configurations: Sequence[ConfigurationRecord],
    to_number: str,
    find_number: FindNumber,
    find_workflow: FindWorkflow,
) -> Route:
    """The workflow that answers a call to `to_number`.

    `configurations` are all whose credentials proved the request (at least one): two tenants may share a
    provider account. The first that can take the call does; else the first that knows the number says why
    not.
    """
    routes = [_route_number(each, find_number(each, to_number), find_workflow) for each in configurations]
    untroubled = (route for route in routes if route.trouble is None)
    knowing = (route for route in routes if route.number is not None)
    return next(untroubled, None) or next(knowing, routes[0])


def _route_number(
    configuration: ConfigurationRecord, number: NumberRecord | None, find_workflow: FindWorkflow
) -> Route:
    if number is None or number.user_id != configuration.user_id:
        return Route(configuration, trouble=Reason.NUMBER_UNKNOWN)
    if number.workflow_id is None:
        return Route(configuration, number, trouble=Reason.NUMBER_WITHOUT_WORKFLOW)
    workflow = find_workflow(number.workflow_id)
    if workflow is None or workflow.user_id != configuration.user_id:
        return Route(configuration, number, trouble=Reason.WORKFLOW_UNKNOWN)
    trouble = None
    if configuration.paused:
        trouble = Reason.CONFIGURATION_PAUSED
    elif not number.active:
        trouble = Reason.NUMBER_INACTIVE
    return Route(configuration, number, workflow, trouble)


def route_run(
    configurations: Sequence[ConfigurationRecord],
    workflow_id: str,
    user_id: str,
    find_workflow: FindWorkflow,
) -> Route:
    """The workflow a webhook's path names, if the proven configuration's owner is the path's user and owns
    it.

    A paused configuration takes no new calls, but a call that lives goes on: `paused` does not matter here.
    """
    own = [each for each in configurations if each.user_id == user_id]
    if not own:
        return Route(configurations[0], trouble=Reason.FOREIGN_TENANT)
    workflow = find_workflow(workflow_id)
    if workflow is None:
        return Route(own[0], trouble=Reason.WORKFLOW_UNKNOWN)
    if workflow.user_id != user_id:
        return Route(own[0], trouble=Reason.FOREIGN_TENANT)
    return Route(own[0], workflow=workflow)


def is_derived_run(workflow_run_id: str, configuration: ConfigurationRecord, provider_call_id: str) -> bool:
    """Whether the run is the inbound run of exactly this call, and so cannot be anybody else's."""
    return workflow_run_id == inbound_run_id(configuration.provider, configuration.account, provider_call_id)


def decide(
    route: Route, marks: CallMarks, attempt: int, limits: Limits, transferred: TransferResult | None = None
) -> Decision:
    """What to do with a routed call. `attempt` counts this call's connects from 1, as its own URLs say; `transferred` is
    what became of the transfer it comes back from."""
    words = route.workflow.fallback if route.workflow is not None else _DEFAULT_WORDS
    if marks.foreign:
        return Say(words.message, words.language, Reason.FOREIGN_CALL)
    if marks.over:
        return End(Reason.CALL_OVER)
    if marks.ended:
        return End(Reason.ENDED)
    if transferred == "completed":
        return End(Reason.TRANSFERRED)
    if marks.join:
        return End(Reason.CONSULTATION_OVER) if marks.join_over else Join(marks.join)
    if route.trouble is not None or route.workflow is None:
        return Say(words.message, words.language, route.trouble or Reason.WORKFLOW_UNKNOWN)
    if marks.no_agent:
        return Say(words.message, words.language, Reason.NO_AGENT)
    if marks.connects > limits.per_window or attempt > limits.per_call:
        return Say(words.message, words.language, Reason.RECONNECT_LIMIT)
    return Connect(route.workflow, reconnect_delay_s(marks.connects))


def decide_without_route(reason: Reason) -> Decision:
    """The words for a verified call that belongs to nothing we know."""
    return Say(_DEFAULT_WORDS.message, _DEFAULT_WORDS.language, reason)


def reconnect_delay_s(connects: int) -> float:
    """How long to hold back the `connects`-th connect of one window, in seconds: 0, 0, 0.5, 1, 2, 2, …

    The first reconnect is immediate: it is the usual one, when one bridge died. When no bridge answers,
    providers come back at once, and without a wait a call would use up its connects in a second. 2 s is safe
    for every provider's patience (Vonage waits 5 s for an answer, Twilio the 2.5 s our URLs tell it).
    """
    if connects <= 2:
        return 0.0
    return float(min(2.0, 0.5 * 2 ** (connects - 3)))
