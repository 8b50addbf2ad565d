"""TwiML is read as strictly as Twilio reads it."""

import pytest

from carrier_sim.twilio import twiml


def codes(document: twiml.Document) -> list[str]:
    return [objection.code for objection in document.objections]


def read(text: str) -> twiml.Document:
    return twiml.read(text.encode(), "text/xml")


def test_the_document_of_a_bidirectional_agent_is_read_without_objection() -> None:
    document = read(
        '<?xml version="1.0" encoding="UTF-8"?><Response><Connect action="https://a.example/next">'
        '<Stream url="wss://a.example/media" name="agent" statusCallback="https://a.example/s">'
        '<Parameter name="token" value="abc"/></Stream></Connect><Redirect method="POST">/again</Redirect></Response>'
    )
    assert codes(document) == []
    connect, redirect = document.verbs
    assert isinstance(connect, twiml.Connect)
    assert connect.stream.parameters == (("token", "abc"),)
    assert connect.action == "https://a.example/next"
    assert redirect == twiml.Redirect("/again")


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "11770"),
        ("<Response>", "12100"),
        ("not xml", "12100"),
        ("<response/>", "12102"),
        ('<!DOCTYPE a [<!ENTITY b "c">]><Response/>', "12100"),
        ('<?xml version="1.0" encoding="no-such"?><Response/>', "12100"),
    ],
)
def test_what_is_no_document_is_refused_as_a_whole(text: str, code: str) -> None:
    document = read(text)
    assert document.failed
    assert codes(document) == [code]


@pytest.mark.parametrize(
    ("verbs", "code"),
    [
        ("<Shout/>", "12200"),
        ("<say>Hello</say>", "12200"),
        ('<Hangup now="true"/>', "12200"),
        ("words", "12200"),
        ("<Connect/>", "12200"),
        ('<Connect><Stream url="wss://a.example/" track="both_tracks"/></Connect>', "31941"),
        ('<Connect><Stream url="wss://a.example/" statusCallback="/relative"/></Connect>', "11100"),
        ('<Connect><Stream url="wss://a.example/"><Parameter name="a"/></Stream></Connect>', "12200"),
        ('<Say loop="x">Hello</Say>', "13510"),
        ("<Say> </Say>", "13520"),
        ('<Pause length="-1"/>', "13910"),
        ('<Redirect method="PUT">/x</Redirect>', "13710"),
        ('<Reject reason="tired"/>', "13810"),
        ("<Say>Hi</Say><Reject/>", "12200"),
        ("<Gather/>", "sim-unsupported"),
        ("<Connect><Room>x</Room></Connect>", "sim-unsupported"),
    ],
)
def test_each_mistake_has_its_code_and_the_document_goes_on(verbs: str, code: str) -> None:
    document = read(f"<Response>{verbs}</Response>")
    assert not document.failed
    assert codes(document)[0] == code


def test_a_parameter_of_500_characters_is_too_long() -> None:
    def one(length: int) -> twiml.Document:
        parameter = f'<Parameter name="n" value="{"v" * (length - 1)}"/>'
        return read(
            f'<Response><Connect><Stream url="wss://a.example/">{parameter}</Stream></Connect></Response>'
        )

    assert codes(one(500)) == []
    assert codes(one(501)) == ["sim-parameter-too-long"]


@pytest.mark.parametrize(
    ("media_type", "code", "failed"),
    [("text/plain", "12300", False), ("application/json", "12300", True), ("", "12300", True),
     ("audio/wav", "sim-unsupported", True)],
)  # fmt: skip
def test_the_content_type_decides_what_an_answer_is(media_type: str, code: str, failed: bool) -> None:
    document = twiml.read(b"<Response/>", media_type)
    assert codes(document) == [code]
    assert document.failed is failed


def test_text_plain_is_read_out_to_the_caller() -> None:
    assert twiml.read(b"<Response/>", "text/plain").verbs == (twiml.Say("<Response/>"),)


def test_more_than_64_kilobytes_are_refused() -> None:
    assert codes(twiml.read(b" " * (twiml.MAX_BODY + 1), "text/xml")) == ["11750"]


@pytest.mark.parametrize(
    ("body", "media_type", "code"),
    [
        (b"", "", None),
        (b"<Response/>", "text/xml", None),
        (b"ok", "text/plain", None),
        (b"{}", "application/json", "12300"),
        (b"ok", "text/html", "12100"),
    ],
)
def test_the_answer_to_a_callback_is_judged_too(body: bytes, media_type: str, code: str | None) -> None:
    objection = twiml.callback_objection(body, media_type)
    assert (objection and objection.code) == code
    assert objection is None or objection.severity == "warning"
