"""The tool `sbom`: a document that the specification's schema accepts, the same whenever and wherever it is made."""

from __future__ import annotations

import json
import os
import re
import socket
import uuid
from dataclasses import replace
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL

from forge import __version__
from forge.core.digest import Digest
from forge.core.errors import ActionFailed
from forge.core.tool import Content, FileContent, Json, ToolRequest, TreeContent
from forge.core.tree import Entry, File, Tree
from forge.packages.sbom import sbom
from forge.packages.sbom_component import Component, purl, render
from forge.packages.sbom_licence import Licence
from tests.fakes.store import MemoryStore

SITE = "usr/local/lib/python3.11/dist-packages"
DEB: dict[str, Json] = {
    "kind": "deb",
    "name": "libc6",
    "version": "1:2.36-9+deb12u13~x",
    "file": "libc6_2.36-9+deb12u13_amd64.deb",
    "sha256": "a" * 64,
    "source": "debian",
    "suite": "bookworm-security",
}
WHEEL: dict[str, Json] = {
    "kind": "python",
    "name": "torch",
    "version": "2.13.0+cpu",
    "file": "torch-2.13.0+cpu-cp311-cp311-manylinux_2_28_x86_64.whl",
    "sha256": "b" * 64,
    "source": "pytorch-cpu",
    "suite": "",
}
BUILT: dict[str, Json] = {
    "name": "llama-cpp-python",
    "version": "0.3.36",
    "file": "llama_cpp_python-0.3.36-py3-none-linux_x86_64.whl",
    "sdist": "llama_cpp_python-0.3.36.tar.gz",
    "sdist_sha256": "c" * 64,
}
MODEL: dict[str, Json] = {
    "name": "tiny",
    "format": "gguf",
    "precision": "q8_0",
    "source": "",
    "repository": "",
    "revision": "",
}
ORIGINAL: dict[str, Json] = {
    **MODEL,
    "format": "safetensors",
    "precision": "",
    "source": "hf",
    "repository": "Acme/Tiny",
    "revision": "607a30d783dfa663caf39e06633721c8d4cfcd7e",
}
IMAGE: dict[str, Json] = {
    "name": "pkg",
    "ref": "registry.example:5000/acme/pkg:cpu",
    "target": "//pkg:cpu",
    "platform": "cpu",
    "arch": "amd64",
    "place": "models/tiny",
    "runtime_place": "opt/forge/runtime",
    "app_place": "opt/forge/app",
    "config_place": "etc/forge/config.json",
    "packages": [DEB, WHEEL],
    "built": [BUILT],
    "models": [MODEL, ORIGINAL],
}
COPYRIGHT = "Format: https://dep.example/copyright-format/1.0/\n\nFiles: *\nLicense: LGPL-2.1+ and Expat\n"
FILES = {
    "environment.00": {"usr/share/doc/libc6/copyright": COPYRIGHT},
    "environment.01": {
        f"{SITE}/torch-2.13.0+cpu.dist-info/METADATA": "License-Expression: BSD-3-Clause AND MIT\n",
        f"{SITE}/llama_cpp_python-0.3.36.dist-info/METADATA": "Classifier: License :: OSI Approved :: MIT License\n",
    },
    "runtime": {"forge_runtime/__init__.py": "runtime", "forge_runtime/__pycache__/__init__.cpython-311.pyc": "code"},
    "app": {"handler.py": "handler"},
    "model.0": {"model.gguf": "weights"},
    "model.1": {"model.safetensors": "original"},
}
MANIFEST = Digest.of(b"manifest")


def request(**params: Json) -> ToolRequest:
    store = MemoryStore()
    inputs: dict[str, Content] = {
        "built.0": FileContent(store.put(b"the built wheel")),
        "config": FileContent(store.put(b"{}")),
        "digest": FileContent(store.put(json.dumps({"manifest": MANIFEST.oci}).encode())),
    }
    for name, files in FILES.items():
        entries: dict[str, Entry] = {path: File(store.put(text.encode())) for path, text in files.items()}
        tree = Tree.of(entries)
        inputs[name] = TreeContent(store.put(tree.encoded), tree.root)
    return ToolRequest({**IMAGE, **params}, dict(sorted(inputs.items())), store)


def run(asked: ToolRequest) -> bytes:
    made = sbom(asked)["sbom"]
    assert isinstance(made, FileContent)
    return asked.store.read(made.digest)


def document(**params: Json) -> Any:
    return json.loads(run(request(**params)))


def component(name: str, **params: Json) -> Any:
    (found,) = (each for each in document(**params)["components"] if each["name"] == name)
    return found


def sha256(text: str) -> list[dict[str, str]]:
    return [{"alg": "SHA-256", "content": Digest.of(text.encode()).hash}]


def faults(document: bytes) -> object:
    return JsonStrictValidator(SchemaVersion.V1_6).validate_str(document.decode())


@pytest.mark.parametrize(
    "params",
    [{}, {"models": []}, {"packages": [], "built": []}, {"models": [MODEL]}, {"packages": [DEB, DEB]}],
    ids=["all", "a client", "no packages", "not converted", "twice the same"],
)
def test_the_specification_s_schema_accepts_it(params: dict[str, Json]) -> None:
    assert faults(run(request(**params))) is None


def test_the_schema_would_refuse_what_is_wrong() -> None:
    """Keeps the test above honest."""
    assert faults(run(request()).replace(b'"library"', b'"book"')) is not None


def test_a_debian_package() -> None:
    assert component("libc6") == {
        "type": "library",
        "bom-ref": "pkg:deb/debian/libc6@1:2.36-9%2Bdeb12u13~x?arch=amd64&distro=bookworm",
        "name": "libc6",
        "version": "1:2.36-9+deb12u13~x",
        "hashes": [{"alg": "SHA-256", "content": "a" * 64}],
        "licenses": [
            {"license": {"id": "LGPL-2.1-or-later", "acknowledgement": "declared"}},
            {"license": {"id": "MIT", "acknowledgement": "declared"}},
        ],
        "purl": "pkg:deb/debian/libc6@1:2.36-9%2Bdeb12u13~x?arch=amd64&distro=bookworm",
        "properties": [
            {"name": "forge:file", "value": "libc6_2.36-9+deb12u13_amd64.deb"},
            {"name": "forge:source", "value": "debian"},
        ],
    }


def test_a_wheel() -> None:
    found = component("torch")

    assert (found["purl"], found["version"]) == ("pkg:pypi/torch@2.13.0%2Bcpu", "2.13.0+cpu")
    assert found["hashes"] == [{"alg": "SHA-256", "content": "b" * 64}]
    assert found["licenses"] == [{"expression": "BSD-3-Clause AND MIT", "acknowledgement": "declared"}]


def test_a_wheel_that_was_built_here_names_what_it_was_built_from() -> None:
    found = component("llama-cpp-python")
    (ancestor,) = found["pedigree"]["ancestors"]

    assert (found["hashes"], found["licenses"][0]["license"]["id"]) == (sha256("the built wheel"), "MIT")
    assert ancestor["hashes"] == [{"alg": "SHA-256", "content": "c" * 64}]
    assert ancestor["purl"] == "pkg:pypi/llama-cpp-python@0.3.36?file_name=llama_cpp_python-0.3.36.tar.gz"


def test_the_model_its_files_and_what_it_was_converted_from() -> None:
    found = component("tiny")
    (ancestor,) = found["pedigree"]["ancestors"]

    assert found["type"] == ancestor["type"] == "machine-learning-model"
    assert found["components"] == [{"type": "file", "name": "/models/tiny/model.gguf", "hashes": sha256("weights")}]
    assert found["properties"] == [
        {"name": "forge:model:format", "value": "gguf"},
        {"name": "forge:model:precision", "value": "q8_0"},
    ]
    assert ancestor["components"] == [{"type": "file", "name": "model.safetensors", "hashes": sha256("original")}]
    assert ancestor["purl"] == "pkg:huggingface/Acme/Tiny@607a30d783dfa663caf39e06633721c8d4cfcd7e"
    assert "pedigree" not in ancestor


def test_the_runtime_is_of_forge_s_version_and_the_app_is_the_user_s() -> None:
    runtime, app = component("forge_runtime"), component("pkg")

    assert (runtime["type"], runtime["version"]) == ("framework", __version__)
    assert [each["name"] for each in runtime["components"]] == ["/opt/forge/runtime/forge_runtime/__init__.py"]
    assert [each["name"] for each in app["components"]] == ["/etc/forge/config.json", "/opt/forge/app/handler.py"]


def test_it_is_about_the_image_with_that_manifest() -> None:
    found = document()
    about = found["metadata"]["component"]

    assert (about["type"], about["name"]) == ("container", "registry.example:5000/acme/pkg")
    assert (about["version"], about["hashes"]) == (MANIFEST.oci, sha256("manifest"))
    assert about["purl"] == f"pkg:oci/pkg@{MANIFEST.oci}?arch=amd64&tag=cpu"
    assert found["metadata"]["tools"]["components"] == [
        {"type": "application", "name": "forge", "version": __version__}
    ]


def test_all_that_is_listed_belongs_to_the_image_and_has_a_reference_of_its_own() -> None:
    found = document()
    refs = [each["bom-ref"] for each in found["components"]]

    assert found["dependencies"][0] == {"ref": "image", "dependsOn": refs}
    assert [each["ref"] for each in found["dependencies"][1:]] == refs
    assert len(set(refs)) == len(refs) == 6


def test_one_package_in_two_builds_of_it_is_listed_twice() -> None:
    twice = document(packages=[WHEEL, {**WHEEL, "sha256": "d" * 64}, WHEEL])

    refs = [each["bom-ref"] for each in twice["components"] if each["name"] == "torch"]
    assert refs == ["pkg:pypi/torch@2.13.0%2Bcpu", f"pkg:pypi/torch@2.13.0%2Bcpu#{'d' * 12}"]


def test_the_order_in_which_packages_come_does_not_matter() -> None:
    assert run(request()) == run(request(packages=[WHEEL, DEB]))


def test_the_serial_number_follows_from_the_content() -> None:
    one, same, other = document(), document(), document(platform="gpu")

    assert one["serialNumber"] == same["serialNumber"] != other["serialNumber"]
    assert uuid.UUID(one["serialNumber"]).version == 5


def test_it_has_no_time_and_nothing_of_the_machine() -> None:
    text = run(request()).decode()

    assert "timestamp" not in text
    assert not re.search(r"/home/|/tmp/|/root\b|20\d\d-\d\d-\d\d", text)
    assert [name for name in (socket.gethostname(), os.getcwd()) if re.search(rf"\b{re.escape(name)}\b", text)] == []


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (lambda: request(packages=[{"kind": "deb"}]), "`packages` of `sbom` must be a list of tables with [kind, name"),
        (lambda: request(models="x"), "`models` of `sbom` must be a list of tables"),
        (lambda: request(built=["x"]), "`built` of `sbom` must be a list of tables"),
        (lambda: request(ref=1), "`sbom` needs the text `ref`"),
        (lambda: without("digest"), "`sbom` needs the file `digest`"),
        (lambda: without("runtime"), "`sbom` needs the folder `runtime`"),
    ],
    ids=["keys", "text", "list", "ref", "file", "folder"],
)
def test_what_is_missing_is_said(asked: Any, expected: str) -> None:
    with pytest.raises(ActionFailed, match=re.escape(expected)):
        sbom(asked())


def without(name: str) -> ToolRequest:
    asked = request()
    return replace(asked, inputs={key: value for key, value in asked.inputs.items() if key != name})


@pytest.mark.parametrize(
    "text",
    [
        purl("deb", "libstdc++6", "12.2.0-14+deb12u1", {"arch": "amd64", "distro": "bookworm"}, space="debian"),
        purl("pypi", "torch", "2.13.0+cpu"),
        purl("oci", "pkg", "sha256:" + "0" * 64, {"tag": "a.b-c_d", "arch": ""}),
        purl("huggingface", "Tiny", "0" * 40, space="Acme"),
        purl("pypi", "x", "", {"file_name": "a b.tar.gz"}),
    ],
)
def test_package_urls_are_as_the_specification_s_own_library_writes_them(text: str) -> None:
    assert PackageURL.from_string(text).to_string() == text


def test_an_expression_and_a_name_stand_side_by_side() -> None:
    """The schema has either one expression or a list."""
    both = Component(
        "library", "x", licences=(Licence("MIT OR ISC", "expression"), Licence("public-domain"), Licence("MIT", "id"))
    )
    made = render(Component("container", "i"), [both], tool=Component("application", "t"))

    assert faults(made) is None
    assert [next(iter(each["license"])) for each in json.loads(made)["components"][0]["licenses"]] == [
        "id",
        "name",
        "name",
    ]
