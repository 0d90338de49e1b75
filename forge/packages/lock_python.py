"""Locking Python packages: requirements to one wheel per package, for a target that need not be this machine.

uv resolves; what it writes (PEP 751, with this machine's addresses) becomes names, digests and source ids.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from forge.core.digest import Digest
from forge.core.errors import Fault, HostError, MaterialError
from forge.core.lock import Lock, Material
from forge.packages.connection import Connection, Unavailable
from forge.packages.download import Downloader
from forge.packages.sources import Place, Sources, local_path, mask, setting_hint
from forge.packages.target_python import PythonTarget, best_wheel

if TYPE_CHECKING:
    from packaging.pylock import Package, Pylock

PINS: Mapping[str, str] = {"torch": "pytorch-cpu", "torchaudio": "pytorch-cpu", "torchvision": "pytorch-cpu"}
"""Source ids of packages whose `+local` versions are not in the default index."""

_SECONDS = 600
_FILE = "pylock.forge.toml"
_KEPT = frozenset(("UV_CACHE_DIR", "UV_HTTP_TIMEOUT", "UV_KEYRING_PROVIDER", "UV_NATIVE_TLS", "UV_SYSTEM_CERTS"))


@dataclass(frozen=True, slots=True)
class PythonRequest:
    """Requirements to be locked for one target."""

    requirements: tuple[str, ...]
    """PEP 508, such as `torch==2.13.0+cpu`."""
    target: PythonTarget = field(default_factory=PythonTarget)
    constraints: tuple[str, ...] = ()
    """Bounds for packages that something else may ask for: a platform's lock, for a target's own `deps`."""
    pins: Mapping[str, str] = field(default_factory=lambda: PINS)
    """Package -> source id, for versions with a `+local` part."""

    @property
    def requested(self) -> tuple[str, ...]:
        """What the lock keeps of the request."""
        return tuple(sorted(set(self.requirements)))


def lock_python(
    request: PythonRequest,
    sources: Sources,
    *,
    previous: Lock | None = None,
    downloader: Downloader | None = None,
    warn: Callable[[str], None] = lambda text: None,
) -> Lock:
    """Resolve `request`; versions of `previous` are kept where they fit."""
    downloader = downloader or Downloader(connection=Connection(sources.environ))
    with tempfile.TemporaryDirectory(prefix="forge-lock-") as folder:
        resolution = _resolve(request, sources, previous, Path(folder), warn)
    with ThreadPoolExecutor(max_workers=8) as pool:
        futures = [pool.submit(_material, each, request, downloader) for each in resolution.packages]
    faults: list[Fault] = []
    materials: list[Material] = []
    for future in futures:
        try:
            materials.append(future.result())
        except MaterialError as error:
            faults += error.faults
    if faults:
        raise MaterialError(faults[0], *faults[1:])
    materials.sort(key=lambda each: each.name)
    return Lock("python", request.target.arch, request.requested, tuple(materials))


def _resolve(
    request: PythonRequest, sources: Sources, previous: Lock | None, folder: Path, warn: Callable[[str], None]
) -> Pylock:
    import tomllib

    from packaging.pylock import Pylock, PylockValidationError

    folder.joinpath("empty").mkdir()
    folder.joinpath("constraints.txt").write_text("\n".join(request.constraints), encoding="utf-8")
    folder.joinpath("pyproject.toml").write_text(_project(request, _pinned_indexes(request, sources)), encoding="utf-8")
    output = folder / _FILE
    if previous:  # what uv finds in its output it prefers
        output.write_text(_preferences(previous), encoding="utf-8")
    bounds = ["--constraints", "constraints.txt"] if request.constraints else []
    code, talk = _run([*_uv_argv(request.target), *bounds], folder, _uv_environ(sources, folder / "empty"))
    if code:
        wanted = ", ".join(request.requested)
        raise MaterialError(f"Cannot resolve [{wanted}] for {request.target}:\n{talk}", hint=setting_hint("pypi"))
    for line in talk.splitlines():
        if line.startswith("warning:"):
            warn(line.removeprefix("warning:").strip())
    try:
        return Pylock.from_dict(tomllib.loads(output.read_text(encoding="utf-8")))
    except (PylockValidationError, tomllib.TOMLDecodeError) as error:
        raise MaterialError(f"Cannot read the lock that uv wrote: {error}") from error


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
        # The first index that has a package is taken, private ones before the default: a stranger's higher
        # version on a public index cannot replace a private package, as it can with pip.
        "--index-strategy", "first-index",
    ]  # fmt: skip


def _uv_environ(sources: Sources, empty: Path) -> dict[str, str]:
    # uv's own settings would make the lock depend on them; our addresses are passed here and not as arguments,
    # which everybody on this machine can read.
    environ = {key: value for key, value in sources.environ.items() if not key.startswith("UV_") or key in _KEPT}
    environ.setdefault("PATH", os.defpath)
    places = sources.places("pypi")
    links = [_index_address(each).replace(",", "%2C") for each in places if each.kind == "links"]
    if links:
        environ["UV_FIND_LINKS"] = ",".join(links)
    indexes = [_index_address(each) for each in places if each.kind == "index"]
    if not indexes:  # an empty folder, and not `--no-index`, which would also forbid a pinned package's own index
        indexes = [empty.as_uri()]
    # pip's order is the default index first; uv takes the extra ones before it.
    return environ | {"UV_DEFAULT_INDEX": indexes[0], "UV_INDEX": " ".join(indexes[1:])}


def _index_address(place: Place) -> str:
    return place.address if place.folder is None else place.folder.as_uri()


def _pinned_indexes(request: PythonRequest, sources: Sources) -> Mapping[str, str]:
    """Find the packages that must come from an index of their own: those in no find-links folder."""
    from packaging.requirements import InvalidRequirement, Requirement
    from packaging.utils import canonicalize_name

    found: dict[str, str] = {}
    folders = [each.folder for each in sources.places("pypi") if each.kind == "links" and each.folder]
    for text in request.requirements:
        try:
            requirement = Requirement(text)
        except InvalidRequirement as error:
            raise MaterialError(f"`{text}` is no requirement: {error}") from error
        name, version = canonicalize_name(requirement.name), str(requirement.specifier).lstrip("=")
        if name not in request.pins or "+" not in version:
            continue
        if any(True for folder in folders for _ in folder.glob(f"{name}-{version}-*.whl")):
            continue
        places = sources.places(request.pins[name])
        if place := next((each for each in places if each.kind == "index"), None):
            found[name] = _index_address(place)
    return found


def _project(request: PythonRequest, pinned: Mapping[str, str]) -> str:
    """Write the requirements as a project: only there can uv be told that one package has an index of its own."""
    lines = ["[project]", 'name = "forge-lock-request"', 'version = "0"']
    lines.append(f'requires-python = ">={request.target.python}"')
    lines.append(f"dependencies = {json.dumps(list(request.requested))}")
    for name, address in sorted(pinned.items()):
        lines += ["[[tool.uv.index]]", f'name = "forge-{name}"', f"url = {json.dumps(address)}", "explicit = true"]
    lines.append("[tool.uv.sources]")
    lines += [f'{name} = {{ index = "forge-{name}" }}' for name in sorted(pinned)]
    return "\n".join(lines) + "\n"


def _preferences(previous: Lock) -> str:
    tables = (f'[[packages]]\nname = "{each.name}"\nversion = "{each.version}"\n' for each in previous.materials)
    return 'lock-version = "1.0"\ncreated-by = "forge"\n' + "".join(tables)


def _material(package: Package, request: PythonRequest, downloader: Downloader) -> Material:
    version = str(package.version or "")
    if not package.wheels:
        raise MaterialError(f"`{package.name}` {version} has no wheel", hint="forge builds no source distributions")
    if not any(int(part) for part in re.findall(r"\d+", version.partition("+")[0])):
        raise MaterialError(f"`{package.name}` {version} is a placeholder, not a release")
    by_name = {}
    for each in package.wheels:
        address = each.url or each.path or ""
        by_name[each.name or unquote(urlsplit(address).path).rpartition("/")[2]] = (address, each)
    file = best_wheel(by_name, request.target)
    if file is None:
        offered = ", ".join(sorted(by_name))
        raise MaterialError(f"`{package.name}` {version} has no wheel for {request.target}: [{offered}]")
    address, wheel = by_name[file]
    if "sha256" not in wheel.hashes:
        raise MaterialError(f"The index gives no sha256 for `{file}`")
    digest = Digest(wheel.hashes["sha256"], wheel.size or _size(address, file, downloader))
    source = request.pins.get(package.name, "pypi") if "+" in version else "pypi"
    return Material(package.name, version, file, digest, source)


def _size(address: str, file: str, downloader: Downloader) -> int:
    try:
        return downloader.size(str(local_path(address)) if address.startswith("file:") else address)
    except (Unavailable, OSError) as error:
        raise MaterialError(f"Cannot find the size of `{file}` at {mask(address)}: {error}") from error
