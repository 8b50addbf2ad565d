"""What a REST call meets on its way."""

import socket
import ssl
import threading
from contextlib import contextmanager

import pytest
import trustme
from requests.exceptions import ConnectionError as RequestsConnectionError
from requests.exceptions import RequestException

from offhook.providers.rest_transport import (
    RebasedSession,
    rebased,
    retry_after,
    status_error,
    transport_error,
)


def failure(session, url="https://api.example.com/x"):
    with pytest.raises(RequestException) as caught:
        session.post(url, data={"a": "b"})
    return transport_error(caught.value).kind


@contextmanager
def tls_server(ca):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("localhost").configure_cert(context)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve():
            try:
                connection, _ = listener.accept()
                with connection, context.wrap_socket(connection, server_side=True) as tls:
                    tls.recv(65536)
                    tls.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")
            except OSError:
                pass  # the client did not like the certificate

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"https://localhost:{listener.getsockname()[1]}"
        thread.join()


@pytest.fixture
def no_bundle(monkeypatch):
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("name", ["REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"])
def test_certificates_are_checked_against_the_bundle_of_the_environment(
    name, monkeypatch, tmp_path, no_bundle
):
    ca = trustme.CA()
    bundle = tmp_path / "ca.pem"
    ca.cert_pem.write_to_path(str(bundle))
    with tls_server(ca) as url:
        assert failure(RebasedSession(url, 5)) == "unavailable"
    monkeypatch.setenv(name, str(bundle))
    with tls_server(ca) as url:
        assert RebasedSession(url, 5).post("https://api.example.com/x").status_code == 204


def test_a_request_that_never_left_is_told_from_one_whose_answer_was_lost(rest_api):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        closed = f"http://127.0.0.1:{listener.getsockname()[1]}"
    assert failure(RebasedSession(closed, 2)) == "unavailable"
    assert failure(RebasedSession("http://no-such-host.invalid", 2)) == "unavailable"
    rest_api.behaviour = "hang"
    assert failure(RebasedSession(rest_api.url, 0.3)) == "unknown-outcome"
    rest_api.behaviour = "drop"
    assert failure(RebasedSession(rest_api.url, 2)) == "unknown-outcome"
    assert transport_error(RequestsConnectionError()).kind == "unknown-outcome"


def test_a_lost_request_is_not_repeated(rest_api):
    rest_api.behaviour = "drop"
    failure(RebasedSession(rest_api.url, 2))
    assert len(rest_api.sent) == 1


def test_redirects_are_not_followed_and_the_base_url_replaces_the_host(rest_api):
    rest_api.answer(302, {}, Location="http://127.0.0.1:1/elsewhere")
    answer = RebasedSession(rest_api.url + "/sim/", 2).get("https://api.example.com/v1/calls?a=b%20c")
    assert (answer.status_code, rest_api.sent[0].path) == (302, "/sim/v1/calls?a=b%20c")
    assert rebased("https://api.example.com/x", None) == "https://api.example.com/x"


@pytest.mark.parametrize(
    ("operation", "status", "kind"),
    [
        ("dial", 400, "rejected"),
        ("dial", 401, "credentials"),
        ("dial", 403, "credentials"),
        ("dial", 404, "rejected"),
        ("hang-up", 404, "gone"),
        ("dial", 429, "busy"),
        ("dial", 503, "unknown-outcome"),
        ("dial", 500, "unknown-outcome"),
        ("dial", 504, "unknown-outcome"),
        ("dial", 302, "unknown-outcome"),
        ("hang-up", 500, "unavailable"),
    ],
)
def test_a_status_means_different_things_to_dialling_and_to_hanging_up(operation, status, kind):
    assert status_error(operation, status, "code", "message", {}).kind == kind


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7.0),
        ("", None),
        ("soon", None),
        ("-1", None),
        ("9999999", 3600.0),
        ("9" * 5000, 3600.0),
        ("٣", None),
    ],
)
def test_retry_after_is_bounded_seconds(value, seconds):
    assert retry_after({"Retry-After": value}) == seconds


@pytest.mark.parametrize(
    ("value", "date", "seconds"),
    [
        ("Sun, 06 Nov 1994 08:50:07 GMT", "Sun, 06 Nov 1994 08:49:37 GMT", 30.0),
        ("Sun, 06 Nov 1994 08:49:07 GMT", "Sun, 06 Nov 1994 08:49:37 GMT", 0.0),
        ("Mon, 07 Nov 1994 08:49:37 GMT", "Sun, 06 Nov 1994 08:49:37 GMT", 3600.0),
        ("Sun, 06 Nov 1994 08:50:07 GMT", "", None),
        ("Sun, 99 Nov 1994 08:50:07 GMT", "Sun, 06 Nov 1994 08:49:37 GMT", None),
    ],
)
def test_a_date_to_retry_after_counts_from_the_answers_own_date(value, date, seconds):
    assert retry_after({"Retry-After": value, "Date": date}) == seconds


@contextmanager
def raw_server(*pieces, pause_s=0.0):
    """Answers every request with these bytes, piece by piece, then closes."""
    gone = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve():
            try:
                connection, _ = listener.accept()
                with connection:
                    connection.recv(65536)
                    for piece in pieces:
                        connection.sendall(piece)
                        if gone.wait(pause_s):
                            return
            except OSError:
                pass  # the client has had enough

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        gone.set()
        thread.join()


HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n"


def read_failure(url, timeout_s=5.0):
    with pytest.raises(RequestException) as caught:
        RebasedSession(url, timeout_s).get("https://api.example.com/x")
    error = transport_error(caught.value, "read")
    return error.kind, error.code


def test_an_answer_that_comes_in_pieces_is_read_whole():
    with raw_server(HEAD % 6, b"abc", b"def", pause_s=0.05) as url:
        answer = RebasedSession(url, 5).get("https://api.example.com/x")
    assert (answer.content, answer.text) == (b"abcdef", "abcdef")


def test_an_answer_that_is_cut_off_is_a_lost_answer():
    with raw_server(HEAD % 100, b'{"a": 1}') as url:
        assert read_failure(url) == ("unavailable", "no-answer")


def test_an_answer_without_an_end_is_given_up_whether_it_trickles_or_floods():
    with raw_server(HEAD % 1000, *[b"x"] * 1000, pause_s=0.05) as url:
        assert read_failure(url, 0.1) == ("unavailable", "no-answer")
    with raw_server(HEAD % 2**31, *[b"x" * 2**20] * 40) as url:
        assert read_failure(url) == ("unavailable", "no-answer")


@pytest.mark.parametrize(
    ("operation", "kind"),
    [("read", "unavailable"), ("write", "unknown-outcome"), ("dial", "unknown-outcome")],
)
def test_a_lost_answer_about_a_setting_has_a_code_of_its_own(operation, kind):
    error = transport_error(RequestsConnectionError(), operation)
    assert (error.kind, error.code == "no-answer") == (kind, operation != "dial")


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (302, "unavailable"),
        (400, "rejected"),
        (401, "credentials"),
        (403, "credentials"),
        (404, "gone"),
        (408, "unavailable"),
        (429, "busy"),
        (500, "unavailable"),
        (503, "unavailable"),
    ],
)
def test_what_may_be_repeated_fails_without_doubt(status, kind):
    assert status_error("read", status, "code", "message", {}).kind == kind
