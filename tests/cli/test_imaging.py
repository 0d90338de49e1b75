"""How a built image runs: what its configuration says beside what analysis knows."""

from __future__ import annotations

from forge.cli.imaging import described
from forge.core.provider import ImageInfo
from forge.core.tool import Json

CONFIG: Json = {
    "config": {"Env": ["PATH=/vendor/bin:/bin", "OWN=1"], "Entrypoint": ["a"], "Cmd": ["b"], "WorkingDir": "/w"}
}


def test_an_image_over_a_vendor_s_has_the_variables_of_both() -> None:
    info = described(ImageInfo(entrypoint=("server",), environ=(("OWN", "1"),), workdir="/app"), CONFIG)

    assert (("PATH", "/vendor/bin:/bin"), ("OWN", "1")) == info.environ
    assert (("server",), "/app") == (info.entrypoint, info.workdir)


def test_an_image_of_a_dockerfile_says_all_of_it_itself() -> None:
    info = described(ImageInfo(), CONFIG)

    assert (("a", "b"), "/w") == (info.entrypoint, info.workdir)
