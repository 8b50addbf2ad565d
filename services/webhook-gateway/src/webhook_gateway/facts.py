"""The events the gateway tells, made from what it verified. Pure; ids are derived, so that a retry tells the
same facts."""

from datetime import datetime
from typing import Final, Literal, cast

from offhook.events import (
    AnsweredByNotice,
    CallReceived,
    Event,
    EventData,
    InstructionsServed,
    StatusReported,
    TransferEnded,
    TransferResult,
    new_event,
)
from offhook.events.calls import AnsweredBy
from offhook.identities import DERIVED_RUN, derived_id, inbound_run_id
from offhook.providers.base import CallRequest, StatusReport
from offhook.records import ConfigurationRecord
from webhook_gateway.call_urls import Transferred
from webhook_gateway.policy import Connect, Decision, Join, Refuse, Route

SOURCE: Final = "/webhook-gateway"


def _event(data: EventData, run: str, time: datetime, *identity: str) -> Event[EventData]:
    return new_event(
        data,
        source=SOURCE,
        time=time,
        subject=run,
        event_id=derived_id(data.TYPE, run, *identity),
    )


def kind_of(decision: Decision) -> Literal["connect", "hangup", "refuse"]:
    """The decision in the word of `InstructionsServed`."""
    if isinstance(decision, Connect | Join):
        return "connect"
    return "refuse" if isinstance(decision, Refuse) else "hangup"


def inbound_run(configuration: ConfigurationRecord, call: CallRequest) -> str:
    """The run of an inbound call."""
    return inbound_run_id(configuration.provider, configuration.account, call.provider_call_id)


def received(route: Route, call: CallRequest, run: str, time: datetime) -> list[Event[EventData]]:
    """What an inbound call's webhook says: the call is there, and its own status."""
    configuration = route.configuration
    data = CallReceived(
        workflow_run_id=run,
        workflow_id=None if route.workflow is None else route.workflow.workflow_id,
        user_id=configuration.user_id,
        configuration_id=configuration.configuration_id,
        provider=configuration.provider,
        account=configuration.account,
        provider_call_id=call.provider_call_id,
        conversation_id=call.conversation_id,
        from_number=call.from_number,
        to_number=call.to_number,
    )
    facts = [_event(data, run, time)]
    if call.status is not None:
        status = StatusReported(
            workflow_run_id=run,
            provider=configuration.provider,
            account=configuration.account,
            provider_call_id=call.provider_call_id,
            conversation_id=call.conversation_id,
            status=call.status,
            provider_status=call.provider_status,
            direction="inbound",
            raw=dict(call.raw),
        )
        facts.append(_event(status, run, time, "webhook", call.provider_call_id, call.provider_status))
    return facts


def run_of_report(configuration: ConfigurationRecord, report: StatusReport, named: str | None) -> str | None:
    """The run a callback is about; `named` is the one in its path, if any. None: it is about no run."""
    if named is not None and named != DERIVED_RUN:
        return named
    if report.leg == "media" or report.direction == "outbound" or report.phone_call_id is None:
        # Only an inbound call's own leg names its run. Outbound calls and media legs have status URLs of their own; what
        # a provider sends here beside them is about no run.
        return None
    return inbound_run_id(configuration.provider, configuration.account, report.phone_call_id)


def status_reported(
    configuration: ConfigurationRecord, report: StatusReport, run: str, time: datetime
) -> Event[EventData]:
    """A provider's callback as an event. The same callback, delivered again, has the same id."""
    data = StatusReported(
        workflow_run_id=run,
        provider=configuration.provider,
        account=configuration.account,
        provider_call_id=report.provider_call_id,
        conversation_id=report.conversation_id,
        leg=report.leg,
        status=report.status,
        provider_status=report.provider_status,
        direction=report.direction,
        sequence=report.sequence,
        provider_time=report.provider_time,
        duration_s=report.duration_s,
        sip_code=report.sip_code,
        price=report.price,
        price_unit=report.price_unit,
        answered_by=report.answered_by,
        message_end=report.message_end,
        detail=report.detail,
        ended_by=report.ended_by,
        raw=dict(report.raw),
    )
    return _event(data, run, time, configuration.provider, *report.identity)


def answered_by(
    configuration: ConfigurationRecord, report: StatusReport, run: str, time: datetime
) -> Event[EventData] | None:
    """What the agent shall be told when a callback says who answered."""
    if report.answered_by is None or report.leg != "phone":
        return None
    data = AnsweredByNotice(
        workflow_run_id=run,
        provider=configuration.provider,
        account=configuration.account,
        result=cast(AnsweredBy, report.answered_by),
        message_end=report.message_end,
    )
    return _event(data, run, time, configuration.provider, *report.identity)


def transfer_ended(
    configuration: ConfigurationRecord,
    transferred: Transferred,
    result: TransferResult,
    run: str,
    time: datetime,
) -> Event[EventData]:
    """What became of a transfer. One event for one transfer of one account, whoever asks how often."""
    data = TransferEnded(
        workflow_run_id=run,
        provider=configuration.provider,
        account=configuration.account,
        mode="cold" if transferred.word == "cold" else "warm",
        result=result,
        transfer_id=transferred.transfer_id,
    )
    return _event(data, run, time, configuration.provider, configuration.account, transferred.transfer_id)


def instructions_served(
    configuration: ConfigurationRecord,
    provider_call_id: str,
    run: str,
    decision: Decision,
    request_digest: str,
    elapsed_ms: float,
    time: datetime,
) -> Event[EventData]:
    """What the provider is told to do. One event for one request, however often the provider repeats it."""
    data = InstructionsServed(
        workflow_run_id=run,
        provider=configuration.provider,
        account=configuration.account,
        provider_call_id=provider_call_id,
        kind=kind_of(decision),
        reason=None if isinstance(decision, Connect) else decision.reason.value,
        elapsed_ms=round(elapsed_ms, 3),
    )
    return _event(data, run, time, request_digest)
