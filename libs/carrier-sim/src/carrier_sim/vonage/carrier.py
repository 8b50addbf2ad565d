"""`sim.vonage`: applications, numbers, and calls placed from the outside."""

from collections.abc import Iterator
from typing import Any, Literal

from carrier_sim.caller import Caller
from carrier_sim.exchange import Exchange
from carrier_sim.faults import Faults
from carrier_sim.report import CallReport
from carrier_sim.vonage.applications import Application, Number, msisdn, new_application, public_half
from carrier_sim.vonage.call import VonageCall
from carrier_sim.vonage.plan import Plan, Source

Method = Literal["GET", "POST"]


class VonageCarrier:
    """The carrier. Calls of the last runs stay known to its REST API until the simulation ends."""

    def __init__(self, exchange: Exchange) -> None:
        self.exchange = exchange
        self.applications: dict[str, Application] = {}
        self.numbers: dict[str, Number] = {}
        self.calls: dict[str, VonageCall] = {}

    def add_application(
        self,
        application_id: str,
        *,
        api_key: str,
        api_secret: str,
        public_key: str | None = None,
        private_key: str | None = None,
        signature_secret: str | None = None,
        **webhooks: Any,
    ) -> Application:
        """A customer's application. One of the keys (PEM) is needed; `webhooks` as in `set_webhooks`."""
        if (public_key is None) == (private_key is None):
            raise ValueError(
                "an application needs its public key, or its private key to take it from; not both"
            )
        application = new_application(
            application_id,
            public_key or public_half(private_key or ""),
            api_key,
            api_secret,
            signature_secret,
            {},
        )
        application.has_number = lambda number: self._is_linked(number, application_id)
        self.applications[application_id] = application
        if webhooks:
            self.set_webhooks(application, **webhooks)
        return application

    def _is_linked(self, number: str, application_id: str) -> bool:
        known = self.numbers.get(number)
        return known is not None and known.app_id == application_id

    def every_call(self) -> Iterator[VonageCall]:
        """All calls, with those that were connected within them."""
        for call in self.calls.values():
            yield call
            yield from call.legs

    def find(self, identity: str) -> VonageCall | None:
        """A call by its uuid, also one that was connected within another."""
        if (call := self.calls.get(identity)) is not None:
            return call
        return next((call for call in self.every_call() if call.uuid == identity), None)

    def set_webhooks(
        self,
        application: Application | str,
        *,
        answer_url: str | None = None,
        event_url: str | None = None,
        fallback_answer_url: str | None = None,
        answer_method: Method = "GET",
        event_method: Method = "POST",
        fallback_method: Method = "GET",
    ) -> None:
        """What the customer would set in the dashboard: one set of URLs for all numbers of the application."""
        owner = application if isinstance(application, Application) else self.applications[application]
        settings = (
            ("answer_url", answer_url, answer_method),
            ("event_url", event_url, event_method),
            ("fallback_answer_url", fallback_answer_url, fallback_method),
        )
        owner.voice.setdefault("webhooks", {}).update(
            {name: {"address": url, "http_method": method} for name, url, method in settings if url}
        )

    def add_number(
        self, application: Application | str | None, number: str, *, country: str = "US", api_key: str = ""
    ) -> Number:
        """A number, with or without `+`, linked to an application, or to none (then `api_key` names its owner)."""
        owner = self.applications[application] if isinstance(application, str) else application
        digits = msisdn(number)
        if not digits.isdigit():
            raise ValueError(f"a number of digits is expected, got {number!r}")
        added = Number(digits, country, owner.api_key if owner else api_key, owner.id if owner else None)
        self.numbers[digits] = added
        return added

    def place(self, from_number: str, to_number: str, *, faults: Faults | None = None) -> VonageCall:
        """An inbound call that has not begun yet: run it with `run_inbound`, or use `call_in`."""
        number = self.numbers.get(msisdn(to_number))
        application = self.applications.get(number.app_id or "") if number else None
        if number is None or application is None:
            raise LookupError(f"no simulated Vonage application has the number {to_number}")
        if number.forwarded or not number.voice:
            raise LookupError(
                f"calls to {to_number} do not go to an application: {number.forwarded or 'no voice'}"
            )
        answer = application.webhook("answer_url")
        if answer is None:
            raise LookupError(f"the application {application.id} has no answer_url")
        plan = Plan(
            Source(answer), application.webhook("fallback_answer_url"), application.webhook("event_url")
        )
        call = VonageCall(
            self.exchange,
            application,
            inbound=True,
            from_number=msisdn(from_number),
            to_number=number.msisdn,
            plan=plan,
            faults=faults,
        )
        self.calls[call.uuid] = call
        return call

    async def call_in(
        self, from_number: str, to_number: str, caller: Caller | None = None, *, faults: Faults | None = None
    ) -> CallReport:
        """A person calls a customer's number; returns when the call is over and its callbacks are delivered."""
        call = self.place(from_number, to_number, faults=faults)
        return await self.exchange.until_over(call.run_inbound(caller or Caller()))
