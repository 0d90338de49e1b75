"""Real images by both assemblers: the same file system, the same config, the same blobs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import copy_workspace, edit, need
from tests.e2e.layout import Layout, flatten
from tests.e2e.program import Forge

pytestmark = [pytest.mark.e2e, pytest.mark.docker]

OWN = """
[own]
rule = "dockerfile"
dockerfile = "Dockerfile.own"
srcs = ["smoke.json"]
contexts = { base = ":client" }
args = { GREETING = "a \\"b\\" $c\\nRUN d" }
secrets = ["FORGE_TOKEN"]
architectures = ["amd64"]
"""
DOCKERFILE = """\
FROM base
ARG GREETING
USER 0:0
COPY smoke.json /srv/smoke.json
RUN --mount=type=secret,id=FORGE_TOKEN ["/usr/bin/python3", "-c", "import hashlib, os; \\
    token = open('/run/secrets/FORGE_TOKEN', 'rb').read(); \\
    open('/srv/out', 'w').write(os.environ['GREETING'] + hashlib.sha256(token).hexdigest())"]
USER 65532:65532
ENTRYPOINT ["/usr/bin/python3", "-c", "print(open('/srv/out').read())"]
CMD []
"""
TOKEN = "canary-token-7f31"


@pytest.fixture(scope="module")
def forge(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forge]:
    """The repository's targets, in the store that `./check` has filled: llama.cpp is compiled once."""
    need("Docker's command", shutil.which("docker") is not None)
    probe = subprocess.run(["docker", "buildx", "inspect"], capture_output=True, check=False)
    need("A builder of buildx", probe.returncode == 0)
    workspace = tmp_path_factory.mktemp("buildx") / "workspace"
    copy_workspace(workspace, whole=True)
    home = os.environ.get("FORGE_E2E_HOME")
    found = Forge(checkout, workspace, {"FORGE_HOME": home} if home else {})
    yield found
    found("clean")


def settings(layout: Layout) -> dict[str, Any]:
    """The config, but for what each assembler says of itself."""
    return {key: value for key, value in layout.config.items() if key not in ("created", "history")}


@pytest.mark.parametrize("name", ["cpu_llm_trf", "arm_llm_llama"])
def test_both_assemblers_make_the_same_image(forge: Forge, name: str) -> None:
    label, link = f"//tiny_gpt2:{name}", forge.cwd / "forge-out/tiny_gpt2" / name
    embedded_digest = forge("build", label).digest(label)
    embedded = Layout(link.resolve())
    buildx_digest = forge("build", label, "--assembler=buildx").digest(label)
    buildx = Layout(link.resolve())

    assert embedded_digest != buildx_digest  # they tell of themselves in their history
    assert embedded.folder != buildx.folder
    assert embedded.layers == buildx.layers
    assert settings(embedded) == settings(buildx)
    assert flatten(embedded.read_layers()) == flatten(buildx.read_layers())


def test_a_second_build_by_buildx_has_nothing_to_do(forge: Forge) -> None:
    forge("build", "//tiny_gpt2:client", "--assembler=buildx")

    assert "Nothing to do" in forge("build", "//tiny_gpt2:client", "--assembler=buildx").stderr


def test_a_dockerfile_of_one_s_own_is_built_run_and_keeps_its_secret(forge: Forge) -> None:
    declarations = forge.cwd / "targets/tiny_gpt2/BUILD.toml"
    edit(declarations, "[clients]", f"{OWN.lstrip()}\n[clients]")
    (declarations.parent / "Dockerfile.own").write_text(DOCKERFILE)
    label = "//tiny_gpt2:own"
    built = forge("build", label, FORGE_TOKEN=TOKEN)
    layout = Layout((forge.cwd / "forge-out/tiny_gpt2/own").resolve())
    needles = frozenset([TOKEN.encode()])

    assert 'a "b" $c\nRUN d' in forge("run", label, FORGE_TOKEN=TOKEN).stdout
    assert not any(layer.needles for layer in layout.read_layers(needles))
    assert TOKEN not in json.dumps(layout.config) + json.dumps(layout.manifest) + built.stdout + built.stderr
    # The key does not know the value: another one is no reason to build.
    assert "0 actions ran" in forge("build", label, "--keep-going", FORGE_TOKEN="another").stderr
    assert ["/usr/bin/python3", "-c"] == json.loads(forge("image", "inspect", label).stdout)["config"]["config"][
        "Entrypoint"
    ][:2]
