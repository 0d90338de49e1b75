"""`deps` of `compose`: the handler's own Python packages."""

from __future__ import annotations

import json

import pytest

from forge.core.digest import Digest
from forge.core.label import Label
from forge.core.lock import Lock, Material
from forge.core.lock_text import render
from forge.core.provider import AppInfo
from tests.fakes.workspace import SERVER, FakeWorkspace

LABEL = "//pkg:server@cpu_llm_trf"
FILE = "targets/pkg/locks/server.cpu_llm_trf.python.toml"
IMAGES = '\n[images]\nrule = "image"\napps = [":server"]\nname = "{platform}"\n'


def material(name: str, version: str = "1") -> Material:
    return Material(name, version, f"{name}-{version}.whl", Digest.of(name.encode()), "pypi")


def locked(*materials: Material, requested: str = "greet", beside: tuple[str, ...] = ("transformers==1",)) -> str:
    return render(Lock("python", "amd64", (requested,), materials, beside=beside))


@pytest.fixture
def package(workspace: FakeWorkspace) -> FakeWorkspace:
    workspace.write("targets/pkg/handler.py")
    workspace.build(SERVER + 'deps = ["greet"]\n' + IMAGES)
    workspace.write(FILE, locked(material("greet"), material("words")))
    return workspace


def test_they_are_a_layer_between_the_platform_s_packages_and_the_model(package: FakeWorkspace) -> None:
    actions = package.analyze("//pkg:cpu_llm_trf").actions
    layers = [each for each in actions.values() if each.mnemonic == "Layer"]

    assert [each.description.split()[1] for each in layers] == [
        "debian", "python", "packages", "model", "runtime", "handler", "configuration",
    ]  # fmt: skip


def test_they_are_listed_with_what_the_image_is_made_of(package: FakeWorkspace) -> None:
    said = json.loads(package.action("//pkg:cpu_llm_trf", "Sbom").argv[-1])

    assert [row["name"] for row in said["packages"]] == ["python3.11", "transformers", "greet", "words"]


def test_they_are_locked_beside_the_declaration(package: FakeWorkspace) -> None:
    (request,) = package.target(LABEL).lock_requests

    assert (request.file, request.within) == (
        "locks/server.cpu_llm_trf.python.toml",
        Label("toolchains", "cpu_llm_trf"),
    )


def test_without_a_lock_the_error_says_what_to_run(package: FakeWorkspace) -> None:
    (package.root / FILE).unlink()

    assert package.error(LABEL, analyze=True).endswith(
        f"`{LABEL}` is not locked: no `server.cpu_llm_trf.python.toml`\n  hint: Run `forge lock //pkg:server`"
    )


def test_a_wildcard_skips_what_is_not_locked(package: FakeWorkspace) -> None:
    (package.root / FILE).unlink()
    skipped = package.analyze("//pkg:all").skipped

    assert {str(label) for label in skipped} == {LABEL, "//pkg:cpu_llm_trf"}


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (
            locked(material("greet"), beside=("transformers==2",)),
            "it rests on `transformers` 2, the platform has 1",
        ),
        (locked(material("greet"), beside=("numpy==2",)), "it rests on `numpy` 2, the platform has none"),
        (locked(material("transformers", "3")), "it brings `transformers` 3, the platform has 1"),
    ],
)
def test_a_platform_that_changed_under_the_lock_is_named_with_both_versions(
    package: FakeWorkspace, written: str, expected: str
) -> None:
    package.write(FILE, written)

    assert package.error(LABEL, analyze=True) == (
        f"targets/pkg/BUILD.toml:11: The lock `locks/server.cpu_llm_trf.python.toml` of `{LABEL}` is stale: {expected} "
        "(`//toolchains:cpu_llm_trf`, devices/cpu.toml)\n  hint: Run `forge lock //pkg:server`"
    )


def test_a_change_of_the_platform_that_they_do_not_rest_on_does_not_matter(package: FakeWorkspace) -> None:
    package.write(FILE, locked(material("greet"), beside=()))
    package.lock("devices/locks/cpu_llm_trf.python.toml", "python", "amd64", "transformers")

    assert package.analyze(LABEL).skipped == {}


def test_all_that_is_asked_for_may_be_there_already(package: FakeWorkspace) -> None:
    package.write(FILE, locked())
    info = package.analyze(LABEL).providers[Label.parse(LABEL)]

    assert isinstance(info, AppInfo) and (info.deps, info.deps_lock) == (None, None)


def test_a_platform_may_have_others(package: FakeWorkspace) -> None:
    package.build(SERVER + 'deps = ["greet"]\n\n[server.override.cpu_llm_trf]\ndeps = ["bow"]\n')

    assert package.target(LABEL).lock_requests[0].requirements == ("bow",)
