"""Labels, the absolute names of targets, and patterns, which name sets of them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from forge.core.errors import LoadError

_SEGMENT = r"[A-Za-z0-9_][A-Za-z0-9_.+-]*"
_PACKAGE = re.compile(rf"(?:{_SEGMENT}(?:/{_SEGMENT})*)?")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+=@-]*")
_HINT = "Write `//package:name`, `//package` for `//package:package`, or `:name` in its own package"


@dataclass(frozen=True, slots=True, order=True)
class Label:
    """The absolute name of a target, `//package:name`; an instance's name is `target@platform` by default."""

    package: str
    """Folder below the packages' folder, with `/`; empty for the folder itself."""
    name: str

    @classmethod
    def parse(cls, text: str, package: str | None = None) -> Label:
        """Read a label; relative ones need the `package` that they stand in. LoadError when it is none."""
        head, colon, name = text.partition(":")
        if head.startswith("//"):
            where = head[2:]
            if not colon:
                name = where.rpartition("/")[2]
        elif head == "" and colon and package is not None:
            where = package
        else:
            raise LoadError(f"`{text}` is not a label", hint=_HINT)
        if not _PACKAGE.fullmatch(where) or not _NAME.fullmatch(name):
            raise LoadError(f"`{text}` is not a label", hint=_HINT)
        return cls(where, name)

    def __str__(self) -> str:
        return f"//{self.package}:{self.name}"


def is_name(text: str) -> bool:
    """Say whether `text` can be the name of a target; `all` is a pattern."""
    return _NAME.fullmatch(text) is not None and text != "all"


def is_package(text: str) -> bool:
    """Say whether `text` can be the name of a package."""
    return _PACKAGE.fullmatch(text) is not None


@dataclass(frozen=True, slots=True)
class TargetPattern:
    """A set of targets: one, a package's, or a folder's; with `exclude`, what to take away."""

    kind: Literal["target", "package", "recursive"]
    package: str
    name: str = ""
    exclude: bool = False

    @classmethod
    def parse(cls, text: str, package: str = "") -> TargetPattern:
        """Read `//a:b`, `//a`, `:b`, `//a:all`, `//a:*`, `//a/...`, `//...`, each with `-` to exclude.

        As in Bazel, what does not begin with `//` is below `package`, the one of the working folder.
        """
        exclude = text.startswith("-")
        body = text[1:] if exclude else text
        if not body.startswith(("//", ":")):
            is_path = body == "..." or ":" in body or "/" in body
            body = f"//{package}/{body}".replace("///", "//", 1) if is_path else f":{body}"
        if body.startswith("//") and body.endswith("/..."):
            where = body[2:-4]
            if not _PACKAGE.fullmatch(where) or (not where and body != "//..."):
                raise LoadError(f"`{text}` is not a target pattern", hint="Write `//...` or `//package/...`")
            return cls("recursive", where, exclude=exclude)
        if body.endswith((":all", ":*")):
            body = body.rpartition(":")[0] + ":all"
            return cls("package", _label(body, package, text).package, exclude=exclude)
        label = _label(body, package, text)
        return cls("target", label.package, label.name, exclude)

    @property
    def is_wildcard(self) -> bool:
        """Wildcards skip what cannot be built here; a target named outright must be built."""
        return self.kind != "target"

    def covers(self, package: str) -> bool:
        """Say whether the pattern can match targets of `package`."""
        if self.kind != "recursive":
            return self.package == package
        return not self.package or package == self.package or package.startswith(self.package + "/")

    def matches(self, label: Label) -> bool:
        """Say whether `label` is in the set."""
        if self.kind == "target":
            return label == Label(self.package, self.name)
        return self.covers(label.package)

    def __str__(self) -> str:
        sign = "-" if self.exclude else ""
        if self.kind == "recursive":
            return f"{sign}//{self.package}/...".replace("///", "//")
        return f"{sign}//{self.package}:{'all' if self.kind == 'package' else self.name}"


def parse_patterns(texts: Sequence[str], package: str = "") -> tuple[TargetPattern, ...]:
    """Read patterns in their order; later ones win over earlier ones, as in Bazel."""
    return tuple(TargetPattern.parse(text, package) for text in texts)


def select(patterns: Iterable[TargetPattern], labels: Iterable[Label]) -> tuple[Label, ...]:
    """Apply patterns in order to sorted labels."""
    chosen: set[Label] = set()
    known = sorted(labels)
    for pattern in patterns:
        matched = {label for label in known if pattern.matches(label)}
        chosen = chosen - matched if pattern.exclude else chosen | matched
    return tuple(label for label in known if label in chosen)


def _label(body: str, package: str, text: str) -> Label:
    try:
        return Label.parse(body, package)
    except LoadError as error:
        hint = "Write `//package:name`, `//package:all`, `//package/...` or `//...`"
        raise LoadError(f"`{text}` is not a target pattern", hint=hint) from error
