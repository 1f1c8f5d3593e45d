"""Exports: opened by the real `datasets`, the same every time, and never over anybody's files."""

import json
from pathlib import Path

import pytest
import yaml

from gra_train.cli import main
from gra_train.data.export import export
from gra_train.errors import UserError
from gra_train.reporting.cards import write_card
from gra_train.runs import write_json
from tests.reporting.test_cards import run

MESSAGES = [{"role": "user", "content": "Say | it."}, {"role": "assistant", "content": "It."}]


def opened(folder: Path, cache: Path, *name: str):
    from datasets import load_dataset

    return load_dataset(str(folder), *name, split="train", cache_dir=str(cache))


def test_the_result_folder_itself_is_a_data_set(tmp_path: Path) -> None:
    result = run(tmp_path / "run")
    (result / "candidates.parquet").write_bytes(b"not for this")
    write_card(result)
    rows = opened(result, tmp_path / "cache")
    assert rows[0]["instruction"] == "Say | it."
    assert len(rows) == 2


@pytest.mark.parametrize("parquet", [False, True])
def test_every_format_opens_by_its_name(tmp_path: Path, parquet: bool) -> None:
    result = run(tmp_path / "run")
    folder, count = export(tmp_path / "run", parquet=parquet)
    assert (folder, count) == (tmp_path / "run" / "export", 2)
    default, chat, alpaca = (opened(folder, tmp_path / "cache", *name) for name in ((), ("chat",), ("alpaca",)))
    assert default[0] == {"id": "1", "instruction": "Say | it.", "response": "It.", "domain": "Math", "summary": "",
                          "source": "", "keywords": []}  # fmt: skip
    assert chat[0] == {"id": "1", "messages": MESSAGES}
    assert alpaca[1] == {"instruction": "Say so.", "input": "", "output": "So so."}
    assert export(result, tmp_path / "again", parquet=parquet)[1] == 2
    for file in folder.iterdir():
        assert file.read_bytes() == (tmp_path / "again" / file.name).read_bytes()


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    run(tmp_path / "run")
    words = ["export", str(tmp_path / "run"), "--format", "chat", "--to", str(tmp_path / "chat"), "--license", "mit"]
    with pytest.raises(SystemExit) as done:
        main(words)
    assert done.value.code == 0
    assert "2 rows (README.md, chat.jsonl)" in capsys.readouterr().out
    head = yaml.safe_load((tmp_path / "chat" / "README.md").read_text().split("---")[1])
    assert head["license"] == "mit"
    assert head["configs"] == [{"config_name": "chat", "data_files": "chat.jsonl", "default": True}]
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "none"))
    for wrong, message in ((["--push", "me/set"], "set HF_TOKEN"), (["--push", "set"], "expected OWNER/NAME")):
        with pytest.raises(SystemExit) as done:
            main([*words, *wrong])
        assert done.value.code == 2
        assert message in capsys.readouterr().err


def test_without_the_network_a_push_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    run(tmp_path / "run")
    canary = "hf_canary0123456789"
    monkeypatch.setenv("HF_TOKEN", canary)
    with pytest.raises(SystemExit) as done:
        main(["export", str(tmp_path / "run"), "--push", "me/set"])
    said = capsys.readouterr()
    assert done.value.code == 2
    assert "HF_HUB_OFFLINE is set" in said.err
    assert canary not in said.err + said.out
    assert not (tmp_path / "run" / "export").exists()


def test_what_cannot_be_exported(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not a finished synthesis"):
        export(tmp_path)
    run(tmp_path / "run")
    home = tmp_path / "home"
    home.mkdir()
    (home / "README.md").write_text("mine")
    (home / "thesis.tex").write_text("mine")
    with pytest.raises(UserError, match=r"holds other files \(thesis.tex\)"):
        export(tmp_path / "run", home)
    assert (home / "thesis.tex").read_text() == "mine"


def test_the_card_tells_seeds_licences_and_contamination(tmp_path: Path) -> None:
    result = run(tmp_path / "synthesize-gra")
    config = yaml.safe_load((result.parent / "config.yaml").read_text())
    config["inputs"] = {"seeds": "seeds-annotated"}
    config["config"]["pool"]["models"][0]["license"] = "llama3.1"
    config["config"]["synthesis"]["decontaminate"]["against"] = ["evaluation", str(tmp_path / "bench.jsonl")]
    (result.parent / "config.yaml").write_text(yaml.safe_dump(config))
    text = write_card(result).read_text()
    assert "Unknown: the run that annotated them is not at hand." in text
    assert "compared with no benchmark" in text
    before = tmp_path / "seeds-annotated"
    (before / "result").mkdir(parents=True)
    (before / "config.yaml").write_text(yaml.safe_dump({"config": {"seeds": {"path": str(tmp_path / "mine.jsonl")}}}))
    (before / "result" / "annotation.json").write_text(json.dumps({"seeds": 175}))
    write_json(result / "contamination.json", {
        "ngram": 13, "text": "both", "benchmarks": {"gsm8k": {"questions": 1319, "too_short": 4, "dropped": 3}},
        "missing": ["triviaqa"],
    })  # fmt: skip
    text = write_card(result).read_text()
    assert "| mine.jsonl | 175 | unknown |" in text
    assert "| alpha | mini:wren | r1 | llama3.1 |" in text
    assert "| gsm8k | 1319 | 4 | 3 |" in text
    assert "their questions were not at hand: triviaqa." in text
    assert "[evaluation, bench.jsonl]" in text
    assert str(tmp_path) not in text
