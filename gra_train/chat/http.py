"""A model behind OpenAI-compatible servers (vLLM, SGLang, llama.cpp, transformers serve, hosted APIs).

One call is the unit of work and of failure. A request that the servers will not answer, though they answer others, is
a Reply that says "failed": one sample is lost, with a reason, and not the run (setting on_failed_call). When nothing is
answered at all the run ends.

What a server cannot promise: some ignore `seed` or a constraint without a word, and batching on the server makes
sampled text vary between runs. The ledger is what makes a run repeatable: an answer is asked for once and replayed
after that. An answer that breaks its constraint is returned as it is (the caller's parser sees it), counted, and the
first such case is logged.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from gra_train.chat import dialects
from gra_train.chat.calling import ENDLESS, Caller, RefusedError
from gra_train.chat.endpoints import Endpoints
from gra_train.chat.evidence import Evidence
from gra_train.chat.exchange import body_of, constraint_of, keeps, replies_of
from gra_train.chat.greeting import Greeter
from gra_train.chat.protocol import Completion, Likelihood, Message, ModelError, Reply, TokenLogProbs, is_raw
from gra_train.chat.templates import likelihood_ids, load_tokenizer, merge_system, prompt_ids, prompt_text
from gra_train.chat.urls import base_urls
from gra_train.chat.wire import FAILURES, Wire
from gra_train.errors import UserError
from gra_train.schema import Model

log = logging.getLogger(__name__)
_NO_COMPLETIONS = {404, 405, 501}  # there is no raw completion
_HOPELESS = {301, 302, 303, 307, 308, 401, 403, 404, 405}  # no other request would fare better


class HttpModel:
    """A served model. `open` checks that its servers are there and who they are; `answer` calls them.

    Raises UserError for settings that cannot work.
    """

    def __init__(self, model: Model) -> None:
        self.name = model.name
        self.settings = model
        self.served_name = model.served_name or model.name
        self._verb = "completions" if model.api == "completions" else "chat/completions"
        self.endpoints = Endpoints(
            model.name, base_urls(model), max_concurrency=model.max_concurrency, give_up_s=model.give_up_s
        )
        self._wire = Wire(model)
        self._greeter = Greeter(model, self._wire, served_name=self.served_name, verb=self._verb)
        self.caller = Caller(
            model.name, self.endpoints, self._wire, retries=model.retries, served_name=self.served_name,
            meet=self._greeter.met,
        )  # fmt: skip
        self.unconstrained = 0
        """answers that broke their regular expression or JSON schema"""
        if model.api == "completions" and not model.path:
            raise UserError(f"model {model.name!r}: api=completions renders prompts on our side; {_NEEDS_TOKENIZER}")
        self._unknown: set[str] = set()  # optional fields that the server does not take
        self._warned: set[str] = set()
        self._texts_only = False  # raw completion takes a text, no token ids
        self._merge_system = False
        self._system: asyncio.Future[bool] | None = None
        self._evidence, self._scored = Evidence(), Evidence()  # of completions, of likelihoods
        self._stops = model.on_failed_call == "stop"

    @cached_property
    def tokenizer(self) -> Any:
        """For what is rendered and tokenised on our side."""
        if not self.settings.path:
            raise UserError(
                f"model {self.name!r}: likelihoods over HTTP need the tokenizer, as prompts rendered here do; "
                + _NEEDS_TOKENIZER
            )
        return load_tokenizer(self.settings)

    @property
    def fingerprint(self) -> str:
        return self._greeter.fingerprint

    @property
    def window(self) -> int | None:
        """Tokens of prompt and answer together, where a server says it."""
        return self._greeter.window

    def trust(self, request: Completion | Likelihood) -> None:
        """The model is known to answer (the ledger has answers of it)."""
        self._evidence.answered = True
        self._scored.answered = self._scored.answered or isinstance(request, Likelihood)

    async def open(self, folder: Path) -> None:
        """Connect, see who answers, and check that the weights are those that are known in `folder` (the ledger's).

        Raises UserError if no endpoint is there, or one refuses the key, does not serve the model or has other weights.
        """
        self._wire.open()
        self._greeter.folder = folder
        try:
            found = await asyncio.gather(*(self._greeter.greet(endpoint) for endpoint in self.endpoints.all))
            for endpoint, there in zip(self.endpoints.all, found, strict=True):
                if there:
                    endpoint.known = await self._greeter.recognise(endpoint)
                elif any(found):
                    log.warning("model %r: %s does not answer (%s); going on", self.name, endpoint.url, endpoint.cause)
        except BaseException:
            await self.close()
            raise
        if not any(found):
            await self.close()
            causes = "; ".join(f"{e.url} ({e.cause})" for e in self.endpoints.all)
            raise UserError(f"model {self.name!r}: no server answers at {causes}; start it or correct url=")

    async def close(self) -> None:
        await self._wire.close()

    @property
    def width(self) -> float:
        """Calls that may be in flight at once."""
        return self.endpoints.width

    def report(self) -> list[dict[str, Any]]:
        """What each endpoint did, and how many calls it takes at once by now."""
        return [
            {"url": e.url, "answered": e.answered, "failed": e.failed, "throttled": e.throttled, "out": e.out,
             "concurrency": int(e.limit.value)}
            for e in self.endpoints.all
        ]  # fmt: skip

    async def answers(self, requests: Sequence[Completion | Likelihood]) -> tuple[list[Reply | TokenLogProbs], float]:
        """Answers to one request, or to completions that differ in `sample` alone; and the seconds that the server took
        for the last try."""
        completions = [r for r in requests if isinstance(r, Completion)]
        if completions:
            replies, seconds = await self._complete(completions)
            return [*replies], seconds
        (request,) = requests
        assert isinstance(request, Likelihood)
        ids = likelihood_ids(self.tokenizer, request)
        answer, seconds = await self._score(*ids, may_fail=request.may_fail)
        return [answer], seconds

    async def complete(self, request: Completion) -> Reply:
        """One answer. Raises ModelError where nothing is answered, or (on_failed_call=stop) where this is not."""
        return (await self._complete([request]))[0][0]

    async def _complete(self, requests: Sequence[Completion]) -> tuple[list[Reply], float]:
        """One call with `n`, or one each where there is no `n`."""
        first = requests[0]
        verb = "completions" if is_raw(first.messages) else self._verb
        n = 1 if "n" in self._unknown or self._greeter.server in dialects.ONE_ANSWER else len(requests)
        limit: int | None = first.sampling.max_tokens

        async def adapt(body: dict[str, Any], status: int, text: str) -> bool:
            nonlocal limit
            if limit == first.sampling.max_tokens and dialects.too_long(text):  # with the prompt more than the window
                if verb == "completions":  # where no limit means 16 tokens
                    limit = (dialects.window(text) or 0) - len(body["prompt"])
                    return limit > 0 and not isinstance(body["prompt"], str)
                limit = None
                return True
            return await self._adapt(body, status, text)

        self._evidence.begin()
        try:
            replies, seconds = await self.caller.call(
                verb, lambda: self._body(first, n, limit), lambda data: replies_of(first, data), adapt
            )
            self._evidence.answer()
            self._notice(first, replies)
        except RefusedError as error:
            # as in process: a prompt that fills the window leaves no room to answer; an endless answer is cut, too
            if dialects.too_long(error.text) or error.status == ENDLESS:
                return [Reply("", "length")] * len(requests), 0.0
            if error.status in _HOPELESS or self._stops:
                raise
            await self._evidence.tolerate(error)
            self._warn("refused", "%s (it answers others: this answer counts as missing)", error)
            return [Reply("", "failed")] * len(requests), 0.0
        finally:
            self._evidence.end()
        if len(replies) < n:
            self._unknown.add("n")
        if rest := requests[len(replies) :]:
            replies += await asyncio.gather(*(self.complete(request) for request in rest))
        return replies[: len(requests)], seconds

    async def log_likelihood(self, prompt_ids: list[int], continuation_ids: list[int]) -> TokenLogProbs:
        """Log-probabilities of the prompt's last tokens, through `prompt_logprobs` (vLLM) or `echo` (the OpenAI way).

        Raises ModelError if the server offers neither, or does not answer.
        """
        return (await self._score(prompt_ids, continuation_ids, may_fail=False))[0]

    async def _score(
        self, prompt_ids: list[int], continuation_ids: list[int], *, may_fail: bool
    ) -> tuple[TokenLogProbs, float]:
        """As `log_likelihood`, and the seconds it took. may_fail: a request that is not answered though others are is
        marked as failed, as a completion is."""
        if not continuation_ids:
            return TokenLogProbs(()), 0.0
        ids = prompt_ids + continuation_ids
        body = {"model": self.served_name, "prompt": ids, "temperature": 0, "max_tokens": 1}
        body |= {"echo": True, "logprobs": 1, "prompt_logprobs": 0}

        async def adapt(body: dict[str, Any], status: int, text: str) -> bool:
            return False

        read = len(prompt_ids)
        self._scored.begin()
        try:
            values, seconds = await self.caller.call(
                "completions", lambda: body, lambda data: dialects.prompt_logprobs(data, ids), adapt
            )
            if values is None:
                raise self._no_likelihoods("it knows neither prompt_logprobs nor echo")
            self._scored.answer()
        except RefusedError as error:
            if dialects.too_long(error.text):  # as in process: what is beyond the window has no probability
                values, seconds, read = [float("-inf")] * len(ids), 0.0, 0
            elif error.status in _NO_COMPLETIONS or dialects.denies_likelihoods(error.text):
                raise self._no_likelihoods(str(error)) from None
            elif error.status in _HOPELESS or self._stops or not may_fail:
                raise
            else:
                await self._scored.tolerate(error)
                self._warn("refused", "%s (it answers others: this likelihood counts as missing)", error)
                return TokenLogProbs((), failed=True), 0.0
        finally:
            self._scored.end()
        texts = self.tokenizer.batch_decode([[t] for t in continuation_ids]) if self.settings.path else []
        return TokenLogProbs(tuple(values[len(prompt_ids) : len(ids)]), tuple(texts), prompt_tokens=read), seconds

    def _no_likelihoods(self, cause: str) -> ModelError:
        return ModelError(
            f"model {self.name!r}: the server gives no log-probabilities of a prompt ({cause}); score with a model "
            "in process, or with vLLM."
        )

    def _body(self, request: Completion, n: int, limit: int | None) -> dict[str, Any]:
        prompt: dict[str, Any]
        if is_raw(request.messages) and not self.settings.path:
            prompt = {"prompt": request.messages[0]["content"]}
        elif is_raw(request.messages) or self._verb == "completions":
            made = prompt_text if self._texts_only else _ids
            prompt = {"prompt": made(self.tokenizer, request.messages)}
        elif request.messages[-1]["role"] == "assistant":
            raise UserError(
                f"model {self.name!r}: an answer that goes on from its beginning needs a prompt rendered here: "
                "set api=completions, or run the model in process."
            )
        else:
            prompt = {"messages": merge_system(request.messages) if self._merge_system else request.messages}
        body = body_of(request, model=self.served_name, prompt=prompt, server=self._greeter.server, n=n, limit=limit)
        for field in self._unknown:
            body.pop(field, None)
        return body

    def _notice(self, request: Completion, replies: Sequence[Reply]) -> None:
        """What the server left undone."""
        broken = sum(not keeps(request, reply) for reply in replies)
        if broken:
            self.unconstrained += broken
            self._warn("constraint", _NO_CONSTRAINTS, constraint_of(request))
        if request.logprobs and any(reply.logprobs is None for reply in replies):
            self._warn("logprobs", "the server gives no log-probabilities of its answers")

    async def _adapt(self, body: dict[str, Any], status: int, text: str) -> bool:
        """Do without what the server does not take, if the request had it. True: worth asking again."""
        if status not in (400, 422, 500):
            return False
        if dialects.wants_text(text) and isinstance(body.get("prompt"), list):
            self._texts_only = True
            return True
        field = dialects.refused_field(body, text) if status != 500 else None
        if field:
            self._unknown.add(field)
            if field in ("response_format", "structured_outputs", "regex"):
                what = "a JSON schema" if field == "response_format" else "a regular expression"
                self._warn("constraint", _NO_CONSTRAINTS, what)
            else:
                self._warn(field, "the server does not take %r; going on without", field)
            return True
        settled = self._system is not None and self._system.done() and not self._system.result()
        if settled or not any(m["role"] == "system" for m in body.get("messages", ())):
            return False
        if self._system is None:
            self._system = asyncio.ensure_future(self._refuses_system_role())
        self._merge_system = await asyncio.shield(self._system)
        return True  # whatever was found, the request is worth asking again

    async def _refuses_system_role(self) -> bool:
        """Find out, once, whether the served template refuses a system role (answered by 400, 422 or a bare 500).

        It does if a tiny request fails with one and passes without, three times running: a flaky server is no proof.
        """
        turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}]
        for _ in range(3):
            for messages, wanted in ((turns, False), (turns[1:], True)):
                body = {"model": self.served_name, "messages": messages, "max_tokens": 1}
                if (await self._status(body) == 200) != wanted:
                    return False
        log.info("model %r: its template refuses a system role; it goes in front of the first user turn", self.name)
        return True

    async def _status(self, body: dict[str, Any]) -> int:
        """The status of one call, 0 without an answer. Some servers drop the connection after an error: try thrice."""
        for _ in range(3):
            endpoint = await self.endpoints.take()
            try:
                return (await self._wire.post(f"{endpoint.url}/{self._verb}", body)).status
            except FAILURES:
                continue
            finally:
                self.endpoints.give(endpoint)
        return 0

    def _warn(self, topic: str, text: str, *values: object) -> None:
        """Once per topic."""
        if topic not in self._warned:
            self._warned.add(topic)
            log.warning("model %r: " + text, self.name, *values)


_NEEDS_TOKENIZER = "beside url= set path= to the folder or Hub name of its tokenizer"
_NO_CONSTRAINTS = "the server does not keep answers to %s; they are parsed as they come, and counted"


def _ids(tokenizer: Any, messages: Sequence[Message]) -> list[int]:
    return prompt_ids(tokenizer, [messages])[0]
