"""Why Kafka cannot be connected to. aiokafka says "unable to bootstrap"; the reason it only logs."""

import asyncio
import ssl
from collections.abc import Sequence
from typing import Final

from aiokafka.conn import create_conn
from aiokafka.errors import (
    AuthenticationFailedError,
    ClusterAuthorizationFailedError,
    IllegalSaslStateError,
    KafkaConnectionError,
    KafkaError,
    SaslAuthenticationFailed,
    UnsupportedSaslMechanismError,
)

from offhook.kafka_security import KafkaSecurity

_PATIENCE_S: Final = 3.0
_MAX_REASON: Final = 300


async def why_not(servers: Sequence[str], security: KafkaSecurity, error: Exception) -> str:
    """One sentence for the operator. The first server is dialled once more, and what it objects to is told; `error`, with
    which the client gave up, where it objects to nothing.
    """
    server = servers[0].strip()
    host, _, port = server.rpartition(":")
    try:
        async with asyncio.timeout(_PATIENCE_S):
            connection = await create_conn(
                host.strip("[]"),
                int(port),
                client_id="offhook-why-not",
                request_timeout_ms=int(_PATIENCE_S * 1000),
                **security.client_options(),
            )
    except (KafkaError, OSError, TimeoutError) as refusal:
        reason = _reason(refusal, security)
    else:
        connection.close()
        reason = _reason(error, security)
    return f"Kafka at {server} cannot be used: {reason}"


def _reason(error: Exception, security: KafkaSecurity) -> str:
    match error:
        case SaslAuthenticationFailed() | AuthenticationFailedError():
            return (
                f"it does not let the user {security.username} in: check OFFHOOK_KAFKA_SASL_USERNAME and"
                " OFFHOOK_KAFKA_SASL_PASSWORD"
            )
        case UnsupportedSaslMechanismError() | IllegalSaslStateError():
            return (
                f"it does not take {security.mechanism} over {security.protocol}: check OFFHOOK_KAFKA_SASL_MECHANISM and"
                " OFFHOOK_KAFKA_SECURITY_PROTOCOL"
            )
        case ClusterAuthorizationFailedError():
            return (
                f"the user {security.username or 'of this certificate'} may not publish: allow it what"
                " docs/reference/topics.md lists"
            )
        case ssl.SSLCertVerificationError():
            return (
                f"its certificate is not believed ({error.verify_message}): check OFFHOOK_KAFKA_CA_FILE, and that the"
                " certificate is for this name"
            )
        case ssl.SSLError():
            return f"TLS fails ({error.reason}): check OFFHOOK_KAFKA_SECURITY_PROTOCOL and OFFHOOK_KAFKA_CERT_FILE"
        case KafkaConnectionError() | TimeoutError():
            # A listener that expects something else (TLS, SASL) hangs up, or waits for the rest of it. With TLS 1.3 one
            # that expects a certificate does, too: the client believes to be connected before it is asked for one.
            certificate = ", and whether it wants OFFHOOK_KAFKA_CERT_FILE" if security.tls else ""
            return f"it does not answer {security.protocol}: check the address, OFFHOOK_KAFKA_SECURITY_PROTOCOL{certificate}"
        case OSError():
            return error.strerror or str(error)[:_MAX_REASON] or type(error).__name__
    return str(error)[:_MAX_REASON] or type(error).__name__
