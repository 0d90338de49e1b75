"""The server as a whole: is it ready, what does it serve, what do its metrics say."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote

from forge_client.address import Address
from forge_client.connection import Connection, Message, Response, Timeouts
from forge_client.dataset import Dataset, Files, Payloads, Tensors
from forge_client.error import NotReady, RequestFailed, UsageFault
from forge_client.value import read_json, table_of

__all__ = ["APIS", "Server"]

APIS = ("infer", "completions", "chat", "oip")
_ASK = Timeouts(connect=5.0, first_byte=10.0, total=10.0)
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 1.0


@dataclass(frozen=True, slots=True)
class Server:
    """Where requests go, and what every one of them carries."""

    address: Address
    headers: Sequence[tuple[str, str]] = ()
    tls: ssl.SSLContext | None = None

    def connection(self, timeouts: Timeouts) -> Connection:
        """Make a connection, not yet open."""
        return Connection(self.address, timeouts, self.tls)

    async def ask(
        self, method: str, path: str, body: object = None, *, timeouts: Timeouts = _ASK, token: str = ""
    ) -> Response:
        """Send one request over a connection of its own; RequestFailed when no answer comes."""
        headers = [*self.headers, *([("Authorization", f"Bearer {token}")] if token else [])]
        data = b"" if body is None else json.dumps(body).encode()
        connection = self.connection(timeouts)
        try:
            message = Message.make(self.address, method, path, body=data, headers=headers)
            return await connection.exchange(message)
        finally:
            connection.close()

    async def wait_until_ready(self, seconds: float) -> None:
        """Ask until the server is ready; NotReady with the last reason when it is not in time."""
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        pause = _FIRST_PAUSE
        while True:
            left = max(0.5, end - loop.time())
            try:
                fault = await asyncio.wait_for(self._unready(), left)
            except asyncio.TimeoutError:
                fault = "It does not answer"
            if not fault:
                return
            if loop.time() + pause > end:
                text = f"{self.address} is not ready after {seconds:g} s: {fault}"
                raise NotReady(text, "Give it more time with `--wait SECONDS`")
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)

    async def table(self, method: str, path: str, body: object = None) -> dict[str, object]:
        """Take the JSON object that a path answers with; an empty one when it does not."""
        try:
            response = await self.ask(method, path, body)
            return table_of(read_json(response.body)) if response.status == 200 else {}
        except (RequestFailed, ValueError):
            return {}

    async def model(self) -> str:
        """Ask for the name of the model that is served; empty when nothing tells."""
        models = (await self.table("GET", "/v1/models")).get("data")
        first = table_of(models[0]) if isinstance(models, list) and models else {}
        name = first.get("id") or (await self.table("GET", "/readyz")).get("model")
        return name if isinstance(name, str) else await self._repository()

    async def choose_api(self, dataset: Dataset | None) -> str:
        """Find out how a data set is to be sent."""
        if isinstance(dataset, Files):
            return "infer"
        if isinstance(dataset, Tensors):
            return "oip"
        if isinstance(dataset, Payloads):
            return "chat" if "messages" in dataset.bodies[0] else "completions"
        if (await self.table("GET", "/v1/models")).get("data"):
            return "completions"
        if await self.has("/api/infer"):
            return "infer"
        if await self.table("GET", "/v2"):
            return "oip"
        hint = "Choose how to send with `--api`: infer, completions, chat or oip"
        raise UsageFault(f"{self.address} has neither /v1/models nor /api/infer nor /v2", hint)

    async def has(self, path: str) -> bool:
        """Say whether a path is served, whatever it takes."""
        try:
            return (await self.ask("GET", path)).status not in (404, 501)
        except RequestFailed:
            return False

    async def metadata(self, model: str) -> dict[str, object]:
        """Ask what a model takes; UsageFault when the server does not know it."""
        path = f"/v2/models/{quote(model, safe='')}"
        found = await self.table("GET", path)
        if not model or not found:
            raise UsageFault(f"{self.address} has no `{path}`", "Name the model with `--model`")
        return found

    async def _unready(self) -> str:
        """Say why the server is not ready, or nothing; the first health check that it has decides."""
        for path in ("/readyz", "/v2/health/ready", "/health"):
            try:
                response = await self.ask("GET", path)
            except RequestFailed as error:
                return error.text
            if response.status == 200:
                return ""
            if response.status not in (404, 405):
                told = response.body[:200].decode(errors="replace").strip()
                return f"`{path}` answers {response.status}: {told}"
        return ""  # it answers, and has no health check

    async def _repository(self) -> str:
        """Ask Triton, which lists its models so."""
        try:
            response = await self.ask("POST", "/v2/repository/index", {})
            value = read_json(response.body) if response.status == 200 else []
        except (RequestFailed, ValueError):
            value = []
        name = table_of(value[0]).get("name") if isinstance(value, list) and value else ""
        return name if isinstance(name, str) else ""
