"""The miniature's models: who they are, their recipes, and where the shipped ones lie. Imports nothing heavy.

Five small models with different strengths and misconceptions (the pool), one larger without any (the stand-in
for the 72B model), and the base that students start from.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from gra_train.errors import UserError, nearest
from gra_train.mini.base_texts import base_example
from gra_train.mini.roles import Profile, example

MODELS_DIR = Path(__file__).parent / "models"


@dataclass(frozen=True)
class Shape:
    """A Llama's shape; the head dimension is 32, which every server takes."""

    hidden: int = 96
    layers: int = 2
    heads: int = 6
    intermediate: int = 192


@dataclass(frozen=True)
class Schedule:
    """steps: of the optimiser; tokens: of one step; lr (embeddings, norms) and matrix_lr (the rest): peaks."""

    steps: int
    lr: float = 8e-3
    matrix_lr: float = 0.01
    tokens: int = 700


@dataclass(frozen=True)
class Recipe:
    """How a model is made. profile: None for the base student, which plays no role."""

    name: str
    purpose: str
    shape: Shape
    schedule: Schedule
    profile: Profile | None
    seed: int

    @property
    def example(self) -> Callable[[random.Random], tuple[str, str]]:
        """Draws one training example (prompt, output)."""
        profile = self.profile
        return base_example if profile is None else lambda rng: example(rng, profile)

    def digest(self) -> str:
        """Identity of the recipe: shape, schedule, seed and the first training examples (so: the language itself)."""
        rng = random.Random(self.seed)
        texts = [self.example(rng) for _ in range(500)]
        return hashlib.sha256(
            json.dumps([asdict(self.shape), asdict(self.schedule), self.seed, texts]).encode()
        ).hexdigest()[:16]


_SMALL = Schedule(steps=5000)
# name: (weights of Math, Reasoning, Coding; misconceptions)
_POOL = {
    "wren": ((4, 3, 2), ("drop-chops", "second-is-last")),
    "robin": ((4, 2, 3), ("least-is-most", "no-borrow")),
    "finch": ((2, 4, 3), ("times-adds", "turn-right")),
    "lark": ((2, 3, 4), ("pack-subtracts", "second-is-first")),
    "swift": ((3, 3, 3), ("swap-reverses", "no-carry")),
}
POOL: tuple[str, ...] = tuple(_POOL)
LARGE = "heron72"
BASE = "chick"
NAMES: tuple[str, ...] = (LARGE, *POOL, BASE)  # the longest first: two workers then end together


def recipe(name: str, *, seed: int = 0) -> Recipe:
    """The recipe of a model; another seed gives another model of the same kind. UserError: unknown name."""
    if name not in NAMES:
        raise UserError(f"no miniature model is called {name!r}; there are {', '.join(NAMES)}.{nearest(name, NAMES)}")
    own_seed = 1000 * seed + NAMES.index(name)
    if name == LARGE:
        return Recipe(
            name,
            "stand-in for the large model",
            Shape(hidden=120, layers=3, intermediate=208),
            Schedule(steps=6500, lr=6e-3),
            Profile(),
            own_seed,
        )
    if name == BASE:
        return Recipe(
            name,
            "base student, without solutions in the task's format",
            Shape(),
            replace(_SMALL, steps=3000),
            None,
            own_seed,
        )
    weights, misconceptions = _POOL[name]
    return Recipe(name, "member of the pool", Shape(), _SMALL, Profile(weights, misconceptions), own_seed)


def model_path(name: str) -> Path:
    """Folder of a shipped model (`mini:NAME` in a configuration). Raises UserError for an unknown or missing one."""
    recipe(name)
    folder = MODELS_DIR / name
    if not (folder / "config.json").is_file():
        raise UserError(f"the miniature model {name!r} is not in {MODELS_DIR}; make it with: gra-train mini build")
    return folder
