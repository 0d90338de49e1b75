"""The command line. A flag beats the environment, that beats the file of defaults, that beats what is built in."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from forge_client.error import UsageFault
from forge_client.server import APIS
from forge_client.value import read_json, table_of

__all__ = ["COMMANDS", "Options", "parse"]

T = TypeVar("T")
CONFIG = "FORGE_CLIENT_CONFIG"
COMMANDS = ("bench", "infer", "metrics", "power", "logs", "shutdown")
DEFAULT_REQUESTS = 100
_EPILOG = """\
examples:
  python3 -m forge_client http://127.0.0.1:3000 --concurrency 1:8 --requests 200
  python3 -m forge_client http://127.0.0.1:3000 --rate 20 --pacing poisson --duration 30 --html report.html
  python3 -m forge_client http://127.0.0.1:8000 --api oip --model resnet --dataset input.json
  python3 -m forge_client infer http://127.0.0.1:3000 --dataset prompts.json --to answers.json
  python3 -m forge_client metrics -n 10
  python3 -m forge_client shutdown            with FORGE_ADMIN_TOKEN in the environment

commands: bench (when none is named), infer, metrics, power, logs, shutdown; `COMMAND --help` has more.
environment: SERVER_IP, SERVER_PORT, DATASET, DATASET_SIZE, NUMBER_OF_REQUESTS, NUMBER_OF_WARMUPS, OUTPUT,
METRICS_OUTPUT, POWER_METRICS_OUTPUT, SERVER_LOGS_OUTPUT, FORGE_ADMIN_TOKEN.
exit status: 0 all answered, 1 some not, 2 wrong command, 3 no server that is ready, 130 interrupted.
"""
_ABOUT = {
    "bench": "Send requests as a load and tell how the server did.",
    "infer": "Send a data set once, prompts in one request, and write the answers.",
    "metrics": "Fetch what the server remembers of its last requests.",
    "power": "Let the server measure its power, which takes it about a minute.",
    "logs": "Fetch the server's log.",
    "shutdown": "Stop the server.",
}
_OUTPUTS = {
    "infer": "OUTPUT",
    "metrics": "METRICS_OUTPUT",
    "power": "POWER_METRICS_OUTPUT",
    "logs": "SERVER_LOGS_OUTPUT",
}
"""Command -> variable that names the file it writes."""
_VARIABLES = {
    "dataset": "DATASET",
    "dataset_size": "DATASET_SIZE",
    "requests": "NUMBER_OF_REQUESTS",
    "warmup": "NUMBER_OF_WARMUPS",
}
"""Option -> its variable."""


@dataclass(frozen=True, slots=True)
class Options:
    """What was asked for; None where nothing was."""

    command: str = "bench"
    url: str = ""
    wait: float = 10.0
    header: tuple[str, ...] = ()
    token: str = field(default="", repr=False)
    """For the server's own business: power, logs, shutdown."""
    to: Path | None = None
    """File to write to; None for standard output."""
    quiet: bool = False
    api: str | None = None
    model: str | None = None
    dataset: Path | None = None
    dataset_size: int = 0
    """0 for all."""
    prompt: tuple[str, ...] = ()
    batch: int = 1
    max_tokens: int | None = None
    stream: bool = True
    check: bool = True
    retries: int = 3
    connect_timeout: float = 5.0
    first_byte_timeout: float = 120.0
    timeout: float = 300.0
    concurrency: str = "1"
    rate: str | None = None
    pacing: str = "constant"
    seed: int = 0
    requests: int | None = None
    duration: float | None = None
    warmup: int = 5
    max_connections: int = 512
    max_errors: str = "0"
    max_latency_ms: float | None = None
    server_metrics: bool = False
    json: Path | None = None
    html: Path | None = None
    output: str = "text"
    tag: tuple[str, ...] = ()
    number: int = -1
    prometheus: bool = False


def parse(argv: list[str], environ: Mapping[str, str]) -> Options:
    """Read a command line; UsageFault for what the environment or the file of defaults says wrong.

    A wrong flag ends the process with status 2, as argparse does.
    """
    command = argv[0] if argv and argv[0] in COMMANDS else "bench"
    parser = _parser(command)
    given = vars(parser.parse_args(argv[1:] if argv and argv[0] in COMMANDS else argv))
    flags = {
        name: tuple(value) if isinstance(value, list) else value for name, value in given.items() if value is not None
    }
    known = set(given)
    values: dict[str, Any] = {**_from_file(environ, known), **_from_environ(environ, known), **flags}
    for one, other in (("rate", "concurrency"), ("prompt", "dataset")):
        if one in flags and other in flags:
            raise UsageFault(f"--{one} and --{other} are both given", "Name one of them")
        if one in flags:
            values.pop(other, None)  # what only the environment or the file says
    if "requests" not in flags and "duration" in flags:
        values.pop("requests", None)
    elif "duration" not in values:
        values.setdefault("requests", DEFAULT_REQUESTS)
    if "to" not in values and environ.get(variable := _OUTPUTS.get(command, "")):
        values["to"] = Path(environ[variable])
    if values.get("to") == Path("-"):
        values["to"] = None
    if "url" not in values:
        values["url"] = _url(environ)
    return Options(command=command, token=environ.get("FORGE_ADMIN_TOKEN", ""), **values)


def _url(environ: Mapping[str, str]) -> str:
    port = environ.get("SERVER_PORT") or "3000"
    if not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise UsageFault(f"SERVER_PORT is {port!a}, which is no port", "Name the server as `http://HOST:PORT`")
    host = environ.get("SERVER_IP") or "127.0.0.1"
    # What a server listens on is also what its client is given; nobody is there to be asked.
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _from_environ(environ: Mapping[str, str], known: set[str]) -> dict[str, object]:
    found: dict[str, object] = {}
    for name, variable in _VARIABLES.items():
        text = environ.get(variable)
        if name in known and text and (name, text.lower()) != ("dataset_size", "default"):
            found[name] = _read(_TYPES[name], text, variable)
    return found


def _from_file(environ: Mapping[str, str], known: set[str]) -> dict[str, object]:
    """Read the defaults that an image brings along."""
    path = environ.get(CONFIG)
    if not path:
        return {}
    try:
        table = table_of(read_json(Path(path).read_bytes()))
    except (OSError, ValueError) as error:
        raise UsageFault(f"{path}: Cannot be read: {error}", f"{CONFIG} names it") from error
    if table.get("schema") != 1:
        raise UsageFault(f"{path}: Unknown schema `{table.get('schema')}`, it must be 1")
    found: dict[str, object] = {}
    for name, value in table_of(table.get("defaults")).items():
        if name not in _TYPES:
            raise UsageFault(f"{path}: Unknown default `{name}`, there are [{', '.join(sorted(_TYPES))}]")
        if name in known:
            found[name] = _read(_TYPES[name], str(value), f"{path}: `{name}`")
    return found


def _read(kind: Callable[[str], T], text: str, place: str) -> T:
    try:
        return kind(text)
    except argparse.ArgumentTypeError as error:
        raise UsageFault(f"{place}: {error}") from error


def _whole(least: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not text.isascii() or not text.removeprefix("-").isdigit() or len(text) > 12 or int(text) < least:
            raise argparse.ArgumentTypeError(f"must be a whole number from {least} on, not {text!a}")
        return int(text)

    return read


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < 1e9:
        raise argparse.ArgumentTypeError(f"must be a number above 0, not {text!a}")
    return value


def _wait(text: str) -> float:
    return 0.0 if text.strip("0.") == "" and text else _seconds(text)


def _count(text: str) -> int:
    return -1 if text in ("-1", "all") else _whole(1)(text)


def _size(text: str) -> int:
    return 0 if text.lower() == "all" else _whole(1)(text)


_TYPES: Mapping[str, Callable[[str], object]] = {
    "api": str,
    "concurrency": str,
    "dataset": Path,
    "dataset_size": _size,
    "requests": _whole(1),
    "warmup": _whole(0),
}
"""What the environment and the file of defaults may say."""


def _parser(command: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python3 -m forge_client" + ("" if command == "bench" else f" {command}"),
        description=_ABOUT[command],
        epilog=_EPILOG if command == "bench" else None,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=None,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("url", nargs="?", metavar="URL", help="the server [SERVER_IP and SERVER_PORT, http://127.0.0.1:3000]")
    add("--wait", type=_wait, metavar="SECONDS", help="how long the server may take to be ready [10]")
    add("--header", action="append", metavar="'NAME: VALUE'", help="header of every request; may be repeated")
    add("--timeout", type=_seconds, metavar="SECONDS", help="for a whole answer [300]")
    if command in _OUTPUTS:
        add("--to", type=Path, metavar="FILE", help=f"file to write, `-` for standard output [{_OUTPUTS[command]}, -]")
    if command == "metrics":
        add("-n", "--number", type=_count, metavar="N", help="of the last N requests, or all [all]")
        add("--prometheus", action="store_true", default=None, help="the figures of GET /metrics instead")
    if command in ("bench", "infer"):
        _add_requests(parser)
    if command == "bench":
        _add_load(parser)
    return parser


def _add_requests(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("requests").add_argument
    add("--api", choices=APIS, help="interface [what the server has and the data set fits]")
    add("--model", metavar="NAME", help="name of the model [what the server says]")
    kinds = (
        "prompts (.json, .jsonl, .txt), tensors as perf_analyzer takes them (.json), or a file, zip or folder as it is"
    )
    add("--dataset", type=Path, metavar="PATH", help=f"{kinds} [DATASET]")
    add("--dataset-size", type=_size, metavar="N", help="only the first N items, or all [DATASET_SIZE, all]")
    add("--prompt", action="append", metavar="TEXT", help="a prompt instead of a data set; may be repeated")
    add("--max-tokens", type=_whole(1), metavar="N", help="tokens to generate at most")
    add("--check", action=argparse.BooleanOptionalAction, help="look into the answers, not only at their status [yes]")
    add("--retries", type=_whole(0), metavar="N", help="after a lost connection, 429 or 503 [3]")
    add("--connect-timeout", type=_seconds, metavar="SECONDS", help="[5]")
    add("--first-byte-timeout", type=_seconds, metavar="SECONDS", help="[120]")
    add("-q", "--quiet", action="store_true", default=None, help="no progress")


def _add_load(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("load").add_argument
    add("--batch", type=_whole(1), metavar="N", help="items in one request [1]")
    add("--stream", action=argparse.BooleanOptionalAction, help="completions and chat as a stream of tokens [yes]")
    add(
        "--concurrency",
        metavar="N|A:B:STEP|A,B",
        help="closed loop: so many clients, each sends when it has its answer [1]",
    )
    add("--rate", metavar="R|A:B:STEP|A,B", help="open loop: so many requests a second, whatever the server does")
    add("--pacing", choices=("constant", "poisson"), help="open loop: evenly, or by chance [constant]")
    add("--seed", type=_whole(0), metavar="N", help="of all that is by chance [0]")
    add("--requests", type=_whole(1), metavar="N", help="requests of each level [NUMBER_OF_REQUESTS, 100]")
    add("--duration", type=_seconds, metavar="SECONDS", help="of each level; with --requests, whichever ends first")
    add("--warmup", type=_whole(0), metavar="N", help="requests before, which do not count [NUMBER_OF_WARMUPS, 5]")
    add("--max-connections", type=_whole(1), metavar="N", help="open loop: connections at most [512]")
    add("--max-errors", metavar="N|P%", help="requests of a level that may fail [0]")
    add("--max-latency-ms", type=_seconds, metavar="MS", help="end the sweep when p99 is above")
    add("--server-metrics", action="store_true", default=None, help="tell the server's own times beside the client's")
    add = parser.add_argument_group("report").add_argument
    add("--json", type=Path, metavar="FILE", help="write everything as JSON")
    add("--html", type=Path, metavar="FILE", help="write a page with plots")
    add("--output", choices=("text", "json"), help="form of what goes to standard output [text]")
    add("--tag", action="append", metavar="NAME=VALUE", help="put this into the report; may be repeated")
