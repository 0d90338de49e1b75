"""Keys that images are signed with and checked by: a file, or `env://NAME` as cosign has it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from forge.cli.session import Session
from forge.core.errors import HostError, UsageError
from forge.oci.signing_key import PublicKey, SigningKey, is_encrypted, is_private

PASSWORDS: Final = ("FORGE_SIGN_PASSWORD", "COSIGN_PASSWORD")
"""Variables with the password of a private key, the first that is there."""

_VARIABLE: Final = "env://"
_LIMIT: Final = 1 << 16


def chosen_key(session: Session, flag: str | None) -> SigningKey | None:
    """Read the private key that a flag, else FORGE_SIGN_KEY, else `[push]` names; None where none is named."""
    name = session.environ.get("FORGE_SIGN_KEY", "") if flag is None else flag
    if flag is None and not name:
        name, folder = session.workspace.push.sign_key, session.root
    else:
        folder = session.cwd
    return signing_key(name, folder, session.environ) if name else None


def chosen_public_key(session: Session, flag: str | None) -> PublicKey:
    """Read the public key that a flag, else `[push]` names; UsageError where none is named."""
    if flag:
        return public_key(flag, session.cwd, session.environ)
    name = session.workspace.push.verify_key
    if not name:
        raise UsageError(
            "No key is named", hint="Write `--key=cosign.pub`, or set `verify_key` in `[push]` of WORKSPACE.toml"
        )
    return public_key(name, session.root, session.environ)


def signing_key(name: str, folder: Path, environ: Mapping[str, str]) -> SigningKey:
    """Read a private key; HostError says what is wrong with it, and shows none of it."""
    pem = _read(name, folder, environ)
    password = next((environ[each].encode() for each in PASSWORDS if each in environ), None)
    try:
        return SigningKey.read(pem, password)
    except ValueError as error:
        if not is_private(pem):
            hint = "`cosign generate-key-pair` makes one"
        elif is_encrypted(pem):
            hint = f"Its password is read from the variable {PASSWORDS[0]}, else {PASSWORDS[1]}"
        else:
            hint = "`cosign generate-key-pair` makes a key that forge and cosign both take"
        raise HostError(f"The key `{name}` cannot sign: {error}", hint=hint) from None


def public_key(name: str, folder: Path, environ: Mapping[str, str]) -> PublicKey:
    """Read a public key; HostError says what is wrong with it."""
    try:
        return PublicKey.read(_read(name, folder, environ))
    except ValueError as error:
        hint = (
            "`cosign public-key --key FILE` or `openssl pkey -in FILE -pubout` writes the public one of a private key"
        )
        raise HostError(f"The key `{name}` checks nothing: {error}", hint=hint) from None


def _read(name: str, folder: Path, environ: Mapping[str, str]) -> bytes:
    if name.startswith(_VARIABLE):
        variable = name.removeprefix(_VARIABLE)
        if variable not in environ:
            raise HostError(f"The key `{name}` is not there", hint=f"Set the variable {variable} to the PEM text")
        return environ[variable].encode()
    try:
        with (folder / name).open("rb") as file:
            return file.read(_LIMIT)
    except OSError as error:
        raise HostError(f"The key `{name}` cannot be read: {error.strerror}") from error
