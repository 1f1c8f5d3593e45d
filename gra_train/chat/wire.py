"""One HTTP call: what is sent, how much is read, and what may be said of it afterwards.

What comes back is hostile: it may be huge, nested a million deep, compressed a thousandfold, or hold the API key that
was sent. So nothing is decompressed, reading stops at `_LARGEST` bytes, redirects are not followed (the key would go
to another host), and the key is removed from every byte that leaves this module.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from time import time
from typing import Any

import aiohttp
import orjson
from yarl import URL

from gra_train.errors import UserError
from gra_train.schema import Model

_LARGEST = 8 * 2**20
_LONGEST_WAIT_S = 60.0
_CHECK_S = 30.0
_KEEP_ALIVE_S = 4.0  # servers on uvicorn (vLLM) hang up after 5
_SHORT_KEY = 8  # a shorter "key" ("EMPTY" for a server that wants none) may be an innocent word of an answer
FAILURES = (aiohttp.ClientError, TimeoutError, OSError, ValueError)
"""What `Wire.post` raises where there is no answer; `Wire.cause` puts it into words."""


@dataclass(slots=True)
class Answer:
    """status: of HTTP. data: the body. retry_after: seconds, 0 where the server did not say. endless: there was more
    than _LARGEST, and nothing of it was kept."""

    status: int
    data: bytes
    retry_after: float
    endless: bool = False

    def json(self) -> Any:
        """The body as JSON. Raises ValueError where it is none (nested too deep included)."""
        try:
            return orjson.loads(self.data)
        except orjson.JSONDecodeError:
            pass
        try:  # Python's own reader takes half a surrogate pair and control characters, which servers do send
            return json.loads(self.data.decode("utf-8", "replace"), strict=False)
        except RecursionError:
            raise ValueError("JSON nested too deep") from None

    def text(self, limit: int = 500) -> str:
        return self.data[: 4 * limit].decode("utf-8", "replace")[:limit]


class Wire:
    """A session for one model's servers. Raises UserError where the API key is not in the environment."""

    def __init__(self, model: Model) -> None:
        self._key = os.environ.get(model.api_key_env, "") if model.api_key_env else ""
        if model.api_key_env and not self._key:
            raise UserError(f"model {model.name!r}: api_key_env names {model.api_key_env}, which is not set")
        self._secret = self._key.encode()
        self._timeout_s = model.timeout_s
        self._connect_s = min(model.connect_timeout_s, model.timeout_s)
        self._session: aiohttp.ClientSession | None = None
        self._urls: dict[str, URL] = {}

    def open(self) -> None:
        headers = {"Content-Type": "application/json", "Accept-Encoding": "identity"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=self._timeout_s, sock_connect=self._connect_s),
            headers=headers,
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEEP_ALIVE_S),
            auto_decompress=False,
        )

    async def close(self) -> None:
        if self._session:
            await self._session.close()
            self._session = None

    async def post(self, url: str, body: dict[str, Any]) -> Answer:
        """Raises one of FAILURES where no whole answer comes back in time."""
        assert self._session is not None, "the model is not open"
        known = self._urls.get(url) or self._urls.setdefault(url, URL(url))
        async with self._session.post(known, data=orjson.dumps(body), allow_redirects=False) as response:
            return await self._read(response)

    async def get(self, url: str) -> Answer:
        """As `post`, for the check at the start: quick to give up."""
        assert self._session is not None, "the model is not open"
        timeout = aiohttp.ClientTimeout(total=min(_CHECK_S, self._timeout_s), sock_connect=self._connect_s)
        async with self._session.get(URL(url), timeout=timeout, allow_redirects=False) as response:
            return await self._read(response)

    async def _read(self, response: aiohttp.ClientResponse) -> Answer:
        if response.content_length is not None and response.content_length <= _LARGEST:
            data = await response.read()
        else:
            parts, size = [], 0
            while part := await response.content.readany():
                size += len(part)
                if size > _LARGEST:
                    response.close()
                    return Answer(response.status, b"", 0.0, endless=True)
                parts.append(part)
            data = b"".join(parts)
        if len(self._secret) >= _SHORT_KEY and self._secret in data:
            data = data.replace(self._secret, b"***")
        retry_after = seconds(response.headers.get("Retry-After")) if response.status != 200 else 0.0
        return Answer(response.status, data, retry_after)

    @staticmethod
    def gone(error: BaseException) -> bool:
        """Nobody took the connection: who answers there next may be another server."""
        return isinstance(error, aiohttp.ClientConnectorError)

    def cause(self, error: BaseException) -> str:
        """Short words for an error: its str, never its repr, where aiohttp keeps the request's headers."""
        if isinstance(error, aiohttp.ConnectionTimeoutError):
            return f"no connection within {self._connect_s:g} s"
        if isinstance(error, TimeoutError):
            return f"no answer within {self._timeout_s:g} s"
        if isinstance(error, orjson.JSONDecodeError | json.JSONDecodeError):
            return "an answer that is not JSON"
        return self.scrub(f"{type(error).__name__}: {error}"[:300])

    def scrub(self, text: str) -> str:
        return text.replace(self._key, "***") if self._key else text


def seconds(value: str | None) -> float:
    """Seconds from a Retry-After header (a number, or an HTTP date), at most a minute."""
    if not value:
        return 0.0
    try:
        wait = float(value)
    except ValueError:
        try:
            wait = parsedate_to_datetime(value).timestamp() - time()
        except ValueError:
            return 0.0
    return max(0.0, min(wait, _LONGEST_WAIT_S)) if wait == wait else 0.0
