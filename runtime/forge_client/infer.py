"""`POST /api/infer`: prompts, or a file as it is."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from functools import partial

from forge_client.call import Asking, Call, Tally, answer_of, grouped
from forge_client.connection import Message, Response
from forge_client.dataset import Dataset, File, Files, Prompts
from forge_client.error import RequestFailed, UsageFault
from forge_client.value import read_json

__all__ = ["infer_calls"]

PATH = "/api/infer"


def infer_calls(asking: Asking, dataset: Dataset) -> list[Call]:
    """Make the requests of a data set."""
    if isinstance(dataset, Prompts):
        gen = dict(dataset.gen)
        if asking.max_tokens is not None:
            gen["max_new_tokens"] = asking.max_tokens
        return [_prompt_call(asking, group, gen) for group in grouped(dataset.prompts, asking.batch)]
    if isinstance(dataset, Files):
        if asking.batch != 1:
            raise UsageFault("A file is one request", "Put pictures into a zip to send several at a time")
        return [_file_call(asking, file) for file in dataset.files]
    raise UsageFault("`/api/infer` takes prompts and files", "Send tensors with `--api oip`")


def _prompt_call(asking: Asking, prompts: Sequence[str], gen: dict[str, object]) -> Call:
    body = {"prompts": list(prompts), **({"gen": gen} if gen else {}), "details": True}
    data = json.dumps(body, ensure_ascii=False).encode()
    message = Message.make(asking.address, "POST", PATH, body=data, headers=asking.headers)
    return Call(message, partial(_judge_texts, tuple(prompts) if asking.check else (), len(prompts)))


def _file_call(asking: Asking, file: File) -> Call:
    message = Message.make(
        asking.address, "POST", PATH, body=file.body, content_type=file.content_type, headers=asking.headers
    )
    return Call(message, partial(_judge_file, file.items, asking.check))


def _judge_texts(prompts: Sequence[str], items: int, response: Response) -> Tally:
    """Look for an answer to each prompt; one that was sent more than once must have a list of them."""
    if not prompts:
        return Tally(items)
    answers = answer_of(response)
    found: list[object] = []
    for prompt, count in Counter(prompts).items():
        value = answers.get(prompt)
        several = value if isinstance(value, list) else []
        found += [each for each in (several if count > 1 else [value]) if _is_text(each)][:count]
    if len(found) != items or len(answers) != len(set(prompts)):
        raise RequestFailed("answer", f"{len(found)} answers to {items} prompts")
    prompt_tokens = [each.get("prompt_tokens") for each in found if isinstance(each, dict)]
    generated = [each.get("generated_tokens") for each in found if isinstance(each, dict)]
    return Tally(items, _sum(prompt_tokens, items), _sum(generated, items))


def _judge_file(items: int, check: bool, response: Response) -> Tally:
    if check:
        if not response.body:
            raise RequestFailed("answer", "The answer is empty")
        if "json" in response.header("content-type"):
            try:
                read_json(response.body)
            except ValueError as error:
                raise RequestFailed("answer", f"The answer is not JSON: {error}") from error
    return Tally(items)


def _is_text(value: object) -> bool:
    return isinstance(value, str) or (isinstance(value, dict) and isinstance(value.get("text"), str))


def _sum(counts: Sequence[object], items: int) -> int | None:
    numbers = [each for each in counts if type(each) is int]
    return sum(numbers) if len(numbers) == items else None
