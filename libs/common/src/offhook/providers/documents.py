"""Instructions for a live call, as text for `Rest.transfer` or as the answer to a request for instructions."""

from typing import Protocol

from offhook.providers.webhooks import HttpAnswer


class Documents(Protocol):
    """What a transfer is made of, in the provider's language. Implemented by `offhook.providers.<name>.documents`.

    Numbers are E.164, URLs absolute and public, rooms named like runs (`identities.ID_PATTERN`). All raise
    `InstructionError` for what the provider would not take.
    """

    def cold(self, to: str, from_number: str, ring_timeout_s: int, result_url: str) -> str:
        """Dial `to`, showing it `from_number`, and connect the two. `result_url` is asked for new instructions when that
        came to nothing, or is over; what it was told reads `Webhooks.parse_transfer`.

        Twilio asks it once, when the other party's call is over, whatever came of it. Vonage posts every event of that
        call to it and takes instructions from the answer where the party was not reached; when the two were connected
        and are no more, the call ends, whatever is answered.
        """

    def hold(self, name: str, result_url: str | None = None, music_url: str | None = None) -> str:
        """Wait in the room `name` until somebody enters it with `join`; the call ends when that party leaves.

        Twilio asks `result_url` how to go on when it is over; Vonage has no such thing, and ends the call.

        Twilio plays its own music to who waits; Vonage plays `music_url` (MP3 or WAV), without one there is silence. At
        Twilio `music_url` answers with TwiML.
        """

    def join(self, name: str) -> str:
        """Enter the room `name`, and let go whoever waits there. Who leaves it ends it for both."""

    def ask(self, url: str) -> str:
        """Ask `url` for new instructions. Where that is by an event (Vonage), the request does not name the call's leg."""

    def answer(self, document: str) -> HttpAnswer:
        """`document` as the answer to a request for instructions."""

    def busy(self) -> HttpAnswer:
        """The answer to an inbound call there is no place for: the caller hears the busy tone where the provider can.

        Twilio refuses without answering. Vonage has no such instruction: the empty NCCO ends the call; what the caller
        hears and whether it is billed is not documented.
        """
