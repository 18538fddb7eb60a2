from __future__ import annotations

import hashlib
import subprocess
import sys
import warnings
from collections import Counter
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import datasets
import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from transformers import PreTrainedTokenizerFast

from squish_pl.data import DocumentDataModule, cut_to_tokens
from squish_pl.data.filters import document_id
from squish_pl.data.sources import open_source
from squish_pl.errors import ConfigError, DataError
from squish_pl.types import DocumentBatch

Write = Callable[[str, list[str]], Path]
Corpus = tuple[str, list[str]]


def texts(loader: Any, batches: int | None = None) -> list[list[str]]:
    return [[document.text for document in batch.documents] for batch in islice(loader, batches)]


def flat(loader: Any, batches: int | None = None) -> list[str]:
    return [text for batch in texts(loader, batches) for text in batch]


class Recorder(LightningModule):
    """Notes the documents of every step; `tokenizer` is what the real module has once its model is loaded."""

    def __init__(self, tokenizer: Any = None) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.tokenizer = tokenizer
        self.trained: list[list[str]] = []
        self.validated: list[list[str]] = []

    def training_step(self, batch: DocumentBatch, batch_idx: int) -> torch.Tensor:
        self.trained.append([document.id for document in batch.documents])
        return self.weight**2

    def validation_step(self, batch: DocumentBatch, batch_idx: int) -> None:
        self.validated.append([document.text for document in batch.documents])

    def predict_step(self, batch: DocumentBatch, batch_idx: int) -> list[str]:
        return [document.text for document in batch.documents]

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


@pytest.fixture
def trainer(tmp_path: Path) -> Callable[..., Trainer]:
    def make(**options: Any) -> Trainer:
        return Trainer(
            accelerator="cpu",
            devices=1,
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=tmp_path,
            **{"enable_checkpointing": False, **options},
        )

    return make


def test_samples_need_no_settings() -> None:
    data = DocumentDataModule()
    assert Counter(flat(data.train_dataloader(), 15)) == Counter(
        [record["text"] for record in open_source("samples")] * 4
    )
    batches = texts(data.val_dataloader())
    assert batches == [[record["text"] for record in open_source("samples", "validation")][:8]]


def test_validation_and_prediction_come_in_order_and_end_with_a_smaller_batch(corpus: Corpus, write: Write) -> None:
    spec, all_texts = corpus
    validation = [f"validation text {number}" for number in (1, 1, 2, 3, 4)] + ["short"]
    path = write("validation.jsonl", validation)
    data = DocumentDataModule(
        spec, str(path), min_characters=10, validation_size=20, validation_batch_size=3, max_characters=60
    )
    numbers = [f"validation text {number}" for number in (1, 2, 3, 4)]  # each once, the short one not
    assert texts(data.val_dataloader()) == texts(data.val_dataloader()) == [numbers[:3], numbers[3:]]
    assert [batch.position for batch in data.val_dataloader()] == [{}, {}]
    predicted = texts(data.predict_dataloader())
    assert [len(batch) for batch in predicted] == [3] * 8 + [1]
    assert [text for batch in predicted for text in batch] == all_texts


def test_documents_are_cut_but_keep_their_ids(corpus: Corpus, byte_tokenizer: PreTrainedTokenizerFast) -> None:
    spec, all_texts = corpus
    data = DocumentDataModule(spec, max_tokens=20, holdout_share=0.3, tokenizer=byte_tokenizer, validation_size=3)
    cut = {document_id(text): cut_to_tokens(text, byte_tokenizer, 20) for text in all_texts}
    assert all(len(text) <= 20 for text in cut.values())
    for loader in (islice(data.train_dataloader(), 5), data.val_dataloader(), data.predict_dataloader()):
        documents = [document for batch in loader for document in batch.documents]
        assert documents
        assert all(cut[document.id] == document.text for document in documents)


def test_a_token_limit_needs_a_tokenizer(corpus: Corpus) -> None:
    with pytest.raises(DataError, match=r"max_tokens=5 needs a tokenizer"):
        DocumentDataModule(corpus[0], max_tokens=5, holdout_share=0.5).val_dataloader()


@pytest.mark.parametrize("validation_size", [2, 100])
def test_held_out_documents_are_never_trained_on(validation_size: int, corpus: Corpus) -> None:
    spec, all_texts = corpus
    side = [text for text in all_texts if int(document_id(text), 16) < 0.2 * 2**64]
    assert len(side) > 2
    data = DocumentDataModule(spec, batch_size=1, holdout_share=0.2, validation_size=validation_size, shuffle_window=4)
    assert flat(data.val_dataloader()) == side[:validation_size]
    trained = Counter(flat(data.train_dataloader(), 3 * (25 - len(side))))
    assert trained == Counter({text: 3 for text in all_texts if text not in side})


def test_documents_named_for_validation_are_never_trained_on(corpus: Corpus, write: Write) -> None:
    spec, all_texts = corpus
    path = write("validation.jsonl", [*all_texts[5:8], "another", *all_texts[20:]])
    data = DocumentDataModule(spec, str(path), batch_size=1, validation_size=5)
    assert flat(data.val_dataloader()) == [*all_texts[5:8], "another", all_texts[20]]
    trained = Counter(flat(data.train_dataloader(), 3 * 21))
    assert trained == Counter({text: 3 for text in all_texts if text not in [*all_texts[5:8], all_texts[20]]})


def test_hub_validation_is_its_validation_split(corpus: Corpus, write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    validation = write("validation.jsonl", [*corpus[1][:2], "a third"])
    spec = {"train": corpus[0], "validation": str(validation)}
    monkeypatch.setattr(datasets, "load_dataset", lambda *args, split, **kwargs: open_source(spec[split]))
    data = DocumentDataModule("hub://allenai/c4/realnewslike", batch_size=23)
    assert flat(data.val_dataloader()) == [*corpus[1][:2], "a third"]
    assert sorted(flat(data.train_dataloader(), 1)) == sorted(corpus[1][2:])


def test_no_document_to_validate_with(write: Write) -> None:
    path = str(write("a.jsonl", ["one text"]))
    with pytest.raises(DataError, match=r"min_characters=9.*Name other documents"):
        DocumentDataModule(path, path, min_characters=9).setup("fit")


def test_a_handful_of_documents_gives_one_to_validation_and_the_rest_to_training(write: Write) -> None:
    texts = [f"text number {i}" for i in range(5)]
    data = DocumentDataModule(str(write("a.jsonl", texts)), batch_size=1, holdout_share=1e-9, shuffle_window=0)
    lowest = min(texts, key=lambda text: hashlib.sha256(text.encode()).hexdigest())
    assert flat(data.val_dataloader()) == [lowest]
    assert flat(data.train_dataloader(), 8) == [text for text in texts if text != lowest] * 2


def test_all_problems_of_the_settings_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        DocumentDataModule(
            str(tmp_path / "no.jsonl"), "hub://c4", batch_size=0, min_characters=5, max_characters=4, max_tokens=0,
            shuffle_window=-1, validation_size=0, validation_batch_size=0, holdout_share=1.0, num_workers=-1,
        )  # fmt: skip
    names = [problem.split(":")[0].removeprefix("data.") for problem in caught.value.problems]
    assert sorted(names) == sorted(
        ["documents", "validation_documents", "batch_size", "min_characters", "max_tokens", "shuffle_window",
         "validation_size", "validation_batch_size", "holdout_share", "num_workers"]
    )  # fmt: skip
    assert "  - data.batch_size: expected at least 1, but got 0" in str(caught.value)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("steps", [1, 3, 7, 12])
def test_fit_resumed_from_a_checkpoint_equals_uninterrupted(
    steps: int, workers: int, corpus: Corpus, tmp_path: Path, trainer: Callable[..., Trainer]
) -> None:
    def data() -> DocumentDataModule:
        return DocumentDataModule(
            corpus[0], batch_size=4, holdout_share=0.2, shuffle_window=6, num_workers=workers, validation_size=2
        )

    whole = Recorder()
    trainer(max_steps=14, val_check_interval=3, check_val_every_n_epoch=None).fit(whole, data())
    first, second, path = Recorder(), Recorder(), tmp_path / "run.ckpt"
    started = trainer(max_steps=steps, val_check_interval=3, check_val_every_n_epoch=None)
    started.fit(first, data())
    started.save_checkpoint(path)
    trainer(max_steps=14, val_check_interval=3, check_val_every_n_epoch=None).fit(second, data(), ckpt_path=path)
    assert len(whole.trained) == 14
    assert first.trained == whole.trained[:steps]
    assert second.trained == whole.trained[steps:]
    assert len({tuple(batch) for batch in map(tuple, whole.validated)}) == 1


def test_epochs_of_the_trainer_go_on_with_the_documents(
    corpus: Corpus, tmp_path: Path, trainer: Callable[..., Trainer]
) -> None:
    """With a limit on the batches, Lightning starts a new iteration of the loader for every one of its epochs."""

    def data() -> DocumentDataModule:
        return DocumentDataModule(corpus[0], batch_size=4, holdout_share=0.2, shuffle_window=6)

    whole, limited, resumed = Recorder(), Recorder(), Recorder()
    trainer(max_steps=12).fit(whole, data())
    saved = ModelCheckpoint(tmp_path / "epochs", filename="{epoch}", save_top_k=-1)
    options = {"max_epochs": 4, "limit_train_batches": 3, "callbacks": [saved], "enable_checkpointing": True}
    trainer(**options).fit(limited, data())
    assert limited.trained == whole.trained
    trainer(**options).fit(resumed, data(), ckpt_path=tmp_path / "epochs" / "epoch=1.ckpt")
    assert resumed.trained == whole.trained[6:]


def test_checkpoint_in_the_middle_of_an_epoch(corpus: Corpus, tmp_path: Path, trainer: Callable[..., Trainer]) -> None:
    def data() -> DocumentDataModule:
        return DocumentDataModule(corpus[0], batch_size=3, holdout_share=0.2)

    whole, resumed = Recorder(), Recorder()
    saved = ModelCheckpoint(tmp_path / "steps", filename="{step}", every_n_train_steps=2, save_top_k=-1)
    trainer(max_steps=9, callbacks=[saved], enable_checkpointing=True).fit(whole, data())
    path = tmp_path / "steps" / "step=4.ckpt"
    state = torch.load(path, weights_only=True)["DocumentDataModule"]
    assert state["batches"] == 4
    assert set(state["position"]) == {"0"}
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*dataloader is not resumable")
        trainer(max_steps=9, limit_train_batches=5).fit(resumed, data(), ckpt_path=path)
    assert resumed.trained == whole.trained[4:]


def test_resuming_under_other_settings_is_refused(corpus: Corpus, write: Write) -> None:
    state = DocumentDataModule(corpus[0], batch_size=4, holdout_share=0.2).state_dict()
    same = DocumentDataModule(corpus[0], batch_size=4, holdout_share=0.2, max_tokens=None, validation_size=3)
    same.load_state_dict(state)
    same.train_dataloader()
    other = DocumentDataModule(corpus[0], batch_size=2, holdout_share=0.2, seed=1)
    other.load_state_dict(state)  # not an error yet: a prediction with other documents restores it, too
    with pytest.raises(DataError, match=r"batch_size was 4 and is 2; seed was 0 and is 1\. Resume with"):
        other.train_dataloader()
    assert flat(other.predict_dataloader()) == corpus[1]


def test_predict_and_validate_under_a_trainer(
    corpus: Corpus, tmp_path: Path, trainer: Callable[..., Trainer], byte_tokenizer: PreTrainedTokenizerFast
) -> None:
    path = tmp_path / "run.ckpt"
    fitted = trainer(max_steps=2)
    fitted.fit(Recorder(), DocumentDataModule(corpus[0], holdout_share=0.2))
    fitted.save_checkpoint(path)
    model = Recorder(byte_tokenizer)  # the tokenizer of the module counts
    data = DocumentDataModule("samples", max_tokens=30, validation_batch_size=4)
    predicted = trainer().predict(model, data, ckpt_path=path)
    expected = [cut_to_tokens(record["text"], byte_tokenizer, 30) for record in open_source("samples")]
    assert [text for batch in predicted or [] for text in batch] == expected
    trainer().validate(model, data, ckpt_path=path, verbose=False)
    articles = [record["text"] for record in open_source("samples", "validation")][:8]
    cut = [cut_to_tokens(text, byte_tokenizer, 30) for text in articles]
    assert model.validated == [cut[:4], cut[4:]]


def test_importing_the_package_is_light() -> None:
    code = (
        "import sys, squish_pl; before = set(sys.modules); import squish_pl.data; "
        "print({'lightning', 'datasets', 'transformers'} & (set(sys.modules) - before))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_prediction_does_not_read_a_whole_hub_dataset() -> None:
    with pytest.raises(DataError, match=r"whole dataset.*--data\.documents"):
        DocumentDataModule("hub://allenai/c4/realnewslike").predict_dataloader()
