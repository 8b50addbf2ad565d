"""Every word the gateway tells has a sentence for people."""

import pytest

from call_tracker.webhook_log.explanation import Surroundings, explain
from offhook.events import NearMiss, WebhookAudited
from offhook.providers.base import SignatureFault

AROUND = Surroundings("https://voice.example.com", {"c1": "Main account"}.get)
ABOUT = {
    NearMiss.OTHER_CREDENTIALS: "c1",
    NearMiss.CLOCK: "-900",
    NearMiss.BODY_CHANGED: "",
    NearMiss.QUERY_DROPPED: "",
    NearMiss.QUERY_ENCODING: "",
}


def entry(**fields) -> WebhookAudited:  # type: ignore[no-untyped-def]
    given = {
        "provider": "twilio", "account": "AC1", "workflow_run_id": None, "provider_call_id": None, "method": "POST",
        "path": "/p", "kind": "status", "verified": False, "reason": "signature-mismatch", "status_code": 403,
        "elapsed_ms": 1.0,
    }  # fmt: skip
    return WebhookAudited(**(given | fields))


@pytest.mark.parametrize("word", [one for one in NearMiss if one is not NearMiss.NOT_LOOKED])
def test_what_would_have_matched_gives_a_remedy_of_its_own(word: NearMiss) -> None:
    about = ABOUT.get(word, "https://other.example.com/p")
    said = explain(entry(near_misses=(f"{word} {about}".strip(),)), AROUND)
    assert said.remedy
    assert said.title != explain(entry(), AROUND).title
    assert about in said.sentence or word in (NearMiss.OTHER_CREDENTIALS, NearMiss.CLOCK)


@pytest.mark.parametrize("reason", [*SignatureFault, "unknown-account", "credentials-unreadable", "replayed"])
def test_every_reason_of_a_refusal_has_words(reason: str) -> None:
    said = explain(entry(reason=str(reason)), AROUND)
    assert not said.title.startswith("Refused: ")
    assert said.kind == "bad"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://voice.example.com/p", "another scheme"),
        ("https://voice.example.com:8443/p", "another port"),
        ("https://elsewhere.example.com/p", "not the one the provider calls"),
        ("https://elsewhere.example.com/prefix/p", "rewrote the path"),
        ("https://voice.example.com/p", "was another one then"),
    ],
)
def test_what_is_different_about_the_address_is_named(url: str, expected: str) -> None:
    assert expected in explain(entry(near_misses=(f"other-url {url}",)), AROUND).title


def test_words_of_a_newer_gateway_are_shown_as_they_are() -> None:
    said = explain(entry(reason="moon-phase", near_misses=("never-heard-of x",)), AROUND)
    assert "moon-phase" in said.title
    assert "dawn" in explain(entry(verified=True, reason="dawn", status_code=200), AROUND).sentence
