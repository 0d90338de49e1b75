"""Resolving Python requirements, which uv does: one run, shut off from the settings of this machine."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from forge.core.errors import HostError, MaterialError
from forge.core.lock import Material
from forge.net.address import mask
from forge.packages.source_pin import Pin
from forge.packages.sources import Place, Sources, setting_hint
from forge.packages.target_python import PythonTarget

if TYPE_CHECKING:
    from packaging.pylock import Pylock

_BUILD = (
    "A package that has source archives alone is built by a `wheel` target: "
    "name that in `built`, and the package in `exclude_wheels`"
)
_SECONDS = 600
_FILE = "pylock.forge.toml"
_KEPT = frozenset(("UV_CACHE_DIR", "UV_HTTP_TIMEOUT", "UV_KEYRING_PROVIDER", "UV_NATIVE_TLS", "UV_SYSTEM_CERTS"))


@dataclass(frozen=True, slots=True)
class Resolver:
    """Runs uv for one target."""

    target: PythonTarget
    sources: Sources
    warn: Callable[[str], None]

    def resolve(
        self,
        requirements: Sequence[str],
        *,
        pins: Iterable[Pin],
        constraints: Sequence[str] = (),
        exclude: Sequence[str] = (),
        kept: Iterable[Material] = (),
        refresh: bool = False,
    ) -> Pylock:
        """Resolve; versions of `kept` stay where they fit. MaterialError with uv's own words when it cannot."""
        import tomllib

        from packaging.pylock import Pylock, PylockValidationError

        with tempfile.TemporaryDirectory(prefix="forge-lock-") as name:
            folder = Path(name)
            folder.joinpath("empty").mkdir()
            project = _project(requirements, self.target, pins)
            folder.joinpath("pyproject.toml").write_text(project, encoding="utf-8")
            folder.joinpath(_FILE).write_text(_preferences(kept), encoding="utf-8")
            argv = [*_uv_argv(self.target), *(["--refresh"] if refresh else [])]
            for flag, lines in (("constraints", constraints), ("excludes", exclude)):
                folder.joinpath(f"{flag}.txt").write_text("\n".join(lines), encoding="utf-8")
                argv += [f"--{flag}", f"{flag}.txt"] if lines else []
            code, talk = _run(argv, folder, self._environ(folder / "empty"))
            if code:
                wanted = ", ".join(requirements)
                text = f"Cannot resolve [{wanted}] for {self.target}:\n{talk}"
                raise MaterialError(
                    text, hint=_BUILD if "building from source is disabled" in talk else setting_hint("pypi")
                )
            for line in talk.splitlines():
                if line.startswith("warning:"):
                    self.warn(line.removeprefix("warning:").strip())
            try:
                return Pylock.from_dict(tomllib.loads(folder.joinpath(_FILE).read_text(encoding="utf-8")))
            except (PylockValidationError, tomllib.TOMLDecodeError) as error:
                raise MaterialError(f"Cannot read the lock that uv wrote: {error}") from error

    def _environ(self, empty: Path) -> dict[str, str]:
        # uv's own settings would make the lock depend on them; our addresses are passed here and not as arguments,
        # which everybody on this machine can read.
        given = self.sources.environ.items()
        environ = {key: value for key, value in given if not key.startswith("UV_") or key in _KEPT}
        environ.setdefault("PATH", os.defpath)
        places = self.sources.places("pypi")
        links = [_index_address(each).replace(",", "%2C") for each in places if each.kind == "links"]
        if links:
            environ["UV_FIND_LINKS"] = ",".join(links)
        indexes = [_index_address(each) for each in places if each.kind == "index"]
        if not indexes:  # an empty folder, and not `--no-index`, which would also forbid a pinned package's own index
            indexes = [empty.as_uri()]
        # pip's order is the default index first; uv takes the extra ones before it.
        return environ | {"UV_DEFAULT_INDEX": indexes[0], "UV_INDEX": " ".join(indexes[1:])}


def _run(argv: list[str], folder: Path, environ: Mapping[str, str]) -> tuple[int, str]:
    try:
        run = subprocess.run(
            argv, cwd=folder, env=environ, capture_output=True, text=True, timeout=_SECONDS, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise MaterialError(f"uv has not resolved the requirements within {_SECONDS} s") from error
    return run.returncode, re.sub(r"https?://[^\s`'\")]+", lambda match: mask(match[0]), run.stderr).strip()


def _uv_argv(target: PythonTarget) -> list[str]:
    try:
        from uv import find_uv_bin

        uv = find_uv_bin()
    except (ImportError, FileNotFoundError) as error:
        raise HostError("Locking Python packages needs `uv`", hint="Install forge with its dependencies") from error
    return [
        uv, "pip", "compile", "pyproject.toml", "--output-file", _FILE, "--format", "pylock.toml", "--no-header",
        "--generate-hashes", "--only-binary", ":all:", "--no-config", "--no-progress", "--color", "never",
        "--python", sys.executable, "--python-version", target.python, "--python-platform", target.uv_platform,
        # As pip does: the newest version of all places that the user has configured for `pypi`. Taking the first place
        # that knows a name, which is uv's default, would let a partial mirror decide for old versions. What must not be
        # outbid by a stranger's higher version has a source of its own.
        "--index-strategy", "unsafe-best-match",
    ]  # fmt: skip


def _project(requirements: Sequence[str], target: PythonTarget, pins: Iterable[Pin]) -> str:
    """Write the requirements as a project: only there can uv be told that one package has an index of its own."""
    lines = ["[project]", 'name = "forge-lock-request"', 'version = "0"']
    lines += [f'requires-python = ">={target.python}"', f"dependencies = {json.dumps(list(requirements))}"]
    names = []
    for pin in sorted(pins, key=lambda each: each.name):
        names.append(pin.name)
        lines += ["[[tool.uv.index]]", f'name = "forge-{pin.name}"', f"url = {json.dumps(_index_address(pin.place))}"]
        lines += ["explicit = true", *(['format = "flat"'] if pin.place.kind == "links" else [])]
    lines.append("[tool.uv.sources]")
    lines += [f'{name} = {{ index = "forge-{name}" }}' for name in names]
    return "\n".join(lines) + "\n"


def _preferences(kept: Iterable[Material]) -> str:
    """Write what uv finds in its output and then prefers."""
    tables = [f'[[packages]]\nname = "{each.name}"\nversion = "{each.version}"\n' for each in kept]
    return 'lock-version = "1.0"\ncreated-by = "forge"\n' + ("".join(tables) or "packages = []\n")


def _index_address(place: Place) -> str:
    return place.address if place.folder is None else place.folder.as_uri()
