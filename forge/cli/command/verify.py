"""`forge verify`."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import Any

import click

from forge.cli.building import settings_of
from forge.cli.key_file import chosen_public_key
from forge.cli.options import CONTEXT, build_options, merged, working_folder
from forge.cli.pushing import images_of, target_name
from forge.cli.registries import registries
from forge.cli.session import Session
from forge.core.errors import Fault, MaterialError, UsageError, UserError
from forge.core.image_name import ImageName
from forge.net.connection import Missing, Unavailable
from forge.oci.signature import SIGNED
from forge.oci.signing import claims
from forge.oci.signing_key import PublicKey


@click.command(
    context_settings=CONTEXT,
    epilog="""\b
Examples:
  forge verify registry.example/team/tiny_gpt2:llama --key=cosign.pub
  forge verify //tiny_gpt2:llama --to=registry.example/{label}     as `forge push` names it""",
)
@click.argument("images", nargs=-1, metavar="[IMAGE|PATTERN]...")
@click.option("--key", metavar="FILE", help="Public key in PEM; `env://NAME` for a variable.")
@click.option("--to", default="", metavar="REF", help="What targets were pushed as, as `forge push` takes it.")
@click.option("--tag", default="", metavar="TAG", help="Tag that targets were pushed under.")
@build_options
def command(images: tuple[str, ...], key: str | None, to: str, tag: str, **flags: Any) -> int:
    """Check that images in a registry are signed by a key, in either of cosign's forms; exit 1 where one is not.

    Images are names in registries, or targets. A signature of an index covers all that it names.
    """
    session = Session(working_folder(), os.environ)
    given = merged(flags, session.workspace)
    public = chosen_public_key(session, key)
    rows: list[tuple[ImageName, str, list[str]]] = []
    faults: list[Fault] = []
    for name in _names(session, images, to, tag, given):
        try:
            rows.append((name, *_verify(session, name, public)))
        except MaterialError as error:
            faults += error.faults
    if given.get("output") == "json":
        found = [{"reference": str(name), "digest": digest, "signed": said} for name, digest, said in rows]
        click.echo(json.dumps({"schema": 1, "command": "verify", "key": public.hint, "images": found}, indent=2))
    else:
        for name, digest, said in rows:
            more = "".join(f", {each}" for each in said)
            click.echo(f"{name.tagged}@{digest}  signed by {public.fingerprint}{more}")
    if faults:
        raise MaterialError(*faults)
    return 0


def _names(session: Session, texts: Sequence[str], to: str, tag: str, given: dict[str, Any]) -> list[ImageName]:
    """Read what is asked for: names of images, and targets by what they are pushed as."""
    if not texts:
        raise UsageError("No image is named", hint="Name one, such as `registry.example/team/app:1.0` or `//app:image`")
    patterns = [text for text in texts if text.startswith(("//", ":", "-", "@"))]
    found = []
    for text in texts:
        if text not in patterns:
            try:
                found.append(ImageName.parse(text))
            except ValueError as error:
                raise UsageError(str(error)) from error
    if patterns:
        settings = settings_of(given)
        graph = session.load(session.patterns(patterns), settings)
        images = images_of(graph, session.analyze(graph, settings))
        found += [target_name(label, info, session.workspace.push, to, tag) for label, info in images.items()]
    return found


def _verify(session: Session, name: ImageName, key: PublicKey) -> tuple[str, list[str]]:
    """Say which digest a name means and what a key signed of it; MaterialError where that is nothing."""
    problems = []
    for registry in registries(session.places, name.registry):
        try:
            digest = registry.resolve(name).digest.oci
            found = claims(registry, name.repository, digest, key)
        except (Missing, Unavailable) as error:
            problems.append(f"`{name}` at {registry}: {error}")
            continue
        if any(each.predicate == SIGNED for each in found):
            return digest, [each.predicate for each in found if each.predicate != SIGNED]
        hint = "Push it with `--sign-key`, or check with the public key of whoever signed it"
        raise MaterialError(Fault(f"`{name.tagged}@{digest}` has no signature by {key.fingerprint}", hint=hint))
    if not problems:
        raise UserError(f"`[sources]` has no address for `{name.registry}`")
    raise MaterialError(f"Cannot verify {'; '.join(problems)}")
