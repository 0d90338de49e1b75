"""How a label that somebody is typing may go on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from forge.cli.label_scan import TOOLCHAINS, LabelScan

Going = tuple[str, bool]
"""A text, and whether a space may follow: a package goes on with a target or with a package below it."""


def complete_labels(scan: LabelScan, cwd: Path, text: str, *, patterns: bool = True) -> list[Going]:
    """List what `text` may become; without `patterns` targets alone, no `:all` and no `...`."""
    sign = "-" if text.startswith("-") else ""
    body = text.removeprefix("-")
    return [(sign + each, is_whole) for each, is_whole in _completed(scan, cwd, body, patterns)]


def _completed(scan: LabelScan, cwd: Path, body: str, patterns: bool) -> Iterator[Going]:
    own = scan.package_of(cwd)
    if ":" in body:
        where, _, name = body.partition(":")
        package = where[2:] if where.startswith("//") else "/".join(filter(None, (own, where)))
        if where.startswith("//") or own is not None:
            wanted = [*scan.targets(package), *(["all"] if patterns and package in scan.packages else [])]
            yield from ((f"{where}:{each}", True) for each in sorted(wanted) if each.startswith(name))
    elif body.startswith("//") or "//".startswith(body):
        yield from _packages(scan, body.removeprefix("/").removeprefix("/"), patterns)
        if not body and own is not None:
            yield from ((f":{each}", True) for each in scan.targets(own))
    elif own is not None:
        yield from ((each, True) for each in scan.targets(own) if each.startswith(body))


def _packages(scan: LabelScan, path: str, patterns: bool) -> Iterator[Going]:
    above, slash, last = path.rpartition("/")
    folder = above + slash
    # forge's own package is offered to those who ask for it: it is no part of `//...`.
    below = [each for each in scan.packages if each.startswith(path) and (each != TOOLCHAINS or path)]
    found: dict[str, bool] = {}
    for package in below:
        child, deeper, _ = package.removeprefix(folder).partition("/")
        found[f"//{folder}{child}{'/' if deeper else ':'}"] = False
    if patterns and "...".startswith(last) and any(each.startswith(folder) for each in scan.packages):
        found[f"//{folder}..."] = True
    yield from sorted(found.items())
