"""A model of the chat layer as lm-eval's LM: what lm-eval asks goes through the pool and its ledger, one call a story.

So an evaluation behind a server, or in this process by `evaluation.engine=chat`, has what a synthesis has: the client's
concurrency and patience, and a ledger. Killed at any moment and run again, it asks for nothing twice.

    with served(model, ledger=..., folder=..., block=64, device="cpu") as lm:
        lm_eval.evaluate(lm, ...)

Where lm-eval puts a chat template around a question, the question's messages are kept beside the rendered text: a
server gets the messages (it has the template), while lm-eval and its log see the text that the model reads.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.api.model import LM
from lm_eval.models.utils import normalize_gen_kwargs

from gra_train.chat.pool import OpenPool, open_pool
from gra_train.chat.protocol import Ask, Completion, Likelihood, Message, Reply, Request, Sampling, TokenLogProbs, raw
from gra_train.chat.servers import serving
from gra_train.chat.templates import render
from gra_train.errors import UserError
from gra_train.evaluation.harness import Written
from gra_train.locate import positions
from gra_train.progress import Bar
from gra_train.schema import Model

_NO_LIMIT = 2**30
_SAMPLING = {"until", "max_gen_toks", "do_sample", "temperature", "top_p"}


@contextmanager
def served(model: Model, *, ledger: Path, folder: Path, block: int, device: str = "auto") -> Iterator[ChatLM]:
    """`model` (resolved, see serve.resolve) as an LM: its server started if it has one of ours, the pool open.

    ledger: the shared ledger's folder. folder: the run's, for the logs of servers and usage.json. block: in process,
    questions of one forward batch. Raises UserError as `serving` and `open_pool` do.
    """
    with (
        serving([model], folder) as placed,
        open_pool(placed, ledger=ledger, batch_tokens=_NO_LIMIT, device=device) as pool,
    ):
        yield ChatLM(pool, model.name, block=block)
        pool.write_usage(folder / "usage.json")


class ChatLM(LM):
    """Member `name` of an open pool. Greedy unless a task samples; stop strings and caps are the task's.

    written: of each prompt (as lm-eval's log has it) what became of its answer; of a call that failed it is "".
    bar: counts questions as they are answered.
    """

    def __init__(self, pool: OpenPool, name: str, *, block: int) -> None:
        super().__init__()
        self.pool, self.name, self.block = pool, name, block
        self.written: dict[str, Written] = {}
        self.bar: Bar | None = None
        self._conversations: dict[str, tuple[Message, ...]] = {}

    @property
    def settings(self) -> Model:
        return self.pool.models[self.name].settings

    @cached_property
    def tokenizer(self) -> Any:
        """The model's; None for a server whose tokenizer is not known here (no path)."""
        return self.pool.models[self.name].tokenizer if self.settings.path else None  # type: ignore[union-attr]

    @property
    def tokenizer_name(self) -> str:
        return self.name

    @property
    def max_length(self) -> int:
        """Tokens of the model's window, as far as it is known."""
        said = getattr(self.pool.models[self.name], "window", None) if self.settings.url else None
        own = positions(self.settings.path) if self.settings.path else None
        return min(said or _NO_LIMIT, own or _NO_LIMIT)

    @staticmethod
    def check(tasks: Mapping[str, Any]) -> None:
        """Raises UserError for a task that asks whether greedy decoding would write a continuation: servers say only
        how likely it is."""
        asking = [
            name
            for name, task in tasks.items()
            if task.OUTPUT_TYPE == "loglikelihood"
            or (task.OUTPUT_TYPE == "multiple_choice" and "exact_match" in task._metric_fn_list)
        ]
        if asking:
            raise UserError(
                f"{', '.join(asking)}: these tasks ask whether greedy decoding would write a text, which servers do "
                "not say. Use evaluation.engine=hf."
            )

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """The prompt as text. Without a tokenizer here: the conversation as JSON, which the log then shows."""
        if not add_generation_prompt:  # the answer's beginning is given: no server's chat endpoint promises to go on
            if self.tokenizer is None:
                raise UserError(
                    f"model {self.name!r}: this task begins the answer itself, so its prompt is rendered here; beside "
                    "url= set path= to the folder or Hub name of its tokenizer."
                )
            return str(self.tokenizer.apply_chat_template(chat_history, tokenize=False, continue_final_message=True))
        turns = tuple(chat_history)
        text = json.dumps(turns, ensure_ascii=False) if self.tokenizer is None else render(self.tokenizer, turns)
        self._conversations[text] = turns
        return text

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """Answers; a repeated question that is sampled gets as many different ones."""
        asked: list[Completion] = []
        seen: Counter[tuple[str, str]] = Counter()
        for request in requests:
            context, options = request.args
            sampling = _sampling(options)
            key = (context, repr(sampling))
            asked.append(
                Completion(
                    self._conversations.get(context) or raw(context), sampling, purpose=f"student/{request.task_name}",
                    sample=seen[key] if sampling.temperature else 0,
                )
            )  # fmt: skip
            seen[key] += 1
        replies: list[Reply] = self._ask(requests, asked)
        for request, reply in zip(requests, replies, strict=True):
            became = Written(reply.completion_tokens, reply.finish == "length", reply.finish == "failed")
            self.written.setdefault(request.args[0], became)  # of several samples the first is read
        return [reply.text for reply in replies]

    def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """(log-probability of the continuation, False): see `check` for the second."""
        asked = [Likelihood(raw(r.args[0]), r.args[1], purpose=f"student/{r.task_name}") for r in requests]
        return [(scores.total, False) for scores in self._ask(requests, asked)]

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = False) -> list[float]:
        """Log-probabilities of whole texts. Raises UserError for one that is longer than the model's window."""
        asked = [Likelihood(raw(""), r.args[0], purpose=f"student/{r.task_name}") for r in requests]
        found: list[TokenLogProbs] = self._ask(requests, asked)
        if long := sum(math.isinf(scores.total) for scores in found):
            raise UserError(
                f"{long} of {len(found)} texts are longer than the window of {self.name!r} ({self.max_length} tokens): "
                "texts are not cut into windows here. Use evaluation.engine=hf."
            )
        return [scores.total for scores in found]

    def _ask(self, instances: Sequence[Instance], requests: Sequence[Request]) -> list[Any]:
        """Answers in order; each is a story of its own, so servers are kept as busy as their limits allow."""

        def story(request: Request) -> Any:
            async def tell(ask: Ask) -> Any:
                [answer] = await ask((self.name, request))
                return answer

            return tell

        bar, answered = self.bar, 0
        before = bar.done if bar else 0
        questions = len({(one.task_name, one.doc_id) for one in instances})  # of choices, several requests each

        def on_done(n: int) -> None:
            nonlocal answered
            answered += n
            if bar:
                bar.update(before + answered * questions // len(requests))

        return self.pool.run([story(request) for request in requests], block=self.block, on_done=on_done)


def _sampling(options: Mapping[str, Any]) -> Sampling:
    """lm-eval's generation_kwargs. Raises UserError for one that the chat layer has not."""
    found = normalize_gen_kwargs(dict(options))
    if unknown := sorted(set(found) - _SAMPLING):
        raise UserError(
            f"a task's generation_kwargs have {', '.join(unknown)}; known through the chat layer: "
            f"{', '.join(sorted(_SAMPLING))}."
        )
    return Sampling(
        temperature=found["temperature"] if found["do_sample"] else 0.0,
        top_p=float(found.get("top_p", 1.0)),
        max_tokens=found["max_gen_toks"],
        stop=tuple(s for s in found["until"] if s),
    )
