"""Text made of tokens: whole characters, spaces where they belong, cut at a stop sequence, in linear time."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import decoders

from forge_runtime.text import Detokenizer, Pieces, Text, Window

HIDDEN = -1
"""A special token, which is not shown."""

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
# Few letters, so that a stop sequence is likely to come, and to begin in vain before it does.
dense = st.text(st.sampled_from("ab é世🎉\ufffd"), max_size=40)
stops = st.lists(st.text(st.sampled_from("ab é世"), min_size=1, max_size=4), max_size=3)


def cut(text: str, stop: Sequence[str]) -> str:
    """Return the text before the stop sequence that is complete first."""
    for end in range(1, len(text) + 1):
        found = [end - len(each) for each in stop if text[:end].endswith(each)]
        if found:
            return text[: min(found)]
    return text


@st.composite
def byte_pieces(draw: st.DrawFn, text: st.SearchStrategy[str]) -> list[bytes]:
    """Cut a text into tokens between any two bytes."""
    whole = draw(text).encode()
    places = sorted(draw(st.sets(st.integers(1, max(len(whole) - 1, 1)))))
    return [whole[start:end] for start, end in zip([0, *places], [*places, len(whole)], strict=True) if whole]


@st.composite
def sentence_pieces(draw: st.DrawFn, text: str) -> list[str]:
    """Cut a text into SentencePiece's tokens: any pieces of it, and the bytes of characters that have none."""
    tokens: list[str] = []
    joins = False
    for letter in text.replace(" ", "▁"):
        if letter != "▁" and draw(st.booleans()):
            tokens += [f"<0x{byte:02X}>" for byte in letter.encode()]
            joins = False
        elif joins and draw(st.booleans()):
            tokens[-1] += letter
        else:
            tokens.append(letter)
            joins = True
    return tokens


def joined_bytes(pieces: Sequence[bytes]) -> Callable[[Sequence[int]], str]:
    """Decode as a byte-level BPE does."""
    return lambda tokens: b"".join(pieces[token] for token in tokens if token != HIDDEN).decode(errors="replace")


def sentence(pieces: Sequence[str]) -> Callable[[Sequence[int]], str]:
    """Decode as Llama 2's tokenizer does: the first space of a text is none."""
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    decoder = decoders.Sequence(steps)
    return lambda tokens: decoder.decode([pieces[token] for token in tokens if token != HIDDEN])


def said(detokenizer: Detokenizer, tokens: Sequence[int], stop: Sequence[str] = ()) -> list[str]:
    """Return the pieces, to the end or to a stop sequence."""
    text = Text(detokenizer, stop)
    pieces = [text.add(token) for token in tokens]
    pieces.append(text.close())

    assert str(text) == "".join(pieces)
    return pieces


@given(byte_pieces(texts | dense), stops)
def test_pieces_of_bytes_make_the_text_up_to_the_first_stop(pieces: list[bytes], stop: list[str]) -> None:
    expected = cut(b"".join(pieces).decode(), stop)

    assert "".join(said(Pieces(pieces.__getitem__), range(len(pieces)), stop)) == expected


@given(byte_pieces(texts | dense), stops)
def test_a_window_over_bytes_makes_the_text_up_to_the_first_stop(pieces: list[bytes], stop: list[str]) -> None:
    expected = cut(b"".join(pieces).decode(), stop)

    assert "".join(said(Window(joined_bytes(pieces)), range(len(pieces)), stop)) == expected


@given(byte_pieces(dense), stops)
def test_nothing_is_said_that_a_stop_takes_back(pieces: list[bytes], stop: list[str]) -> None:
    """After each token, whatever follows, what has been said is a beginning of the text."""
    text = Text(Pieces(pieces.__getitem__), stop)
    whole = b"".join(pieces).decode()
    for token in range(len(pieces)):
        text.add(token)

        assert cut(whole, stop).startswith(str(text))


@given(
    st.data(), st.text(st.sampled_from("ab é世🎉"), max_size=12), dense.filter(lambda text: "\ufffd" not in text), stops
)
def test_sentence_pieces_go_on_where_the_prompt_ends(
    data: st.DataObject, prompt: str, text: str, stop: list[str]
) -> None:
    before, after = data.draw(sentence_pieces(" " + prompt)), data.draw(sentence_pieces(text))
    decode = sentence([*before, *after])
    count = len(before)

    pieces = said(Window(decode, range(count)), range(count, count + len(after)), stop)

    assert "".join(pieces) == cut(text, stop)


def test_whole_characters_only() -> None:
    pieces = [b"gr\xc3", b"\xbc\xc3\x9f", b"e \xf0\x9f", b"\x8e", b"\x89"]

    assert said(Window(joined_bytes(pieces)), range(5)) == ["gr", "üß", "e ", "", "🎉", ""]
    assert said(Pieces(pieces.__getitem__), range(5)) == ["gr", "üß", "e ", "", "🎉", ""]


def test_what_may_begin_a_stop_is_held_back_until_it_does_not() -> None:
    pieces = [b"a", b"\n", b"\nb", b"\n", b"\n", b"\n", b"c"]

    assert said(Pieces(pieces.__getitem__), range(7), ["\n\n\n"]) == ["a", "", "\n\nb", "", "", "", "", ""]


@pytest.mark.parametrize("pieces", [[b"xabc"], [b"x", b"a", b"b", b"c"]], ids=["at once", "by character"])
def test_the_stop_that_is_complete_first_ends_the_text(pieces: list[bytes]) -> None:
    """However the text comes; of two that end together, the one that begins first."""
    assert "xa" == "".join(said(Pieces(pieces.__getitem__), range(len(pieces)), ["abc", "b"]))
    assert "x" == "".join(said(Pieces(pieces.__getitem__), range(len(pieces)), ["b", "ab"]))


def test_a_text_that_ends_within_a_stop_keeps_it() -> None:
    assert said(Pieces([b"a\n", b"\n"].__getitem__), range(2), ["\n\n\n"]) == ["a", "", "\n\n"]


def test_an_unfinished_character_is_said_at_the_end() -> None:
    assert said(Pieces([b"a\xf0\x9f"].__getitem__), range(1)) == ["a", "\ufffd"]
    assert said(Window(joined_bytes([b"a\xf0\x9f"])), range(1)) == ["a", "\ufffd"]


def test_nothing_is_taken_after_a_stop() -> None:
    text = Text(Pieces([b"a.", b"b"].__getitem__), ["."])

    assert [text.add(0), text.ended, text.add(1), text.close()] == ["a", True, "", ""]


def test_an_empty_stop_is_none() -> None:
    assert said(Pieces([b"a"].__getitem__), range(1), [""]) == ["a", ""]


def test_the_space_after_a_prompt_is_kept_and_the_first_of_a_text_is_not() -> None:
    decode = sentence(["▁Hello", "▁world", "!"])

    assert said(Window(decode, [0]), [1, 2]) == [" world", "!", ""]
    assert said(Window(decode), [1, 2]) == ["world", "!", ""]


def test_spaces_survive_hidden_tokens() -> None:
    decode = sentence(["▁Hello", "▁world"])
    tokens = [0, HIDDEN, HIDDEN, 1] * 40

    assert "".join(said(Window(decode), tokens)) == ("Hello world " * 40).rstrip()


@pytest.mark.parametrize(
    "pieces",
    [
        [b"word "],
        [b"\xff"],
        [b"\xe4", b"\xb8", b"\x96"],
        [b"\xc3", *[b"\xa9\xc3"] * 9],
        [b"\xef", b"\xbf", b"\xbd"],
        [b""],
    ],
    ids=["words", "noise", "thirds of characters", "never whole", "the character for none", "nothing shown"],
)
def test_each_token_is_decoded_a_bounded_number_of_times(pieces: list[bytes]) -> None:
    count, decoded = 3000, 0

    def decode(tokens: Sequence[int]) -> str:
        nonlocal decoded
        decoded += len(tokens)
        return joined_bytes(pieces)(tokens)

    tokens = [index % len(pieces) for index in range(count)]
    text = "".join(said(Window(decode), tokens))

    assert text == joined_bytes(pieces)(tokens)
    assert decoded < 80 * count
