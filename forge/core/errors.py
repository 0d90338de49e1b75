"""The tree of errors.

ForgeError
├── UserError            the user can mend it                     exit 1
│   ├── LoadError        a TOML file or a rule module is at fault
│   ├── AnalysisError    targets that do not fit together
│   │   └── Unavailable  cannot be built here: a wildcard skips it, naming it is an error
│   ├── MaterialError    a wheel, package or file cannot be had, or is not what its lock says
│   ├── UsageError       bad flags or no workspace                exit 2
│   ├── NoTestsError     no test target matches                   exit 4
│   └── QueryError       a query expression is at fault           exit 7
├── ActionFailed         an action did not succeed                exit 1
├── TestsFailed          built, but tests failed                  exit 3
├── Interrupted          Ctrl-C or SIGTERM                        exit 8
├── LockHeld             another command holds the workspace      exit 9
├── HostError            this machine lacks something             exit 36
└── InternalError        a bug in forge                           exit 37
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong: where, what, and what to do about it."""

    text: str
    place: str = ""
    """`file:line`, a label, or empty."""
    hint: str = ""

    def __str__(self) -> str:
        head = f"{self.place}: {self.text}" if self.place else self.text
        return f"{head}\n  hint: {self.hint}" if self.hint else head


class ForgeError(Exception):
    """The root of all errors that forge raises on purpose."""

    exit_code = 37

    def __init__(self, text: str | Fault, *more: Fault, place: str = "", hint: str = "") -> None:
        first = text if isinstance(text, Fault) else Fault(text, place, hint)
        self.faults: tuple[Fault, ...] = (first, *more)
        super().__init__("\n".join(map(str, self.faults)))


class UserError(ForgeError):
    """The declarations or the command are at fault."""

    exit_code = 1


class LoadError(UserError):
    """A TOML file, a pattern or a rule module is at fault; carries every fault of the file."""


class AnalysisError(UserError):
    """Targets do not fit together."""


class Unavailable(AnalysisError):
    """A target cannot be built here: something is not locked, or a device is not there."""


class MaterialError(UserError):
    """A material cannot be had, or is not what its lock says."""


class UsageError(UserError):
    """The command line is at fault."""

    exit_code = 2


class NoTestsError(UserError):
    """A pattern matches no test."""

    exit_code = 4


class QueryError(UserError):
    """A query expression is at fault."""

    exit_code = 7


class ActionFailed(ForgeError):
    """An action ended without success; `log` holds the end of what it printed, `left` small files that it left."""

    exit_code = 1

    def __init__(self, text: str | Fault, *more: Fault, place: str = "", hint: str = "", log: str = "") -> None:
        super().__init__(text, *more, place=place, hint=hint)
        self.log = log
        self.left: dict[str, bytes] = {}


class TestsFailed(ForgeError):
    """Everything was built, but tests failed."""

    __test__ = False
    exit_code = 3


class Interrupted(ForgeError):
    """The user stopped the command."""

    exit_code = 8


class LockHeld(ForgeError):
    """Another command holds the workspace and waiting was declined."""

    exit_code = 9


class HostError(ForgeError):
    """This machine lacks something: a sandbox, space, a permission."""

    exit_code = 36


class InternalError(ForgeError):
    """A bug in forge."""
