"""TwiML for transfers. https://www.twilio.com/docs/voice/twiml/dial, https://www.twilio.com/docs/voice/twiml/conference"""

from typing import Final

from offhook.providers.base import HttpAnswer, InstructionError
from offhook.providers.twilio import twiml

# Length of the REST parameter `Twiml`: https://www.twilio.com/docs/voice/api/call-resource#update-a-call-resource
MAX_INLINE: Final = 4000


class TwilioDocuments:
    """`base.Documents` for Twilio."""

    def cold(self, to: str, from_number: str, ring_timeout_s: int, result_url: str) -> str:
        return _inline(twiml.dial_number(to, from_number, ring_timeout_s, result_url))

    def hold(self, name: str, result_url: str | None = None, music_url: str | None = None) -> str:
        return _inline(twiml.dial_conference(name, starts=False, action_url=result_url, wait_url=music_url))

    def join(self, name: str) -> str:
        return _inline(twiml.dial_conference(name, starts=True))

    def ask(self, url: str) -> str:
        return _inline(twiml.redirect(url))

    def answer(self, document: str) -> HttpAnswer:
        return HttpAnswer(200, twiml.CONTENT_TYPE, document.encode())

    def busy(self) -> HttpAnswer:
        return HttpAnswer(200, twiml.CONTENT_TYPE, twiml.reject(busy=True))


def _inline(document: bytes) -> str:
    text = document.decode()
    if len(text) > MAX_INLINE:
        raise InstructionError(f"TwiML of {len(text)} characters: Twilio takes {MAX_INLINE} for a live call")
    return text
