"""What looks like a secret, and so must not get into an image: images are shared, and keep what they were given."""

from __future__ import annotations

import re
from collections.abc import Iterable
from fnmatch import fnmatchcase

_NAME = re.compile(r"(?i)(^|_)(token|secret|password|passwd|api_?key|private_?key|credentials?)($|_)")
_VALUES = {
    "a Hugging Face token": r"\bhf_[A-Za-z0-9]{30,}",
    "a GitHub token": r"\b(gh[opsur]_[A-Za-z0-9]{30,}|github_pat_[A-Za-z0-9_]{30,})",
    "a GitLab token": r"\bglpat-[A-Za-z0-9_-]{20,}",
    "a Slack token": r"\bxox[abeoprs]-[A-Za-z0-9-]{10,}",
    "an AWS access key": r"\b(AKIA|ASIA)[A-Z0-9]{16}\b",
    "an API key": r"\bsk-[A-Za-z0-9_-]{20,}",
    "a package index's token": r"\b(pypi-AgE[A-Za-z0-9_-]{20,}|npm_[A-Za-z0-9]{30,})",
    "a JSON web token": r"\beyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.",
    "a private key": r"-----BEGIN [A-Z ]*PRIVATE KEY-----",
    "a login in an address": r"\b[a-z][a-z0-9+.-]{0,20}://[^/\s:@]*:[^/\s@]+@",
}
"""Forms that issuers give their tokens, so that they are found where they should not be."""
_FILES = (
    ".env", ".env.*", ".netrc", ".pypirc", ".npmrc", ".pgpass", ".git-credentials", ".git", ".ssh", ".aws", ".docker",
    "id_rsa", "id_dsa", "id_ecdsa", "id_ed25519",
)  # fmt: skip
"""Files and folders in which tools keep their users' secrets."""


def is_secret_name(name: str) -> bool:
    """Say whether a variable is called as secrets are."""
    return _NAME.search(name) is not None


def secret_in(value: str) -> str:
    """Say what kind of secret a text looks like, or nothing."""
    return next((kind for kind, form in _VALUES.items() if re.search(form, value)), "")


def is_secret_file(path: str) -> bool:
    """Say whether a file is one of those in which secrets are kept, or in a folder of them."""
    return any(fnmatchcase(part, glob) for part in path.split("/") for glob in _FILES)


def is_excepted(path: str, names: Iterable[str]) -> bool:
    """Say whether a file is among those of which somebody said that they are no secret, by path, its end, or glob."""
    return any(fnmatchcase(path, each) or fnmatchcase(path, f"*/{each}") for each in names)
