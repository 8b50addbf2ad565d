"""Every span and every attribute there is, with its meaning. Nothing else is exported (`tracing`).

A name that is not here cannot leave the process, so what may be seen of a call is decided in this file: no phone number, no
token, no URL beyond a call's own page, nothing of SIP, no words of an error.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

CALL: Final = "call"
INSTRUCTIONS: Final = "instructions"
STATUS: Final = "status"
MEDIA_SESSION: Final = "media session"
AGENT_CONNECT: Final = "agent connect"
AGENT_REDIAL: Final = "agent redial"
AGENT: Final = "agent"
INTERRUPTION: Final = "interruption"
HANG_UP_ASKED: Final = "hang-up asked"
TRANSFER_ASKED: Final = "transfer asked"
KEYS_ASKED: Final = "keys asked"
CALL_ASKED: Final = "call asked"
LOOK_UP_ASKED: Final = "look-up asked"
CALL_GIVEN_UP: Final = "call given up"
SEND: Final = "send"
PROCESS: Final = "process"

GATEWAY: Final = "webhook-gateway"
BRIDGE: Final = "media-bridge"
TRACKER: Final = "call-tracker"
NUMBER_SYNC: Final = "number-sync"
RECORDER: Final = "recorder"


@dataclass(frozen=True, slots=True)
class SpanName:
    """A span: who makes it, what it lasts from and to, and which attributes it may have beside those every span has."""

    name: str
    services: tuple[str, ...]
    meaning: str
    attributes: tuple[str, ...] = ()


_WISH: Final = ("offhook.requested_by", "offhook.mode")
_MESSAGE: Final = (
    "messaging.system", "messaging.operation.name", "messaging.operation.type", "messaging.destination.name",
    "messaging.message.id", "messaging.kafka.message.key", "offhook.event_type",
)  # fmt: skip
_ORDER: Final = ("offhook.provider", "offhook.attempt", "offhook.outcome")
_PROVIDER_CALL: Final = (*_ORDER, "http.response.status_code", "error.type")

SPANS: Final[tuple[SpanName, ...]] = (
    SpanName(
        CALL, (TRACKER,),
        "The whole call, from the first that was known of it to its end; the root of its trace. Made when the end is known.",
        (
            "offhook.user_id", "offhook.workflow_id", "offhook.provider", "offhook.provider_call_id", "offhook.direction",
            "offhook.status", "offhook.end_reason", "offhook.ended_by", "offhook.talk_ms", "offhook.fault",
            "offhook.reconciled",
            "offhook.call_url",
        ),
    ),
    SpanName(
        INSTRUCTIONS, (GATEWAY,),
        "A proven request for instructions, from its arrival until it is answered and what it told is durable; linked with "
        "the HTTP request.",
        (
            "offhook.provider", "offhook.verified", "offhook.repeated", "offhook.instructions", "offhook.reason",
            "offhook.attempt", "offhook.transfer",
        ),
    ),
    SpanName(
        STATUS, (GATEWAY,),
        "A proven callback about the call's progress, from its arrival until it is durable; linked with the HTTP request.",
        ("offhook.provider", "offhook.verified", "offhook.repeated", "offhook.status"),
    ),
    SpanName(
        MEDIA_SESSION, (BRIDGE,),
        "One audio socket of the carrier, from its start message to its last event.",
        (
            "offhook.provider", "offhook.epoch", "offhook.bridge", "offhook.sample_rate", "offhook.agent_protocol",
            "offhook.end_reason", "offhook.ended_by", "offhook.interruptions", "offhook.gaps", "offhook.underruns",
            "offhook.agent_connects",
        ),
    ),
    SpanName(
        AGENT_CONNECT, (BRIDGE,),
        "Dialling the agent for the first time in a session, up to its handshake. Its context is the agent's `traceparent`.",
        ("offhook.attempt", "offhook.agent_protocol", "offhook.outcome", "server.address", "server.port"),
    ),
    SpanName(
        AGENT_REDIAL, (BRIDGE,),
        "Dialling an agent again, because the last one was lost, did not answer, or belonged to another session.",
        ("offhook.attempt", "offhook.agent_protocol", "offhook.outcome", "server.address", "server.port"),
    ),
    SpanName(
        AGENT, (BRIDGE,),
        "An agent has the call: from its connection to the end of that. An error when it was lost.",
        ("offhook.attempt", "offhook.agent_protocol", "offhook.outcome", "offhook.close_code"),
    ),
    SpanName(
        INTERRUPTION, (BRIDGE,),
        "The agent stopped speaking because the caller did (barge-in), and audio was thrown away; a moment.",
        ("offhook.heard_ms", "offhook.discarded_ms"),
    ),
    SpanName(HANG_UP_ASKED, (BRIDGE, TRACKER), "Somebody wants the call ended.", _WISH),
    SpanName(TRANSFER_ASKED, (BRIDGE, TRACKER), "Somebody wants the call put through to somebody else.", _WISH),
    SpanName(KEYS_ASKED, (BRIDGE,), "The agent presses keys.", ("offhook.mode", "offhook.requested_by")),
    SpanName(
        CALL_ASKED, (TRACKER,),
        "An outbound call was asked for, through the API or a page; linked with the HTTP request.", ("offhook.provider",),
    ),
    SpanName(
        LOOK_UP_ASKED, (TRACKER,),
        "The provider shall be asked what became of the call: it was silent for too long, or somebody wants to know.",
        ("offhook.reason",),
    ),
    SpanName(
        CALL_GIVEN_UP, (TRACKER,),
        "The call was silent and could not be looked up for so long that it counts as lost.",
    ),
    SpanName(
        SEND, (GATEWAY, BRIDGE, TRACKER, NUMBER_SYNC, RECORDER),
        "`send <topic>`: an event of the call on its way to Kafka, until it is acknowledged or safe in the spool.",
        (*_MESSAGE, "messaging.client.id", "offhook.destination"),
    ),
    SpanName(
        PROCESS, (TRACKER, NUMBER_SYNC, BRIDGE),
        "`process <topic>`: an event of the call being handled, until its effect is stored. All events of a batch take as "
        "long as the batch.",
        (
            *_MESSAGE, "messaging.destination.partition.id", "messaging.kafka.offset", "messaging.consumer.group.name",
            "offhook.batch_size",
        ),
    ),
    *(
        SpanName(f"order {kind}", (NUMBER_SYNC,), meaning, _ORDER)
        for kind, meaning in (
            ("originate", "An order to dial is carried out, or looked into when its outcome is not known."),
            ("hangup", "An order to hang up is carried out."),
            ("observe", "An order to look the call up is carried out."),
            ("confirm", "Whether a call that was hung up has really ended is looked up."),
            ("transfer", "An order to transfer is carried out."),
            ("give-back", "A caller whose transfer came to nothing is sent back to an agent."),
            ("dtmf", "An order to press keys is carried out."),
        )
    ),
    *(
        SpanName(name, (NUMBER_SYNC,), f"The provider's API is asked to {meaning}.", _PROVIDER_CALL)
        for name, meaning in (
            ("dial", "place the call"),
            ("hang-up", "end the call"),
            ("look-at-call", "say what it knows of the call"),
            ("find-call", "list calls between two numbers, to find one whose acceptance was lost"),
            ("transfer", "give the live call other instructions"),
            ("send-digits", "press keys"),
        )
    ),
    SpanName(
        "HTTP", (GATEWAY, TRACKER, NUMBER_SYNC),
        "`<method> <route>`: an HTTP request that was served; a trace of its own, since its sender is outside. Never a query.",
        (
            "http.request.method", "http.route", "http.response.status_code", "offhook.provider", "offhook.verified",
            "offhook.reason",
        ),
    ),
)  # fmt: skip

EVERYWHERE: Final[Mapping[str, str]] = {"offhook.workflow_run_id": "The call."}
"""What every span of a call has."""

ATTRIBUTES: Final[Mapping[str, str]] = {
    **EVERYWHERE,
    "offhook.user_id": "Whose call it is.",
    "offhook.workflow_id": "Which workflow the call belongs to.",
    "offhook.provider": "`twilio` or `vonage`.",
    "offhook.provider_call_id": "The provider's id of the call.",
    "offhook.direction": "`inbound` or `outbound`.",
    "offhook.status": "The call's status; in `status` spans the provider's own word.",
    "offhook.end_reason": "Why the call, or this session of it, ended: one of the documented words.",
    "offhook.ended_by": "Who ended it.",
    "offhook.talk_ms": "How long the call was answered, ms.",
    "offhook.reconciled": "Whether the end was learned by asking the provider.",
    "offhook.fault": "Whose fault the end was; `none` for calls that went as calls go.",
    "offhook.call_url": "The page of the call.",
    "offhook.verified": "Whether the provider's signature was right. Spans of a call are made of proven requests only.",
    "offhook.repeated": "Whether the provider has sent this request before.",
    "offhook.instructions": "What the provider was told to do.",
    "offhook.reason": "Why, in one word.",
    "offhook.attempt": "The how manieth attempt this was, from 1.",
    "offhook.transfer": "What became of the transfer the call comes back from.",
    "offhook.epoch": "The how manieth media session of the call, from 1; 0 when Redis could not be asked.",
    "offhook.bridge": "Which bridge had it.",
    "offhook.sample_rate": "Of the carrier's audio, Hz.",
    "offhook.agent_protocol": "`pcm` or `twilio`.",
    "offhook.interruptions": "How often the caller interrupted the agent.",
    "offhook.gaps": "How often the caller's audio stopped coming.",
    "offhook.underruns": "How often the agent's audio came too late.",
    "offhook.agent_connects": "How often an agent took the call.",
    "offhook.outcome": "What came of it, in one word.",
    "offhook.close_code": "The WebSocket close code.",
    "offhook.heard_ms": "How much the caller heard of what was interrupted, ms.",
    "offhook.discarded_ms": "How much was thrown away, ms.",
    "offhook.requested_by": "Who wants it.",
    "offhook.mode": "How: `cold` or `warm`; `rest` or `in-band`.",
    "offhook.event_type": "The event's type (`ce_type`).",
    "offhook.destination": "Where the event was safe first: `kafka`, or the local `spool`.",
    "offhook.batch_size": "How many events were handled together.",
    "server.address": "The agent's host.",
    "server.port": "The agent's port.",
    "error.type": "The kind of failure.",
    "http.request.method": "The method.",
    "http.route": "The route's template.",
    "http.response.status_code": "The status of the (last) answer.",
    "messaging.system": "`kafka`.",
    "messaging.operation.name": "`send` or `process`.",
    "messaging.operation.type": "`send` or `process`.",
    "messaging.destination.name": "The topic.",
    "messaging.destination.partition.id": "The partition.",
    "messaging.message.id": "The event's id (`ce_id`).",
    "messaging.kafka.message.key": "The record's key: the call.",
    "messaging.kafka.offset": "The record's offset.",
    "messaging.consumer.group.name": "The consumer group.",
    "messaging.client.id": "The Kafka client.",
}
"""Every attribute, by name. Those of HTTP, servers, errors and messaging are OpenTelemetry's (semantic conventions)."""

IDS: Final = frozenset(
    {
        "offhook.workflow_run_id", "offhook.user_id", "offhook.workflow_id", "offhook.provider_call_id",
        "messaging.message.id", "messaging.kafka.message.key",
    }
)  # fmt: skip
"""Attributes whose values are opaque ids: digits in them are no phone number."""
