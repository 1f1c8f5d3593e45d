"""How the benchmarks of a table were asked."""

from gra_train.reporting.protocols import protocol_notes
from gra_train.runs import write_json

TOLD = {"protocol": "robust", "answers": "written", "shots": 4, "max_tokens": 2048, "source": "openai/gsm8k:main",
        "unsandboxed": False, "notes": ["Half of it."]}  # fmt: skip


def test_a_sentence_for_each_way_of_asking(tmp_path):
    for name, told in (("a", {"gsm8k": TOLD}), ("b", {"gsm8k": TOLD}), ("c", {}), ("d", None)):
        (tmp_path / name).mkdir()
        if told is not None:
            write_json(tmp_path / name / "protocol.json", told)
    (note,) = protocol_notes(tmp_path / name for name in "abcd")
    assert note == (
        "gsm8k: protocol robust, 4 worked examples, answers of at most 2048 tokens, questions from openai/gsm8k:main. "
        "Half of it."
    )
    write_json(tmp_path / "c/protocol.json", {"gsm8k": TOLD | {"shots": 0, "source": "file", "unsandboxed": True}})
    (note,) = protocol_notes(tmp_path / name for name in "abcd")
    assert "NOT asked alike in every row" in note
    assert "no worked examples, answers of at most 2048 tokens, questions from a file. Programs ran WITHOUT" in note
