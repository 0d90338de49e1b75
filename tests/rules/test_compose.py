from __future__ import annotations

import json
import tomllib
from typing import Any

import pytest

from forge.core.artifact import Derived, Source
from forge.core.graph import ActionGraph
from forge.core.label import Label
from forge.core.provider import AppInfo
from forge_runtime.config_file import parse
from tests.fakes.workspace import MODEL, SERVER, FakeWorkspace

LABEL = "//pkg:server@cpu_llm_trf"


@pytest.fixture
def package(workspace: FakeWorkspace) -> FakeWorkspace:
    workspace.write("targets/pkg/handler.py")
    workspace.write("targets/pkg/data/words.txt")
    return workspace


def config(graph: ActionGraph) -> Any:
    return json.loads(json.loads(graph.actions[f"{LABEL}#Write"].argv[-1])["text"])


def test_bakes_its_configuration(package: FakeWorkspace) -> None:
    package.build(SERVER + "port = 4000\n\n[server.params]\ntemperature = 2\nprecision = 'fp16'\n")

    assert config(package.analyze("//pkg:server")) == {
        "schema": 1,
        "platform": "cpu_llm_trf",
        "backend": "transformers",
        "model": {"name": "pkg", "path": "/models/pkg", "format": "safetensors"},
        "server": {
            "name": "//pkg:server",
            "handler": "handler.py",
            "app_dir": "/opt/forge/app",
            "host": "0.0.0.0",
            "port": 4000,
            "mode": "throughput",
        },
        "params": {"batch_size": 1, "do_sample": False, "precision": "fp16", "temperature": 2.0},
    }  # fmt: skip


SERVING = """
[server.serving]
queue_size = 8
max_items = 16
deadline_s = 5.0
hang_s = 2.0
body_limit = 1024
body_timeout_s = 1.0
header_timeout_s = 1.0
write_timeout_s = 2.0
keep_alive_s = 3.0
max_connections = 100
drain_s = 4.0
metrics_list_size = 10
logs = true
shutdown = true
"""


def test_limits_that_are_given_are_baked_and_the_runtime_knows_them_all(package: FakeWorkspace) -> None:
    package.build(SERVER + SERVING)
    baked = config(package.analyze("//pkg:server"))
    found = parse(json.dumps(baked), {"FORGE_ADMIN_TOKEN": "t0ken"})

    assert (found.server.queue_size, found.server.drain_s, found.server.logs) == (8, 4.0, True)
    assert set(tomllib.loads(SERVING)["server"]["serving"]) <= set(baked["server"])


@pytest.mark.parametrize(
    ("line", "expected"),
    [("queue_size = 0", "queue_size"), ("queuesize = 1", "queuesize"), ("deadline_s = -1", "deadline_s")],
)
def test_a_limit_that_is_none_is_refused(package: FakeWorkspace, line: str, expected: str) -> None:
    package.build(SERVER + f"\n[server.serving]\n{line}\n")

    assert expected in package.error("//pkg:server", analyze=True)


def test_a_changed_parameter_changes_the_configuration_and_nothing_else(package: FakeWorkspace) -> None:
    package.build(SERVER + "\n[server.params]\ntemperature = 0.5\n")
    before = package.analyze("//pkg:server").actions
    package.build(SERVER + "\n[server.params]\ntemperature = 0.6\n")
    after = package.analyze("//pkg:server").actions

    assert [name for name in {**before, **after} if before.get(name) != after.get(name)] == [f"{LABEL}#Write"]


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        (
            "batchsize = 2",
            "backend `trf` takes no `batchsize`, it takes [batch_size, temperature, do_sample, precision]",
        ),
        ("batch_size = 'two'", "`batch_size` must be a whole number, not `two`"),
        ("batch_size = 1.0", "`batch_size` must be a whole number, not `1.0`"),
        ("batch_size = true", "`batch_size` must be a whole number, not `true`"),
        ("batch_size = 65", "`batch_size` must be at most 64, not 65"),
        ("temperature = -1", "`temperature` must be at least 0, not -1"),
        ("temperature = nan", "`temperature` must be a number, not `nan`"),
        ("precision = 'fp8'", "`precision` must be one of [auto, fp16], not `fp8`"),
        ("batch_size = 0\ndo_sample = 1", "at least 1, not 0; `do_sample` must be true or false, not `1`"),
    ],
)
def test_refuses_parameters_that_the_backend_does_not_take(package: FakeWorkspace, params: str, expected: str) -> None:
    package.build(SERVER + f"\n[server.params]\n{params}\n")
    message = package.error("//pkg:server", analyze=True)

    assert message.startswith(f"targets/pkg/BUILD.toml:11: Parameters of `{LABEL}`: ")
    assert expected in message


@pytest.mark.parametrize("name", ["HF_TOKEN", "api_key", "MY_PASSWORD", "AWS_SECRET_ACCESS_KEY", "private_key"])
def test_refuses_a_secret(package: FakeWorkspace, name: str) -> None:
    package.build(SERVER + f"env = {{ {name} = 'x' }}\n")

    assert package.error("//pkg:server", analyze=True) == (
        f"targets/pkg/BUILD.toml:11: `env.{name}` of `{LABEL}` looks like a secret\n"
        "  hint: Images are shared: give secrets when the container runs"
    )


@pytest.mark.parametrize("name", ["TOKENIZERS_PARALLELISM", "MAX_TOKENS", "SECRETARY"])
def test_takes_what_only_sounds_like_a_secret(package: FakeWorkspace, name: str) -> None:
    package.build(SERVER + f"env = {{ {name} = 'x' }}\n")
    info = package.analyze("//pkg:server").providers[Label.parse(LABEL)]

    assert isinstance(info, AppInfo) and (name, "x") in info.environ


def test_takes_the_format_that_the_backend_loads_best(package: FakeWorkspace) -> None:
    package.write(
        "devices/backends.toml",
        "[trf]\nmodule = 'm'\nformats = ['gguf', 'safetensors']\n[llama]\nmodule = 'l'\nformats = ['gguf']\n",
    )
    package.build(SERVER)

    assert config(package.analyze("//pkg:server"))["model"]["format"] == "safetensors"


def test_no_format_that_fits_names_both_sides_and_the_remedy(package: FakeWorkspace) -> None:
    package.build(SERVER.replace("cpu_llm_trf", "cpu_llm_llama"))

    assert package.error("//pkg:server", analyze=True) == (
        "targets/pkg/BUILD.toml:11: Backend `llama` of `//pkg:server@cpu_llm_llama` loads [gguf], "
        '`models` offers [safetensors]\n  hint: Add a `convert` target with `format = "gguf"` to `models`'
    )


def test_no_models_are_named_so(package: FakeWorkspace) -> None:
    package.build(SERVER.replace('models = [":weights"]', ""))

    assert "loads [safetensors], `models` offers [nothing]" in package.error("//pkg:server", analyze=True)


def test_needs_a_platform(package: FakeWorkspace) -> None:
    package.build(SERVER.replace('platforms = ["cpu_llm_trf"]', ""))

    assert "`compose` target `//pkg:server` needs `platforms`" in package.error("//pkg:server", analyze=True)


def test_needs_a_backend(package: FakeWorkspace) -> None:
    package.build(SERVER.replace("cpu_llm_trf", "client"))

    assert "Platform `client` has no backend to serve with" in package.error("//pkg:server", analyze=True)


def test_an_architecture_is_no_place_to_serve(package: FakeWorkspace) -> None:
    package.build(SERVER.replace("cpu_llm_trf", "amd64"))

    assert "cannot be made for `amd64`: an architecture has no toolchain" in package.error("//pkg:server", analyze=True)


def test_models_must_be_models(package: FakeWorkspace) -> None:
    package.build(SERVER.replace('models = [":weights"]', 'models = [":checkpoint"]'))

    assert "`//pkg:checkpoint` gives files, `compose` target" in package.error("//pkg:server", analyze=True)


def test_a_label_of_several_instances_is_not_one_model(package: FakeWorkspace) -> None:
    package.build(MODEL.replace('source = ":checkpoint"', 'source = "//toolchains:busybox"'))

    assert "`//toolchains:busybox` means 2 targets, one is needed" in package.error("//pkg:weights", analyze=True)


@pytest.mark.parametrize("folder", ["pkg", "", "targets", "a/targets/b"])
def test_files_keep_their_folders_below_the_package(package: FakeWorkspace, folder: str) -> None:
    base = f"targets/{folder}".rstrip("/")
    package.write(f"{base}/handler.py")
    package.write(f"{base}/data/words.txt")
    package.build(SERVER + "data = ['data/*']\n", folder)
    graph = package.analyze(f"//{folder}:server")
    (tree,) = [
        each
        for name, each in graph.actions.items()
        if "server" in name and each.description.startswith("Gather handler")
    ]

    assert json.loads(tree.argv[-1])["place"] == {"0000": "data/words.txt", "0001": "handler.py"}
    assert tree.inputs == (("0000", Source(f"{base}/data/words.txt")), ("0001", Source(f"{base}/handler.py")))


def test_hands_on_a_whole_service(package: FakeWorkspace) -> None:
    package.build(SERVER)
    info = package.analyze("//pkg:server").providers[Label.parse(LABEL)]

    assert isinstance(info, AppInfo)
    assert (info.environment and info.environment.tree, info.model and info.model.tree, info.config) == (
        Derived("//toolchains:cpu_llm_trf#Root.3", "tree/"),
        Derived("//pkg:checkpoint#Command", "checkpoint/"),
        Derived(f"{LABEL}#Write", "config.json"),
    )
