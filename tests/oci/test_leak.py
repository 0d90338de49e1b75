"""I01 of the fault cases: secrets that would get into an image are found in layers, configuration and history."""

from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Mapping

import pytest

from forge.core.errors import ActionFailed
from forge.core.secret import secret_in
from forge.core.tool import Json, ToolRequest, TreeContent
from forge.core.tree import File, Tree
from forge.oci.check import Check
from forge.oci.layer import assemble
from forge.oci.leak import LARGEST, check_layer, check_texts
from tests.fakes.store import MemoryStore

TOKEN = "hf_" + "a1B2c3D4e5" * 4
FILES = {
    "srv/.env": b"A=b",
    "srv/.git/config": b"",
    "root/.ssh/id_rsa": b"",
    "root/.netrc": b"",
    "etc/pip.conf": b"[global]\nindex-url = https://me:hunter22@index.test/simple\n",
    "srv/handler.py": f'TOKEN = "{TOKEN}"\n'.encode(),
    "srv/key.pem": b"-----BEGIN PRIVATE KEY-----\nMIG\n",
}


def layered(files: Mapping[str, bytes], **params: Json) -> None:
    store = MemoryStore()
    tree = Tree.of({path: File(store.put(data)) for path, data in files.items()})
    store.put(tree.encoded)
    given: dict[str, Json] = {"place": {"content": ""}, **params}
    assemble(ToolRequest(given, {"content": TreeContent(tree.digest, tree.root)}, store, lambda done, total: None))


def scanned(files: Mapping[str, bytes], *excepted: str) -> list[str]:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for path, data in files.items():
            member = tarfile.TarInfo(path)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    check = Check()
    check_layer(check, io.BytesIO(gzip.compress(packed.getvalue())), "gzip", excepted)
    return [each.text for each in check.faults]


@pytest.mark.parametrize(
    ("mode", "declared", "faults"), [(0o4755, (), 1), (0o2755, (), 1), (0o4755, ("/usr/bin/su",), 0), (0o755, (), 0)]
)
def test_i02_a_program_that_acts_as_its_owner_is_declared(mode: int, declared: tuple[str, ...], faults: int) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        member = tarfile.TarInfo("./usr/bin/su")
        member.mode = mode
        archive.addfile(member)
    check = Check()
    check_layer(check, io.BytesIO(gzip.compress(packed.getvalue())), "gzip", (), declared)

    assert faults == len(check.faults)
    assert all("`/usr/bin/su` acts as its owner" in each.text for each in check.faults)


@pytest.mark.parametrize("path", FILES)
def test_i01_a_secret_becomes_no_layer(path: str) -> None:
    with pytest.raises(ActionFailed, match="is where secrets are kept|looks as if it held") as caught:
        layered({path: FILES[path]}, not_secret=[])
    assert "hunter22" not in str(caught.value) and TOKEN not in str(caught.value)


@pytest.mark.parametrize("path", FILES)
def test_i01_a_secret_in_a_layer_of_a_dockerfile_is_found(path: str) -> None:
    (fault,) = scanned({"a/readme": b"text", path: FILES[path], "z": b"more"})

    assert path in fault


@pytest.mark.parametrize("name", ["srv/.env", ".env", "srv/*", "*.env"])
def test_i01_a_file_that_is_none_is_named(name: str) -> None:
    layered({"srv/.env": b"A=b"}, not_secret=[name])

    assert [] == scanned({"srv/.env": b"A=b"}, name)


def test_i01_packages_and_weights_are_not_looked_through() -> None:
    layered(FILES)  # without the parameter: what is in locks

    assert [] == scanned({"weights": b"\0" + TOKEN.encode(), "large": TOKEN.encode() + b" " * LARGEST})


def test_i01_a_whiteout_of_a_secret_is_none() -> None:
    assert [] == scanned({"srv/.wh..env": b""})


@pytest.mark.parametrize(
    "config",
    [
        {"config": {"Env": [f"A={TOKEN}"]}},
        {"config": {"Labels": {"source": "https://me:hunter22@git.test/x"}}},
        {"history": [{"created_by": f"RUN |1 TOKEN={TOKEN} /bin/sh -c true"}]},
    ],
)
def test_i01_configuration_and_history_are_looked_through(config: Json) -> None:
    check = Check("config")
    check_texts(check, config, "config")
    (fault,) = check.faults

    assert "looks as if it held" in fault.text and "hunter22" not in fault.text and TOKEN not in fault.text


def test_i01_a_long_text_of_dots_costs_no_time() -> None:
    assert "" == secret_in("a.b-c+" * (LARGEST // 6))
