"""The page: what is on it, that nothing of it runs, and how a real browser shows it."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from gra_train.reporting.charts import Scale, accuracy, forest, funnel
from gra_train.reporting.page import headline, render
from gra_train.reporting.stages import compare, read_table

HOSTILE = (
    '<script>document.title="HACKED"</script></pre></details></main><img src=x onerror=\'document.title="HACKED"\'>'
    '<svg onload=document.title="HACKED"></svg>{{ 7 * 7 }} &amp; "quoted" \u202e ' + "unbroken" * 60
)
COST: dict[str, Any] = {
    "label": "gra", "kept": 50, "calls": 110, "prompt_tokens": 1100, "answer_tokens": 220, "scored_tokens": 0,
    "money": None, "seconds": 22.0, "cpu_seconds": 11.0, "gpu_seconds": None, "gpu_joules": None, "cpu_joules": None,
    "partial": True, "elsewhere": False,
}  # fmt: skip
VOID = {"meta", "link", "line", "rect", "path", "circle", "br", "img"}


class Reader(HTMLParser):
    """Tags in their order, attributes, and the text of each kind of tag; fails where tags do not match."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, text: str) -> None:
        if self.open:
            self.texts.setdefault(self.open[-1], []).append(text)


@pytest.fixture
def table(experiment: Callable[..., Any], tmp_path: Path) -> dict[str, Any]:
    folder = tmp_path / "run" / "work-1"
    folder.mkdir(parents=True)
    compare(*experiment(), folder)
    return read_table(folder)


@pytest.fixture
def text(table: dict[str, Any]) -> str:
    row = {"id": "1", "domain": HOSTILE, "instruction": HOSTILE, "response": HOSTILE, "ifd": 0.5, "judge_score": None,
           "judge_said": HOSTILE}  # fmt: skip
    table["name"] += HOSTILE
    table["rows"][1]["label"] += HOSTILE
    return render(table, [{**COST, "label": HOSTILE}], {HOSTILE: [row]}, "compare-e-s0-12345678")


def test_what_a_model_wrote_stays_text(text: str) -> None:
    reader = Reader()
    reader.feed(text)
    assert reader.open == []
    tags = {tag for tag, _ in reader.tags}
    assert not tags & {"script", "img", "iframe", "object", "embed", "form"}
    assert not [name for _, attributes in reader.tags for name in attributes if name.startswith("on")]
    assert reader.texts["pre"] == [HOSTILE] * 3
    assert "{{ 7 * 7 }}" in text
    assert "default-src 'none'" in text
    assert not re.search(r"https?://|@import|url\(", re.sub(r"<pre.*?</pre>", "", text, flags=re.DOTALL))


def test_tables_and_charts_can_be_read_aloud(text: str) -> None:
    reader = Reader()
    reader.feed(text)
    tags = [tag for tag, _ in reader.tags]
    assert tags.count("table") == tags.count("caption") > 4
    assert all(attributes.get("scope") in ("col", "row") for tag, attributes in reader.tags if tag == "th")
    assert all(a["role"] == "img" and a["aria-label"] for tag, a in reader.tags if tag == "svg")
    assert dict(reader.tags)["html"]["lang"] == "en"
    anchors = {a["href"] for tag, a in reader.tags if tag == "a"}
    assert anchors <= {f"#{a['id']}" for tag, a in reader.tags if "id" in a}


def test_the_headline_carries_its_doubt(table: dict[str, Any]) -> None:
    found = {one["label"]: one for one in headline(table)}
    assert set(found) == {"seed", "gra"}, "the others have no average beside the baseline's"
    assert found["gra"]["verdict"] == "not decided"
    assert found["gra"]["text"].startswith("+10.0 [")
    assert "below 10.0 points may well go unseen" in found["gra"]["text"]
    assert found["seed"]["verdict"] == "worse"


def test_charts_by_hand(table: dict[str, Any]) -> None:
    chart = forest(table)
    assert chart is not None
    assert [line.label for line in chart.lines] == ["average", "seed", "gra", "math", "seed", "gra",
                                                    "gra + COLLATE M_IFT", "coding", "seed", "gra"]  # fmt: skip
    seed, gra = chart.lines[1:3]
    assert (seed.kind, gra.kind) == ("worse", "open")
    assert None not in (gra.low, gra.end, gra.high, seed.end)
    assert gra.low <= chart.zero < gra.end < gra.high  # type: ignore[operator]
    assert seed.end < chart.zero  # type: ignore[operator]
    bars = accuracy(table)
    assert bars is not None
    assert [line.label for line in bars.lines] == ["seed", "gra", "solo"], "only complete rows have an average"
    steps = funnel(table)
    assert steps is not None
    assert [line.said for line in steps.lines] == ["9, 56% right", "5, 80% right", "4, 100% right"]
    scale = Scale(-10, 10)
    assert scale(-10) < scale(0) < scale(10)
    assert [said for _, said in scale.ticks("{:+.0f}")] == ["-10", "-5", "0", "+5", "+10"]


def test_a_page_of_next_to_nothing(table: dict[str, Any]) -> None:
    for row in table["rows"]:
        row |= dict.fromkeys(("data", "scores", "difference", "tests", "tally", "quality"))
    reader = Reader()
    reader.feed(render({**table, "reports": [], "funnel": None}, [], {}, "compare-e-s0-12345678"))
    assert reader.open == []


PROBE = """<script>
addEventListener("load", () => {
  const root = document.documentElement, wide = [];
  for (const one of document.querySelectorAll("body *"))
    if (!one.closest(".scroll") && one.getBoundingClientRect().right > root.clientWidth + 1) wide.push(one.tagName);
  const ink = getComputedStyle(document.body).color, paper = getComputedStyle(document.body).backgroundColor;
  root.setAttribute("data-seen", JSON.stringify({
    width: root.clientWidth, scroll: root.scrollWidth, wide, ink, paper, title: document.title, errors: window.failed,
    pre: document.querySelector("pre").textContent, images: document.images.length,
  }));
});
</script>"""
CATCH = '<script>window.failed = []; addEventListener("error", e => failed.push(String(e.message)), true);</script>'


@pytest.mark.browser
@pytest.mark.parametrize(("width", "dark"), [(1200, False), (1200, True), (500, False)])
def test_in_a_real_browser(text: str, tmp_path: Path, width: int, dark: bool) -> None:
    """It renders in both colour schemes, nothing overflows but what scrolls by itself, and nothing hostile runs.

    The page allows no script at all; the probe that looks at it from inside is put into a copy that does. In that copy
    a script of the sample would run too, if it were one.
    """
    import html
    import json

    binary = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if not binary:
        pytest.skip("no browser (chromium not found)")
    page, probed = tmp_path / "page.html", tmp_path / "probed.html"
    page.write_text(text)
    open_rows = text.replace("<details>", "<details open>")
    open_rows = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", open_rows)
    probed.write_text(open_rows.replace("<head>", f"<head>{CATCH}", 1).replace("</body>", f"{PROBE}</body>"))

    def look(file: Path) -> tuple[str, str]:
        command = [binary, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync",
                   "--disable-background-networking", "--disable-component-update", "--disable-quic",
                   "--enable-logging=stderr", f"--user-data-dir={tmp_path / 'profile'}", f"--window-size={width},900",
                   f"--blink-settings=preferredColorScheme={0 if dark else 1}", "--dump-dom", str(file)]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
        return done.stdout, done.stderr

    shown, said = look(page)
    assert "CONSOLE" not in said, said
    assert "Difference to the baseline" in shown
    shown, said = look(probed)
    assert "CONSOLE" not in said, said
    seen = json.loads(html.unescape(re.search(r'data-seen="([^"]*)"', shown)[1]))  # type: ignore[index]
    assert seen["errors"] == []
    assert seen["scroll"] <= seen["width"]
    assert seen["wide"] == []
    assert seen["pre"] == HOSTILE
    assert seen["images"] == 0
    assert "compared with" not in seen["title"]
    assert seen["title"].startswith("e<script>")
    light = [sum(map(int, re.findall(r"\d+", seen[name])[:3])) for name in ("ink", "paper")]
    assert (light[0] > light[1]) == dark, "light on dark, or dark on light"
