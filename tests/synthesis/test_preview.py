"""The preview: real candidates of the run, told in full; nothing that a model wrote can act on the reader's side."""

import io
import json
import sys

import pyarrow.parquet as pq
import pytest

from gra_train.chat.protocol import Completion, Reply
from gra_train.cli import main
from gra_train.compose import compose
from gra_train.errors import UserError
from gra_train.experiment import synthesis_only
from gra_train.runs import lease
from gra_train.stages import STAGES
from gra_train.synthesis.calls import Attempt
from gra_train.synthesis.candidate import Candidate
from gra_train.synthesis.preview import Exchange, Preview, preview
from gra_train.synthesis.preview import main as preview_command
from gra_train.synthesis.preview_view import show, visible

HOSTILE = "\x1b[2J\x1b]0;owned\x07 [bold red]x[/] \u202edlo\u202c </pre><script>alert(1)</script> \x9b31m"


def hostile():
    request = Completion(({"role": "user", "content": HOSTILE},), purpose="generator/response")
    call = Exchange("ada", request, Reply(HOSTILE), Attempt("response", "generator", "ada", HOSTILE))
    made = Candidate(HOSTILE, 0, 0, "Math", "ada", ("bea",), "cyd", (), instruction=HOSTILE, response=HOSTILE)
    total = dict.fromkeys(
        ("asked", "computed", "from_ledger", "prompt_tokens", "completion_tokens", "scored_tokens"), 1
    )
    return Preview(None, [(made, [call])], [], {"total": total})


def controls(text):
    return {c for c in text if (ord(c) < 32 and c != "\n") or 127 <= ord(c) < 160 or c in "\u202e\u202c"}


def test_hostile_text_is_shown_and_does_nothing(tmp_path, capsys):
    show(hostile(), tmp_path / "p.html")
    printed = capsys.readouterr().out
    assert controls(printed) == set()
    assert "<U+001B>[2J" in printed
    assert "[bold red]x[/]" in printed
    page = (tmp_path / "p.html").read_text()
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
    assert controls(page) == set()


def test_a_terminal_gets_no_control_of_a_model(monkeypatch, capsys):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    stream = Terminal()
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setenv("TERM", "xterm-256color")
    show(hostile(), None)
    text = stream.getvalue()
    assert "\x1b[2J" not in text
    assert "\x1b]0" not in text
    assert "<U+202E>" in text


def test_newlines_and_tabs_stay_readable():
    assert visible("a\n\tb\u2028c") == "a\n\tb<U+2028>c"


@pytest.mark.parametrize("words", [["n=0"], ["n=five"], ["--html"]])
def test_wrong_words_are_refused(words):
    with pytest.raises(UserError, match=r"n=|--html"):
        preview_command(["experiment=mini", *words])


def finished(node, inputs, runs):
    """The run of a node, made here."""
    run = node.run(runs)
    with lease(run, wait=False) as held:
        STAGES[node.stage].load()(node.config, inputs, held.out)
        held.finish(0.0)
    return run


def computed(run):
    return json.loads((run.folder / "usage.json").read_text())["total"]["computed"]


def test_a_run_asks_nothing_again_that_the_preview_asked(tmp_path):
    small = ["experiment=mini", "debug=tiny", "tracking=off", "seeds.limit=10", f"runs_dir={tmp_path}"]
    small += ["synthesis.wave=8", "synthesis.block=4", "synthesis.max_candidates=8", "synthesis.rounds=1"]
    config = compose(small)
    first = preview(config, count=3, annotate_at_most=200)
    assert [c.index for c, _ in first.candidates] == [0, 1, 2]
    assert first.usage["total"]["computed"] > 0
    assert first.seed is not None
    assert preview(config, count=3, annotate_at_most=200).usage["total"]["computed"] == 0

    seeds_node, node = synthesis_only(config)
    assert computed(finished(seeds_node, {}, tmp_path)) == 0
    run = finished(node, {"seeds": seeds_node.run(tmp_path).result}, tmp_path)
    total = json.loads((run.folder / "usage.json").read_text())["total"]
    asked = sum(len(calls) for _, calls in first.candidates)
    assert total["from_ledger"] >= asked  # the first block, at least the three shown

    again = preview(config, count=3, annotate_at_most=2)  # now the annotation is there to be read
    assert (again.seed, again.usage["total"]["computed"]) == (None, 0)
    recorded = pq.read_table(run.result / "candidates.parquet").to_pylist()[:3]
    assert [c.instruction for c, _ in again.candidates] == [r["instruction"] for r in recorded]
    assert [c.instruction for c, _ in first.candidates] == [r["instruction"] for r in recorded]


def test_the_command_prints_prompts_and_what_was_read(tmp_path, capsys):
    words = ["experiment=mini", "debug=tiny", "seeds.limit=6", "synthesis.block=2", "annotate=4", "n=1"]
    with pytest.raises(SystemExit) as done:
        main(["preview", *words, f"runs_dir={tmp_path}"])
    assert done.value.code == 0
    printed = capsys.readouterr().out
    for word in ("sample 1 of 1: r0-000000", "new_keywords, by generator", "as it was read", "fate:", "first 4 of 6"):
        assert word in printed
