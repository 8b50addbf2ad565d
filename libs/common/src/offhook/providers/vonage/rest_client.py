"""Requests to Vonage's REST APIs through the official SDK's client, and what their refusals mean.

Blocking: run it in a thread. Imported by number-sync only. https://developer.vonage.com/en/getting-started/concepts/authentication
"""

import logging
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from jwt.exceptions import PyJWTError
from requests import Response
from requests.exceptions import RequestException
from vonage_http_client.auth import Auth
from vonage_http_client.errors import HttpRequestError
from vonage_http_client.http_client import HttpClient, HttpClientOptions
from vonage_utils.errors import VonageError  # type: ignore[import-untyped]

from offhook.providers.base import RestError
from offhook.providers.rest_transport import (
    Operation,
    RebasedSession,
    is_markup,
    json_object,
    status_error,
    transport_error,
    unreadable,
)

API_HOST: Final = "api.nexmo.com"
REST_HOST: Final = "rest.nexmo.com"

# A call cannot be ended in the first two seconds after it was created: Vonage answers 400.
# https://api.support.vonage.com/hc/en-us/articles/10359615124380
TOO_EARLY_S: Final = 2.0

# The SDK logs what it sends, tokens included, and whole answers.
logging.getLogger("vonage").setLevel(logging.ERROR)


def error_of(operation: Operation, response: Response) -> RestError:
    """What an answer that is not a success means. Bodies differ between Vonage's APIs: the status decides."""
    status = response.status_code
    fields = json_object(response.text) or {}
    code = str(fields.get("type") or fields.get("error-code") or status).rpartition("#")[2][:80]
    message = f"Vonage answered {status}: {words_of(fields)}"
    if status == 400 and operation == "hang-up":
        return RestError("too-early", code, message, TOO_EARLY_S)
    if operation in ("read", "write") and status in (400, 403, 404) and is_markup(response.text):
        return unreadable(operation, f"an answer {status} with a web page in place of Vonage's words")
    return status_error(operation, status, code, message, response.headers)


def words_of(fields: Mapping[str, Any]) -> str:
    """What an error says, in whichever shape its API has; at most 300 characters."""
    words = [fields.get(name) for name in ("title", "detail", "error_title", "error-code-label")]
    wrong = fields.get("invalid_parameters")
    if isinstance(wrong, list):
        words += [f"{item.get('name')} {item.get('reason')}" for item in wrong[:3] if isinstance(item, dict)]
    return ": ".join(str(word) for word in words if word)[:300] or "no message"


class VonageApi:
    """One application's and its account's way to the APIs: with a token the private key signs, or with the account's
    API key and secret."""

    def __init__(
        self,
        credentials: Mapping[str, str],
        base_url: str | None,
        timeout_s: float,
        pace: Callable[[], None] | None,
    ) -> None:
        self.application: Final = credentials["application_id"]
        self.private_key: Final = credentials["private_key"]
        self._account = (credentials.get("api_key", ""), credentials.get("api_secret", ""))
        self._network = (base_url, timeout_s, pace)
        self._auth: _TokenAuth | None = None

    @property
    def has_secret(self) -> bool:
        return all(self._account)

    def by_token(self) -> "HttpClient":
        """The SDK's client for the Voice API. Raises `RestError` when the key cannot sign."""
        if self._auth is not None:
            return _HttpClient(self._auth, *self._network)
        try:
            auth = _TokenAuth(self.application, self.private_key)
            auth.generate_application_jwt()
        except (VonageError, PyJWTError, UnsupportedAlgorithm, ValueError, TypeError) as error:
            # Without the error's words: the SDK may quote the key in them.
            raise RestError("credentials", "private-key", "the private key cannot sign a token") from error
        self._auth = auth
        return _HttpClient(auth, *self._network)

    def by_secret(self) -> "HttpClient":
        """The SDK's client for the Applications and Numbers APIs."""
        key, secret = self._account
        return _HttpClient(Auth(api_key=key, api_secret=secret), *self._network)


def ask(
    client: HttpClient,
    operation: Operation,
    method: Literal["GET", "POST", "PUT"],
    host: str,
    path: str,
    params: Mapping[str, Any] | None = None,
    *,
    auth: Literal["basic", "jwt"] = "basic",
    form: bool = False,
) -> dict[str, Any]:
    """One request, its answer raw: the SDK's models lose what they do not know. Raises `RestError`.

    One client must not send forms as well as JSON, nor with both kinds of authentication: it keeps the headers of
    the request before.
    """
    kind = "query_params" if method == "GET" else ("form" if form else "json")
    try:
        answer = client.make_request(method, host, path, dict(params or {}), auth, kind)
    except RequestException as error:
        raise transport_error(error, operation) from error
    except HttpRequestError as error:
        raise error_of(operation, error.response) from error
    except RecursionError as error:
        raise unreadable(operation, "Vonage's answer is not a JSON object") from error
    if not isinstance(answer, dict):
        raise unreadable(operation, "Vonage's answer is not a JSON object")
    return answer


class _TokenAuth(Auth):  # type: ignore[misc]  # the SDK has no types
    """The SDK's authentication, which reads the key once: it would for every token, and its client makes more than one for
    a request. Reading checks the key, and takes as long as the rest of the request.
    """

    def __init__(self, application_id: str, private_key: str) -> None:
        super().__init__(application_id=application_id, private_key=private_key)
        self._jwt_client._private_key = load_pem_private_key(private_key.encode(), None)


class _HttpClient(HttpClient):  # type: ignore[misc]  # the SDK has no types
    """The SDK's client with our session.

    `pool_maxsize` is 1 because the SDK reads it as how often to repeat a request, POST or not, whose
    connection was lost.
    """

    def __init__(
        self, auth: Auth, base_url: str | None, timeout_s: float, pace: Callable[[], None] | None
    ) -> None:
        super().__init__(auth, HttpClientOptions(pool_maxsize=1, max_retries=0))
        self._session = RebasedSession(base_url, timeout_s, pace)
