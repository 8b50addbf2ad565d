"""NCCOs for transfers. https://developer.vonage.com/en/voice/voice-api/ncco-reference"""

from offhook.providers.base import HttpAnswer
from offhook.providers.vonage import ncco


class VonageDocuments:
    """`base.Documents` for Vonage."""

    def cold(self, to: str, from_number: str, ring_timeout_s: int, result_url: str) -> str:
        return ncco.connect_phone(to, from_number, ring_timeout_s, result_url).decode()

    def hold(self, name: str, result_url: str | None = None, music_url: str | None = None) -> str:
        return ncco.conversation(name, starts=False, music_url=music_url).decode()

    def join(self, name: str) -> str:
        return ncco.conversation(name, starts=True).decode()

    def ask(self, url: str) -> str:
        return ncco.notify(url).decode()

    def answer(self, document: str) -> HttpAnswer:
        return HttpAnswer(200, ncco.CONTENT_TYPE, document.encode())

    def busy(self) -> HttpAnswer:
        return HttpAnswer(200, ncco.CONTENT_TYPE, ncco.hang_up())
