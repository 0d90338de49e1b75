from __future__ import annotations

import pytest

from forge.core.secret import is_secret_file, is_secret_name, secret_in


@pytest.mark.parametrize("name", ["HF_TOKEN", "api_key", "MY_PASSWORD", "AWS_SECRET_ACCESS_KEY", "private_key"])
def test_a_name_may_tell(name: str) -> None:
    assert is_secret_name(name)


@pytest.mark.parametrize("name", ["TOKENIZERS_PARALLELISM", "MAX_TOKENS", "SECRETARY", "KEY_PRESSED"])
def test_a_name_may_only_sound_so(name: str) -> None:
    assert not is_secret_name(name)


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ("hf_" + "a" * 34, "a Hugging Face token"),
        ("ghp_" + "a" * 36, "a GitHub token"),
        ("glpat-" + "a" * 20, "a GitLab token"),
        ("xoxb-" + "1" * 12, "a Slack token"),
        ("AKIA" + "A" * 16, "an AWS access key"),
        ("sk-" + "a" * 40, "an API key"),
        ("pypi-AgE" + "a" * 40, "a package index's token"),
        ("eyJ" + "a" * 20 + ".eyJ" + "b" * 20 + ".c", "a JSON web token"),
        ("-----BEGIN OPENSSH " + "PRIVATE KEY-----\n…", "a private key"),
        ("redis://me:pass@cache:6379", "a login in an address"),
    ],
)
def test_a_value_may_tell_whatever_it_is_called(value: str, kind: str) -> None:
    assert secret_in(f"x {value}") == kind


@pytest.mark.parametrize(
    "value", ["", "1", "hf_hub", "redis://cache:6379/0", "2026-01-01T00:00:00Z", "sk-learn", "a" * 64]
)
def test_most_values_are_no_secrets(value: str) -> None:
    assert secret_in(value) == ""


@pytest.mark.parametrize("path", [".env", "conf/.env.local", ".git/config", "keys/id_rsa", ".netrc", ".aws/x"])
def test_a_path_may_tell(path: str) -> None:
    assert is_secret_file(path)


@pytest.mark.parametrize("path", ["env", "data/words.txt", "id_rsa.pub.txt", "environment/.keep"])
def test_most_paths_are_no_secrets(path: str) -> None:
    assert not is_secret_file(path)
