"""The locks of forge's own environments say what pyproject.toml asks for, by digest, and nothing of any machine."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
LOCKS = ("forge.lock", "dev.lock", "torch.lock")


def entries(lock: str) -> list[str]:
    """Split a lock into one text per package, without comments."""
    text = (ROOT / "requirements" / lock).read_text()
    joined = re.sub(r"^#.*\n", "", text, flags=re.MULTILINE).replace("\\\n", " ")
    return joined.splitlines()


def versions(lock: str) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for entry in entries(lock):
        requirement = Requirement(entry.partition(" --hash")[0])
        found.setdefault(canonicalize_name(requirement.name), set()).add(str(requirement.specifier))
    return found


@pytest.mark.parametrize("lock", LOCKS)
def test_each_package_has_one_version_and_digests(lock: str) -> None:
    pattern = r"[a-z0-9-]+==[^ ;]+ ; [^\\]+?( +--hash=sha256:[0-9a-f]{64})+"

    assert [] == [entry[:60] for entry in entries(lock) if not re.fullmatch(pattern, entry.rstrip())]


@pytest.mark.parametrize("lock", LOCKS)
def test_no_address_and_no_path(lock: str) -> None:
    assert not re.search(r"://|(^|\s)/|@ ", (ROOT / "requirements" / lock).read_text())


@pytest.mark.parametrize(
    ("lock", "wanted"),
    [
        ("forge.lock", PROJECT["project"]["dependencies"]),
        *(("dev.lock", PROJECT["dependency-groups"][group]) for group in ("check", "runtime", "reference")),
    ],
    ids=["dependencies", "check", "runtime", "reference"],
)
def test_everything_asked_for_is_locked_within_its_bounds(lock: str, wanted: list[str]) -> None:
    locked = versions(lock)
    requirements = [Requirement(text) for text in wanted]

    assert [] == [str(each) for each in requirements if not fits(each, locked.get(canonicalize_name(each.name), set()))]


def test_the_checks_run_what_users_run() -> None:
    dev = versions("dev.lock")

    assert [] == [name for name, version in versions("forge.lock").items() if dev.get(name) != version]


def fits(requirement: Requirement, locked: set[str]) -> bool:
    return bool(locked) and all(requirement.specifier.contains(each.removeprefix("==")) for each in locked)
