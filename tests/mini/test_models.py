"""The shipped models: small, standard, made by the package's recipe, and able to do what is asked of them."""

import json
from types import SimpleNamespace

import pytest

from gra_train.errors import UserError
from gra_train.mini import prompts
from gra_train.mini.data import problems
from gra_train.mini.language import DOMAINS, parse
from gra_train.mini.models import BASE, LARGE, MODELS_DIR, NAMES, POOL, model_path, recipe


def test_all_are_shipped_within_ten_megabytes() -> None:
    assert all(model_path(name).is_dir() for name in NAMES)
    files = [f for f in MODELS_DIR.rglob("*") if f.is_file()]
    assert sum(f.stat().st_size for f in files) < 10_000_000


@pytest.mark.parametrize("name", NAMES)
def test_cards_carry_the_recipe_that_made_the_model(name: str) -> None:
    """Fails when the language, a role or a schedule changed after the build: then build again."""
    assert f"recipe: {recipe(name).digest()}\n" in (model_path(name) / "README.md").read_text()


@pytest.mark.parametrize("name", NAMES)
def test_shapes_are_what_servers_take(name: str) -> None:
    config = json.loads((model_path(name) / "config.json").read_text())
    assert config["architectures"] == ["LlamaForCausalLM"]
    assert config["head_dim"] == 32
    assert config["dtype"] == "float16"


def test_unknown_model() -> None:
    with pytest.raises(UserError, match="wren"):
        model_path("wrenn")


@pytest.mark.parametrize("name", POOL)
def test_pool_models_play_their_roles(name: str, play: SimpleNamespace) -> None:
    model, tokenizer = play.load(model_path(name))
    assert play.accuracy(model, tokenizer) > 0.4
    asked = problems("validation", 30, 2)
    written = play.write(model, tokenizer, [prompts.summary(p.instruction) for p in asked])
    assert sum(a == p.summary for p, a in zip(asked, written, strict=True)) > 15
    domains = play.write(model, tokenizer, [prompts.domain(p.instruction) for p in asked])
    assert sum(a == p.domain for p, a in zip(asked, domains, strict=True)) > 25
    known = {d: [p.keywords for p in asked if p.domain == d] for d in DOMAINS}
    triples = play.write(
        model, tokenizer, [prompts.new_keywords(d, known[d][i : i + 2]) for d in DOMAINS for i in range(5)]
    )
    assert sum(prompts.read_keywords(t) is not None for t in triples) > 12
    planned = play.write(model, tokenizer, [prompts.instruction(p.domain, p.keywords, [p.summary]) for p in asked])
    assert sum(parse(t) is not None for t in planned) > 15
    flags = play.write(model, tokenizer, [prompts.instruction_review(p.instruction) for p in asked])
    assert sum(prompts.read_flags(t) == (1, 1, 1) for t in flags) > 20
    reviews = play.write(
        model, tokenizer, [prompts.response_review(p.instruction, p.response) for p in asked], max_new_tokens=80
    )
    assert sum(prompts.read_review(t) is not None for t in reviews) > 24


def test_the_large_model_is_better_and_the_base_does_not_solve(play: SimpleNamespace) -> None:
    assert play.accuracy(*play.load(model_path(LARGE))) > 0.7
    assert play.accuracy(*play.load(model_path(BASE))) < 0.1
