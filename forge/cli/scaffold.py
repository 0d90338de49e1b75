"""A new workspace: its files, and how they come to be all there or none."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from forge.cli.own_wheel import FILE, NAME, brought, pack
from forge.core.errors import UserError
from forge.execution.home import host_errors

_TEMPLATES = Path(__file__).parent / "template"
_FILES = {
    ".gitignore": "gitignore",
    "README.md": "README.md",
    "targets/hello/BUILD.toml": "BUILD.toml",
    "targets/hello/handler.py": "handler.py",
    "targets/hello/make_model.py": "make_model.py",
    "targets/hello/smoke.json": "smoke.json",
    "WORKSPACE.toml": "WORKSPACE.toml",
}
"""Path -> template. WORKSPACE.toml is the last: it makes a folder a workspace."""
_WORKFLOWS = {"github": (".github/workflows/forge.yml", "github.yml"), "gitlab": (".gitlab-ci.yml", "gitlab-ci.yml")}
"""Who runs it -> path, template."""
_NAME = re.compile(r"[a-z0-9]+(?:(?:\.|_|-)[a-z0-9]+)*")


@dataclass(frozen=True, slots=True)
class NewFile:
    """A file to make."""

    data: bytes
    executable: bool = False


def is_workspace_name(text: str) -> bool:
    """Say whether images can be called so."""
    return _NAME.fullmatch(text) is not None


def name_of(folder: Path) -> str:
    """Make a name of a folder's."""
    words = re.sub(r"[^a-z0-9]+", "-", folder.name.lower()).strip("-")
    return words or "workspace"


def new_files(name: str) -> dict[str, NewFile]:
    """Write the files of a workspace called `name`, in the order in which they are to appear."""
    wheel = pack()
    lock = brought("requirements/forge.lock").read_text(encoding="utf-8")
    own = f"{NAME}=={FILE.split('-')[1]} ; sys_platform == 'linux' \\\n    --hash=sha256:{_hash(wheel)}\n"
    files = {
        f"requirements/{FILE}": NewFile(wheel),
        "requirements/forge.lock": NewFile((lock.rstrip("\n") + "\n" + own).encode()),
        "requirements/environment.sh": NewFile(brought("requirements/environment.sh").read_bytes()),
        "forgew": NewFile(brought("forgew").read_bytes(), executable=True),
    }
    for path, template in _FILES.items():
        text = (_TEMPLATES / f"{template}.in").read_text(encoding="utf-8")
        files[path] = NewFile(text.replace("@NAME@", name).encode())
    return files


def workflow(service: str) -> dict[str, NewFile]:
    """Write what has `github` or `gitlab` build and test a workspace."""
    path, template = _WORKFLOWS[service]
    return {path: NewFile((_TEMPLATES / f"{template}.in").read_bytes())}


def refuse_existing(folder: Path, paths: Mapping[str, NewFile]) -> None:
    """Raise UserError that names each file which is there already, or cannot be because of another."""
    taken = [path for path in paths if os.path.lexists(folder / path)]
    parents = {parent.as_posix() for path in paths for parent in Path(path).parents}
    taken += [path for path in sorted(parents) if os.path.lexists(folder / path) and not (folder / path).is_dir()]
    if taken:
        raise UserError(
            f"`{folder}` has [{', '.join(sorted(taken))}] already, and nothing is overwritten",
            hint="Name another folder, or move them away",
        )


def write(folder: Path, files: Mapping[str, NewFile]) -> None:
    """Make the files: all of them, or none where that fails or is stopped."""
    refuse_existing(folder, files)
    with host_errors(folder), _undone() as made:
        _make_folder(folder, made)
        aside = Path(tempfile.mkdtemp(prefix=".forge-init-", dir=folder))
        try:
            for path, file in files.items():
                # Whole before it has its name, which is then given only if nobody has taken it meanwhile.
                temporary = aside / "file"
                temporary.write_bytes(file.data)
                temporary.chmod(0o755 if file.executable else 0o644)
                _make_folder((folder / path).parent, made)
                _place(temporary, folder / path)
                made.append(folder / path)
                temporary.unlink(missing_ok=True)
        finally:
            shutil.rmtree(aside, ignore_errors=True)


@contextmanager
def _undone() -> Iterator[list[Path]]:
    """Take away what was made, the last first, unless all went well."""
    made: list[Path] = []
    try:
        yield made
    except BaseException:
        for path in reversed(made):
            with suppress(OSError):
                path.rmdir() if path.is_dir() else path.unlink()
        raise


def _make_folder(folder: Path, made: list[Path]) -> None:
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    for each in reversed(missing):
        each.mkdir(exist_ok=True)
        made.append(each)


def _place(source: Path, target: Path) -> None:
    try:
        target.hardlink_to(source)
    except FileExistsError as error:
        raise UserError(f"`{target}` has just been made by somebody else, and nothing is overwritten") from error
    except OSError:  # a file system without links
        with target.open("xb") as copy:
            copy.write(source.read_bytes())
        shutil.copymode(source, target)


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
