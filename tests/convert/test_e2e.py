"""Real conversions of //tiny_gpt2 and //tiny_vision, in their locked environments."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from forge.execution.home import home_folder
from rules.actions.gguf_header import read_header
from tests.convert.workshop import PRECISIONS, REPOSITORY, Workshop, fresh

pytestmark = pytest.mark.e2e

TYPES = {"q5_k_m": 17, "q4_k_m": 15, "q3_k_m": 12, "q3_k_l": 13, "q2_k": 10, "q8_0": 7, "f16": 1, "f32": 0, "bf16": 32}
"""`general.file_type` of some precisions."""
FREE_RUNNING = 0.9
"""Share of tokens that any precision of //tiny_gpt2 agrees on; measured: all of them."""


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workshop]:
    made = Workshop(tmp_path_factory.mktemp("workshop"))
    made.scripts("check")
    yield made


def label(precision: str) -> str:
    """Name the target of a precision."""
    return "//tiny_gpt2:gguf" if precision == "f16" else f"//tiny_gpt2:gguf_{precision}"


def convert(name: str, precision: str, *, timeout: int, more: str = "") -> str:
    """Declare a conversion of //tiny_gpt2."""
    return (
        f'[{name}]\nrule = "convert"\nmodel = "//tiny_gpt2:weights"\nformat = "gguf"\n'
        f'precision = "{precision}"\ntimeout = {timeout}\n{more}\n'
    )


def command(name: str, argv: list[str], *, srcs: str, deps: list[str], out: str, env: str = "") -> str:
    """Declare a step in the environment of the conversions."""
    return (
        f'[{name}]\nrule = "command"\nenvironment = "//toolchains:convert_llm"\nsrcs = {srcs}\ndeps = {deps}\n'
        f'argv = {argv}\nouts = ["{out}"]\ntimeout = {fresh()}\n[{name}.env]\nPYTHONPATH = "targets/check"\n{env}\n'
    )


def test_every_precision_converts_and_stays_within_its_bound(workshop: Workshop) -> None:
    built = workshop.build(*map(label, PRECISIONS))

    assert built.code == 0, built.said
    sizes = {}
    for precision in PRECISIONS:
        header = read_header(workshop.model(label(precision)))
        report = workshop.report(label(precision))
        sizes[precision] = report["size"]["converted"] / report["size"]["original"]
        assert len(header.tensors) == 28
        assert header.metadata["general.architecture"] == "gpt2"
        assert header.metadata["general.file_type"] == TYPES.get(precision, header.metadata["general.file_type"])
        assert report["agreement"]["same_tokens"] == 1
        assert report["agreement"]["free_running"] >= FREE_RUNNING
    assert sizes["f32"] < 1.01
    assert 0.51 < sizes["f16"] < 0.53
    assert 0.29 < sizes["q8_0"] < 0.31
    assert sizes["q2_k"] < sizes["q3_k_m"] < sizes["q4_k_m"] < sizes["q5_k_m"] < sizes["q6_k"] < sizes["q8_0"]


def test_another_store_and_another_folder_make_the_same_bytes(workshop: Workshop, tmp_path: Path) -> None:
    first = workshop.build("//tiny_gpt2:gguf", "//tiny_gpt2:gguf_q4_k_m")
    home = home_folder({**os.environ, **({"FORGE_HOME": workshop.home} if workshop.home else {})})
    for part in ("cas", "ac"):  # what was built before is there, conversions with another timeout are not
        link_tree(home / part, tmp_path / "home" / part)
    other = Workshop(tmp_path / "elsewhere" / "workspace", str(tmp_path / "home"))
    other.write(
        "targets/check/BUILD.toml",
        convert("f16", "f16", timeout=fresh()) + convert("k", "q4_k_m", timeout=fresh()),
    )

    built = other.build("//check:f16", "//check:k")

    assert (first.code, built.code) == (0, 0), first.said + built.said
    assert built.ran.count("Convert") == 2
    for mine, theirs in (("//check:f16", "//tiny_gpt2:gguf"), ("//check:k", "//tiny_gpt2:gguf_q4_k_m")):
        assert other.model(mine).read_bytes() == workshop.model(theirs).read_bytes()


@pytest.mark.parametrize("precision", ["q8_0", "q4_k_m"])
def test_two_threads_make_the_same_bytes(workshop: Workshop, precision: str) -> None:
    argv = ["/usr/bin/python3", "-m", "rules.actions.convert_gguf", "--model", "$DEPS", "--name", "tiny_gpt2"]
    argv += ["--precision", precision, "--threads", "2", "--out", "$OUT"]
    env = 'OMP_NUM_THREADS = "2"\nOPENBLAS_NUM_THREADS = "2"'
    declared = command(
        "threads", argv, srcs='["rules/actions/*.py"]', deps=["//tiny_gpt2:weights"], out="threads/", env=env
    )
    workshop.write("targets/check/BUILD.toml", declared)

    built = workshop.build("//check:threads", label(precision))

    assert built.code == 0, built.said
    assert workshop.model("//check:threads").read_bytes() == workshop.model(label(precision)).read_bytes()


@pytest.mark.parametrize("precision", ["f16", "q8_0"])
def test_all_tensors_are_those_of_llama_cpp_s_own_converter(workshop: Workshop, precision: str) -> None:
    workshop.write("targets/check/vendor.py", (REPOSITORY / "tests/convert/vendor.py").read_bytes())
    workshop.sdist("targets/check/sdist.tar.gz")
    argv = ["/usr/bin/python3", "targets/check/vendor.py", "targets/check/sdist.tar.gz", "$DEPS", precision, "$OUT"]
    sources = '["vendor.py", "sdist.tar.gz"]'
    declared = command("vendor", argv, srcs=sources, deps=["//tiny_gpt2:weights"], out="vendor/")
    workshop.write("targets/check/BUILD.toml", declared)

    built = workshop.build("//check:vendor", label(precision))

    assert built.code == 0, built.said
    assert tensors(workshop.model("//check:vendor")) == tensors(workshop.model(label(precision)))
    assert len(tensors(workshop.model(label(precision)))) == 28


def test_a_damaged_model_is_beyond_the_bound_of_its_target(workshop: Workshop) -> None:
    workshop.write("targets/check/damage.py", (REPOSITORY / "tests/convert/damage.py").read_bytes())
    argv = ["/usr/bin/python3", "targets/check/damage.py", "$DEPS", "$OUT"]
    sources = '["damage.py", "rules/actions/*"]'
    deps = ["//tiny_gpt2:weights", "//tiny_gpt2:gguf"]
    workshop.write("targets/check/BUILD.toml", command("damaged", argv, srcs=sources, deps=deps, out="damaged/"))

    built = workshop.build("//check:damaged")

    assert built.code == 1
    assert "`max_divergence` allows 0.002 (mean " in built.said


def test_beyond_the_bound_nothing_takes_the_model_and_the_report_is_there(workshop: Workshop) -> None:
    declared = convert("strict", "q4_0", timeout=fresh(), more="max_divergence = 0.01")
    workshop.write("targets/check/BUILD.toml", declared)

    built = workshop.build("//check:strict")
    shown = workshop.forge("info", "//check:strict")

    assert built.code == 1
    assert "The largest logit difference is 3.473, `max_divergence` allows 0.01" in built.said
    assert "Accept" not in built.ran
    assert shown.returncode == 0, shown.stderr
    assert "largest difference         3.473" in shown.stdout


def test_a_changed_handler_converts_nothing(workshop: Workshop) -> None:
    handler = workshop.root / "targets/tiny_gpt2/handler.py"
    workshop.build("//tiny_gpt2:gguf", "//tiny_gpt2:images")
    handler.write_text(handler.read_text() + f"\n# {fresh()}\n")

    built = workshop.build("//tiny_gpt2:gguf", "//tiny_gpt2:images")

    assert built.code == 0, built.said
    assert not {"Convert", "Measure", "Bound", "Accept"} & set(built.ran)
    assert "Image" in built.ran


def test_a_changed_precision_converts_once(workshop: Workshop) -> None:
    timeout = fresh()
    workshop.write("targets/check/BUILD.toml", convert("a", "q5_0", timeout=timeout))
    workshop.build("//check:a")
    workshop.write("targets/check/BUILD.toml", convert("a", "q5_1", timeout=timeout))

    built = workshop.build("//check:a")
    again = workshop.build("//check:a")

    assert (built.code, again.code) == (0, 0), built.said
    assert built.ran == ("Convert", "Measure")
    assert again.ran == ()


def test_a_converter_that_makes_the_same_stops_there(workshop: Workshop) -> None:
    workshop.build("//tiny_gpt2:gguf")
    script = workshop.root / "rules/actions/architecture.py"
    script.write_text(script.read_text() + f"\n# {fresh()}\n")

    built = workshop.build("//tiny_gpt2:gguf")
    explained = workshop.forge("explain", "//tiny_gpt2:gguf")

    assert built.code == 0, built.said
    assert built.ran == ("Convert",)
    assert "Convert //tiny_gpt2:gguf to gguf f16 ran in the last build, because" in explained.stdout
    assert "architecture.py" in explained.stdout


def test_a_renamed_text_file_is_told_in_one_line(workshop: Workshop) -> None:
    workshop.write(
        "targets/check/BUILD.toml",
        """
        [text]
        rule = "command"
        srcs = ["config.json"]
        shell = "mkdir -p $OUT; cp $SRCS $OUT; echo Once upon a time there was a model > $OUT/model.safetensors"
        outs = ["text/"]

        [weights]
        rule = "model"
        source = ":text"

        [gguf]
        rule = "convert"
        model = ":weights"
        format = "gguf"
        precision = "f16"
        """,
    )
    settings = '"n_layer": 1, "n_embd": 8, "n_head": 2, "n_positions": 8, "layer_norm_epsilon": 1e-05'
    workshop.write("targets/check/config.json", f'{{"architectures": ["GPT2LMHeadModel"], {settings}}}')

    built = workshop.build("//check:gguf")

    assert built.code == 1
    assert "error: `model.safetensors` is no safetensors file" in built.said
    assert "Traceback" not in built.said


def test_export_to_onnx_repeats(workshop: Workshop) -> None:
    declared = convert("onnx", "fp32", timeout=fresh()).replace('"gguf"', '"onnx"')
    workshop.write("targets/check/BUILD.toml", declared)

    built = workshop.build("//check:onnx", "//tiny_gpt2:onnx")

    assert built.code == 0, built.said
    mine, theirs = (workshop.model(name).with_name("model.onnx") for name in ("//check:onnx", "//tiny_gpt2:onnx"))
    assert mine.read_bytes() == theirs.read_bytes()


def test_static_quantisation_repeats(workshop: Workshop) -> None:
    toml = workshop.root / "targets/tiny_vision/BUILD.toml"
    first = workshop.build("//tiny_vision:int8")
    model = workshop.model("//tiny_vision:int8").with_name("model.onnx")
    content = model.read_bytes()
    toml.write_text(toml.read_text().replace("[int8]\n", f"[int8]\ntimeout = {fresh()}\n"))

    second = workshop.build("//tiny_vision:int8")

    assert (first.code, second.code) == (0, 0), first.said + second.said
    assert second.ran.count("Convert") == 1
    assert model.read_bytes() == content
    assert workshop.report("//tiny_vision:int8")["kind"] == "tensor"


def tensors(file: Path) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    """Take a GGUF file's tensors with their bytes."""
    content = file.read_bytes()
    return {
        each.name: (each.type, each.shape, content[each.start : each.start + each.size])
        for each in read_header(file).tensors.values()
    }


def link_tree(source: Path, target: Path) -> None:
    """Make a second name for every file of a folder."""
    for folder, _, files in os.walk(source):
        place = target / Path(folder).relative_to(source)
        place.mkdir(parents=True, exist_ok=True)
        for name in files:
            os.link(Path(folder) / name, place / name)
