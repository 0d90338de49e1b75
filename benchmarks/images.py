"""What an image costs with 1.5 GB of weights: `forge load` against a Dockerfile with `RUN pip install` and buildx.

Parts: `cold`, all caches empty but for the base, and everything that is downloaded at hand, until the image is in
Docker's engine; the same again with nothing to do; `edit`, one line of the handler changed, until the image is in the
engine and until a container of it gives the new answer; `arm64`, the image of an Arm service without weights, made on
this machine. Rounds go through all contenders in turn. CPU is the whole machine's, as an engine works in a process of
its own: let nothing else run. It removes the builder's cache and the images that it made. benchmarks/README.md has
figures.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from benchmarks.images_contender import FORGEW, ROOT, Contender, Forge, Plain, quietly
from benchmarks.images_figure import Clock, Costs, note, show, timed

WORKSPACE = ROOT / "benchmarks" / "images_workspace"
_PATIENCE = 120
"""Seconds for a container to answer."""


def main() -> None:
    """Prepare, measure, print; exit with 1 where a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", default=["cold", "edit", "arm64"], metavar="PART")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--weights", type=int, default=1500, help="Megabytes")
    parser.add_argument("--json", type=Path, help="File for every round's figures")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="Begin no further round after these")
    given = parser.parse_args()
    if strange := set(given.parts) - {"cold", "edit", "arm64"}:
        parser.error(f"no such part: {', '.join(sorted(strange))}")
    costs: Costs = {}
    with tempfile.TemporaryDirectory(prefix="forge-images-") as name:
        stage = Stage(Path(name), given.weights)
        try:
            stage.prepare()
            deadline = time.monotonic() + given.seconds
            if {"cold", "edit"} & set(given.parts):
                measure(stage, given.parts, given.rounds, deadline, costs)
            if "arm64" in given.parts:
                measure_arm64(stage, given.rounds, deadline, costs)
        finally:
            stage.clean()
            if given.json:
                given.json.write_text(json.dumps(costs, default=asdict, indent=1))
    met = [show(step, each) for step, each in costs.items()]
    print(f"\ndisk over content: {', '.join(f'{name} {ratio:.2f}' for name, ratio in stage.disk.items())}")
    sys.exit(not all(met))


class Stage:
    """Everything that the contenders need, in one folder."""

    def __init__(self, folder: Path, weights: int) -> None:
        self.folder, self.weights = folder, weights
        self.disk: dict[str, float] = {}
        """Contender -> bytes on disk, its cache and the engine's, for a byte of the image's files."""
        self.contenders: list[Contender] = []
        self.arms: list[Contender] = []

    def prepare(self) -> None:
        """Make sources, download what there is to download, import the base images."""
        quietly([str(FORGEW), "build", "//tiny_vision:classifier", "//tiny_vision:pictures"])
        made = ROOT / "forge-out" / "tiny_vision"
        self.picture = (made / "pictures" / "picture.png").read_bytes()
        model = self.folder / "model"
        shutil.copytree(made / "classifier", model)
        labels = ROOT / "targets" / "tiny_vision" / "labels.txt"
        self._workspace(self.folder / "small", model, labels)
        _write_noise(model / "weights.onnx_data", self.weights)
        for name in ("embedded", "buildx"):
            self._workspace(self.folder / name, model, labels)
        vendored = self.folder / "vendored"
        small = self.folder / "small" / "workspace"
        quietly([str(FORGEW), "vendor", "//service:all", f"--to={vendored}"], small)
        for each in ("small", "embedded", "buildx"):
            with (self.folder / each / "workspace" / "WORKSPACE.toml").open("a") as file:
                file.write(f'\n[sources]\n"*" = "{vendored}"\n')
        wheels = self.folder / "wheels"
        self._wheels(wheels, vendored)
        bases = {arch: self._base(arch, small) for arch in ("amd64", "arm64")}
        self.contenders = [
            Forge("embedded", self.folder / "embedded"),
            Forge("buildx", self.folder / "buildx", assembler="buildx"),
        ]
        for compression in ("gzip", "zstd", "uncompressed"):
            folder = self.folder / compression
            self._context(folder / "context", model, labels)
            plain = Plain(f"plain-{compression}", folder, "amd64", wheels / "cpu", bases["amd64"], compression)
            self.contenders.append(plain)
        self._context(self.folder / "arm" / "context", self.folder / "small" / "workspace" / _MODEL, labels)
        self.arms = [
            Forge("embedded", self.folder / "small", "arm64", "//service:arm_onnx"),
            Plain("plain", self.folder / "arm", "arm64", wheels / "arm", bases["arm64"]),
        ]
        for contender in (*self.contenders, *self.arms):
            if isinstance(contender, Forge):
                contender.prepare()

    def forget(self, contender: Contender) -> None:
        """Have nothing of what a contender made, in its cache or the engine's."""
        contender.forget()
        for each in {*self.contenders, *self.arms}:
            subprocess.run(["docker", "image", "rm", "--force", each.image], capture_output=True)
        quietly(["docker", "buildx", "prune", "--all", "--force"])
        os.sync()

    def clean(self) -> None:
        """Take the images away."""
        names = [each.image for each in (*self.contenders, *self.arms)]
        names += [f"forge-benchmark/base:{arch}" for arch in ("amd64", "arm64")]
        subprocess.run(["docker", "image", "rm", "--force", *names], capture_output=True)
        subprocess.run(["docker", "buildx", "prune", "--all", "--force"], capture_output=True)

    def _workspace(self, folder: Path, model: Path, labels: Path) -> None:
        workspace = folder / "workspace"
        shutil.copytree(WORKSPACE, workspace)
        shutil.copy(labels, workspace / "targets" / "service")
        shutil.copytree(model, workspace / _MODEL, copy_function=os.link)

    def _context(self, context: Path, model: Path, labels: Path) -> None:
        shutil.copytree(model, context / "model", copy_function=os.link)
        shutil.copytree(
            ROOT / "runtime" / "forge_runtime",
            context / "runtime" / "forge_runtime",
            ignore=shutil.ignore_patterns("__pycache__"),
        )
        (context / "app").mkdir()
        shutil.copy(WORKSPACE / "targets" / "service" / "handler.py", context / "app")
        shutil.copy(labels, context / "app")
        shutil.copy(WORKSPACE / "Dockerfile", context)
        (context / "config.json").write_text(json.dumps(_CONFIG))

    def _wheels(self, wheels: Path, vendored: Path) -> None:
        quietly([sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", f"--dest={wheels / 'pip'}", "pip"])
        (pip,) = (wheels / "pip").glob("*.whl")
        machines = {"cpu": ("x86_64", ROOT / "toolchains"), "arm": ("aarch64", WORKSPACE / "toolchains")}
        for name, (machine, toolchains) in machines.items():
            lock = (toolchains / "locks" / f"{name}_onnx.python.toml").read_text()
            files = [line.split('"')[1] for line in lock.splitlines() if line.startswith("file = ")]
            (wheels / name).mkdir()
            os.link(pip, wheels / name / "pip.whl")
            for file in files:
                (found,) = vendored.rglob(file)
                os.link(found, wheels / name / file)
            (wheels / name / "requirements.txt").write_text(
                "".join(f"{'=='.join(file.split('-')[:2])}\n" for file in files)
            )
            assert any(machine in file for file in files)

    def _base(self, arch: str, workspace: Path) -> str:
        """Import the tree below forge's images as an image; its name."""
        name, label = f"forge-benchmark/base:{arch}", f"//toolchains:python311@{arch}"
        out = quietly([str(FORGEW), "build", label, "--output=json"], workspace)
        (path,) = json.loads(out)["targets"][0]["outputs"]
        line = f"tar -C {path} -c . | docker import --platform linux/{arch} - {name}"
        quietly(["sh", "-c", line], workspace)
        return name


_MODEL = "targets/service/model"
_CONFIG = {
    "schema": 1,
    "platform": "cpu_onnx",
    "backend": "onnxruntime",
    "model": {"name": "model", "path": "/models/model", "format": "onnx"},
    "server": {"app_dir": "/opt/forge/app", "handler": "handler.py", "host": "0.0.0.0", "port": 3000},
    "params": {"num_threads": 1},
}


def measure(stage: Stage, parts: Sequence[str], rounds: int, deadline: float, costs: Costs) -> None:
    """Go through the contenders, round after round: cold, again, edited."""
    for number in range(1, rounds + 1):
        if time.monotonic() > deadline:
            return
        for contender in stage.contenders:
            if "cold" in parts or number == 1:
                stage.forget(contender)
                free = _free()
                cost = timed(contender.build)
                if "cold" in parts:
                    note(costs, "cold", contender.name, cost)
                os.sync()
                if contender.name not in stage.disk:
                    stage.disk[contender.name] = (free - _free()) / _content(contender)
            if "edit" not in parts and "cold" not in parts:
                continue
            note(costs, "nothing to do", contender.name, timed(contender.build))
            _edit(stage, contender, number, costs)


def measure_arm64(stage: Stage, rounds: int, deadline: float, costs: Costs) -> None:
    """Make the Arm image with empty caches, round after round."""
    for _ in range(rounds):
        if time.monotonic() > deadline:
            return
        for contender in stage.arms:
            stage.forget(contender)
            note(costs, "arm64", contender.name, timed(contender.build))


def _edit(stage: Stage, contender: Contender, number: int, costs: Costs) -> None:
    """Change a line, and wait for the answer of the container that has it."""
    text = contender.handler.read_text()
    before = text.partition("EDITION = ")[2].partition("\n")[0]
    contender.handler.write_text(text.replace(f"EDITION = {before}", f"EDITION = {number}"))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    clock = Clock()
    contender.build()
    note(costs, "one line changed", contender.name, clock.read())
    words = ["--detach", "--read-only", f"--publish=127.0.0.1:{port}:3000", contender.image]
    container = quietly(["docker", "run", *words]).strip()
    try:
        while (edition := _answer(port, stage.picture)) is None:
            if clock.read().wall > _PATIENCE:
                subprocess.run(["docker", "logs", container])
                raise SystemExit(f"{contender.name} does not answer")
            time.sleep(0.01)
        note(costs, "until it answers", contender.name, clock.read())
        if edition != number:
            raise SystemExit(f"{contender.name} answers as edition {edition}, not {number}")
    finally:
        subprocess.run(["docker", "rm", "--force", container], capture_output=True)


def _answer(port: int, picture: bytes) -> object:
    """Ask a container; which edition answers, None when none does yet."""
    with suppress(OSError, urllib.error.HTTPError):
        url = f"http://127.0.0.1:{port}/api/infer"
        with urllib.request.urlopen(urllib.request.Request(url, picture), timeout=5) as answer:
            return json.load(answer).get("edition")
    return None


def _free() -> int:
    """Free bytes of the disk, on which everything is."""
    found = os.statvfs(tempfile.gettempdir())
    return found.f_bfree * found.f_frsize


def _content(contender: Contender) -> int:
    """Bytes of the files of an image."""
    code = (
        "import os\n"
        "own = os.stat('/').st_dev\n"
        "total = 0\n"
        "for top, folders, files in os.walk('/'):\n"
        "    folders[:] = [n for n in folders if os.lstat(os.path.join(top, n)).st_dev == own]\n"
        "    total += sum(os.lstat(os.path.join(top, n)).st_size for n in files)\n"
        "print(total)\n"
    )
    words = ["--rm", "--entrypoint=/usr/bin/python3", contender.image, "-c", code]
    return int(quietly(["docker", "run", *words]))


def _write_noise(file: Path, megabytes: int) -> None:
    """Write what does not compress, as weights hardly do; the same each time."""
    noise = random.Random(0)
    with file.open("wb") as out:
        for _ in range(megabytes):
            out.write(noise.randbytes(1_000_000))


if __name__ == "__main__":
    main()
