"""Pictures over HTTP: one or a zip of them, hostile or not, one at a time or in batches."""

from __future__ import annotations

import io
import json
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

np = pytest.importorskip("numpy")
Image = pytest.importorskip("PIL.Image")

from forge_runtime import LoadError, RequestError  # noqa: E402
from forge_runtime.backend import TensorSpec  # noqa: E402
from forge_runtime.config import Config, Mode, ModelConfig, Params  # noqa: E402
from forge_runtime.lifecycle import merges_requests  # noqa: E402
from forge_runtime.picture import Limits, split_body  # noqa: E402
from forge_runtime.vision import ImageClassifier, Pictures  # noqa: E402
from tests.runtime.fake import Client, FakeBackend, Reply, make_config, serving  # noqa: E402

NAMES = ("red", "green", "blue", "dark")
COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255), "dark": (0, 0, 0)}


class FakeTensors:
    """Gives the mean of each channel, and a small number for darkness; notes the batches."""

    def __init__(self, batch: int | None = None, *, last: bool = False, dtype: str = "float32") -> None:
        self.batches: list[tuple[int, ...]] = []
        shape = (8, 8, 3) if last else (3, 8, 8)
        self._input = TensorSpec("image", dtype, (batch, *shape))
        self._channels = -1 if last else 1

    def load(self, model: ModelConfig, params: Params) -> None:
        pass

    def describe(self) -> Mapping[str, str | int]:
        return {"backend": "fake"}

    def signature(self) -> tuple[Sequence[TensorSpec], Sequence[TensorSpec]]:
        return [self._input], [TensorSpec("logits", "float32", (self._input.shape[0], 4))]

    def run(self, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        (value,) = inputs.values()
        assert value.dtype.name == self._input.dtype
        assert all(wanted in (None, got) for wanted, got in zip(self._input.shape, value.shape, strict=True))
        self.batches.append(value.shape)
        axes = (1, 2) if self._channels == -1 else (2, 3)
        means = value.mean(axis=axes)
        return {"logits": np.concatenate([means, np.full((len(value), 1), 0.1)], axis=1)}


def config(tmp_path: Path, mode: Mode = "throughput", batch_size: int = 4) -> Config:
    (tmp_path / "labels.txt").write_text("\n".join(NAMES) + "\n")
    made = make_config(params=Params(batch_size=batch_size))
    return replace(made, server=replace(made.server, app_dir=tmp_path, mode=mode))


def picture(colour: str, *, size: tuple[int, int] = (20, 10), form: str = "PNG", mode: str = "RGB") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, COLOURS[colour]).convert(mode).save(buffer, form)
    return buffer.getvalue()


def zipped(files: Mapping[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the server of `client` has for a handler's folder."""
    return tmp_path_factory.mktemp("app")


@pytest.fixture(scope="module")
def client(folder: Path) -> Iterator[Client]:
    with serving(FakeTensors(), config(folder), handler=ImageClassifier) as client:
        yield client


def loaded(backend: FakeTensors, config: Config, handler: type[ImageClassifier] = ImageClassifier) -> ImageClassifier:
    """Return a lifecycle without a server around it."""
    lifecycle = handler(config, backend)
    lifecycle.load()
    return lifecycle


def classify(lifecycle: ImageClassifier, *bodies: bytes) -> list[dict[str, list[list[object]]]]:
    """Send requests through all steps, and their pictures through `infer_batch` together."""
    decoded = [lifecycle.decode(body, "") for body in bodies]
    outcomes = lifecycle.infer_batch([lifecycle.preprocess(each) for each in decoded])
    answers = []
    for each, outcome in zip(decoded, outcomes, strict=True):
        assert not isinstance(outcome, RequestError)
        answers.append(json.loads(lifecycle.encode(lifecycle.postprocess(each, outcome))))
    return answers


def likeliest(answer: Mapping[str, Sequence[Sequence[object]]]) -> dict[str, object]:
    """Label that comes first for each name."""
    return {name: classes[0][1] for name, classes in answer.items()}


def send(client: Client, body: bytes) -> Reply:
    return client.post(body, "application/octet-stream")


def best(reply: Reply) -> dict[str, object]:
    """Label that comes first for each name."""
    assert reply.status == 200, reply.body
    answer = reply.json
    assert isinstance(answer, dict)
    return likeliest(answer)


def test_a_zip_of_one_folder_is_classified_by_name(client: Client) -> None:
    body = zipped({"photos/": b"", "photos/a.png": picture("red"), "photos/b.jpg": picture("blue", form="JPEG")})

    reply = send(client, body)

    assert best(reply) == {"a.png": "red", "b.jpg": "blue"}


def test_classes_come_with_number_label_and_probability(client: Client) -> None:
    (classes,) = send(client, picture("green")).json.values()  # type: ignore[attr-defined]

    assert [each[:2] for each in classes] == [[1, "green"], [3, "dark"], [0, "red"], [2, "blue"]]
    assert sum(each[2] for each in classes) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(
    ("form", "mode"), [("PNG", "RGBA"), ("PNG", "P"), ("BMP", "RGB"), ("GIF", "P"), ("WEBP", "RGB"), ("JPEG", "CMYK")]
)
def test_pictures_of_many_kinds_are_read(client: Client, form: str, mode: str) -> None:
    assert best(send(client, picture("red", form=form, mode=mode))) == {"image": "red"}


def test_names_are_labels_and_never_paths(client: Client, folder: Path) -> None:
    names = ["../../etc/passwd.png", "/abs.png", "grüße \u4e16.png", "a\\b.png"]
    body = zipped({name: picture("red") for name in names})
    before = sorted(folder.iterdir())

    assert best(send(client, body)) == dict.fromkeys(names, "red")
    assert sorted(folder.iterdir()) == before


def test_what_desktops_add_to_archives_is_passed_over(client: Client) -> None:
    body = zipped({"a.png": picture("red"), "__MACOSX/._a.png": b"x", ".DS_Store": b"x"})

    assert best(send(client, body)) == {"a.png": "red"}


@pytest.mark.parametrize(
    ("mode", "fixed", "expected"),
    [
        ("throughput", None, [4, 4, 2]),
        ("throughput", 4, [4, 4, 4]),
        ("throughput", 16, [16]),
        ("latency", None, [1] * 10),
        ("latency", 1, [1] * 10),
        ("latency", 4, [4] * 10),
    ],
)
def test_batches_follow_mode_and_model_and_are_padded_and_trimmed(
    tmp_path: Path, mode: Mode, fixed: int | None, expected: list[int]
) -> None:
    backend = FakeTensors(fixed)
    colours = [list(COLOURS)[index % 4] for index in range(10)]
    body = zipped({f"{index}.png": picture(colour) for index, colour in enumerate(colours)})

    (answer,) = classify(loaded(backend, config(tmp_path, mode)), body)

    assert likeliest(answer) == {f"{index}.png": colour for index, colour in enumerate(colours)}
    assert [shape[0] for shape in backend.batches] == expected


@pytest.mark.parametrize(
    ("mode", "fixed", "expected"),
    [("throughput", None, [4, 2]), ("throughput", 3, [3, 3]), ("latency", None, [1] * 6), ("latency", 3, [3] * 6)],
)
def test_pictures_of_several_requests_share_a_run(
    tmp_path: Path, mode: Mode, fixed: int | None, expected: list[int]
) -> None:
    backend = FakeTensors(fixed)
    bodies = [
        zipped({"a.png": picture("red"), "b.png": picture("blue")}),
        picture("green"),
        zipped({"a.png": picture("dark"), "b.png": picture("red"), "c.png": picture("green")}),
    ]

    answers = classify(loaded(backend, config(tmp_path, mode)), *bodies)

    assert list(map(likeliest, answers)) == [
        {"a.png": "red", "b.png": "blue"},
        {"image": "green"},
        {"a.png": "dark", "b.png": "red", "c.png": "green"},
    ]
    assert [shape[0] for shape in backend.batches] == expected


def test_pictures_that_come_at_the_same_time_get_their_own_answers(client: Client) -> None:
    with ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(lambda colour: send(client, picture(colour)), [*COLOURS] * 2))

    assert [best(reply) for reply in replies] == [{"image": colour} for colour in [*COLOURS] * 2]


def test_a_request_counts_as_its_pictures(tmp_path: Path) -> None:
    lifecycle = loaded(FakeTensors(), config(tmp_path))

    assert lifecycle.count(lifecycle.decode(picture("red"), "")) == 1
    assert lifecycle.count(lifecycle.decode(zipped({f"{name}.png": picture(name) for name in COLOURS}), "")) == 4


def test_one_that_has_left_is_no_part_of_the_run(tmp_path: Path) -> None:
    backend = FakeTensors()
    lifecycle = loaded(backend, config(tmp_path))
    stays, leaves = (lifecycle.preprocess(lifecycle.decode(picture("red"), "")) for _ in range(2))

    outcomes = lifecycle.infer_batch([replace(leaves, cancelled=lambda: True), stays])

    assert [isinstance(each, RequestError) for each in outcomes] == [True, False]
    assert [shape[0] for shape in backend.batches] == [1]


class OneByOne(ImageClassifier):
    """Looks at each request on its own."""

    def infer(self, request: Pictures) -> Any:
        return super().infer(request) * 2


def test_a_handler_may_still_run_each_request_alone(tmp_path: Path) -> None:
    lifecycle = loaded(FakeTensors(), config(tmp_path), OneByOne)
    request = lifecycle.preprocess(lifecycle.decode(picture("red"), ""))

    assert not merges_requests(OneByOne)
    assert merges_requests(ImageClassifier)
    assert lifecycle.infer(request).tolist() == [[2.0, 0.0, 0.0, pytest.approx(0.2)]]


@pytest.mark.parametrize(("last", "dtype"), [(True, "float32"), (False, "float16"), (True, "uint8")])
def test_layout_and_type_are_the_models(tmp_path: Path, last: bool, dtype: str) -> None:
    lifecycle = loaded(FakeTensors(last=last, dtype=dtype), config(tmp_path))

    assert list(map(likeliest, classify(lifecycle, picture("blue")))) == [{"image": "blue"}]


def png_of(width: int, height: int) -> bytes:
    """A PNG that says it is large, and is a few bytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def lying(body: bytes, size: int) -> bytes:
    """Say of a zip's only entry that it unpacks to another size."""
    at = body.index(b"PK\1\2")
    return body[: at + 24] + struct.pack("<I", size) + body[at + 28 :]


def encrypted(body: bytes) -> bytes:
    at = body.index(b"PK\1\2")
    return body[:6] + b"\1\0" + body[8 : at + 8] + b"\1\0" + body[at + 10 :]


SOLID = picture("red", size=(3000, 3000), form="BMP")
STORED = zipped({"a.png": b"abcdefgh" * 9}, zipfile.ZIP_STORED)
HOSTILE = {
    "empty": (b"", 400, "empty_body"),
    "text": (b"hello", 400, "not_a_picture"),
    "json": (b'{"prompts": "a"}', 400, "not_a_picture"),
    "half a picture": (picture("red", size=(200, 200), form="BMP")[:1000], 400, "not_a_picture"),
    "svg": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", 400, "not_a_picture"),
    "postscript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", 400, "not_a_picture"),
    "empty zip": (zipped({}), 400, "empty_zip"),
    "zip of folders": (zipped({"a/": b""}), 400, "empty_zip"),
    "half a zip": (zipped({"a.png": picture("red")})[:60], 400, "bad_zip"),
    "zip with text": (zipped({"a.png": picture("red"), "b.txt": b"hello"}), 400, "not_a_picture"),
    "zip in a zip": (zipped({"a.zip": zipped({"a.png": picture("red")})}), 400, "not_a_picture"),
    "encrypted": (encrypted(zipped({"a.png": picture("red")})), 400, "bad_zip"),
    "lzma": (zipped({"a.png": picture("red")}, zipfile.ZIP_LZMA), 400, "bad_zip"),
    "wrong sum": (
        zipped({"a.png": b"abcdefgh" * 9}, zipfile.ZIP_STORED).replace(b"abcdefgh", b"abcdefgX", 1),
        400,
        "bad_zip",
    ),
    "twice": (
        zipped({"x/a.png": picture("red"), "x/b.png": picture("red")}).replace(b"x/b.png", b"x/a.png"),
        400,
        "bad_zip",
    ),
    "bomb": (zipped({"a.png": b"\0" * (20 * 2**20)}), 413, "zip_too_large"),
    "bomb that lies": (lying(zipped({"a.png": b"\0" * (20 * 2**20)}), 1000), 400, "bad_zip"),
    "large entry": (zipped({"a.png": b"\0" * (40 * 2**20)}), 413, "zip_too_large"),
    "solid picture": (zipped({"a.bmp": SOLID}), 413, "zip_too_large"),
    "many entries": (zipped({f"{index}.png": b"" for index in range(1100)}), 413, "zip_too_large"),
    "large picture": (png_of(60000, 60000), 413, "picture_too_large"),
    "huge picture": (png_of(2**31 - 1, 2**31 - 1), 413, "picture_too_large"),
    "zip of a large picture": (zipped({"a.png": png_of(60000, 60000)}), 413, "picture_too_large"),
}


@pytest.mark.parametrize(("body", "status", "code"), HOSTILE.values(), ids=list(HOSTILE))
def test_what_is_no_picture_is_refused_and_the_next_request_served(
    client: Client, body: bytes, status: int, code: str
) -> None:
    refused = send(client, body)

    assert (refused.status, refused.error["code"]) == (status, code)
    assert best(send(client, picture("red"))) == {"image": "red"}


def test_a_bomb_of_overlapping_entries_is_refused_by_its_sum() -> None:
    body = zipped({f"{index}.png": b"x" * 100 for index in range(8)})

    with pytest.raises(RequestError, match="unpacks to more than 500 bytes"):
        list(split_body(body, Limits(total_bytes=500)))


def test_labels_that_do_not_fit_the_model_end_the_start(tmp_path: Path) -> None:
    made = config(tmp_path)
    (tmp_path / "labels.txt").write_text("one\ntwo\n")

    with pytest.raises(LoadError, match="2 labels, but the model has 4 classes"):
        loaded(FakeTensors(), made)


def test_missing_labels_end_the_start(tmp_path: Path) -> None:
    made = config(tmp_path)
    (tmp_path / "labels.txt").unlink()

    with pytest.raises(LoadError, match=r"labels\.txt: Cannot be read; add it to `data`"):
        loaded(FakeTensors(), made)


def test_a_backend_of_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match="`ImageClassifier` needs a TensorBackend"):
        ImageClassifier(config(tmp_path), FakeBackend())


class Numbered(ImageClassifier):
    """Has no labels, and wants two classes."""

    labels = None
    top = 2
    mean = (0.5, 0.5, 0.5)
    deviation = (0.5, 0.5, 0.5)


def test_a_handler_sets_labels_and_normalisation(tmp_path: Path) -> None:
    (answer,) = classify(loaded(FakeTensors(), config(tmp_path), Numbered), picture("blue"))
    (classes,) = answer.values()

    assert [each[:2] for each in classes] == [[2, "2"], [3, "3"]]
