"""A workspace on disk, arranged by text: built-in rules, and toolchains that exist nowhere else."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import pytest

from forge.analysis.analyzer import analyze
from forge.analysis.context import ToolVersions
from forge.core.action import Action
from forge.core.digest import Digest
from forge.core.errors import ForgeError
from forge.core.graph import ActionGraph
from forge.core.label import Label, parse_patterns
from forge.core.lock import Lock, Material
from forge.core.lock_text import render
from forge.core.platform import Platform
from forge.core.rule import Rule
from forge.core.target import Target, TargetGraph
from forge.loading.loader import Loader
from forge.loading.reader import Reader
from forge.loading.rule_module import load_rules
from forge.loading.toolchain import Toolchains, load_toolchains

BUILTIN_RULES = Path(__file__).parents[2] / "rules"
TOOLS = (
    *("buildx", "dockerfile", "extract", "fetch", "flatten", "image", "index", "inspect", "layer", "model_layers"),
    *("pull", "root", "sbom", "tree", "unpack", "write"),
)

BACKENDS = """
[trf]
module = "transformers"
formats = ["safetensors"]

[trf.params]
batch_size = { type = "int", default = 1, minimum = 1, maximum = 64 }
temperature = { type = "float", default = 1.0, minimum = 0 }
do_sample = { type = "bool", default = false }
precision = { type = "str", default = "auto", choices = ["auto", "fp16"] }

[llama]
module = "llama_cpp"
formats = ["gguf"]
"""

ENVIRONMENTS = """
[busybox]
platforms = ["amd64", "arm64"]
tags = ["manual"]
debs = ["busybox-static"]
busybox_applets = true

[python311]
platforms = ["amd64", "arm64"]
tags = ["manual"]
debs = ["python3.11"]
"""

CPU = """
[device]
arch = "amd64"

[cpu_llm_trf]
backend = "trf"
base = "python311"
requirements = ["transformers"]

[cpu_llm_llama]
backend = "llama"
base = "python311"
"""

GPU = """
[device]
arch = "amd64"
accelerator = "cuda"

[gpu_llm_trf]
backend = "trf"
base = "python311"
requirements = ["transformers"]
"""

CLIENT = """
[device]
arch = "amd64"

[client]
base = "python311"
"""

MODEL = """
[checkpoint]
rule = "command"
shell = "make"
outs = ["checkpoint/"]

[weights]
rule = "model"
source = ":checkpoint"

"""
"""Targets that end in a model, `:weights`."""

SERVER = (
    MODEL
    + """
[server]
rule = "compose"
models = [":weights"]
handler = "handler.py"
platforms = ["cpu_llm_trf"]
"""
)
"""Targets that end in a service, `:server`; its handler is `handler.py`."""


class FakeWorkspace:
    """Writes files and loads them as the product does, with no more of the product than that."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.arch: Literal["amd64", "arm64"] = "amd64"
        self.overrides: dict[Label, Label] = {}
        self.settings = {
            "repository": "acme",
            "tag": "{platform}",
            "created": "1970-01-01T00:00:00Z",
            "assembler": "embedded",
            "assembler_flag": "",
            "stages": "",
        }
        self.reader = Reader()
        self.write("devices/backends.toml", BACKENDS)
        self.write("devices/environments.toml", ENVIRONMENTS)
        self.write("devices/cpu.toml", CPU)
        self.write("devices/gpu.toml", GPU)
        self.write("devices/client.toml", CLIENT)
        for arch in ("amd64", "arm64"):
            self.lock(f"devices/locks/busybox.{arch}.deb.toml", "deb", arch, "busybox-static")
            self.lock(f"devices/locks/python311.{arch}.deb.toml", "deb", arch, "python3.11")
        self.lock("devices/locks/cpu_llm_trf.python.toml", "python", "amd64", "transformers")

    def write(self, path: str, text: str = "") -> Path:
        """Write a file below the root; packages are folders of `targets`."""
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(textwrap.dedent(text))
        return file

    def build(self, text: str, package: str = "pkg") -> None:
        """Write a package's BUILD.toml; its first line is line 1."""
        self.write(f"targets/{package}/BUILD.toml", textwrap.dedent(text).lstrip("\n"))

    def lock(self, path: str, kind: str, arch: str, *requested: str) -> None:
        """Write a lock with one material for each thing requested."""
        assert kind in ("deb", "python")
        suffix = ".whl" if kind == "python" else ".deb"
        materials = tuple(
            Material(name, "1", f"{name}-1{suffix}", Digest.of(name.encode()), "there") for name in requested
        )
        self.write(path, render(Lock("deb" if kind == "deb" else "python", arch, tuple(sorted(requested)), materials)))

    @property
    def rules(self) -> dict[str, Rule]:
        """Built-in rules and the workspace's own."""
        return load_rules([BUILTIN_RULES, self.root / "rules"], self.reader)

    @property
    def toolchains(self) -> Toolchains:
        """The invented toolchains and those that the test adds in `toolchains`."""
        folders = [(self.root / "toolchains", "toolchains"), (self.root / "devices", "devices")]
        return load_toolchains(folders, self.reader)

    def loader(self) -> Loader:
        """Make a loader."""
        (self.root / "forge_runtime").mkdir(exist_ok=True)
        (self.root / "forge_runtime" / "harness.py").touch()
        return Loader(
            root=self.root,
            packages_folder="targets",
            rules=self.rules,
            toolchains=self.toolchains,
            execution=Platform(self.arch, self.arch),
            reader=self.reader,
            overrides=self.overrides,
            runtime_folder=self.root,
        )

    def load(self, *patterns: str) -> TargetGraph:
        """Load what patterns name."""
        return self.loader().load(parse_patterns(patterns))

    def requested(self, *patterns: str) -> list[str]:
        """Name what patterns come to."""
        return [str(label) for label in self.load(*patterns).requested]

    def target(self, label: str) -> Target:
        """Load one target."""
        return self.load(label).targets[Label.parse(label)]

    def analyze(self, *patterns: str) -> ActionGraph:
        """Load and analyze what patterns name."""
        return self.analyzed(self.load(*patterns))

    def analyzed(self, graph: TargetGraph, versions: Mapping[str, str] | None = None) -> ActionGraph:
        """Analyze a graph."""
        tools = ToolVersions(versions if versions is not None else dict.fromkeys(TOOLS, "1"))
        return analyze(graph, self.rules, tools, self.settings)

    def action(self, label: str, mnemonic: str) -> Action:
        """Analyze one target and take the action that it asks for."""
        return self.analyze(label).actions[f"{label}#{mnemonic}"]

    def error(self, *patterns: str, analyze: bool = False) -> str:
        """Load, or analyze, what must fail; the message."""
        with pytest.raises(ForgeError) as caught:
            self.analyze(*patterns) if analyze else self.load(*patterns)
        return str(caught.value)
