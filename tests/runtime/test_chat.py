"""Conversations as prompts: the model's own template, in its sandbox."""

from __future__ import annotations

import json
import struct
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import pytest

from forge_runtime import LoadError, RequestError
from forge_runtime.chat import ChatTemplate, Message, Rendered, load_template
from forge_runtime.config import ModelConfig
from tests.runtime.test_gguf import make, string

CHATML = (
    "{% for message in messages %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
LLAMA_2 = """
{%- if messages[0]['role'] == 'system' %}
    {%- set found = messages[0]['content'] %}{%- set messages = messages[1:] %}
{%- endif %}
{%- for message in messages %}
    {%- if (message.role == 'user') != (loop.index0 % 2 == 0) %}
        {{- raise_exception('Conversation roles must alternate user/assistant') }}
    {%- endif %}
    {%- if message.role == 'user' %}
        {%- set content = (found ~ '\n' if found and loop.first else '') ~ message.content.strip() %}
        {{- bos_token + '[INST] ' + content + ' [/INST]' }}
    {%- else %}
        {{- ' ' + message.content + ' ' + eos_token }}
    {%- endif %}
{%- endfor %}"""
NO_SYSTEM = """{{ bos_token }}{% for message in messages %}
    {% if message['role'] == 'system' %}
        {{ raise_exception('System role not supported') }}
    {% endif %}
<{{ message['role'] }}>{{ message['content'] | trim }}
{% endfor %}
<model>"""
LAST_QUESTION = """
{%- set ns = namespace(last=-1) %}
{%- for message in messages[::-1] %}
    {%- if message.role != 'user' %}{% continue %}{% endif %}
    {%- set ns.last = messages|length - 1 - loop.index0 %}
    {%- break %}
{%- endfor %}
{%- for message in messages %}{{ '*' if loop.index0 == ns.last else '-' }}{{ message.content }};{% endfor %}"""

HI = ({"role": "user", "content": "Hi"},)
TALK = (
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hi "},
    {"role": "assistant", "content": "Hello"},
    {"role": "user", "content": "Who?"},
)
NOON = datetime(2024, 7, 26, 12)


def folder(tmp_path: Path, **files: object) -> ModelConfig:
    """Write a model's files, those that are no text as JSON; `_` stands for the dot."""
    for name, content in files.items():
        stem, _, kind = name.rpartition("_")
        text = content if isinstance(content, str) else json.dumps(content)
        (tmp_path / f"{stem}.{kind}").write_text(text, encoding="utf-8")
    return ModelConfig("m", tmp_path)


def load(tmp_path: Path, template: str, **config: object) -> ChatTemplate:
    config = {"bos_token": "<s>", "eos_token": {"content": "</s>", "lstrip": False}, **config}
    model = folder(tmp_path, tokenizer_config_json={"chat_template": template, **config})
    return load_template(model, lambda: NOON)


def render(tmp_path: Path, template: str, messages: Sequence[Message] = HI) -> str:
    return load(tmp_path, template).render(messages).text


def write_gguf(tmp_path: Path, *extra: tuple[str, int, bytes]) -> ModelConfig:
    tokens = struct.pack("<IQ", 8, 3) + string(b"x") + string(b"<s>") + string(b"</s>")
    keys = [
        ("general.architecture", 8, string(b"llama")),
        ("tokenizer.ggml.tokens", 9, tokens),
        ("tokenizer.ggml.bos_token_id", 4, struct.pack("<I", 1)),
        ("tokenizer.ggml.eos_token_id", 4, struct.pack("<I", 2)),
        *extra,
    ]
    (tmp_path / "model.gguf").write_bytes(make(keys=keys))
    return ModelConfig("m", tmp_path, "gguf")


@pytest.mark.parametrize(
    ("template", "messages", "text"),
    [
        (
            CHATML,
            TALK,
            "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi <|im_end|>\n<|im_start|>assistant\nHello"
            "<|im_end|>\n<|im_start|>user\nWho?<|im_end|>\n<|im_start|>assistant\n",
        ),
        (LLAMA_2, TALK, "<s>[INST] Be brief.\nHi [/INST] Hello </s><s>[INST] Who? [/INST]"),
        (NO_SYSTEM, TALK[1:2], "<s><user>Hi\n<model>"),
        (LAST_QUESTION, TALK, "-Be brief.;-Hi ;-Hello;*Who?;"),
        ("{% generation %}{{ messages[0].content }}{% endgeneration %}", HI, "Hi"),
        ("{{ {'<a>': 'é', 'b': [1]} | tojson }}", HI, '{"<a>": "é", "b": [1]}'),
        ("{{ [{'b': 1, 'a': 2}] | tojson(indent=1, sort_keys=true) }}", HI, '[\n {\n  "a": 2,\n  "b": 1\n }\n]'),
        ("{{ strftime_now('%d %b %Y') }}", HI, "26 Jul 2024"),
        ("{{ tools is none }} {{ documents is none }} {{ x is defined }}", HI, "True True False"),
        ("{% for i in range(2, 4) %}{{ i }}{% endfor %}", HI, "23"),
    ],
    ids=["chatml", "llama 2", "gemma", "namespace", "generation", "tojson", "tojson options", "date", "tools", "range"],
)
def test_a_template_is_rendered_as_transformers_does(
    tmp_path: Path, template: str, messages: Sequence[Message], text: str
) -> None:
    assert text == render(tmp_path, template, messages)


def test_what_a_user_writes_is_not_a_template(tmp_path: Path) -> None:
    injected = "{{ bos_token }}{% for x in messages %}y{% endfor %}{# z #}"

    text = render(tmp_path, "{{ messages[0].content }}", [{"role": "user", "content": injected}])

    assert injected == text


@pytest.mark.parametrize(
    ("template", "messages", "reason"),
    [
        (NO_SYSTEM, TALK, "System role not supported"),
        (LLAMA_2, TALK[1:3] * 2 + TALK[2:3], "roles must alternate"),
        ("{{ raise_exception('\\ud800' * 999) }}", HI, r"refuses the messages: \?{200}$"),
        ("{{ '' }}", HI, "makes nothing of these messages"),
    ],
    ids=["system", "order", "long and no text", "empty"],
)
def test_messages_that_the_template_refuses_are_the_clients_fault(
    tmp_path: Path, template: str, messages: Sequence[Message], reason: str
) -> None:
    with pytest.raises(RequestError, match=reason) as caught:
        render(tmp_path, template, messages)

    assert (400, "messages") == (caught.value.status, caught.value.param)


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{{ ''.__class__.__mro__ }}", "SecurityError"),
        ("{{ ''['__class__'] }}{{ messages.__init__.__globals__ }}", "SecurityError"),
        ("{{ cycler.__init__.__globals__.os.popen('id').read() }}", "SecurityError"),
        ("{{ '{0.__class__.__name__[0]}'.format(messages) }}", "SecurityError"),
        ("{{ messages.append(1) }}", "SecurityError"),
        ("{% for i in range(10**9) %}{{ i }}{% endfor %}", "OverflowError"),
        ("{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}", "OverflowError"),
        ("{{ messages[7].content.strip() }}", "UndefinedError"),
        ("{{ 1 / 0 }}", "ZeroDivisionError"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "RecursionError"),
        ("{% include '/etc/passwd' %}", "TypeError"),
        ("{{ '\\ud800' }}", "UnicodeEncodeError"),
    ],
)
def test_a_template_that_fails_is_the_servers_fault_and_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, template: str, reason: str
) -> None:
    with pytest.raises(RequestError) as caught:
        render(tmp_path, template)

    assert 500 == caught.value.status
    assert reason in caplog.text


def test_a_prompt_without_measure_is_refused_while_it_grows(tmp_path: Path) -> None:
    template = "{% for i in range(99999) %}{% for x in messages %}{{ x.content }}{% endfor %}{% endfor %}"

    with pytest.raises(RequestError, match="more than 16777216 characters") as caught:
        render(tmp_path, template, [{"role": "user", "content": "x" * 10**6}])

    assert "context_length_exceeded" == caught.value.code


POST = {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {}}]}
BYTES = {"type": "ByteLevel"}
NONE = {"type": "TemplateProcessing", "single": [{"Sequence": {"id": "A"}}]}


@pytest.mark.parametrize(
    ("processor", "flag", "text"),
    [
        (POST, None, "<user>Hi\n<model>"),
        (POST, False, "<user>Hi\n<model>"),
        ({"type": "Sequence", "processors": [BYTES, POST]}, None, "<user>Hi\n<model>"),
        (BYTES, True, "<s><user>Hi\n<model>"),
        (NONE, True, "<s><user>Hi\n<model>"),
        ({**NONE, "single": [{"SpecialToken": {"id": "[CLS]"}}]}, True, "<s><user>Hi\n<model>"),
        (None, True, "<s><user>Hi\n<model>"),
        ("no tokenizer.json", True, "<user>Hi\n<model>"),
        ("no tokenizer.json", None, "<s><user>Hi\n<model>"),
    ],
)
def test_a_bos_token_that_the_tokenizer_adds_is_not_written_too(
    tmp_path: Path, processor: object, flag: bool | None, text: str
) -> None:
    if processor != "no tokenizer.json":
        added = [{"id": 0, "content": "post_processor"}]
        tokenizer = {"added_tokens": added, "post_processor": processor, "model": {"vocab": {"post_processor": 1}}}
        folder(tmp_path, tokenizer_json=tokenizer)
    template = load(tmp_path, NO_SYSTEM, add_bos_token=flag)

    assert text == template.render(HI).text


def test_only_the_first_bos_token_goes(tmp_path: Path) -> None:
    folder(tmp_path, tokenizer_json={"post_processor": POST})

    text = render(tmp_path, LLAMA_2, TALK)

    assert "[INST] Be brief.\nHi [/INST] Hello </s><s>[INST] Who? [/INST]" == text


@pytest.mark.parametrize(
    "files",
    [
        {"chat_template_jinja": "{{ bos_token }}it", "tokenizer_config_json": {"chat_template": "other"}},
        {"chat_template_jinja": "{{ bos_token }}it"},
        {"tokenizer_config_json": {"chat_template": "<s>it"}},
        {
            "tokenizer_config_json": {
                "chat_template": [{"name": "tool_use", "template": "x"}, {"name": "default", "template": "<s>it"}]
            }
        },
    ],
    ids=["file before field", "file alone", "field", "list"],
)
def test_a_folders_template_is_found(tmp_path: Path, files: dict[str, object]) -> None:
    model = folder(tmp_path, special_tokens_map_json={"bos_token": "<s>"}, **files)

    assert "<s>it" == load_template(model).render(HI).text


@pytest.mark.parametrize(
    ("extra", "text"),
    [
        ([], "<s><user>Hi\n<model>"),
        ([("tokenizer.ggml.add_bos_token", 7, b"\1")], "<user>Hi\n<model>"),
    ],
)
def test_a_gguf_files_template_is_found(tmp_path: Path, extra: list[tuple[str, int, bytes]], text: str) -> None:
    model = write_gguf(tmp_path, ("tokenizer.chat_template", 8, string(NO_SYSTEM.encode())), *extra)

    assert text == load_template(model).render(HI).text


@pytest.mark.parametrize("config", [{}, {"chat_template": None}, {"chat_template": ""}, None])
def test_without_a_template_messages_are_lines(tmp_path: Path, config: dict[str, object] | None) -> None:
    model = folder(tmp_path, **({} if config is None else {"tokenizer_config_json": config}))

    rendered = load_template(model).render(TALK[:2])

    assert Rendered("system: Be brief.\nuser: Hi \nassistant:", ("\nuser:",)) == rendered


def test_a_gguf_file_without_a_template_has_lines_too(tmp_path: Path) -> None:
    assert "user: Hi\nassistant:" == load_template(write_gguf(tmp_path)).render(HI).text


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({"chat_template_jinja": "{% if %}"}, r"chat_template.jinja: The chat template cannot be read"),
        ({"chat_template_jinja": "{{ " + "(" * 5000 + ")" * 5000 + " }}"}, "cannot be read"),
        ({"chat_template_jinja": "x" * (2**18 + 1)}, "Larger than the 262144 bytes"),
        ({"tokenizer_config_json": "{"}, r"tokenizer_config.json: Not JSON"),
        ({"tokenizer_config_json": []}, "Not a JSON object"),
        ({"tokenizer_config_json": {"chat_template": 7}}, "neither a string nor a list"),
        ({"tokenizer_config_json": {"chat_template": "x" * (2**18 + 1)}}, "at most 262144 are read"),
        (
            {"tokenizer_config_json": {"chat_template": [{"name": "rag", "template": "x"}, {"name": "a"}]}},
            r"no `default`, only \[a, rag\]",
        ),
        (
            {"tokenizer_config_json": {"chat_template": "<s>", "bos_token": "<s>"}, "tokenizer_json": ""},
            r"tokenizer.json: `post_processor` cannot be read",
        ),
    ],
)
def test_a_template_that_cannot_be_used_ends_the_start(tmp_path: Path, files: dict[str, object], reason: str) -> None:
    with pytest.raises(LoadError, match=reason):
        load_template(folder(tmp_path, **files))


def test_without_jinja_a_template_is_a_load_error_and_no_template_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = folder(tmp_path)
    monkeypatch.setitem(sys.modules, "jinja2", None)  # as import has it where there is none

    assert "user: Hi\nassistant:" == load_template(plain).render(HI).text
    with pytest.raises(LoadError, match="add `jinja2` to the image"):
        load(tmp_path, CHATML)
