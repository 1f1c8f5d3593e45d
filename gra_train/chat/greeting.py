"""Who answers at an endpoint: is it there, does it take the key, serve the name, and hold the weights that are known?

Asked of every endpoint when a pool is opened; and of one that was not there then, or was away since, before its first
answer is believed (Caller): the ledger keeps answers for ever.
"""

from __future__ import annotations

from pathlib import Path
from time import monotonic
from typing import Any

from gra_train.chat import dialects, identity
from gra_train.chat.endpoints import Endpoint
from gra_train.chat.wire import FAILURES, Wire
from gra_train.errors import UserError, nearest
from gra_train.schema import Model


class Greeter:
    """Greets the endpoints of one model. verb: "chat/completions" or "completions".

    server: which server they are (dialects), as far as they say it. window: tokens of prompt and answer together, where
    a server says it. fingerprint: of the weights, for the ledger's keys. folder: the ledger's; set it before use.
    """

    def __init__(self, model: Model, wire: Wire, *, served_name: str, verb: str) -> None:
        self._model, self._wire, self._served_name, self._verb = model, wire, served_name, verb
        self.folder = Path()
        self.server = self.fingerprint = ""
        self.window: int | None = None

    async def met(self, endpoint: Endpoint) -> bool:
        """Whether an endpoint that comes (back) into use is there and is known. Raises UserError as the two below."""
        return await self.greet(endpoint) and await self.recognise(endpoint, returning=True)

    async def greet(self, endpoint: Endpoint) -> bool:
        """Is the endpoint there? Learns from GET /models which server it is.

        Raises UserError if it refuses the key or does not serve the model.
        """
        try:
            answer = await self._wire.get(f"{endpoint.url}/models")
            listing = answer.json() if answer.status == 200 else {}
        except FAILURES as error:
            endpoint.note_failure(monotonic(), self._wire.cause(error))
            return isinstance(error, ValueError)
        if answer.status in (401, 403):
            named = self._model.api_key_env or "none is set: name its environment variable in api_key_env"
            raise UserError(
                f"model {self._model.name!r}: {endpoint.url} refuses the API key ({named}), status {answer.status}"
            )
        server, names = dialects.recognise(listing)
        self.server = server or self.server
        self.window = dialects.listed_window(listing, self._served_name) or self.window
        if server in dialects.LISTS_ITS_MODELS and self._served_name not in names:
            raise UserError(
                f"model {self._model.name!r}: {endpoint.url} does not serve {self._served_name!r}."
                f"{nearest(self._served_name, names)} It serves: {', '.join(names)}. Set served_name."
            )
        return True

    async def recognise(self, endpoint: Endpoint, *, returning: bool = False) -> bool:
        """Check the weights behind an endpoint that is there, and keep their fingerprint.

        returning: others answered meanwhile, so that an endpoint which does not answer the probe can wait (False).
        Raises UserError if they are not those that are known, or if nothing tells (identity.fingerprint).
        """
        known = self._model.revision and not self.server  # hosted, or a server that has none to give
        probe = [] if known else await self._probe(endpoint)
        if probe is None and returning:
            endpoint.note_failure(monotonic(), "no answer to the question which weights it holds")
            return False
        self.fingerprint = identity.fingerprint(self.folder, self._model, self._served_name, probe or [])
        return True

    async def _probe(self, endpoint: Endpoint) -> identity.Probe | None:
        """The likeliest first tokens of the answer to a fixed prompt; [] where the server does not say, None where it
        does not answer."""
        body: dict[str, Any] = {"model": self._served_name, "temperature": 0, "max_tokens": identity.TOKENS}
        if self._verb == "completions":
            body |= {"prompt": identity.PROMPT, "logprobs": identity.TOP}
        else:
            turns = [{"role": "user", "content": identity.PROMPT}]
            body |= {"messages": turns, "logprobs": True, "top_logprobs": identity.TOP}
        try:
            answer = await self._wire.post(f"{endpoint.url}/{self._verb}", body)
        except FAILURES:
            return None
        if answer.status != 200:
            return None if answer.status == 429 or answer.status >= 500 else []
        try:
            return dialects.first_choices(answer.json()["choices"][0])
        except (ValueError, KeyError, IndexError, TypeError, AttributeError):
            return []
