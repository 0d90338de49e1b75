"""What a Dockerfile takes from elsewhere: bases, files of other images, downloads. All of it must be pinned.

Reads as much of the language as that takes: directives, continued lines, here-documents, arguments in names.
https://docs.docker.com/reference/dockerfile/
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field

from forge.core.errors import Fault

_DIRECTIVE = re.compile(r"#\s*([a-z]+)\s*=\s*(\S+)\s*", re.IGNORECASE)
_DIGEST = re.compile(r"\S+@sha256:[0-9a-f]{64}")
_HEREDOC = re.compile(r"<<-?\s*([\"']?)([A-Za-z_][A-Za-z0-9_.]*)\1")
_VARIABLE = re.compile(r"\$(?:\{([A-Za-z_][A-Za-z0-9_]*)(?::?-([^}]*))?\}|([A-Za-z_][A-Za-z0-9_]*))")
_MOUNT = re.compile(r"(?:^|,)from=([^,]+)")
_AUTOMATIC = frozenset(
    f"{side}{what}" for side in ("TARGET", "BUILD") for what in ("ARCH", "OS", "PLATFORM", "VARIANT")
)
"""Arguments that BuildKit fills in; in a stage's name they choose one of the file's own."""


def faults_of(text: str, path: str, *, contexts: Collection[str], args: Mapping[str, str]) -> tuple[Fault, ...]:
    """Find what is taken from elsewhere without a digest, each with `file:line`."""
    scan = _Scan(path, frozenset(name.lower() for name in contexts), dict(args))
    for line, instruction, rest in _instructions(text, scan):
        scan.read(line, instruction, rest)
    if not scan.stages and not scan.faults:
        scan.fault(1, "There is no `FROM`", "Begin a stage with a named context: `FROM base`")
    return tuple(scan.faults)


@dataclass(slots=True)
class _Scan:
    path: str
    contexts: frozenset[str]
    args: dict[str, str]
    """Given ones, and defaults of those before the first stage."""
    stages: list[str] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)

    def fault(self, line: int, text: str, hint: str = "") -> None:
        self.faults.append(Fault(text, f"{self.path}:{line}", hint))

    def read(self, line: int, instruction: str, rest: str) -> None:
        words = rest.split()
        flags = [word for word in words if word.startswith("--")]
        plain = [word for word in words if not word.startswith("--")]
        if instruction == "ARG" and not self.stages:
            for word in plain:
                name, equals, value = word.partition("=")
                if equals:
                    self.args.setdefault(name, value.strip("\"'"))
        elif instruction == "FROM" and plain:
            self._image(line, plain[0])
            self.stages.append(plain[2].lower() if len(plain) > 2 and plain[1].upper() == "AS" else "")
        elif instruction in ("COPY", "ADD"):
            for flag in flags:
                if flag.startswith("--from="):
                    self._image(line, flag.removeprefix("--from="))
            if instruction == "ADD":
                self._downloads(line, flags, plain)
        elif instruction == "RUN":
            for flag in flags:
                if flag.startswith("--mount=") and (found := _MOUNT.search(flag.removeprefix("--mount="))):
                    self._image(line, found[1])
                if flag.startswith(("--network=", "--security=")) and not flag.endswith(("=none", "=sandbox")):
                    self.fault(line, f"`{flag}` takes a step out of its sandbox", "Leave it out")

    def _image(self, line: int, written: str) -> None:
        name = _VARIABLE.sub(self._value, written).strip("\"'")
        known = {"scratch", *self.contexts, *filter(None, self.stages), *map(str, range(len(self.stages)))}
        if name.lower() in known or _DIGEST.fullmatch(name):
            return
        if "$" in name and any(f"{{{each}}}" in name or name.endswith(f"${each}") for each in _AUTOMATIC):
            head = name.partition("$")[0].lower()
            if head and any(stage.startswith(head) for stage in known - {"scratch"}):
                return
        hint = f'Write `{name}@sha256:…`, or make it a named context: `contexts = {{ base = "//…" }}`, `FROM base`'
        self.fault(line, f"The image `{name}` has no digest: it may be another tomorrow", hint)

    def _value(self, found: re.Match[str]) -> str:
        name = found[1] or found[3]
        if name in _AUTOMATIC:
            return found[0]
        return self.args.get(name, found[2] if found[2] is not None else found[0])

    def _downloads(self, line: int, flags: list[str], plain: list[str]) -> None:
        remote = [word for word in plain[:-1] if re.match(r"(https?|git|ssh)://|git@", word)]
        if remote and not any(flag.startswith("--checksum=sha256:") for flag in flags):
            self.fault(line, f"`ADD {remote[0]}` downloads something unknown", "Add `--checksum=sha256:…`")


def _instructions(text: str, scan: _Scan) -> Iterator[tuple[int, str, str]]:
    lines = text.replace("\r\n", "\n").split("\n")
    escape, number = _directives(lines, scan), 0
    while number < len(lines):
        begin, joined = 0, ""
        while number < len(lines):
            line = lines[number]
            number += 1
            if line.strip().startswith("#") or (joined and not line.strip()):
                continue  # a comment within a continued line does not end it
            begin = begin or number
            joined += line.rstrip()
            if not joined.endswith(escape):
                break
            joined = joined[:-1] + " "
        instruction, _, rest = joined.strip().partition(" ")
        if instruction.upper() in ("RUN", "COPY", "ADD"):
            for _, end in _HEREDOC.findall(rest):
                while number < len(lines) and lines[number].strip("\t") != end:
                    number += 1
                number += 1
        if instruction.upper() == "ONBUILD":
            instruction, _, rest = rest.strip().partition(" ")
        if instruction:
            yield begin, instruction.upper(), rest


def _directives(lines: list[str], scan: _Scan) -> str:
    """Read what stands before everything else; the escape character."""
    escape = "\\"
    for number, line in enumerate(lines, 1):
        found = _DIRECTIVE.fullmatch(line.strip())
        if found is None:
            break
        if found[1].lower() == "escape":
            escape = found[2]
        if found[1].lower() == "syntax" and not _DIGEST.fullmatch(found[2]):
            scan.fault(number, f"The syntax `{found[2]}` has no digest", "Leave the line out, or add `@sha256:…`")
    return escape
