"""What goes wrong: with the command, with the server, with one request.

ClientError
    UsageFault      the command line, a file: status 2
    NotReady        no server, or one that does not get ready: status 3
    RequestFailed   one request: counted, not raised to the user
"""

from __future__ import annotations

__all__ = ["ClientError", "NotReady", "RequestFailed", "UsageFault"]


class ClientError(Exception):
    """Ends the command with a message and a status."""

    status = 1

    def __init__(self, text: str, hint: str = "") -> None:
        super().__init__(text)
        self.text = text
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.text}\n  hint: {self.hint}" if self.hint else self.text


class UsageFault(ClientError):
    """The command line or a file that it names is wrong."""

    status = 2


class NotReady(ClientError):
    """The server did not answer, or was not ready, in the time that it was given."""

    status = 3


class RequestFailed(ClientError):
    """One request has no good answer."""

    def __init__(self, kind: str, text: str, *, unanswered: bool = False, retry_after: float | None = None) -> None:
        super().__init__(text)
        self.kind = kind
        """What it is counted as: `refused`, `reset`, `timeout`, `truncated`, `http_500` and so on."""
        self.unanswered = unanswered
        """Not one byte of an answer came."""
        self.retry_after = retry_after
        """Seconds that the server asks to wait."""
