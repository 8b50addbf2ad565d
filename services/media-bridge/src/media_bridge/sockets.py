"""What both kinds of WebSocket share: messages made of frames (RFC 6455), writing, and how a connection
ended.

picows hands over single frames of either side as they come, checks neither fragmentation nor UTF-8, and
leaves the close handshake to us. Its own answers to pings must be switched off (`enable_auto_pong=False`): it
writes them also to a peer that reads nothing.
"""

import asyncio
from typing import Final

from picows import WSCloseCode, WSFrame, WSListener, WSMsgType, WSProtocolError, WSTransport

from offhook.providers.base import Frame

_TEXT: Final = WSMsgType.TEXT
_BINARY: Final = WSMsgType.BINARY
_CONTINUATION: Final = WSMsgType.CONTINUATION
_CLOSE: Final = WSMsgType.CLOSE
_PING: Final = WSMsgType.PING

_GOODBYE_S: Final = 1.0

MAX_UNREAD: Final = 1024 * 1024
"""Bytes a peer may leave unread: more than half a minute of audio in any encoding of a carrier's."""

NO_STATUS: Final = 1005
ABNORMAL: Final = 1006
"""RFC 6455, 7.4.1: how an end without a code, and one without a close frame, are reported."""


class MessageSocket(WSListener):
    """A WebSocket whose subclass gets whole messages (`message`) and one word about the end (`ended`).

    `gone` is set when the connection has ended.
    """

    def __init__(self, max_message: int) -> None:
        super().__init__()
        self._max_message = max_message
        self._transport: WSTransport | None = None
        self._closing = False
        self._unread = False
        self.gone = asyncio.Event()
        self._parts: list[bytes] = []
        self._parts_size = 0
        self._parts_kind = _TEXT

    # --- for the subclass
    # -----------------------------------------------------------------------------------------

    def connected(self) -> None:
        """The handshake is done."""

    def message(self, message: Frame) -> None:
        """One whole message: `bytes` is binary, `str` is text."""

    def ended(self, code: int) -> None:
        """The connection is gone. `code` is the peer's close code, `NO_STATUS` or `ABNORMAL`."""

    def write(self, message: Frame) -> None:
        """Write one message now; after the end it goes nowhere. A peer that has left `MAX_UNREAD` bytes unread
        is left behind."""
        transport = self._transport
        if transport is None:
            return
        if self._unread and self.buffered_bytes() > MAX_UNREAD:
            self.abort()
        else:
            transport.send(_TEXT if type(message) is str else _BINARY, message)

    def close(self, code: int, reason: str = "") -> None:
        """Say goodbye; what the peer still says is not listened to. The connection ends when the peer has
        said goodbye, too, or after a second. Safe to call at any time, and twice."""
        transport = self._transport
        if transport is None or self._closing:
            return
        self._closing = True
        transport.send_close(WSCloseCode(code), reason.encode()[:120])
        # Not at once: a TCP connection that is closed with something unread in it is reset, and the peer may
        # then lose our last words.
        asyncio.get_running_loop().call_later(_GOODBYE_S, self.abort)

    def buffered_bytes(self) -> int:
        """What was written and the peer has not taken yet."""
        transport = self._transport
        return 0 if transport is None else transport.underlying_transport.get_write_buffer_size()

    def abort(self) -> None:
        """End the connection at once, for a peer that does not read any more."""
        if self._transport is not None:
            self._transport.disconnect(graceful=False)

    # --- picows
    # ---------------------------------------------------------------------------------------------------

    def on_ws_connected(self, transport: WSTransport) -> None:
        self._transport = transport
        self.connected()

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        kind = frame.msg_type
        if self._closing and kind is not _CLOSE:
            return
        if frame.rsv1 or frame.rsv2 or frame.rsv3:
            raise WSProtocolError(WSCloseCode.PROTOCOL_ERROR, "reserved bits without an extension")
        if frame.fin and not self._parts:
            if kind is _TEXT:
                try:
                    text = frame.get_payload_as_utf8_text()
                except UnicodeDecodeError as error:
                    raise WSProtocolError(WSCloseCode.INVALID_TEXT, "text that is not UTF-8") from error
                self.message(text)
                return
            if kind is _BINARY:
                self.message(frame.get_payload_as_bytes())
                return
        if kind is _CLOSE:
            self._say_goodbye(transport)
        elif kind is _PING:
            if not self._unread:
                transport.send_pong(frame.get_payload_as_bytes())
        elif kind in (_TEXT, _BINARY, _CONTINUATION):
            self._collect(frame)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        self._transport = None
        self.gone.set()
        handshake = transport.close_handshake
        received = handshake.recv if handshake is not None else None
        if received is None:
            self.ended(ABNORMAL)
        else:
            self.ended(int(received.code.value) or NO_STATUS)

    def pause_writing(self) -> None:
        """The peer does not read: what is written is only buffered. Subclasses that write much should stop."""
        self._unread = True

    def resume_writing(self) -> None:
        self._unread = False

    # --- details
    # --------------------------------------------------------------------------------------------------

    def _say_goodbye(self, transport: WSTransport) -> None:
        if not transport.is_close_frame_sent:
            handshake = transport.close_handshake
            code = (
                handshake.recv.code
                if handshake is not None and handshake.recv is not None
                else WSCloseCode.OK
            )
            # 1005 is never sent (RFC 6455, 7.4.1): a close without a code is answered with 1000.
            transport.send_close(code if code.value else WSCloseCode.OK)
        transport.disconnect()

    def _collect(self, frame: WSFrame) -> None:
        kind = frame.msg_type
        if (kind is _CONTINUATION) is not bool(self._parts):
            raise WSProtocolError(WSCloseCode.PROTOCOL_ERROR, "a fragment out of order")
        if not self._parts:
            self._parts_kind = kind
        # The size counts empty fragments, too: a million of them are an attack.
        self._parts_size += frame.payload_size + 64
        if self._parts_size > self._max_message + 64 * 64:
            raise WSProtocolError(WSCloseCode.MESSAGE_TOO_BIG, f"more than {self._max_message} bytes")
        self._parts.append(frame.get_payload_as_bytes())
        if not frame.fin:
            return
        whole, kind = b"".join(self._parts), self._parts_kind
        self._parts, self._parts_size = [], 0
        if kind is _BINARY:
            self.message(whole)
            return
        try:
            text = whole.decode()
        except UnicodeDecodeError as error:
            raise WSProtocolError(WSCloseCode.INVALID_TEXT, "text that is not UTF-8") from error
        self.message(text)
