"""Locking an sdist, from a folder that is laid out as an index."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from forge.core.digest import Digest
from forge.core.errors import MaterialError
from forge.core.lock import Lock
from forge.packages.lock_sdist import lock_sdist
from forge.packages.sources import Sources

FILES = {"a_lib-1.0.tar.gz": b"one", "a_lib-1.0-py3-none-any.whl": b"wheel", "a_lib-11.0.tar.gz": b"eleven"}


@pytest.fixture
def sources(tmp_path: Path) -> Sources:
    page = tmp_path / "a-lib"
    page.mkdir()
    links = []
    for name, content in FILES.items():
        (page / name).write_bytes(content)
        links.append(f'<a href="{name}#sha256={hashlib.sha256(content).hexdigest()}">{name}</a>')
    (page / "index.html").write_text("\n".join(links))
    return Sources.read({"pypi": str(tmp_path)}, {}, etc=tmp_path / "etc")


def test_the_archive_of_that_version_is_locked(sources: Sources) -> None:
    lock = lock_sdist("A.lib==1.0", "amd64", sources)
    (material,) = lock.materials

    assert Lock("sdist", "amd64", ("A.lib==1.0",), (material,)) == lock
    assert ("a-lib", "1.0", "a_lib-1.0.tar.gz", "pypi") == (
        material.name,
        material.version,
        material.file,
        material.source,
    )
    assert Digest.of(b"one") == material.digest


@pytest.mark.parametrize("requirement", ["a-lib", "a-lib>=1", "a-lib==1.*", "a-lib == 1.0"])
def test_one_version_must_be_named(sources: Sources, requirement: str) -> None:
    with pytest.raises(MaterialError, match="must name one version"):
        lock_sdist(requirement, "amd64", sources)


def test_a_version_without_an_archive_is_an_error_that_names_the_places(sources: Sources) -> None:
    with pytest.raises(MaterialError, match=r"(?s)No source archive of `a-lib==2.0`:.*has no such archive"):
        lock_sdist("a-lib==2.0", "amd64", sources)
