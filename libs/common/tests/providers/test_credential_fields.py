"""What no provider has in a credential is refused where it is entered: pasting brings along what nobody sees."""

import pytest
from pydantic import ValidationError

from offhook.providers import registry
from offhook.providers.base import credential_fields


@pytest.mark.parametrize(
    "pasted", ["\u200babcd", "abcd\ufeff", "ab\u2019cd", "ab\u00a0cd", "ab\x00cd", "ab\ncd"]
)
@pytest.mark.parametrize("provider", registry.PROVIDERS)
def test_invisible_and_typographic_characters_are_refused_with_a_sentence(provider: str, pasted: str) -> None:
    model = registry.PROVIDERS[provider].credentials_model
    with pytest.raises(ValidationError) as refused:
        model.model_validate({field.name: pasted for field in credential_fields(model)})
    objections = {str(error["loc"][0]): error["msg"] for error in refused.value.errors()}
    # An id that has to look in a certain way, and a key that is a file, are refused in their own words.
    for name in model.model_fields.keys() - {"account_sid", "private_key"}:
        assert "invisible or typographic" in objections[name], name
    assert {"account_sid", "private_key"} & objections.keys()
