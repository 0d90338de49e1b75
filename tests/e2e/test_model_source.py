"""Models that are fetched: from a hub on this machine, by address, and from the workspace."""

from __future__ import annotations

import json
import os
import shutil
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from forge.core.digest import Digest
from forge.execution.home import home_folder
from tests.convert.sample import onnx, safetensors, whole_gguf, whole_safetensors
from tests.e2e.program import REPOSITORY, Forge
from tests.fakes.hub import Hub, cut, instead, open_hub

pytestmark = pytest.mark.e2e

TOKEN = "hf_canary7f31token"
WEIGHTS = whole_safetensors()
MODEL = {
    "config.json": b'{"model_type": "gpt2"}',
    "model.safetensors": WEIGHTS,
    "tokenizer.json": b'{"version": "1.0"}',
    "README.md": b"# Tiny",
    "pytorch_model.bin": b"\x80\x02.",
}
HUB = """
[weights]
rule = "model"
source = "hf:acme/tiny"
revision = "main"
"""
LOCK = Path("targets/m/weights.lock.toml")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A store with the packages of Python, taken from the user's own where that has them."""
    home = tmp_path_factory.mktemp("models") / "home"
    known = home_folder(os.environ) / "cas"
    for package in tomllib.loads((REPOSITORY / "toolchains/locks/python311.amd64.deb.toml").read_text())["package"]:
        blob = Path(package["sha256"][:2], package["sha256"])
        if (known / blob).exists():
            (home / "cas" / blob.parent).mkdir(parents=True, exist_ok=True)
            shutil.copy2(known / blob, home / "cas" / blob)
    yield home
    shutil.rmtree(home.parent, ignore_errors=True)


@pytest.fixture
def hub() -> Iterator[Hub]:
    with open_hub() as found:
        found.publish(MODEL)
        yield found


@pytest.fixture
def forge(checkout: Path, home: Path, hub: Hub, tmp_path: Path) -> Forge:
    """The command in a workspace with one model, `//m:weights`, of the hub."""
    workspace, user = tmp_path / "workspace", tmp_path / "user"
    write(workspace / "WORKSPACE.toml", '[workspace]\nname = "demo"\n')
    write(workspace / "targets/m/BUILD.toml", HUB)
    user.mkdir()
    environ = {"FORGE_HOME": str(home), "HF_ENDPOINT": hub.address, "HF_HOME": str(user), "NO_PROXY": "127.0.0.1"}
    for name in ("HF_TOKEN", "HF_HUB_CACHE", "HF_TOKEN_PATH"):
        environ[name] = ""
    return Forge(checkout, workspace, environ)


def write(path: Path, text: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def declare(forge: Forge, text: str) -> None:
    write(forge.cwd / "targets/m/BUILD.toml", text)


def unique(hub: Hub, name: str) -> bytes:
    """Publish weights that no other test has put into the store."""
    table = {name: {"dtype": "U8", "shape": [300_000], "data_offsets": [0, 300_000]}}
    data = safetensors(table, bytes(range(250)) * 1200)
    hub.publish({**MODEL, "model.safetensors": data})
    return data


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_hubs_model_is_locked_fetched_checked_and_built(forge: Forge, hub: Hub) -> None:
    said = forge("lock", "//m:weights")
    lock = tomllib.loads((forge.cwd / LOCK).read_text())
    built = forge("build", "//m:weights", "--progress=plain")

    commit = hub.branches["acme/tiny", "main"]
    assert (lock["kind"], lock["source"], lock["repository"], lock["revision"]) == ("model", "hf", "acme/tiny", commit)
    assert [(each["path"], each["sha256"], each["size"]) for each in lock["file"]] == [
        (name, Digest.of(MODEL[name]).hash, len(MODEL[name]))
        for name in ("config.json", "model.safetensors", "tokenizer.json")
    ]
    assert "127.0.0.1" not in (forge.cwd / LOCK).read_text()
    assert f"added acme/tiny {commit}" in said.stdout
    assert "Check the files of //m:weights" in built.ran
    assert contents(forge.cwd / "forge-out/m/weights") == {
        name: MODEL[name] for name in ("config.json", "model.safetensors", "tokenizer.json")
    }


def test_small_files_are_not_downloaded_twice_and_pickles_never(forge: Forge, hub: Hub) -> None:
    forge("lock", "//m:weights")
    forge("build", "//...")
    again = forge("build", "//...")

    assert len(hub.asked("/config.json")) == 1
    assert hub.asked("/pytorch_model.bin") == []
    assert again.stderr.startswith("Nothing to do")


def test_a_lock_is_up_to_date_until_it_is_upgraded(forge: Forge, hub: Hub) -> None:
    forge("lock", "//m:weights")
    old = hub.branches["acme/tiny", "main"]
    new = hub.publish({**MODEL, "config.json": b'{"model_type": "gpt3"}'})
    kept, checked = forge("lock", "//m:weights"), forge("lock", "//m:weights", "--check")
    upgraded = forge("lock", "//m:weights", "--upgrade")

    before, after = Digest.of(MODEL["config.json"]).hash, Digest.of(b'{"model_type": "gpt3"}').hash
    assert "up to date" in kept.stderr
    assert checked.stdout == ""
    assert upgraded.stdout.splitlines() == [
        f"  changed acme/tiny: {old} -> {new}",
        f"  changed config.json: sha256 {before} -> {after}",
    ]


def test_other_files_of_a_branch_are_locked_at_the_same_commit(forge: Forge, hub: Hub) -> None:
    forge("lock", "//m:weights")
    old = hub.branches["acme/tiny", "main"]
    hub.publish({**MODEL, "config.json": b"{}"})
    declare(forge, HUB + 'files = ["*.safetensors", "*.json", "README.md", "!tok*"]\n')

    assert "Stale or missing: [targets/m/weights.lock.toml]" in forge("lock", "//m:weights", "--check", code=1).stderr
    assert "is stale" in forge("build", "//m:weights", code=1).stderr
    assert forge("lock", "//m:weights").stdout.splitlines() == ["  added README.md", "  removed tokenizer.json"]
    assert tomllib.loads((forge.cwd / LOCK).read_text())["revision"] == old


def test_what_is_not_locked_is_skipped_by_wildcards_and_an_error_when_named(forge: Forge, hub: Hub) -> None:
    skipped = forge("build", "//...")
    named = forge("build", "//m:weights", code=1)

    assert "skipped //m:weights: `//m:weights` is not locked: no `weights.lock.toml`" in skipped.stderr
    assert "`//m:weights` is not locked: no `weights.lock.toml`\n  hint: Run `forge lock //m:weights`" in named.stderr
    assert hub.log == []


def test_a_gated_model_needs_a_token_which_stays_with_the_hub(forge: Forge, hub: Hub, home: Path) -> None:
    data = unique(hub, "gated")
    hub.token = TOKEN
    refused = forge("lock", "//m:weights", code=1)
    forge("lock", "//m:weights", HF_TOKEN=TOKEN)
    closed = forge("build", "//m:weights", code=1)
    built = forge("build", "//m:weights", HF_TOKEN=TOKEN)

    assert "HTTP 401 Unauthorized: the repository is gated, private or not there, and no token is set" in refused.stderr
    assert "HF_TOKEN" in refused.stderr
    assert "HTTP 401 Unauthorized: the repository is gated" in closed.stderr
    assert "Accept the terms of `acme/tiny` on its page, then set HF_TOKEN" in closed.stderr
    assert (forge.cwd / "forge-out/m/weights/model.safetensors").read_bytes() == data
    assert all("authorization" not in headers for where, _, _, headers in hub.log if where == "objects")
    files = [path for folder in (home, forge.cwd) for path in folder.rglob("*") if path.is_file()]
    assert [path for path in files if path.stat().st_size < 1 << 20 and TOKEN.encode() in path.read_bytes()] == []
    assert TOKEN not in built.stdout + built.stderr


def test_the_token_may_be_in_the_hubs_own_file(forge: Forge, hub: Hub) -> None:
    hub.token = TOKEN
    write(Path(forge.environ["HF_HOME"], "token"), f"{TOKEN}\n")
    forge("lock", "//m:weights")

    assert {headers["authorization"] for headers in hub.asked("/config.json", "hub")} == {f"Bearer {TOKEN}"}


def test_a_download_that_breaks_is_resumed_by_the_next_command(forge: Forge, hub: Hub) -> None:
    data = unique(hub, "broken")
    sha256 = Digest.of(data).hash
    forge("lock", "//m:weights")
    hub.faults[sha256] = [cut(data, 100_000), *[instead(b"busy", 403)] * 9]
    broken = forge("build", "//m:weights", code=1)
    hub.faults.clear()
    forge("build", "//m:weights")

    ranges = [headers.get("range", "") for headers in hub.asked(sha256, "objects")]
    assert "Cannot fetch `model.safetensors` of `acme/tiny`" in broken.stderr
    assert ranges[0] == ""
    assert ranges[-1] == "bytes=100000-"
    assert (forge.cwd / "forge-out/m/weights/model.safetensors").read_bytes() == data


def test_a_replaced_file_is_refused(forge: Forge, hub: Hub) -> None:
    data = unique(hub, "replaced")
    forge("lock", "//m:weights")
    hub.faults[Digest.of(data).hash] = [instead(data[:-1] + b"?")] * 9
    refused = forge("build", "//m:weights", code=1)

    assert "Wrong content" in refused.stderr
    assert "A place has another file than the lock names" in refused.stderr


def test_the_cache_of_the_hubs_clients_is_a_source(forge: Forge, hub: Hub) -> None:
    data = unique(hub, "cached")
    forge("lock", "//m:weights")
    before = len(hub.log)
    write(Path(forge.environ["HF_HOME"], "hub/models--acme--tiny/blobs", Digest.of(data).hash), data)
    forge("build", "--offline", "//m:weights")

    assert hub.log[before:] == []


def test_an_unreachable_hub_says_what_is_missing_and_what_to_do(forge: Forge, hub: Hub) -> None:
    data = unique(hub, "far away")
    forge("lock", "//m:weights")
    missing = forge("fetch", "//m:weights", code=1, HF_ENDPOINT="http://127.0.0.1:9")

    commit = hub.branches["acme/tiny", "main"]
    wanted = f"`model.safetensors` of `acme/tiny` at {commit} ({len(data)} bytes, sha256 {Digest.of(data).hash})"
    assert f"Cannot fetch {wanted} from source `hf`" in missing.stderr
    assert "hint: Run `forge fetch` where the Hub can be reached" in missing.stderr


LYING = {"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4096]}}


@pytest.mark.parametrize(
    ("files", "more", "reason"),
    [
        ({"model.safetensors": safetensors(LYING, bytes(8))}, "", "`model.safetensors` ends at byte 4096 of 8"),
        ({"m.gguf": whole_gguf()[:-1]}, 'format = "gguf"', "of `model.gguf` ends behind the end of the file"),
        ({"m.onnx": onnx(location="../../escape")}, 'format = "onnx"', "`../../escape`, outside the model's folder"),
        (
            {"model.safetensors": WEIGHTS, "tokenizer.model": b"\x80\x04\x95."},
            "",
            "`tokenizer.model` is a pickle by its first bytes",
        ),
    ],
    ids=["safetensors", "gguf", "onnx", "disguised pickle"],
)
def test_a_file_that_lies_fails_the_build(
    forge: Forge, hub: Hub, files: dict[str, bytes], more: str, reason: str
) -> None:
    hub.publish(files)
    declare(forge, HUB + more)
    forge("lock", "//m:weights")
    failed = forge("build", "//m:weights", code=1)

    assert reason in failed.stderr
    assert "Check the files of //m:weights" in failed.stderr
    assert not (forge.cwd / "forge-out/m/weights").exists()


def test_one_gguf_of_many_gets_the_name_that_its_readers_know(forge: Forge, hub: Hub) -> None:
    hub.publish({"q8/tiny-q8_0.gguf": whole_gguf(), "tiny-f16.gguf": whole_gguf()})
    declare(forge, HUB + 'format = "gguf"\nfiles = ["**/*q8_0.gguf"]')
    forge("lock", "//m:weights")
    forge("build", "//m:weights")

    assert contents(forge.cwd / "forge-out/m/weights") == {"model.gguf": whole_gguf()}


def test_a_model_of_addresses_is_downloaded_once(forge: Forge, hub: Hub) -> None:
    address = f"{hub.address}/acme/tiny/resolve/{hub.branches['acme/tiny', 'main']}"
    sources = json.dumps([f"{address}/{name}" for name in ("model.safetensors", "config.json")])
    declare(forge, f'[weights]\nrule = "model"\nsource = {sources}\n')
    forge("lock", "//m:weights")
    forge("build", "//m:weights")
    lock = (forge.cwd / LOCK).read_text()

    assert contents(forge.cwd / "forge-out/m/weights") == {
        name: MODEL[name] for name in ("config.json", "model.safetensors")
    }
    assert 'source = "https"' in lock
    assert hub.address not in lock
    assert len(hub.asked("/model.safetensors")) == 1


def test_a_model_of_the_workspace_needs_no_lock(forge: Forge, hub: Hub) -> None:
    for name, data in MODEL.items():
        write(forge.cwd / "targets/m/checkpoint" / name, data)
    declare(forge, '[weights]\nrule = "model"\nsource = "file:checkpoint"\n')
    forge("build", "//m:weights")

    assert contents(forge.cwd / "forge-out/m/weights") == {
        name: MODEL[name] for name in ("config.json", "model.safetensors", "tokenizer.json")
    }
    assert hub.log == []
