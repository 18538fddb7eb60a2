"""Files of ratings in the formats in which they are published, and files that are none."""

from __future__ import annotations

import csv
import gzip
import json
import pickle
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from squish_pl.benchmark.ratings.reading import read_ratings
from squish_pl.errors import DataError


def annotated(**changes: Any) -> dict[str, Any]:
    """A line of SummEval's paired file."""
    experts = [
        {"coherence": 2, "consistency": 5, "fluency": 5, "relevance": 3},
        {"coherence": 1, "consistency": 5, "fluency": 4, "relevance": 4},
        {"coherence": 3, "consistency": 5, "fluency": 3, "relevance": 3},
    ]
    return {
        "id": "dm-test-1",
        "decoded": "a ferry left",
        "expert_annotations": experts,
        "turker_annotations": [{"coherence": 5, "consistency": 1, "fluency": 1, "relevance": 1}],
        "references": ["the ferry"],
        "model_id": "M11",
        "filepath": "cnndm/dailymail/stories/1.story",
        "text": "the ferry left at noon",
    } | changes


def jsonl(path: Path, *lines: dict[str, Any]) -> str:
    path.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    return str(path)


ASPECTS = ("Coherence", "Fluency", "Informativeness", "Relevance")
HEADING = ["ArticleID", "System", "ArticleText", "SystemSummary", "ArticleTitle", *(f"{a}Rating" for a in ASPECTS)]
ARTICLE = "<p>Tom &amp; Ann left.</p><p>It snowed,\nthey say.</p>"


def table(path: Path, *rows: list[str], heading: list[str] = HEADING) -> str:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([heading, *rows])
    return str(path)


def test_summeval_has_the_experts_means(tmp_path: Path) -> None:
    one_expert = [{"coherence": 4, "consistency": 2, "fluency": 1, "relevance": 2}]
    found = read_ratings(
        jsonl(
            tmp_path / "model_annotations.aligned.paired.jsonl",
            annotated(),
            annotated(id="cnn-test-2", text="snow"),
            annotated(model_id="M0", decoded="the ferry", expert_annotations=one_expert),
        )
    )
    assert found.aspects == ["coherence", "consistency", "fluency", "relevance"]
    one, two = found.documents
    assert (one.id, one.text, one.summaries) == ("dm-test-1", "the ferry left at noon", ("a ferry left", "the ferry"))
    assert (one.systems, two.id, two.systems) == (("M11", "M0"), "cnn-test-2", ("M11",))
    assert one.scores[0] == {"coherence": 2, "consistency": 5, "fluency": 4, "relevance": pytest.approx(10 / 3)}
    assert one.scores[1] == {"coherence": 4, "consistency": 2, "fluency": 1, "relevance": 2}


def test_summeval_without_articles_tells_how_to_pair(tmp_path: Path) -> None:
    unpaired = annotated()
    del unpaired["text"]
    with pytest.raises(DataError, match=r"line 1: SummEval's file has no articles .*/pair_data\.py"):
        read_ratings(jsonl(tmp_path / "model_annotations.aligned.jsonl", unpaired))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"decoded": None}, "line 2: expected a string in the field 'decoded', but got nothing"),
        ({"expert_annotations": []}, "line 2: nobody has rated the summary"),
        ({"expert_annotations": [3]}, "line 2: expected a list of annotations"),
        ({"expert_annotations": [{"fluency": "5"}]}, "line 2: expected a number for 'fluency', but got '5'"),
        ({"text": "another"}, "line 2: the document 'dm-test-1' had another text before"),
    ],
)
def test_a_bad_line_of_summeval_is_named(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(DataError) as told:
        read_ratings(jsonl(tmp_path / "r.jsonl", annotated(), annotated(**changes)))
    assert words in str(told.value)


@pytest.mark.parametrize("packed", [False, True])
def test_newsroom_has_the_raters_means(tmp_path: Path, packed: bool) -> None:
    path = Path(
        table(
            tmp_path / "newsroom-human-eval.csv",
            ["7", "textrank", ARTICLE, "Tom &amp; Ann", "Snow", "1", "2", "3", "4"],
            ["8", "textrank", "ice", "ice", "Ice", "5", "5", "5", "5"],
            ["7", "abstractive", ARTICLE, "snow", "Snow", "2", "2", "2", "2"],
            ["7", "textrank", ARTICLE, "Tom &amp; Ann", "Snow", "4", "2", "4", "1"],
            ["7", "textrank", ARTICLE, "Tom &amp; Ann", "Snow", "1", "2", "3", "4"],
        )
    )
    if packed:
        (tmp_path / "n.csv.gz").write_bytes(gzip.compress(path.read_bytes()))
        path = tmp_path / "n.csv.gz"
    one, two = read_ratings(str(path)).documents
    assert (one.id, one.text) == ("7", "Tom & Ann left.\nIt snowed,\nthey say.")
    assert (one.summaries, one.systems) == (("Tom & Ann", "snow"), ("textrank", "abstractive"))
    assert one.scores[0] == {
        "coherence": 2,
        "fluency": 2,
        "informativeness": pytest.approx(10 / 3),
        "relevance": 3,
    }
    assert one.scores[1] == {"coherence": 2, "fluency": 2, "informativeness": 2, "relevance": 2}
    assert (two.id, two.summaries) == ("8", ("ice",))


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (
            ["7", "a", "t", "s", "", "1", "2", "x", "4"],
            "line 3: expected a number in the column 'InformativenessRating'",
        ),
        (["7", "a", "t", "s", "", "1", "2", "3", "nan"], "line 3: expected a number in the column 'RelevanceRating'"),
        (["7", "a", "t", "s"], "line 3: the row ends before the column 'CoherenceRating'"),
        (["7", "a", "t", "z", "", "1", "2", "3", "4"], "line 3: a had another summary of '7' before"),
        (["7", "b", "z", "s", "", "1", "2", "3", "4"], "line 3: the document '7' had another text before"),
        (["8", "b", "<p></p>", "s", "", "1", "2", "3", "4"], "line 3: the text of the document '8' is empty"),
    ],
)
def test_a_bad_row_of_newsroom_is_named(tmp_path: Path, row: list[str], words: str) -> None:
    with pytest.raises(DataError) as told:
        read_ratings(table(tmp_path / "n.csv", ["7", "a", "t", "s", "", "1", "2", "3", "4"], row))
    assert words in str(told.value)


class Trap:
    """Unpickled, it would make a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_pickles_are_never_read(tmp_path: Path, protocol: int) -> None:
    trap = tmp_path / "trap"
    (tmp_path / "abs.pkl").write_bytes(pickle.dumps(Trap(trap), protocol))
    (tmp_path / "abs.pkl.gz").write_bytes(gzip.compress(pickle.dumps(Trap(trap), protocol)))
    for name in ("abs.pkl", "abs.pkl.gz"):
        with pytest.raises(DataError, match=r"is a pickle, as REALSumm's .*docs/meta\.md"):
            read_ratings(str(tmp_path / name))
    assert not trap.exists()
    assert pickle.loads((tmp_path / "abs.pkl").read_bytes()) is None  # the trap works
    assert trap.exists()


def converted(clone: Path, kind: str) -> subprocess.CompletedProcess[str]:
    """Runs the lines that the documentation has for REALSumm."""
    page = (Path(__file__).parents[2] / "docs" / "meta.md").read_text(encoding="utf-8")
    [script] = re.findall("```python\n(.*?)```", page, re.DOTALL)
    return subprocess.run([sys.executable, "-c", script, str(clone), kind], capture_output=True, text=True, timeout=60)


def realsumm(clone: Path, **more: Any) -> Path:
    """A clone with two documents, whose articles stand in another order than they do in the pickles."""
    own = clone / "selected_docs_for_human_eval" / "abs" / "ptr_generator"
    own.mkdir(parents=True)
    (own / "src.txt").write_text("<t> snow fell . </t>\n<t> the ferry left . </t>\n", encoding="utf-8")
    (own / "out_pointer_gen_cov.txt").write_text("<t> snow </t>\n<t> ferry </t>\n", encoding="utf-8")

    def document(id: int, **summaries: tuple[str, Any]) -> dict[str, Any]:
        own = {
            f"{n}.txt": {"system_summary": t, "scores": {"litepyramid_recall": s}} for n, (t, s) in summaries.items()
        }
        return {"doc_id": id, "ref_summ": "", "system_summaries": own}

    system = "ptr_generator_out_pointer_gen_cov"
    numbers = {"out_t5": ("<t> a </t> <t> ferry </t>", np.float64(0.25)), system: ("<t> ferry </t>", 0.5)}
    abstractive = {0: document(0, **numbers), 1: document(1, **{system: ("<t> snow </t>", 1)})}
    (clone / "scores_dicts").mkdir()
    for kind, scores in (("abs", abstractive), ("ext", {1: document(1, bart_out=("<t> snow fell . </t>", 0.75))})):
        (clone / "scores_dicts" / f"{kind}.pkl").write_bytes(pickle.dumps(scores | more))
    return clone


def test_the_documented_lines_convert_realsumm(tmp_path: Path) -> None:
    clone = realsumm(tmp_path)
    (tmp_path / "abs.jsonl").write_text(converted(clone, "abs").stdout, encoding="utf-8")
    (tmp_path / "ext.jsonl").write_text(converted(clone, "ext").stdout, encoding="utf-8")
    one, two = read_ratings(str(tmp_path / "abs.jsonl")).documents
    assert (one.id, one.text, one.summaries) == ("realsumm-0", "the ferry left .", ("a ferry", "ferry"))
    assert one.systems == ("out_t5", "ptr_generator_out_pointer_gen_cov")
    assert one.scores == ({"litepyramid": 0.25}, {"litepyramid": 0.5})
    assert (two.id, two.text, two.scores) == ("realsumm-1", "snow fell .", ({"litepyramid": 1.0},))
    [again] = read_ratings(str(tmp_path / "ext.jsonl")).documents
    assert (again.id, again.text, again.systems) == ("realsumm-1", "snow fell .", ("bart_out",))


def test_the_documented_lines_let_a_pickle_run_nothing(tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    done = converted(realsumm(tmp_path, more=Trap(trap)), "abs")
    assert done.returncode != 0
    assert "is no number" in done.stderr
    assert not trap.exists()


@pytest.mark.parametrize(
    "text",
    ["document,summary\na,b\n", "[1]\n", "the ferry left\n", ",".join(HEADING[:-1]) + "\n"],
    ids=["another table", "a list", "a text", "a column too few"],
)
def test_an_unknown_format_is_told(tmp_path: Path, text: str) -> None:
    (tmp_path / "r.csv").write_text(text)
    with pytest.raises(DataError) as told:
        read_ratings(str(tmp_path / "r.csv"))
    assert 'has a format that is not known: expected JSON lines as {"document"' in str(told.value)
    assert f"but it begins with {text.splitlines()[0][:60]!r}" in str(told.value)


def test_a_heading_alone_is_no_file_of_ratings(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has a heading, but no rated summary"):
        read_ratings(table(tmp_path / "n.csv"))
