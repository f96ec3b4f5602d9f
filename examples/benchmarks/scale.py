"""Memory and time with many prototypes, classes, texts and fits (Linux).

    python examples/benchmarks/scale.py

Encoders are random and texts are generated, so that nothing is loaded. Each row of the
table runs in a process of its own, whose peak memory includes Python and torch; fits
and streams report how far the memory of their process grows once it has warmed up.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from resource import RUSAGE_SELF, getrusage

import joblib
import numpy as np
import torch
import transformers
from measuring import table
from sentence_transformers import SentenceTransformer
from tasks import provenance
from tokenizers import Tokenizer, models, pre_tokenizers
from tokenizers.processors import TemplateProcessing

from skprotolm import ProtoLMClassifier

SEED = 0
N_WORDS = 5000
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
GIGABYTE = 2**30


def make_encoder(folder: Path, width: int) -> str:
    """Save a random BERT of one layer whose words are w0, w1, …; return its folder."""
    words = [*SPECIAL, *(f"w{j}" for j in range(N_WORDS))]
    vocabulary = {word: j for j, word in enumerate(words)}
    splitter = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    splitter.pre_tokenizer = pre_tokenizers.Whitespace()
    splitter.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=splitter,
        model_max_length=64,
        **{f"{token[1:-1].lower()}_token": token for token in SPECIAL},
    )
    config = transformers.BertConfig(
        vocab_size=len(words),
        hidden_size=width,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=width,
        max_position_embeddings=66,
    )
    torch.manual_seed(SEED)
    transformers.BertModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    SentenceTransformer(str(folder), device="cpu").save(str(folder))
    return str(folder)


def make_texts(n: int, n_classes: int, seed: int = SEED) -> tuple[list[str], list[str]]:
    """Return texts of eight words, two of which tell the class, and their labels."""
    rng = np.random.RandomState(seed)
    codes = np.arange(n) % n_classes
    words = rng.randint(N_WORDS, size=(n, 6))
    own = np.column_stack([codes * 7919 % N_WORDS, (codes * 104729 + 1) % N_WORDS])
    texts = [" ".join(f"w{j}" for j in row) for row in np.hstack([own, words]).tolist()]
    return texts, [f"class {code}" for code in codes.tolist()]


def stream(n: int, n_classes: int) -> Iterator[str]:
    """Generate texts, of which no more than a thousand are in memory."""
    for seed in range(n // 1000):
        yield from make_texts(1000, n_classes, seed)[0]


def memory() -> float:
    """Return the memory of the process in GB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / GIGABYTE


def timed(run: Callable[[], object]) -> float:
    """Return the duration of a call in seconds."""
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


# Many prototypes. Each step returns its seconds.

M, C = 100_000, 10_000


def build(folder: Path) -> list[float]:
    """Fit 10,000 classes of one text each, and add the other prototypes."""
    X, y = make_texts(M, C)
    clf = ProtoLMClassifier(
        make_encoder(folder / "encoder", 384),
        finetune="head",
        max_epochs=1,
        batch_size=64,
        random_state=SEED,
    )
    seconds = [
        timed(lambda: clf.fit(X[:C], y[:C])),
        timed(lambda: clf.add_prototypes(X[C:], y[C:])),
    ]
    joblib.dump(clf, folder / "model.joblib")
    return [sum(seconds)]


def predict(folder: Path) -> list[float]:
    """Predict 1,000 texts with a loaded model."""
    clf = joblib.load(folder / "model.joblib")
    X, _ = make_texts(1000, C, seed=1)
    return [timed(lambda: clf.predict_proba(X))]


def explain(folder: Path) -> list[float]:
    """Explain 1,000 texts, and read what each explanation lists."""
    clf = joblib.load(folder / "model.joblib")
    X, _ = make_texts(1000, C, seed=1)
    return [timed(lambda: [e.prototypes for e in clf.explain(X, top_k=5)])]


def edit(folder: Path) -> list[float]:
    """Remove, relabel and prune prototypes, and undo it all."""
    clf = joblib.load(folder / "model.joblib")

    def edits() -> None:
        clf.remove_prototypes([M - 1]).relabel_prototypes({0: clf.classes_[1]})
        clf.prune_prototypes(min_usage=1)
        while clf.edits_[-1]["action"] != "add":
            clf.undo_edit()

    return [timed(edits)]


def report(folder: Path) -> list[float]:
    """Write a report on 1,000 texts."""
    clf = joblib.load(folder / "model.joblib")
    X, y = make_texts(1000, C, seed=1)
    return [timed(lambda: clf.report(X, y, folder / "report.html"))]


def fit_many(folder: Path) -> list[float]:
    """Fit 2,000 classes of ten texts, which all become prototypes."""
    X, y = make_texts(20_000, 2000)
    clf = ProtoLMClassifier(
        make_encoder(folder / "narrow", 64),
        finetune="head",
        n_prototypes=10,
        max_epochs=1,
        batch_size=256,
        random_state=SEED,
    )
    return [timed(lambda: clf.fit(X, y))]


# Time of fits.


def slope(folder: Path) -> list[float]:
    """Return the exponent of the time of a fit by the number of its texts."""
    backbone, sizes = make_encoder(folder / "tiny", 32), [1000, 2000, 4000, 8000, 16000]
    clf = ProtoLMClassifier(backbone, max_epochs=1, random_state=SEED)
    seconds = [
        min(timed(partial(clf.fit, *make_texts(n, 4))) for _ in range(2)) for n in sizes
    ]
    return [float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0]), *seconds]


def prototypes(folder: Path) -> list[float]:
    """Return the ratio of the times of fits with 1,000 and with 10 prototypes."""
    X, y = make_texts(4000, 2)
    backbone = make_encoder(folder / "wide", 384)
    few, many = (
        ProtoLMClassifier(backbone, n_prototypes=n, max_epochs=3, random_state=SEED)
        for n in (5, 500)
    )
    ratios = []
    for _ in range(3):
        seconds = timed(lambda: few.fit(X, y))
        ratios.append(timed(lambda: many.fit(X, y)) / seconds)
    return [float(np.median(ratios)), *ratios]


# Memory that stays.


def repeated_fits(folder: Path) -> list[float]:
    """Return the growth of memory over 30 fits, after the first ten."""
    X, y = make_texts(300, 4)
    backbone = make_encoder(folder / "small", 64)
    used = []
    for seed in range(30):
        ProtoLMClassifier(backbone, max_epochs=1, random_state=seed).fit(X, y)
        used.append(memory())
    return [max(used[10:]) / used[9] - 1, used[9], used[-1]]


def growth(results: Iterator[object], n: int) -> list[float]:
    """Return the growth of memory over n results, after the first tenth of them."""
    used = []
    for _ in range(10):
        for _ in islice(results, n // 10):
            pass
        used.append(memory())
    return [max(used) / used[0] - 1, used[0], used[-1]]


def small_model(folder: Path) -> ProtoLMClassifier:
    """Fit a classifier with a tiny encoder."""
    backbone = make_encoder(folder / "stream", 32)
    clf = ProtoLMClassifier(backbone, max_epochs=1, batch_size=256, random_state=SEED)
    return clf.fit(*make_texts(2000, 4))


def predicted_stream(folder: Path) -> list[float]:
    """Return the growth of memory over a million predicted texts."""
    return growth(small_model(folder).iter_predict(stream(10**6, 4)), 10**6)


def explained_stream(folder: Path) -> list[float]:
    """Return the growth of memory over 20,000 explained texts."""
    explained = small_model(folder).iter_explain(stream(20_000, 4), top_k=5)
    return growth((e.prototypes for e in explained), 20_000)


STEPS: dict[str, dict[str, Callable[[Path], list[float]]]] = {
    f"{M:,} prototypes of {C:,} classes, width 384": {
        "fit on 10,000 texts, and add 90,000": build,
        "`predict_proba` of 1,000 texts": predict,
        "`explain(top_k=5)` of 1,000 texts, and read": explain,
        "remove, relabel, prune, undo": edit,
        "`report` on 1,000 texts": report,
        "fit with 20,000 prototypes of 2,000 classes, width 64": fit_many,
    },
    "time of a fit": {
        "exponent from 1,000 to 16,000 texts": slope,
        "1,000 prototypes / 10": prototypes,
    },
    "growth of memory": {
        "30 fits": repeated_fits,
        "1,000,000 texts through `iter_predict`": predicted_stream,
        "20,000 texts through `iter_explain`": explained_stream,
    },
}
TARGETS: dict[Callable[[Path], list[float]], str] = {
    predict: "< 2 GB",
    slope: "≤ 1.05",
    prototypes: "≤ 1.05",
    repeated_fits: "± 5 %",
    predicted_stream: "± 5 %",
    explained_stream: "± 5 %",
}


def run(step: Callable[[Path], list[float]], folder: Path) -> tuple[list[float], float]:
    """Run a step in another process; return its numbers and its peak memory in GB."""
    command = [sys.executable, __file__, "--step", step.__name__]
    command += ["--folder", str(folder)]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    *numbers, peak = map(float, output.split())
    return numbers, peak


def run_step(name: str, folder: Path) -> None:
    """Run a step in this process, and print its numbers and peak memory."""
    warnings.simplefilter("ignore")
    transformers.utils.logging.disable_progress_bar()
    [step] = [
        s for steps in STEPS.values() for s in steps.values() if s.__name__ == name
    ]
    numbers = step(folder)
    peak = getrusage(RUSAGE_SELF).ru_maxrss * 1024 / GIGABYTE
    print(*(f"{number:.4f}" for number in [*numbers, peak]))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--step", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.step:
        run_step(arguments.step, arguments.folder)
        return
    print(f"{provenance()} Seed {SEED}, {torch.get_num_threads()} threads.\n")
    with tempfile.TemporaryDirectory() as folder:
        for title, steps in STEPS.items():
            table(title, ["result", "target", "peak memory, GB", "all"])
            for name, step in steps.items():
                (first, *others), peak = run(step, Path(folder))
                shown = f"{100 * first:+.1f} %" if "growth" in title else f"{first:.2f}"
                unit = " s" if "classes" in title else ""
                more = ", ".join(f"{number:.2f}" for number in others)
                target = TARGETS.get(step, "")
                print(f"| {name} | {shown}{unit} | {target} | {peak:.2f} | {more} |")
            print(flush=True)


if __name__ == "__main__":
    main()
