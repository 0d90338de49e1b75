"""Looks at FORGE_HOME, without making it."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from forge.cli.checkup.finding import Finding
from forge.cli.console import human
from forge.execution.home import SCHEMA, free_bytes, home_folder

LITTLE = 5_000_000_000
"""Bytes: an image with torch takes about three gigabytes, from its packages to its layers."""
NOTHING = 200_000_000
FEW = 100_000
"""Files that the file system can still make; an environment has tens of thousands."""
SKEW = 5.0
"""Seconds that a file system's clock may differ."""
_MOVE = "Free some, or set FORGE_HOME to a folder on a larger disk"


@dataclass(frozen=True, slots=True)
class Home:
    """The folder that forge keeps things in."""

    environ: Mapping[str, str]
    free: Callable[[Path], int] = free_bytes

    def checks(self) -> Iterable[tuple[str, Callable[[], Iterable[Finding]]]]:
        """List the looks."""
        return [("store", self.check_store), ("disk", self.check_disk)]

    def check_store(self) -> Iterator[Finding]:
        """See that it is of this forge's kind, can be written, and that what is in it can be run."""
        home = home_folder(self.environ)
        place = next(each for each in (home, *home.parents) if os.path.lexists(each))
        own = "Set FORGE_HOME to a folder of your own"
        if not place.is_dir():
            yield Finding("store", "fault", f"`{place}` is not a folder, so `{home}` cannot be made", own)
            return
        with suppress(OSError):
            schema = (home / "version").read_text(errors="replace").strip()
            if schema and schema != SCHEMA:
                hint = "Use the forge that wrote it, or set FORGE_HOME to another folder"
                yield Finding("store", "fault", f"`{home}` has schema {schema}, this forge knows {SCHEMA}", hint)
                return
        try:
            yield from self._written(place, home)
        except OSError as error:
            yield Finding("store", "fault", f"May not write `{place}`: {error.strerror}", own)

    def check_disk(self) -> Iterator[Finding]:
        """See that there is room."""
        home = home_folder(self.environ)
        size = self.free(home)
        place = next(each for each in (home, *home.parents) if each.exists())
        found = os.statvfs(place)
        if size < NOTHING:
            yield Finding("disk", "fault", f"{human(size)} are free for `{home}`", _MOVE)
        elif size < LITTLE:
            yield Finding("disk", "warning", f"{human(size)} are free for `{home}`: little for a large image", _MOVE)
        elif found.f_files and found.f_favail < FEW:
            yield Finding("disk", "warning", f"{found.f_favail} more files fit where `{home}` is", _MOVE)
        else:
            yield Finding("disk", "ok", f"{human(size)} are free")

    def _written(self, place: Path, home: Path) -> Iterator[Finding]:
        is_new = place != home
        with tempfile.TemporaryDirectory(prefix=".forge-doctor-", dir=place) as name:
            file = Path(name, "file")
            file.write_bytes(b"")
            skew = file.stat().st_mtime - time.time()
            with suppress(OSError):
                Path(name, "link").hardlink_to(file)
            is_linked = Path(name, "link").exists()
        if os.statvfs(place).f_flag & os.ST_NOEXEC:
            hint = "Mount it without `noexec`, or set FORGE_HOME to a folder on another"
            yield Finding("store", "fault", f"`{place}` is mounted `noexec`: no action could start its program", hint)
            return
        if abs(skew) > SKEW:
            hint = "Set the clocks of this machine and of the file server"
            yield Finding("store", "warning", f"Files in `{place}` are {skew:+.0f} s off this machine's clock", hint)
        if not is_linked:
            hint = "Set FORGE_HOME to a folder on a disk of this machine"
            yield Finding(
                "store", "warning", f"`{place}` has no hard links: files are copied, at the cost of space", hint
            )
        text = "is not there yet, and can be made" if is_new else f"can be written, schema {SCHEMA}"
        yield Finding("store", "ok", f"`{home}` {text}")
