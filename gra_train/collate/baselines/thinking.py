"""A thought: a rationale and the answer drawn from it, in COLLATE's modes I -> R and [I;R] -> A (two calls).

That is two-stage chain of thought (Kojima et al. 2022, arXiv 2205.11916, section 3): every model that knows the three
modes can do it, and how sure a model is of an answer is a likelihood that has a meaning, ln P(A | [I;R]).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gra_train.chat.protocol import Ask, Completion, Likelihood, Message, Reply, Sampling, TokenLogProbs
from gra_train.collate import modes
from gra_train.collate.baselines.answers import Reader
from gra_train.collate.data import Task, number


@dataclass(frozen=True, slots=True)
class Thought:
    """rationale and answer as written; value: what was read from the answer. truncated, failed: one of the calls was.
    tokens: written for both."""

    rationale: str
    answer: str
    value: str | None
    truncated: bool = False
    failed: bool = False
    tokens: int = 0


@dataclass(frozen=True)
class Thinker:
    """A model of the pool, and how it is asked.

    family: of prompts (modes.py). read: of answers. examples: worked ones (few-shot), as earlier turns.
    max_tokens: of a rationale; answer_tokens: of an answer.
    """

    name: str
    family: str
    read: Reader
    max_tokens: int
    answer_tokens: int
    top_p: float = 1.0
    examples: tuple[Task, ...] = ()

    async def think(
        self, ask: Ask, instruction: str, *, seed: int, count: int = 1, temperature: float = 0.0
    ) -> list[Thought]:
        """`count` thoughts, rationale and answer drawn at one temperature; the k-th depends on (seed, k) alone."""
        told = [(modes.rationale(self.family, one.instruction), one.rationale) for one in self.examples]
        prompt = modes.rationale(self.family, instruction)
        written = await self.write(ask, [prompt] * count, told, seed=seed, temperature=temperature, purpose="rationale")
        return await self.conclude(ask, instruction, written, seed=seed, temperature=temperature)

    async def conclude(
        self, ask: Ask, instruction: str, rationales: Sequence[Reply], *, seed: int = 0, temperature: float = 0.0
    ) -> list[Thought]:
        """The answer drawn from each rationale."""
        texts = [reply.text.strip() for reply in rationales]
        told = [
            (modes.answer_with_rationale(self.family, one.instruction, one.rationale), one.answer)
            for one in self.examples
        ]
        prompts = [modes.answer_with_rationale(self.family, instruction, text) for text in texts]
        answers = await self.write(
            ask, prompts, told, seed=number(seed, "answer"), temperature=temperature, purpose="answer",
            max_tokens=self.answer_tokens,
        )  # fmt: skip
        return [self._thought(text, *pair) for text, *pair in zip(texts, rationales, answers, strict=True)]

    async def answer(self, ask: Ask, instruction: str) -> Thought:
        """I -> A, greedy: no rationale."""
        prompt = modes.answer(self.family, instruction)
        [reply] = await self.write(ask, [prompt], purpose="answer", max_tokens=self.answer_tokens)
        return self._thought("", reply)

    async def sure(self, ask: Ask, instruction: str, thoughts: Sequence[Thought]) -> list[float]:
        """How sure the model is of each thought's answer: mean of ln P per token of A under [I;R] (-inf: no answer)."""
        return await self.likely(ask, instruction, [(one.rationale, one.answer) for one in thoughts])

    async def likely(self, ask: Ask, instruction: str, pairs: Sequence[tuple[str, str]]) -> list[float]:
        """Mean of ln P per token of A under [I;R], for each (R, A); -inf for an empty answer."""
        asked = [
            (
                self.name,
                Likelihood(
                    _turns(modes.answer_with_rationale(self.family, instruction, rationale)), answer, "baseline/sure"
                ),
            )
            for rationale, answer in pairs
            if answer
        ]
        found: list[TokenLogProbs] = await ask(*asked) if asked else []
        means = iter([one.total / max(len(one.logprobs), 1) for one in found])
        return [next(means) if answer else float("-inf") for _, answer in pairs]

    async def write(
        self,
        ask: Ask,
        prompts: Sequence[str],
        told: Sequence[tuple[str, str]] = (),
        *,
        seed: int = 0,
        temperature: float = 0.0,
        max_tokens: int | None = None,
        purpose: str,
        stop: tuple[str, ...] = (),
        begun: Sequence[str] = (),
    ) -> list[Reply]:
        """One completion of each prompt after the turns of `told`; the k-th draws with (seed, k).

        begun: how each answer begins; what comes back goes on from there.
        """
        sampling = Sampling(temperature, self.top_p, max_tokens or self.max_tokens, stop)
        return await ask(
            *(
                (
                    self.name,
                    Completion(
                        _turns(prompt, told, begun[k] if begun else ""),
                        sampling,
                        number(seed, k) if temperature else 0,
                        purpose=f"baseline/{purpose}",
                    ),
                )
                for k, prompt in enumerate(prompts)
            )
        )

    def _thought(self, rationale: str, *replies: Reply) -> Thought:
        answer = replies[-1].text.strip()
        cut, failed = (any(reply.finish == how for reply in replies) for how in ("length", "failed"))
        tokens = sum(reply.completion_tokens for reply in replies)
        return Thought(rationale, answer, self.read(answer), cut, failed, tokens)


def _turns(prompt: str, told: Sequence[tuple[str, str]] = (), begun: str = "") -> tuple[Message, ...]:
    earlier = [
        {"role": role, "content": text} for pair in told for role, text in zip(("user", "assistant"), pair, strict=True)
    ]
    last = [{"role": "assistant", "content": begun}] if begun else []
    return (*earlier, {"role": "user", "content": prompt}, *last)
