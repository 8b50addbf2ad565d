"""`sim.twilio`: accounts, numbers, and calls placed from the outside."""

from collections.abc import Iterator

from carrier_sim.caller import Caller
from carrier_sim.exchange import Exchange
from carrier_sim.faults import Faults
from carrier_sim.report import CallReport
from carrier_sim.twilio.accounts import Account, Number
from carrier_sim.twilio.call import TwilioCall
from carrier_sim.twilio.plan import Plan, Source


class TwilioCarrier:
    """The carrier. Calls of the last runs stay known to its REST API until the simulation ends."""

    def __init__(self, exchange: Exchange) -> None:
        self.exchange = exchange
        self.accounts: dict[str, Account] = {}
        self.calls: dict[str, TwilioCall] = {}

    def add_account(self, account_sid: str, auth_token: str) -> Account:
        """A customer. `account_sid`: `AC` and 32 hexadecimal digits."""
        if len(account_sid) != 34 or not account_sid.startswith("AC"):
            raise ValueError(f"an Account SID is AC and 32 hexadecimal digits, got {account_sid!r}")
        account = Account(account_sid, auth_token)
        self.accounts[account_sid] = account
        return account

    def add_number(self, account: Account | str, e164: str, **urls: str) -> Number:
        """A number of an account, see `Account.add_number`."""
        owner = account if isinstance(account, Account) else self.accounts[account]
        return owner.add_number(e164, **urls)

    def number(self, e164: str) -> tuple[Account, Number]:
        """The account and number of an E.164 number. Raises `LookupError`."""
        for account in self.accounts.values():
            if number := account.number(e164):
                return account, number
        raise LookupError(f"no simulated Twilio account has the number {e164}")

    def find(self, sid: str) -> TwilioCall | None:
        """A call by its SID, also one that was dialled within another."""
        if (call := self.calls.get(sid)) is not None:
            return call
        return next((call for call in self.every_call() if call.sid == sid), None)

    def forget(self, call: TwilioCall) -> None:
        """The call was deleted."""
        if call.parent is not None:
            call.parent.legs.remove(call)
        else:
            del self.calls[call.sid]

    def every_call(self) -> Iterator[TwilioCall]:
        """All calls, with those that were dialled within them."""
        for call in self.calls.values():
            yield call
            yield from call.legs

    def place(self, from_number: str, to_number: str, *, faults: Faults | None = None) -> TwilioCall:
        """An inbound call that has not begun yet: run it with `run_inbound`, or use `call_in`."""
        account, number = self.number(to_number)
        # https://www.twilio.com/docs/phone-numbers/api/incomingphonenumber-resource: then the number's own URLs are ignored.
        if governor := number.voice_application_sid or number.trunk_sid:
            raise LookupError(f"calls to {to_number} go to {governor}, which is not simulated")
        if not number.voice or account.status != "active":
            raise LookupError(f"{to_number} takes no calls: no voice, or its account is {account.status}")
        plan = Plan(
            source=Source(number.voice_url, number.voice_method),
            fallback_url=number.voice_fallback_url,
            fallback_method=number.voice_fallback_method,
            status_callback=number.status_callback,
            status_method=number.status_callback_method,
        )
        call = TwilioCall(
            self.exchange, account, direction="inbound", from_number=from_number, to_number=to_number,
            plan=plan, number=number, faults=faults,
        )  # fmt: skip
        self.calls[call.sid] = call
        return call

    async def call_in(
        self, from_number: str, to_number: str, caller: Caller | None = None, *, faults: Faults | None = None
    ) -> CallReport:
        """A person calls a customer's number; returns when the call is over and its callbacks are delivered."""
        call = self.place(from_number, to_number, faults=faults)
        return await self.exchange.until_over(call.run_inbound(caller or Caller()))
