"""Requests off the wire: h11, stricter, which reports what is wrong instead of raising it.

uvicorn logs a warning for each error that h11 raises and answers in text, even where a response is on its way.
"""

from __future__ import annotations

from collections.abc import Callable

import h11

from forge_runtime.error import RequestError
from forge_runtime.http.limit import ConnectionLimits

__all__ = ["Parser"]

VERSIONS = (b"1.0", b"1.1")


class Parser(h11.Connection):
    """The protocol's state on one connection."""

    def __init__(
        self,
        limits: ConnectionLimits,
        *,
        refuse: Callable[[RequestError], None],
        is_last: Callable[[], bool],
        on_head: Callable[[], object],
    ) -> None:
        super().__init__(h11.SERVER, limits.max_header_bytes)
        self._limits = limits
        self._refuse = refuse
        self._is_last = is_last
        self._on_head = on_head
        self._head = b""

    @property
    def buffered(self) -> bool:
        """Whether bytes were received that no event has come of yet."""
        return bool(self.trailing_data[0])

    def next_event(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        """Return what comes next; nothing more after what was refused."""
        idle = self.their_state is h11.IDLE
        try:
            event = super().next_event()
            if isinstance(event, h11.Request):
                self._check(event)
        except RequestError as error:
            self._refuse(error)
        except h11.RemoteProtocolError as error:
            if error.error_status_hint == 431 and idle:
                self._refuse(self._too_large())
            else:
                # h11's hint for an unknown transfer coding is 501, but a 5xx calls for whoever runs the server. What
                # stands behind the colon are the client's own bytes.
                reason = str(error).partition(":")[0]
                self._refuse(RequestError(f"Not a valid HTTP request: {reason}", code="bad_request"))
        else:
            return event
        return h11.NEED_DATA

    def send_with_data_passthrough(self, event: h11.Event) -> list[bytes] | None:
        """Turn an event into bytes; a response says so where no request may follow it.

        A client that waits for `100 Continue` and is answered otherwise may send its body or not, and what is
        next could be either a body or a request.
        """
        if isinstance(event, h11.Response) and (self._is_last() or self.they_are_waiting_for_100_continue):
            headers = [(name, value) for name, value in event.headers if name != b"connection"]
            headers.append((b"connection", b"close"))
            event = h11.Response(status_code=event.status_code, headers=headers, reason=event.reason)
        data = super().send_with_data_passthrough(event)
        if isinstance(event, h11.Response) and data is not None:
            # It waits for what comes at once, mostly the body: one packet, for which the client wakes up once.
            self._head, data = b"".join(data), []
            self._on_head()
        elif self._head and data is not None:
            data = [self.take_head(), *data]
        return data

    def take_head(self) -> bytes:
        """Return the head of a response that was not written yet, or nothing."""
        head, self._head = self._head, b""
        return head

    def _check(self, request: h11.Request) -> None:
        headers = list(request.headers)
        names = [name for name, _ in headers]
        if request.http_version not in VERSIONS:
            message = "Only HTTP/1.0 and HTTP/1.1 are served"
            raise RequestError(message, code="unsupported_http_version")
        # h11 looks at its buffer only while headers are incomplete.
        size = len(request.target) + sum(len(name) + len(value) + 4 for name, value in headers)
        if size > self._limits.max_header_bytes:
            raise self._too_large()
        if len(headers) > self._limits.max_headers:
            message = f"More than {self._limits.max_headers} headers"
            raise RequestError(message, status=431, code="too_many_headers")
        # What a proxy takes for a body may be a request here, and the other way round (RFC 9112, 6.1).
        if b"transfer-encoding" in names and (b"content-length" in names or request.http_version == b"1.0"):
            message = "`Transfer-Encoding` goes neither with `Content-Length` nor with HTTP/1.0"
            raise RequestError(message, code="ambiguous_length")

    def _too_large(self) -> RequestError:
        message = f"The headers are larger than {self._limits.max_header_bytes} bytes"
        return RequestError(message, status=431, code="headers_too_large")
