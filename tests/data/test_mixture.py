"""Several sources: their shares, their order, and that a resumed run goes on as if it had never stopped."""

from __future__ import annotations

import io
import json
import math
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import islice, repeat
from pathlib import Path
from typing import Any

import datasets
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lightning.pytorch import LightningModule, Trainer
from property_settings import few_examples

from squish_pl.data import DocumentDataModule
from squish_pl.data.filters import Selection, document_id
from squish_pl.data.mixture import MixedStream
from squish_pl.data.settings import DocumentSource
from squish_pl.data.sources import open_source
from squish_pl.data.stream import DocumentStream, Progress, StreamLoader
from squish_pl.data.validation import quotas
from squish_pl.errors import ConfigError, DataError
from squish_pl.types import Document, DocumentBatch

Write = Callable[[str, list[str]], Path]


@pytest.fixture
def specs(write: Write) -> dict[str, str]:
    """Two sources of 5 and 11 documents."""
    return {
        "few": str(write("few.jsonl", [f"few {number}" for number in range(5)])),
        "many": str(write("many.jsonl", [f"many {number}" for number in range(11)])),
    }


def mixed(specs: dict[str, str], window: int = 3, seed: int = 0, few: float = 1.0, **settings: Any) -> MixedStream:
    streams = {
        name: DocumentStream(open_source(spec), name, shuffle_window=window, seed=seed) for name, spec in specs.items()
    }
    return MixedStream(streams, {"few": few, "many": 3.0}, seed, **{"batch_size": 4, **settings})


def take(stream: MixedStream, batches: int, workers: int = 0) -> list[DocumentBatch]:
    return list(islice(iter(StreamLoader(stream, workers)), batches))


def seen(batches: list[DocumentBatch]) -> list[Any]:
    return [([(d.text, d.source) for d in batch.documents], batch.position) for batch in batches]


def stored(progress: Progress) -> Progress:
    """As a checkpoint gives it back: nothing but plain values gets through."""
    file = io.BytesIO()
    torch.save(vars(progress), file)
    return Progress(**torch.load(io.BytesIO(file.getvalue()), weights_only=True))


def test_documents_are_drawn_in_proportion_to_the_weights(specs: dict[str, str]) -> None:
    (batch,) = take(mixed(specs, batch_size=4000), 1)
    drawn = Counter(document.source for document in batch.documents)
    assert drawn == batch.position["0"]["drawn"]
    deviation = math.sqrt(4000 * 0.25 * 0.75)
    assert abs(drawn["few"] - 1000) < 4 * deviation
    assert all(document.text.startswith(f"{document.source} ") for document in batch.documents)


class Endless(DocumentStream):
    """The same document for ever."""

    def documents(self, shard: int, shards: int, position: Any = None) -> Iterator[tuple[Document, Any]]:
        return repeat((Document("a text"), {}))


@few_examples(20)
@given(few=st.floats(0.01, 100), seed=st.integers(0, 1000), shard=st.integers(0, 3))
def test_any_weights(few: float, seed: int, shard: int) -> None:
    streams = {name: Endless(open_source("samples")) for name in ("few", "many")}
    stream = MixedStream(streams, {"few": few, "many": 3.0}, seed)
    drawn = Counter(document.source for document, _ in islice(stream.documents(shard, 4), 2000))
    share = few / (few + 3)
    assert abs(drawn["few"] - 2000 * share) <= 6 * math.sqrt(2000 * share * (1 - share)) + 1


def test_the_order_depends_on_the_seed_alone(specs: dict[str, str]) -> None:
    first, again, other = (seen(take(mixed(specs, seed=seed), 12)) for seed in (1, 1, 2))
    assert first == again
    assert [[source for _, source in texts] for texts, _ in first] != [[s for _, s in texts] for texts, _ in other]


def test_each_source_goes_on_in_its_own_order_and_starts_again(specs: dict[str, str]) -> None:
    whole = [document for batch in take(mixed(specs), 40) for document in batch.documents]
    for name, spec in specs.items():
        own = [document.text for document in whole if document.source == name]
        alone = take(DocumentStream(open_source(spec), shuffle_window=3, batch_size=len(own)), 1)  # type: ignore[arg-type]
        assert own == [document.text for document in alone[0].documents]
        assert len(own) > 2 * len(set(own))  # it ended and began again


@pytest.mark.parametrize("window", [1, 3, 256])
@pytest.mark.parametrize("workers", [0, 2])
def test_resumed_equals_uninterrupted(workers: int, window: int, specs: dict[str, str]) -> None:
    whole = take(mixed(specs, window), 24, workers)
    assert {shard for batch in whole for shard in batch.position} == {str(n) for n in range(max(1, workers))}
    for stop in range(1, 24) if not workers else (1, 2, 9, 16):
        progress = Progress()
        for batch in whole[:stop]:
            progress.advance(batch)
        again = take(mixed(specs, window, progress=stored(progress)), 24 - stop, workers)
        assert seen(again) == seen(whole[stop:])


def test_shards_give_different_documents_of_every_source(specs: dict[str, str]) -> None:
    found: list[set[str]] = []
    for rank in range(2):
        batches = take(mixed(specs, rank=rank, world_size=2), 20)
        found.append({document.text for batch in batches for document in batch.documents})
    assert not found[0] & found[1]
    assert len(found[0] | found[1]) == 16


def test_a_source_without_documents_is_named(specs: dict[str, str]) -> None:
    streams = {
        name: DocumentStream(open_source(spec), f"{name} ({spec})", selection=Selection(7 if name == "few" else 0))
        for name, spec in specs.items()
    }
    with pytest.raises(DataError, match=r"^few \(.*few\.jsonl\) gave no document to train on: 5 records were read"):
        take(MixedStream(streams, {"few": 1.0, "many": 1.0}), 9)


@pytest.mark.parametrize(
    ("weights", "size", "expected"),
    [
        ([1], 3, [3]),
        ([1, 1], 5, [3, 2]),
        ([1, 3], 4, [1, 3]),
        ([3, 1], 4, [3, 1]),
        ([1, 100], 3, [0, 3]),
        ([2, 1, 1], 6, [3, 2, 1]),
        ([0.5, 0.5], 1, [1, 0]),
    ],
)
def test_parts_of_a_validation_by_hand(weights: list[float], size: int, expected: list[int]) -> None:
    # [2, 1, 1]: a at 1/4, b and c at 1/2, a at 3/4 and 5/4, b at 3/2 as the first among equals
    assert quotas(weights, size) == expected


class Recorder(LightningModule):
    """Notes the documents and figures of every step."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.trained: list[Any] = []

    def training_step(self, batch: DocumentBatch, batch_idx: int) -> torch.Tensor:
        self.trained.append(([(d.text, d.source) for d in batch.documents], self.trainer.datamodule.figures))
        return self.weight**2

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def fit(data: DocumentDataModule, steps: int, folder: Path, **settings: Any) -> tuple[list[Any], Trainer]:
    trainer = Trainer(
        accelerator="cpu", devices=1, logger=False, enable_progress_bar=False, enable_model_summary=False,
        enable_checkpointing=False, limit_val_batches=0, default_root_dir=folder, max_steps=steps,
    )  # fmt: skip
    model = Recorder()
    trainer.fit(model, data, **settings)
    return model.trained, trainer


@pytest.fixture
def rough(tmp_path: Path) -> list[DocumentSource]:
    """Two sources: 20 texts, and 6 chats with 2 records among them that cannot be read."""
    texts = [{"body": f"text {number} of the first"} for number in range(20)]
    (tmp_path / "texts.jsonl").write_text("".join(json.dumps(record) + "\n" for record in texts))
    chats: list[Any] = [{"messages": [{"role": "user", "content": f"chat {number}"}]} for number in range(6)]
    lines = [*map(json.dumps, chats[:2]), "no json", *map(json.dumps, chats[2:]), '{"messages": []}']
    (tmp_path / "chats.jsonl").write_text("\n".join(lines))
    return [
        DocumentSource(str(tmp_path / "texts.jsonl"), weight=2.0, text_field="body"),
        DocumentSource(str(tmp_path / "chats.jsonl"), name="talk", budgets=["40 tokens", "10% bytes"]),
    ]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_resumed_fit_equals_an_uninterrupted_one(workers: int, rough: list[DocumentSource], tmp_path: Path) -> None:
    def data() -> DocumentDataModule:
        return DocumentDataModule(
            rough, batch_size=3, shuffle_window=4, num_workers=workers, max_bad_share=1.0, validation_size=2
        )

    whole, _ = fit(data(), 24, tmp_path)
    first, trainer = fit(data(), 7, tmp_path)
    trainer.save_checkpoint(tmp_path / "run.ckpt")
    second, _ = fit(data(), 24, tmp_path, ckpt_path=tmp_path / "run.ckpt")
    assert first + second == whole
    sources = [source for texts, _ in whole for _, source in texts]
    figures = whole[-1][1]
    assert figures["data/share/texts"] == pytest.approx(sources.count("texts") / 72)
    assert figures["data/share/talk"] == pytest.approx(sources.count("talk") / 72)
    assert figures["data/skipped"] == figures["data/skipped/talk"] > 2  # some times through
    assert figures["data/skipped/texts"] == 0
    assert set(figures) == {"data/skipped"} | {f"data/{k}/{n}" for k in ("share", "skipped") for n in ("texts", "talk")}


def test_validation_takes_from_each_source_what_training_does_not_see(rough: list[DocumentSource]) -> None:
    data = DocumentDataModule(rough, batch_size=40, validation_size=3, holdout_share=0.4, max_bad_share=1.0)
    (batch,) = data.val_dataloader()
    assert [document.source for document in batch.documents] == ["texts", "texts", "talk"]
    held = {document.id for document in batch.documents}
    (trained,) = islice(iter(data.train_dataloader()), 1)
    ids = {document.id for document in trained.documents}
    assert not ids & held
    assert all(int(id, 16) >= 0.4 * 2**64 for id in ids)
    every = {document_id(f"text {n} of the first") for n in range(20)} | {
        document_id(f"user: chat {n}") for n in range(6)
    }
    assert ids == {id for id in every if int(id, 16) >= 0.4 * 2**64}


def test_prediction_goes_over_every_source_in_turn(rough: list[DocumentSource]) -> None:
    data = DocumentDataModule(rough, max_bad_share=1.0)
    documents = [document for batch in data.predict_dataloader() for document in batch.documents]
    assert [d.text for d in documents] == [f"text {n} of the first" for n in range(20)] + [
        f"user: chat {n}" for n in range(6)
    ]
    assert [d.source for d in documents] == ["texts"] * 20 + ["talk"] * 6


def test_what_others_ask_of_the_documents(rough: list[DocumentSource]) -> None:
    data = DocumentDataModule(rough)
    assert data.budgets == {"talk": ["40 tokens", "10% bytes"]}
    assert data.title == f"{rough[0].documents} x 2, talk ({rough[1].documents}) x 1 (40 tokens, 10% bytes)"
    single = DocumentDataModule("samples")
    assert (single.budgets, single.title, single.figures) == ({}, "samples", {"data/skipped": 0.0})


def test_a_checkpoint_of_other_weights_is_refused_and_of_other_budgets_is_not(rough: list[DocumentSource]) -> None:
    state = DocumentDataModule(rough).state_dict()
    first, second = rough
    again = DocumentDataModule([first, DocumentSource(second.documents, name="talk", budgets=["9 tokens"])])
    again.load_state_dict(state)
    again.train_dataloader()
    other = DocumentDataModule([first, DocumentSource(second.documents, name="talk", weight=3.0)])
    other.load_state_dict(state)
    with pytest.raises(DataError, match=r"documents was \[.*'weight': 1\.0.* and is \[.*'weight': 3\.0"):
        other.train_dataloader()


def test_limits_on_the_length_of_one_source(write: Write) -> None:
    path = str(write("a.jsonl", ["short", "a longer text", "the very longest of all these texts"]))
    sources = [
        DocumentSource(path, name="own", min_characters=10, max_characters=20),
        DocumentSource(path, name="common"),
    ]
    validation = str(write("v.jsonl", ["another text"]))
    data = DocumentDataModule(sources, validation, max_characters=13, batch_size=60)
    (batch,) = islice(iter(data.train_dataloader()), 1)
    found = {name: {d.text for d in batch.documents if d.source == name} for name in ("own", "common")}
    assert found == {"own": {"a longer text"}, "common": {"short", "a longer text"}}


def test_hub_folder_glob_file_and_samples_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_lines(tmp_path / "hub.jsonl", [{"conversations": [{"from": "gpt", "value": f"h{n}"}]} for n in range(8)])
    (tmp_path / "notes").mkdir()
    for number in range(3):
        (tmp_path / "notes" / f"{number}.txt").write_text(f"n{number}")
    for number in range(2):
        write_lines(tmp_path / f"part-{number}.jsonl", [{"text": f"p{number}{n}"} for n in range(4)])
    write_lines(tmp_path / "one.jsonl", [{"body": f"o{n}"} for n in range(5)])
    load, hub = datasets.load_dataset, str(tmp_path / "hub.jsonl")

    def loaded(name: str, config: str | None, split: str, streaming: bool) -> Any:
        assert (name, config, streaming) == ("a/b", "c", True)
        return load("json", data_files=hub, split="train", streaming=True)

    monkeypatch.setattr(datasets, "load_dataset", loaded)
    documents = [
        "hub://a/b/c",
        {"documents": str(tmp_path / "notes"), "weight": 2},
        {"documents": str(tmp_path / "part-*.jsonl"), "name": "parts", "max_characters": None},
        {"documents": str(tmp_path / "one.jsonl"), "text_field": "body"},
        {"documents": "samples:german", "weight": 0.5},
    ]

    def trained(progress: dict[str, Any] | None = None, batches: int = 30) -> tuple[list[Any], dict[str, Any]]:
        data = DocumentDataModule(documents, [documents[4]], batch_size=4, shuffle_window=3)
        if progress is not None:
            data.load_state_dict(progress)
        taken = []
        for batch in islice(iter(data.train_dataloader()), batches):
            data.on_after_batch_transfer(batch, 0)
            taken += [(d.source, d.text) for d in batch.documents]
        return taken, data.state_dict()

    whole, _ = trained()
    first, state = trained(batches=11)
    second, _ = trained(json.loads(json.dumps(state)), 19)  # plain values
    assert first + second == whole
    beginnings = {"c": "assistant: h", "notes": "n", "parts": "p", "one": "o", "german": ""}
    assert {source for source, _ in whole} == set(beginnings)
    assert all(text.startswith(beginnings[source]) for source, text in whole)
    numbers = Counter(source for source, _ in whole)
    assert numbers["notes"] > max(numbers["c"], numbers["one"], numbers["parts"]) > numbers["german"]


def write_lines(path: Path, records: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


def test_validation_with_sources_of_its_own(write: Write) -> None:
    own = [str(write(f"{name}.jsonl", [f"{name} {n}" for n in range(9)])) for name in ("a", "b")]
    data = DocumentDataModule("samples", [{"documents": own[0], "weight": 3}, own[1]], validation_size=4)
    (batch,) = data.val_dataloader()
    assert [(d.source, d.text) for d in batch.documents] == [
        ("a", "a 0"), ("a", "a 1"), ("a", "a 2"), ("b", "b 0")
    ]  # fmt: skip
    assert [d.source for d in next(iter(data.train_dataloader())).documents] == [""] * 8


@pytest.mark.parametrize(
    ("documents", "name"),
    [
        ("samples", "samples"),
        ("samples:german", "german"),
        ("hub://allenai/c4/realnewslike", "realnewslike"),
        ("hub://owner/name", "name"),
        ("news/*.json.gz", "news"),
        ("/data/my texts/", "my_texts"),
        ("a.jsonl", "a"),
        ("*.jsonl", "documents"),
    ],
)
def test_names_that_nobody_gave(documents: str, name: str) -> None:
    assert DocumentSource(documents).title == name


def test_all_problems_of_the_sources_at_once(tmp_path: Path) -> None:
    sources = [
        DocumentSource("samples", weight=0),
        DocumentSource("samples", budgets=["10 words"]),
        DocumentSource(str(tmp_path / "no.jsonl"), name="a/b", text_field="", budgets=[]),
        DocumentSource("samples:dutch", name="dutch", min_characters=-1, max_characters=0),
        DocumentSource("samples", name="long", min_characters=50),
        DocumentSource(" ", name="blank", weight=math.inf),
    ]
    with pytest.raises(ConfigError) as caught:
        DocumentDataModule(sources, [], max_characters=40)
    told = [
        problem.removeprefix("data.").split(", but got")[0].split(". Expected")[0] for problem in caught.value.problems
    ]
    assert told == [
        "documents: 2 sources are called 'samples': give each a name of its own",
        "documents (samples): weight: expected a number above 0",
        'documents (samples): budgets: expected a budget such as "10%", "500 chars", "5% tokens", "64 tokens" or '
        '"300 bytes"',
        "documents (a/b): name: expected letters, digits, points, - and _",
        "documents (a/b): text_field: expected the name of a field",
        "documents (a/b): budgets: expected at least one, or leave it out",
        f"documents (a/b): documents: there is no file or folder '{tmp_path}/no.jsonl'",
        "documents (dutch): documents: the package has no samples of the kind 'dutch': expected 'samples' for its "
        "articles, or samples:chinese, samples:german, samples:minutes, samples:spanish, samples:transcripts",
        "documents (dutch): min_characters: expected at least 0",
        "documents (dutch): max_characters: expected at least 1",
        "documents (long): min_characters: expected at most max_characters=40",
        "documents (blank): weight: expected a number above 0",
        "documents (blank): documents: expected documents to read",
        "validation_documents: expected at least one source",
    ]


def test_entries_that_are_no_sources() -> None:
    sources: list[Any] = [
        "samples",
        7,
        {"weight": 2, "colour": "red", "documents": None},
        {"documents": "samples:german", "weight": "2", "budgets": "10%", "min_characters": 1.5, "name": None},
        {"documents": "samples:minutes", "name": "m", "weight": True, "text_field": ["a"]},
        {"documents": "samples:spanish", "weight": -1, "budgets": [5]},
    ]
    with pytest.raises(ConfigError) as caught:
        DocumentDataModule(sources, batch_size=0)
    names = "documents, weight, name, text_field, min_characters, max_characters, budgets"
    assert caught.value.problems == [
        f"data.documents (source 2): expected documents, alone or with {names[11:]}, but got int",
        f"data.documents (source 3): expected some of {names}, but got colour",
        "data.documents (source 3): documents: expected documents to read, but got nothing",
        "data.documents (samples:german): weight: expected a number, but got '2'",
        "data.documents (samples:german): min_characters: expected a whole number, but got 1.5",
        "data.documents (samples:german): budgets: expected a list of budgets, but got '10%'",
        "data.documents (m): weight: expected a number, but got True",
        "data.documents (m): text_field: expected a text, but got ['a']",
        "data.documents (spanish): weight: expected a number above 0, but got -1",
        'data.documents (spanish): budgets: expected a budget such as "10%", "500 chars", "5% tokens", "64 tokens" or '
        "\"300 bytes\", but got '5': say what it counts (%, chars, tokens or bytes)",
        "data.batch_size: expected at least 1, but got 0",
    ]
