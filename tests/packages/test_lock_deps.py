"""A target's own packages, resolved by uv beside what a platform has."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from forge.core.digest import Digest
from forge.core.errors import MaterialError
from forge.core.lock import Lock, Material
from forge.packages.lock_deps import Surroundings, lock_deps
from forge.packages.lock_python import PythonRequest
from tests.net.test_download import open_site
from tests.packages.test_lock_python import Index


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    with open_site() as site:
        yield Index(site, tmp_path)


def has(name: str, version: str, end: str = "-py3-none-any.whl") -> Material:
    source = "pytorch-cpu" if "+" in version else "pypi"
    return Material(name, version, f"{name}-{version}{end}", Digest.of(name.encode()), source)


def lock(index: Index, *requirements: str, platform: tuple[Material, ...]) -> Lock:
    around = Surroundings(platform, "//toolchains:cpu", "toolchains/cpu.toml:4", "//pkg:server", "pkg/BUILD.toml:3")
    return lock_deps(PythonRequest(requirements), around, index.sources())


def test_the_lock_holds_what_the_platform_has_not_and_notes_what_it_rests_on(index: Index) -> None:
    index.add("greet", "1.0", "py3-none-any", "words", "base>=1")
    index.add("words", "3.0")
    for version in ("1.0", "2.0"):
        index.add("base", version)
    index.add("unasked", "1.0")
    found = lock(index, "greet", platform=(has("base", "1.0"), has("unasked", "1.0")))

    assert [(each.name, each.version) for each in found.materials] == [("greet", "1.0"), ("words", "3.0")]
    assert (found.beside, found.requested) == (("base==1.0",), ("greet",))


@pytest.mark.parametrize(
    "given", [has("torch", "2.13.0+cpu"), has("torch", "2.13.0", ".tar.gz")], ids=["a local version", "built here"]
)
def test_what_no_index_has_need_not_be_found_when_the_platform_has_it(index: Index, given: Material) -> None:
    index.add("greet", "1.0", "py3-none-any", "torch>=2")
    index.add("torch", "2.14.0")

    assert lock(index, "greet", platform=(given,)).beside == (f"torch=={given.version}",)


def test_what_the_platform_has_in_another_version_names_both_sides(index: Index) -> None:
    with pytest.raises(MaterialError) as caught:
        lock(index, "numpy<2", platform=(has("numpy", "2.4.1"),))

    assert str(caught.value) == (
        "pkg/BUILD.toml:3: `deps` of `//pkg:server` and `//toolchains:cpu` (toolchains/cpu.toml:4) "
        "do not fit together: `numpy<2` is asked for, the platform has `numpy` 2.4.1\n"
        "  hint: Ask for other versions in `deps`, or change the platform's and run `forge lock //toolchains:cpu`"
    )


def test_what_comes_along_in_another_version_names_both_sides_too(index: Index) -> None:
    index.add("greet", "1.0", "py3-none-any", "numpy<2")
    for version in ("1.26.4", "2.4.1"):
        index.add("numpy", version)
    with pytest.raises(MaterialError) as caught:
        lock(index, "greet", platform=(has("numpy", "2.4.1"),))

    assert "[greet] need `numpy` 1.26.4, the platform has 2.4.1" in str(caught.value)
    assert "greet depend on numpy<2" in str(caught.value)


def test_what_does_not_resolve_anyway_does_not_blame_the_platform(index: Index) -> None:
    with pytest.raises(MaterialError) as caught:
        lock(index, "nowhere", platform=(has("numpy", "2.4.1"),))

    assert str(caught.value).startswith("Cannot resolve [nowhere]")


def test_no_requirement_is_refused_with_its_place(index: Index) -> None:
    with pytest.raises(MaterialError, match="pkg/BUILD.toml:3: `a b` in `deps` of `//pkg:server` is no requirement"):
        lock(index, "a b", platform=())
