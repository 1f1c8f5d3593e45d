"""A model behind an OpenAI-compatible server (vLLM, SGLang, llama.cpp, transformers serve, hosted APIs), over aiohttp.

What a server cannot promise: some ignore `seed` or a regular expression without a word (transformers serve does), and
batching on the server makes sampled text vary between runs. The ledger is what makes a run repeatable: an answer is
asked for once and replayed after that. An answer that does not match its expression is returned as it is (the caller's
parser sees it) and the first such case is logged.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import random
import re
from email.utils import parsedate_to_datetime
from functools import cached_property
from time import time
from typing import Any

import aiohttp

from gra_train.chat.protocol import Completion, Likelihood, ModelError, Reply, TokenLogProbs
from gra_train.chat.templates import cut_at, load_tokenizer, merge_system, prompt_ids, token_ids
from gra_train.errors import UserError
from gra_train.schema import Model

log = logging.getLogger(__name__)
_RETRIED = {408, 409, 425, 429, 500, 502, 503, 504, 529}
_LONGEST_WAIT_S = 60.0
_NO_EXPRESSIONS = "the server does not keep answers to a regular expression; they are parsed as they come"


class HttpModel:
    """A served model. `open` checks that the server is there; calls run at most `max_concurrency` at a time.

    Raises UserError for settings that cannot work. `calls` and `retried` count what went over the wire.
    """

    def __init__(self, model: Model) -> None:
        self.name = model.name
        self.settings = model
        self.url = model.url.rstrip("/")
        self.served_name = model.served_name or model.name
        if not self.url.startswith(("http://", "https://")):
            raise UserError(f"model {model.name!r}: url={model.url!r} should look like http://localhost:8000/v1")
        if not model.revision:
            raise UserError(
                f"model {model.name!r}: revision is required behind a server (a Hub revision, or a label of your "
                "own that changes with the weights): a served name alone does not say which weights answered."
            )
        self._key = os.environ.get(model.api_key_env, "") if model.api_key_env else ""
        if model.api_key_env and not self._key:
            raise UserError(f"model {model.name!r}: api_key_env names {model.api_key_env}, which is not set")
        identity = f"{self.served_name}\0{model.revision}".encode()
        self.fingerprint = f"http:{hashlib.sha256(identity).hexdigest()[:16]}"
        self.calls = self.retried = 0
        self._slots = asyncio.Semaphore(model.max_concurrency)
        self._session: aiohttp.ClientSession | None = None
        self._merge_system = False
        self._probe: asyncio.Future[bool] | None = None
        self._constrains = True
        self._warned = False

    @cached_property
    def tokenizer(self) -> Any:
        """For likelihoods, whose prompts are rendered and tokenised on our side: `path` names its folder."""
        if not self.settings.path:
            raise UserError(
                f"model {self.name!r}: likelihoods over HTTP need the tokenizer; beside url= set path= to its folder "
                "or Hub name"
            )
        return load_tokenizer(self.settings)

    async def open(self) -> None:
        """Connect and ask for the list of models. Raises UserError if the server is not there or refuses the key."""
        timeout = aiohttp.ClientTimeout(total=self.settings.timeout_s, sock_connect=min(30.0, self.settings.timeout_s))
        headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=60)
        self._session = aiohttp.ClientSession(timeout=timeout, headers=headers, connector=connector)
        try:
            async with self._session.get(f"{self.url}/models", timeout=aiohttp.ClientTimeout(total=30)) as response:
                status = response.status
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            await self.close()
            raise UserError(
                f"model {self.name!r}: no server answers at {self.url} ({self._cause(error)}); start it or correct url="
            ) from None
        if status in (401, 403):
            await self.close()
            named = self.settings.api_key_env or "none is set: name its environment variable in api_key_env"
            raise UserError(f"model {self.name!r}: {self.url} refuses the API key ({named}), status {status}")

    @property
    def _open_session(self) -> aiohttp.ClientSession:
        assert self._session is not None, "the model is not open"
        return self._session

    async def close(self) -> None:
        if self._session:
            await self._session.close()
            self._session = None

    async def complete(self, request: Completion) -> Reply:
        """One chat completion. Raises ModelError after the last retry, or at once for a request that is refused."""
        while True:
            body = self._chat_body(request)
            try:
                data = await self._post("chat/completions", body)
                break
            except _RefusedError as error:
                if not await self._adapt(body, error.text):
                    raise
        try:
            choice, usage = data["choices"][0], data.get("usage") or {}
            text = _clean(choice["message"]["content"] or "")
            finish = choice.get("finish_reason")
        except (KeyError, IndexError, TypeError, AttributeError) as error:
            raise ModelError(f"{self._where('chat/completions')}: not a chat completion ({error!r})") from None
        cut = cut_at(text, request.sampling.stop)  # where the server left the stop strings to us
        text, finish = (text, finish) if cut is None else (cut, "stop")
        if request.regex is not None and finish != "length" and not _matches(request.regex, text):
            self._warn(_NO_EXPRESSIONS)
        prompt, written = usage.get("prompt_tokens") or 0, usage.get("completion_tokens") or 0
        return Reply(text, "length" if finish == "length" else "stop", int(prompt), int(written))

    async def answer(self, request: Completion | Likelihood) -> Reply | TokenLogProbs:
        """Either verb, from the request alone."""
        if isinstance(request, Completion):
            return await self.complete(request)
        prompt = prompt_ids(self.tokenizer, [request.messages])[0]
        return await self.log_likelihood(prompt, token_ids(self.tokenizer, [request.continuation])[0])

    async def log_likelihood(self, prompt_ids: list[int], continuation_ids: list[int]) -> TokenLogProbs:
        """Log-probabilities of the prompt's last tokens, through `prompt_logprobs` (vLLM) or `echo` (the OpenAI way).

        Raises ModelError if the server offers neither.
        """
        if not continuation_ids:
            return TokenLogProbs(())
        ids = prompt_ids + continuation_ids
        body = {"model": self.served_name, "prompt": ids, "temperature": 0, "max_tokens": 1}
        values, cause = None, "it knows neither prompt_logprobs nor echo"
        try:
            data = await self._post("completions", {**body, "echo": True, "logprobs": 1, "prompt_logprobs": 0})
            values = _prompt_logprobs(data, ids)
        except _RefusedError as error:
            cause = error.text
        if values is None:
            raise ModelError(
                f"{self._where('completions')}: the server gives no log-probabilities of a prompt ({cause}); score "
                "with a model in process, or with vLLM."
            )
        texts = self.tokenizer.batch_decode([[t] for t in continuation_ids]) if self.settings.path else []
        return TokenLogProbs(tuple(values[len(prompt_ids) : len(ids)]), tuple(texts))

    async def _adapt(self, body: dict[str, Any], text: str) -> bool:
        """Do without what the server does not take, if the request had it. True: worth asking again."""
        if "structured_outputs" in body and "structured_outputs" in text:
            self._constrains = False
            self._warn(_NO_EXPRESSIONS)
            return True
        return self._may_be_the_system_role(body) and await self._probe_system_role()

    def _may_be_the_system_role(self, body: dict[str, Any]) -> bool:
        taken = self._probe is not None and self._probe.done() and not self._probe.result()
        return not taken and any(m["role"] == "system" for m in body.get("messages", ()))

    async def _probe_system_role(self) -> bool:
        """Find out, once, whether the served template refuses a system role (answered by 400, 422 or a bare 500).

        It does if a tiny request fails with one and passes without, three times running: a flaky server is no proof.
        Always True: whatever was found, the request is worth asking again.
        """
        if self._probe is None:
            self._probe = asyncio.ensure_future(self._refuses_system_role())
        self._merge_system = await asyncio.shield(self._probe)
        return True

    async def _refuses_system_role(self) -> bool:
        turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}]
        for _ in range(3):
            for messages, wanted in ((turns, False), (turns[1:], True)):
                body = {"model": self.served_name, "messages": messages, "max_tokens": 1}
                if (await self._status("chat/completions", body) == 200) != wanted:
                    return False
        log.info("model %r: its template refuses a system role; it goes in front of the first user turn", self.name)
        return True

    def _chat_body(self, request: Completion) -> dict[str, Any]:
        sampling = request.sampling
        messages = merge_system(request.messages) if self._merge_system else list(request.messages)
        body: dict[str, Any] = {
            "model": self.served_name,
            "messages": messages,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "max_tokens": sampling.max_tokens,
            # another try is another draw; servers want a non-negative 32-bit number
            "seed": (request.seed + 1_000_003 * request.attempt) % 2**31,
        }
        if sampling.stop:
            body["stop"] = list(sampling.stop)
        if request.regex is not None and self._constrains:
            body["structured_outputs"] = {"regex": request.regex}  # vLLM
        return body

    async def _post(self, verb: str, body: dict[str, Any]) -> Any:
        """The JSON answer. Retries what may pass (connection, 408, 429, 5xx, broken JSON) with growing random waits."""
        cause = ""
        for attempt in range(self.settings.retries + 1):
            wait = min(_LONGEST_WAIT_S, 0.5 * 2**attempt) * random.uniform(0.5, 1.0)
            try:
                async with self._slots:
                    self.calls += 1
                    async with self._open_session.post(f"{self.url}/{verb}", json=body) as response:
                        if response.status == 200:
                            return await response.json(content_type=None)
                        text = self._scrub((await response.text(errors="replace"))[:500])
                        cause = f"status {response.status}: {text}"
                        unclear = response.status == 500 and self._may_be_the_system_role(body)
                        if response.status not in _RETRIED or unclear:
                            raise _RefusedError(f"{self._where(verb)}: {cause}", text)
                        wait = max(wait, _retry_after(response.headers.get("Retry-After")))
            except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
                cause = self._cause(error)
            if attempt < self.settings.retries:
                self.retried += 1
                await asyncio.sleep(wait)
        raise ModelError(f"{self._where(verb)}: gave up after {self.settings.retries + 1} tries; last: {cause}")

    def _warn(self, text: str) -> None:
        if not self._warned:
            log.warning("model %r: %s", self.name, text)
        self._warned = True

    async def _status(self, verb: str, body: dict[str, Any]) -> int:
        """The status of one call, 0 without an answer. Some servers drop the connection after an error: try thrice."""
        for _ in range(3):
            try:
                async with self._slots, self._open_session.post(f"{self.url}/{verb}", json=body) as response:
                    return response.status
            except (aiohttp.ClientError, TimeoutError, OSError):
                continue
        return 0

    def _where(self, verb: str) -> str:
        return f"model {self.name!r} at {self.url}/{verb}"

    def _cause(self, error: BaseException) -> str:
        """Short words for an error: its str, never its repr, where aiohttp keeps the request's headers."""
        if isinstance(error, TimeoutError):
            return f"no answer within {self.settings.timeout_s:g} s"
        return self._scrub(f"{type(error).__name__}: {error}"[:300])

    def _scrub(self, text: str) -> str:
        return text.replace(self._key, "***") if self._key else text


class _RefusedError(ModelError):
    """The server says no, and would say so again."""

    def __init__(self, message: str, text: str) -> None:
        super().__init__(message)
        self.text = text


def _matches(pattern: str, text: str) -> bool:
    try:
        return re.fullmatch(pattern, text) is not None
    except re.error:  # the server's dialect, not Python's
        return True


def _retry_after(value: str | None) -> float:
    """Seconds from a Retry-After header (a number, or an HTTP date), at most a minute."""
    if not value:
        return 0.0
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(value).timestamp() - time()
        except ValueError:
            return 0.0
    return max(0.0, min(seconds, _LONGEST_WAIT_S))


def _prompt_logprobs(data: Any, ids: list[int]) -> list[float] | None:
    """One value per prompt token (the first has none: 0) from either form of answer, or None if it has neither."""
    choice = data["choices"][0]
    if rows := choice.get("prompt_logprobs"):  # vLLM: per position {token id: {"logprob": ...}}
        return [
            0.0 if row is None else float(row[str(token)]["logprob"]) for row, token in zip(rows, ids, strict=False)
        ]
    values = (choice.get("logprobs") or {}).get("token_logprobs") or []
    if len(values) < len(ids):
        return None
    return [0.0 if v is None else float(v) for v in values[: len(ids)]]


def _clean(text: str) -> str:
    """Text that can be written as UTF-8: a lone surrogate (from a broken escape) becomes a question mark."""
    return text.encode("utf-8", "replace").decode("utf-8")
