"""Triplets from inference pairs, as bertin-roberta-base-finetuning-esnli was trained on them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from embedsweep.data.convert import is_inference, triplets

PAIRS = [
    ("A man sleeps. ", "A person sleeps.", "entailment"),
    ("A man sleeps.", " A man runs.", "contradiction"),
    ("A man sleeps.", "A man dreams.", "neutral"),
    ("A woman eats.", "A person eats.", "entailment"),
    ("A dog barks.", "A dog is silent.", "contradiction"),
    # The other direction: "A person sings." is entailed by one and contradicts another.
    ("A girl sings.", "A person sings.", "entailment"),
    ("Nobody sings.", "A person sings.", "contradiction"),
]

IN_A_PROCESS = """
from embedsweep.data.convert import triplets
words = "entailment contradiction neutral".split()
pairs = [(f"s{i % 7}", f"t{i}", words[i % 3]) for i in range(90)]
print(triplets(pairs, 42))
"""


def test_each_sentence_with_both_gives_two_triplets() -> None:
    assert triplets(PAIRS, seed=0) == [
        ("A man sleeps.", "A person sleeps.", "A man runs."),
        ("A person sleeps.", "A man sleeps.", "A man runs."),
        ("A person sings.", "A girl sings.", "Nobody sings."),
        ("A girl sings.", "A person sings.", "Nobody sings."),
    ]


def test_what_is_drawn_holds_and_depends_on_the_seed() -> None:
    entailed, contradicted = [f"e{i}" for i in range(20)], [f"c{i}" for i in range(20)]
    pairs = [("s", e, "entailment") for e in entailed] + [("s", c, "contradiction") for c in contradicted]
    seen = set()
    for seed in range(10):
        first, second = triplets(pairs, seed)
        assert (first[0], second[1]) == ("s", "s")
        assert {first[1], second[0]} <= set(entailed)
        assert {first[2], second[2]} <= set(contradicted)
        seen.add((first, second))
    assert len(seen) == 10


def test_every_process_builds_the_same() -> None:
    outputs = {
        subprocess.run(
            [sys.executable, "-c", IN_A_PROCESS],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(outputs) == 1
    assert "('s0'," in outputs.pop()


@pytest.mark.parametrize("seed", [0, 42])
def test_the_spanish_rows_of_esxnli_give_1660_triplets(shared_data: Path, seed: int) -> None:
    lines = (shared_data / "esxnli" / "esxnli.tsv").read_text(encoding="utf-8").splitlines()
    header, *rows = (line.split("\t") for line in lines)
    table = [dict(zip(header, row, strict=True)) for row in rows]
    spanish = [(r["sentence1"], r["sentence2"], r["gold_label"]) for r in table if r["language"] == "es"]
    assert len(spanish) == 2490
    found = triplets(spanish, seed)
    assert len(found) == 1660
    assert len({triplet[0] for triplet in found}) == 1660
    entails = {frozenset((a.strip(), b.strip())) for a, b, relation in spanish if relation == "entailment"}
    assert all(frozenset((anchor, positive)) in entails for anchor, positive, _ in found)


@pytest.mark.parametrize(
    ("classes", "expected"),
    [
        (("contradiction", "entailment", "neutral"), True),
        (("entailment", "contradiction"), True),
        (("entailment", "neutral"), False),
        (("-", "contradiction", "entailment", "neutral"), False),
        (("0", "1", "2"), False),
    ],
)
def test_inference_is_known_by_its_classes(classes: tuple[str, ...], expected: bool) -> None:
    assert is_inference(classes) is expected
