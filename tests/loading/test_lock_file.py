from __future__ import annotations

import pytest

from tests.fakes.workspace import FakeWorkspace

ENVIRONMENT = """
[env]
rule = "environment"
debs = ["dash", "bash"]
exclude = ["perl"]
platforms = ["amd64"]
"""


def test_a_lock_lies_beside_the_file_that_declares_it(workspace: FakeWorkspace) -> None:
    workspace.build(ENVIRONMENT)
    workspace.lock("targets/pkg/locks/env.amd64.deb.toml", "deb", "amd64", "bash", "dash", "-perl")
    target = workspace.target("//pkg:env@amd64")

    assert (list(target.locks), target.folder) == (["env.amd64.deb"], str(workspace.root / "targets/pkg"))


def test_a_lock_that_is_not_there_is_no_error_of_loading(workspace: FakeWorkspace) -> None:
    workspace.build(ENVIRONMENT)
    target = workspace.target("//pkg:env@amd64")

    assert ([each.name for each in target.lock_requests], target.locks) == (["env.amd64.deb"], {})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("version = 2", "targets/pkg/locks/env.amd64.deb.toml: Lock version is `2`, this forge reads 1"),
        ("version = ", "targets/pkg/locks/env.amd64.deb.toml:1: Is not TOML"),
    ],
)
def test_a_lock_that_cannot_be_read_names_its_place(workspace: FakeWorkspace, text: str, expected: str) -> None:
    workspace.build(ENVIRONMENT)
    workspace.write("targets/pkg/locks/env.amd64.deb.toml", text)

    assert workspace.error("//pkg:env").startswith(expected)


def test_two_environments_of_one_platform_have_locks_of_their_own(workspace: FakeWorkspace) -> None:
    text = "rule = 'environment'\nwheels = ['numpy']\nplatforms = ['{}']\n"
    workspace.build(
        "".join(f"[{name}]\n{text.format(name.partition('_')[2])}" for name in ("a_client", "b_client", "c_amd64"))
    )

    targets = workspace.load("//pkg:all").targets.values()

    assert sorted(each.name for target in targets for each in target.lock_requests) == [
        "a_client.client.python", "b_client.client.python", "c_amd64.amd64.python",
    ]  # fmt: skip


def test_instances_of_one_architecture_share_a_lock(workspace: FakeWorkspace) -> None:
    workspace.build(ENVIRONMENT.replace('"amd64"', '"*_trf"'))
    workspace.lock("targets/pkg/locks/env.amd64.deb.toml", "deb", "amd64", "bash", "dash", "-perl")
    one, other = workspace.load("//pkg:env").targets.values()

    assert one.locks["env.amd64.deb"] is other.locks["env.amd64.deb"]
