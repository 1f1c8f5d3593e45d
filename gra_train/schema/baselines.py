"""Baselines of COLLATE's Table 1 (docs/baselines.md says which of COLLATE's own settings they share)."""

from __future__ import annotations

# fmt: off  (one setting, one line: this file reads as a table)
from dataclasses import dataclass

from gra_train.settings import Section, setting


@dataclass(frozen=True)
class Baselines(Section):
    """Recipes of the baselines that prompt (CoT, self-consistency, ToT, EoT) or train (STaR, SPIN, Self-Rewarding)."""

    start: str = setting("base", "what is prompted, and where STaR starts: the base (an arm's student), or its M_IFT",
                         choices=("base", "ift"))  # fmt: skip
    roles: str = setting(
        "prompt",
        "how a model judges, takes a hint, exchanges and goes on step by step: asked in words, or by likelihood, for "
        "models that know COLLATE's three modes alone",
        choices=("prompt", "likelihood"),
    )
    shots: int = setting(0, "worked examples of the rationale data before what is asked", unit="examples", min=0)
    temperature: float = setting(0.7, "of thoughts that are sampled (CoT alone is greedy)", min=0)
    answer_tokens: int = setting(64, "longest answer after a rationale", unit="tokens", min=1)
    samples: int = setting(16, "self-consistency: thoughts that vote", min=1)
    tot_proposals: int = setting(3, "ToT: next steps proposed for each state", min=1)
    tot_beam: int = setting(2, "ToT: states kept at each level", min=1)
    tot_depth: int = setting(3, "ToT: steps at most", min=1)
    eot_rounds: int = setting(3, "EoT: exchanges at most", unit="rounds", min=0)
    star_iterations: int = setting(3, "STaR: rounds of sampling and training", min=1)
    star_hints: int = setting(1, "STaR: tries with the answer as a hint, where the first rationale fails", min=0)
    spin_iterations: int = setting(3, "SPIN: rounds of self-play", min=1)
    spin_target: str = setting("rationale", "SPIN: what is played for: gold rationales, or the task data's answers",
                               choices=("rationale", "answer"))  # fmt: skip
    candidates: int = setting(2, "Self-Rewarding: rationales that compete for each task", min=2)
    reward_iterations: int = setting(2, "Self-Rewarding: rounds of judging and training", min=1)
