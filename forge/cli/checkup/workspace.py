"""Looks at the workspace: its files, its locks, where its materials come from."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from forge.cli.checkup.finding import Finding
from forge.cli.session import Session
from forge.core.errors import LoadError
from forge.core.label import TargetPattern
from forge.core.target import TargetGraph
from forge.execution.output import FOLDER
from forge.loading.toolchain import PACKAGE as TOOLCHAINS
from forge.net.connection import Broken, Connection, Missing, Unavailable
from forge.packages.sources import ANY, Place

PATIENCE = 5.0
"""Seconds that a source may take to answer."""


@dataclass(frozen=True, slots=True)
class WorkspaceCheck:
    """The workspace that the command was called in."""

    session: Session
    network: bool = False

    def checks(self) -> Iterable[tuple[str, Callable[[], Iterable[Finding]]]]:
        """List the looks."""
        return [
            ("workspace", self.check_workspace),
            ("outputs", self.check_outputs),
            ("locks", self.check_locks),
            ("sources", self.check_sources),
        ]

    def check_workspace(self) -> Iterator[Finding]:
        """See that all its files can be read."""
        session = self.session
        graph = session.loader().load([TargetPattern("recursive", "")], manual=True)
        count = len({label.package for label in graph.requested})
        text = f"`{session.root}`: {len(graph.requested)} targets in {count} packages"
        yield Finding("workspace", "ok", text)

    def check_outputs(self) -> Iterator[Finding]:
        """See that links to what is built can be made."""
        folder = self.session.root / FOLDER
        place = folder if os.path.lexists(folder) else self.session.root
        if not place.is_dir():
            yield Finding("outputs", "fault", f"`{FOLDER}` is not a folder", "Move it elsewhere: links go there")
            return
        try:
            with tempfile.TemporaryDirectory(prefix=".forge-doctor-", dir=place) as name:
                Path(name, "link").symlink_to("x")
        except OSError as error:
            hint = "Links to what is built go there: make it yours, or work in a copy"
            yield Finding("outputs", "fault", f"May not write `{place}`: {error.strerror}", hint)
            return
        yield Finding("outputs", "ok", f"`{FOLDER}` can be written")

    def check_locks(self) -> Iterator[Finding]:
        """See that every lock is there and is for what is declared now."""
        missing, stale, archs = [], [], set()
        targets = self._locked_targets()
        total = 0
        for label in targets.requested:
            target = targets.targets[label]
            for request in target.lock_requests:
                total += 1
                archs.add(request.arch)
                lock = target.locks.get(request.name)
                if lock is None:
                    missing.append(request.name)
                elif (lock.kind, lock.arch, lock.requested) != (request.kind, request.arch, request.requested):
                    stale.append(request.name)
        for what, names in (("missing", missing), ("stale", stale)):
            if names:
                unique = sorted(set(names))
                text = f"{len(unique)} locks are {what}: [{', '.join(unique)}]; what needs them is skipped"
                yield Finding(
                    "locks", "warning", text, "Run `forge lock` where there is a network, and commit what it writes"
                )
        if not missing and not stale:
            yield Finding("locks", "ok", f"All {total} are there and match, for [{', '.join(sorted(archs))}]")

    def check_sources(self) -> Iterator[Finding]:
        """See where materials come from; with `network`, ask each place."""
        by_id = {source: places for source, places in sorted(self.session.places.by_id.items()) if places}
        if not {"pypi", ANY} & by_id.keys():
            hint = 'Configure pip, or set `pypi = "https://…"` in `[sources]` of WORKSPACE.toml'
            yield Finding("sources", "warning", "No place is known for Python packages", hint)
        places = [place for each in by_id.values() for place in each]
        remote = sum(place.folder is None for place in places)
        if not self.network and remote:
            yield Finding("sources", "ok", f"{len(places)} places; `--network` asks the {remote} that are not folders")
        with ThreadPoolExecutor(max_workers=8) as pool:
            connection = Connection(self.session.environ, timeout=PATIENCE)
            answers = dict(
                zip(places, pool.map(lambda each: probe(each, connection, self.network), places), strict=True)
            )
        for source, found in by_id.items():
            faults = [f"{place} ({place.origin}): {answers[place]}" for place in found if answers[place]]
            if len(faults) == len(found):
                hint = "What is in the store is not fetched; else name another place in `[sources]` of WORKSPACE.toml"
                yield Finding("sources", "warning", f"{source}: {'; '.join(faults)}", hint)
            elif self.network:
                good = [f"{place} ({place.origin})" for place in found if not answers[place]]
                rest = f"; not {'; '.join(faults)}" if faults else ""
                yield Finding("sources", "ok", f"{source}: {', '.join(good)}{rest}")

    def _locked_targets(self) -> TargetGraph:
        patterns = (TargetPattern("recursive", ""), TargetPattern("package", TOOLCHAINS))
        try:
            return self.session.loader().load(patterns, manual=True)
        except LoadError:  # that is another finding; forge's own locks can be looked at all the same
            return self.session.loader().load(patterns[1:], manual=True)


def probe(place: Place, connection: Connection, network: bool) -> str:
    """Ask a place whether it is there; why not, or nothing. What it answers does not matter."""
    if place.folder is not None:
        return "" if place.folder.exists() else "No such folder"
    if not network:
        return ""
    try:
        with connection.open("HEAD", f"{place.address}/", {}, login=place.login):
            return ""
    except Missing:
        return ""
    except (Broken, Unavailable) as error:
        return "" if "HTTP 405" in str(error) else str(error)
