"""A copy of this workspace to change and to build in, for tests of real conversions."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from forge.execution.home import home_folder

REPOSITORY = Path(__file__).parents[2]
COPIED = ("forge", "rules", "runtime", "toolchains", "targets/tiny_gpt2", "targets/tiny_vision")
PRECISIONS = (
    "f32", "f16", "bf16", "q8_0", "q6_k", "q5_k_m", "q5_k_s", "q5_0", "q5_1", "q4_k_m", "q4_k_s", "q4_0", "q4_1",
    "q3_k_m", "q3_k_s", "q3_k_l", "q2_k",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Built:
    """How a build ended."""

    code: int
    said: str
    """What it wrote to stderr and stdout."""
    ran: tuple[str, ...]
    """Kinds of the actions that ran, sorted."""


class Workshop:
    """The copy, and the store that it builds into."""

    def __init__(self, root: Path, home: str = "") -> None:
        self.root, self.home = root, home or os.environ.get("FORGE_E2E_HOME", "")
        for name in COPIED:
            shutil.copytree(REPOSITORY / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copyfile(REPOSITORY / "WORKSPACE.toml", root / "WORKSPACE.toml")

    def forge(self, *argv: str) -> subprocess.CompletedProcess[str]:
        """Run forge."""
        environ = {**os.environ, "PYTHONPATH": str(self.root), "NO_COLOR": "1"}
        if self.home:
            environ["FORGE_HOME"] = self.home
        argv = (sys.executable, "-m", "forge", *argv)
        return subprocess.run(argv, cwd=self.root, env=environ, capture_output=True, text=True, check=False)

    def build(self, *labels: str) -> Built:
        """Build targets."""
        events = self.root / "events.jsonl"
        done = self.forge("build", "--build-event-json-file", str(events), *labels)
        lines = [json.loads(line) for line in events.read_text().splitlines()] if events.is_file() else []
        ran = sorted(line["mnemonic"] for line in lines if line.get("outcome") == "ran")
        return Built(done.returncode, done.stderr + done.stdout, tuple(ran))

    def write(self, path: str, content: str | bytes) -> Path:
        """Write a file below the copy."""
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content.encode() if isinstance(content, str) else content)
        return file

    def model(self, label: str) -> Path:
        """Name the GGUF file that a target made."""
        return self.root / "forge-out" / label.removeprefix("//").replace(":", "/") / "model.gguf"

    def report(self, label: str) -> Mapping[str, Any]:
        """Read the report that a target made."""
        path = self.root / "forge-out" / f"{label.removeprefix('//').replace(':', '/')}.report.json"
        table: Mapping[str, Any] = json.loads(path.read_bytes())
        return table

    def scripts(self, package: str) -> None:
        """Put the scripts of the conversions into a package, for `command` targets."""
        target = self.root / "targets" / package / "rules/actions"
        shutil.copytree(REPOSITORY / "rules/actions", target, ignore=shutil.ignore_patterns("__pycache__"))

    def sdist(self, path: str) -> Path:
        """Put llama-cpp-python's source distribution into the copy."""
        fetched = self.forge("fetch", "//toolchains:llama_cpp_python@amd64")
        assert fetched.returncode == 0, fetched.stderr
        lock = tomllib.loads((self.root / "toolchains/locks/llama_cpp_python.sdist.toml").read_text())
        digest = lock["package"][0]["sha256"]
        home = home_folder({**os.environ, **({"FORGE_HOME": self.home} if self.home else {})})
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(home / "cas" / digest[:2] / digest, target)
        return target


def fresh() -> int:
    """Draw a timeout: it is in an action's key, and no cache has seen it."""
    return 10_000 + secrets.randbelow(1_000_000_000)
