from __future__ import annotations

import base64
import io
import json
import zipfile
from pathlib import Path

import pytest

from forge_client.dataset import Files, Payloads, Prompts, Tensor, Tensors, read_dataset
from forge_client.error import UsageFault


def written(folder: Path, name: str, content: object) -> Path:
    path = folder / name
    data = (
        content
        if isinstance(content, bytes)
        else (content if isinstance(content, str) else json.dumps(content)).encode()
    )
    path.write_bytes(data)
    return path


def archive(*names: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name in names:
            file.writestr(name, b"x")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.json", {"prompts": ["x", "y"], "gen": {"max_new_tokens": 4}}, Prompts(("x", "y"), {"max_new_tokens": 4})),
        ("a.json", {"prompts": "x"}, Prompts(("x",))),
        ("a.json", ["x", "x"], Prompts(("x", "x"))),
        ("a.txt", "x\n\n  y z\n", Prompts(("x", "  y z"))),
        ("a.jsonl", '"x"\n\n{"prompt": "y", "id": 3}\n{"text": "z"}\n', Prompts(("x", "y", "z"))),
    ],
)
def test_reads_prompts(tmp_path: Path, name: str, content: object, expected: Prompts) -> None:
    assert expected == read_dataset(written(tmp_path, name, content))


def test_a_picture_is_sent_as_it_is(tmp_path: Path) -> None:
    found = read_dataset(written(tmp_path, "a.png", b"\x89PNG"))

    assert isinstance(found, Files)
    assert [("a.png", b"\x89PNG", "image/png", 1)] == [
        (each.name, each.body, each.content_type, each.items) for each in found.files
    ]


def test_a_zip_is_one_request_of_many_items(tmp_path: Path) -> None:
    """Whatever DATASET_SIZE says, which the predecessors believed."""
    found = read_dataset(written(tmp_path, "a.zip", archive("p/", "p/1.png", "p/2.png")), 100)

    assert isinstance(found, Files)
    assert [("application/zip", 2)] == [(each.content_type, each.items) for each in found.files]


def test_a_folder_is_its_files_in_order(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    for name in ("b/2.jpg", "1.png", ".hidden"):
        written(tmp_path, name, b"x")
    found = read_dataset(tmp_path)

    assert isinstance(found, Files)
    assert [("1.png", "image/png"), ("b/2.jpg", "image/jpeg")] == [
        (each.name, each.content_type) for each in found.files
    ]


def test_only_the_first_items_are_kept(tmp_path: Path) -> None:
    assert Prompts(("x", "y")) == read_dataset(written(tmp_path, "a.txt", "x\ny\nz"), 2)


def test_reads_tensors_as_perf_analyzer_does(tmp_path: Path) -> None:
    data = [
        {"A": [[1, 2], [3, 4]], "B": {"content": [1, 2], "shape": [2, 1]}},
        {"A": {"b64": base64.b64encode(b"ab").decode()}, "B": {"content": {"b64": "eA=="}, "shape": [1]}},
    ]
    found = read_dataset(written(tmp_path, "a.json", {"data": data}))

    assert Tensors(
        (
            {"A": Tensor((1, 2, 3, 4)), "B": Tensor((1, 2), None, (2, 1))},
            {"A": Tensor((), b"ab"), "B": Tensor((), b"x", (1,))},
        )
    ) == found  # fmt: skip


def test_what_perf_analyzer_groups_into_sequences_is_sent_one_by_one(tmp_path: Path) -> None:
    found = read_dataset(written(tmp_path, "a.json", {"data": [[{"A": [1]}, {"A": [2]}], [{"A": [3]}]]}))

    assert Tensors(({"A": Tensor((1,))}, {"A": Tensor((2,))}, {"A": Tensor((3,))})) == found


def test_perf_analyzer_s_answers_belong_to_its_rows(tmp_path: Path) -> None:
    found = read_dataset(written(tmp_path, "a.json", {"data": [{"A": [1]}], "validation_data": [{"B": [2]}]}))

    assert isinstance(found, Tensors)
    assert ({"B": Tensor((2,))},) == found.expected


def test_perf_analyzer_s_payloads_are_whole_bodies(tmp_path: Path) -> None:
    found = read_dataset(written(tmp_path, "a.json", {"data": [{"payload": [{"prompt": "x", "max_tokens": 3}]}]}))

    assert Payloads(({"prompt": "x", "max_tokens": 3},)) == found


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.json", "{", "Expecting property name"),
        ("a.json", "[" * 100_000, "It is too deep"),
        ("a.json", {"prompts": [1]}, 'Must be `{"prompts": [texts]}`'),
        ("a.json", {"prompts": ["x"], "generate": 1}, "Unknown keys [generate], it takes [gen, prompts]"),
        ("a.json", {"prompts": ["x"], "gen": {"top_k": 1}}, "`gen` takes no [top_k]"),
        ("a.json", {"data": [1]}, "`data` must be a list of objects"),
        ("a.json", {"data": [{"A": 1}]}, "`A` must be a list of values, or have `content` or `b64`"),
        ("a.json", {"data": [{"A": {"content": [1], "shape": [-1]}}]}, "`shape` must be a list of whole numbers"),
        ("a.json", {"data": [{"A": {"b64": "?"}}]}, "`b64` is not base64"),
        ("a.json", {"data": [{"A": [1]}], "validation_data": []}, None),
        (
            "a.json",
            {"data": [{"A": [1]}], "validation_data": [{}, {}]},
            "`validation_data` has 2 entries, `data` has 1",
        ),
        ("a.jsonl", '{"x": 1}', "Line 1 is neither a text nor an object"),
        ("a.jsonl", '"x"\n{', "Line 2 is not JSON"),
        ("a.txt", "\n \n", "Has nothing to send"),
        ("a.txt", b"\xff", "Is not UTF-8"),
        ("a.zip", b"PK", "Is no zip"),
    ],
)
def test_says_what_is_wrong(tmp_path: Path, name: str, content: object, expected: str | None) -> None:
    path = written(tmp_path, name, content)
    if expected is None:
        assert len(read_dataset(path)) == 1
        return
    with pytest.raises(UsageFault) as error:
        read_dataset(path)

    assert str(error.value).startswith(f"{path}: ")
    assert expected in str(error.value)


def test_says_that_there_are_not_so_many(tmp_path: Path) -> None:
    with pytest.raises(UsageFault, match="Has 2 items, not 3"):
        read_dataset(written(tmp_path, "a.txt", "x\ny"), 3)


def test_says_that_there_is_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(UsageFault, match="Cannot be read: No such file"):
        read_dataset(tmp_path / "none.json")
