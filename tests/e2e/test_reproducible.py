"""The same image, whoever builds it, wherever, however."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import IMAGE, Built, copy_workspace, edit
from tests.e2e.layout import Layout
from tests.e2e.program import Forge

pytestmark = pytest.mark.e2e

OTHER = {
    "LC_ALL": "tr_TR.UTF-8",
    "LANG": "ja_JP.SJIS",
    "TZ": "Pacific/Kiritimati",
    "PYTHONHASHSEED": "4242",
    "HOME": "/nonexistent",
    "USER": "somebody-else",
    "SOURCE_DATE_EPOCH": "1234567890",
    "TMPDIR": "/tmp",
    "OMP_NUM_THREADS": "1",
    "COLUMNS": "40",
}


@pytest.fixture(scope="module")
def other(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Layout]:
    """The image as another user would build it: another folder and store, one processor, one job, another umask.

    Everything is fetched first, so that the build itself shows that it needs no network.
    """
    base = tmp_path_factory.mktemp("other")
    workspace = base / "a/much deeper/folder, with spaces/and-ünicode/workspace"
    copy_workspace(workspace)
    prefix = ["sh", "-c", 'umask 0077; exec "$@"', "sh"]
    if shutil.which("taskset"):
        prefix += ["taskset", "1"]
    forge = Forge(checkout, workspace, {**OTHER, "FORGE_HOME": str(base / "another home")}, tuple(prefix))
    forge("fetch", IMAGE)
    forge("build", "--offline", "--jobs=1", IMAGE)
    yield Layout(workspace / "forge-out/tiny_gpt2/cpu_llm_trf")
    shutil.rmtree(base, ignore_errors=True)


def test_two_builds_from_nothing_make_the_same_image(built: Built, other: Layout) -> None:
    assert built.layout.index == other.index
    assert built.layout.manifest == other.manifest


def test_two_builds_from_nothing_list_the_same(built: Built, other: Layout) -> None:
    assert built.sbom == other.folder.with_name("cpu_llm_trf.sbom.json").read_bytes()


def test_what_the_builder_reads_is_readable_by_others_whatever_the_umask(other: Layout) -> None:
    """An engine of another user, and uid 65532 inside, must be able to read what comes out."""
    files = list(other.folder.resolve().rglob("*"))

    assert all(path.stat().st_mode & 0o444 == 0o444 for path in files)
    assert all(path.stat().st_mode & 0o111 == 0o111 for path in files if path.is_dir())


def test_another_seed_makes_another_image(built: Built, copy: Forge) -> None:
    edit(copy.cwd / "targets/tiny_gpt2/BUILD.toml", '"--seed", "0"', '"--seed", "1"')

    assert copy("build", IMAGE).digest(IMAGE) != built.first.digest(IMAGE)
