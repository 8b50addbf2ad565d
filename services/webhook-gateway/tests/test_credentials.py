import json

from offhook.records import ConfigurationRecord
from offhook.security.keyring import Keyring, new_key
from webhook_gateway.credentials import CredentialBook

KEYRING = Keyring.parse(new_key("k1"))


def record(plain, name="c1"):
    return ConfigurationRecord(
        configuration_id=name,
        user_id="u1",
        provider="twilio",
        name=name,
        account="AC1",
        sealed_credentials=KEYRING.seal(plain, context=name),
    )


def test_credentials_are_opened_once_a_record():
    book = CredentialBook(KEYRING)
    first = record(json.dumps({"auth_token": "a"}))
    assert book.of(first) == {"auth_token": "a"}
    assert book.of(first) is book.of(first)
    assert book.of(record(json.dumps({"auth_token": "b"}))) == {"auth_token": "b"}


def test_what_cannot_be_opened_or_is_no_object_gives_none():
    book = CredentialBook(KEYRING)
    elsewhere = record(json.dumps({"auth_token": "a"}), "c2").model_copy(update={"configuration_id": "c1"})
    for broken in (elsewhere, record("[1]"), record("not json")):
        assert book.of(broken) is None


def test_a_record_that_is_gone_leaves_nothing_behind():
    book = CredentialBook(KEYRING)
    book.of(record("{}"))
    book.forget("c1")
    book.forget("c1")
    assert not book._open
