"""Several references in training, and an audit that judges."""

import json

import pytest
import torch
from cli_tools import run_cli, tiny_arguments
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny import make_byte_tokenizer, make_tiny_model

from squish_pl import SquishModule
from squish_pl.lm.loading import BaseModel
from squish_pl.policy.adapter import LoraSettings
from squish_pl.policy.backbone import Backbone
from squish_pl.rl.rewards import Squish
from squish_pl.rl.validation import ValidationSettings
from squish_pl.score.ensemble import ReferenceSettings
from squish_pl.score.reference import FrozenModel
from squish_pl.score.scorer import ScoreRequest, SquishScorer
from squish_pl.types import Document

TOO_LONG = "far longer than the document is itself"
REQUESTS = [
    ScoreRequest(Document("The ferry left at dawn with 31 passengers."), ["ferry at dawn", "31", None], "60%"),
    ScoreRequest(
        Document("Snow fell on the pass all night."), ["snow", "", "far longer than the document is itself"], "60%"
    ),
]


def test_an_audit_picks_the_best_and_everybody_is_told(tiny_model_folder, tiny_llama_folder, tmp_path, capsys):
    base = tiny_arguments(tiny_model_folder, tmp_path)
    more = [
        f"--model.reference.others=[{{base: {tiny_llama_folder}}}]",
        "--model.reference.rule=min",
        f"--model.validation.audit.base={tiny_llama_folder}",
    ]
    code, out, err = run_cli(["fit", *base, *more], capsys)
    assert code == 0, err
    told = f"picked by val/audit_squish, measured by {tiny_llama_folder.name}, which gives no reward"
    assert told in out
    events = EventAccumulator(str(next((tmp_path / "runs").rglob("events.out*")).parent))
    events.Reload()
    tags = events.Tags()["scalars"]
    for key in ("val/audit_squish@10%", "val/audit_novel@20 tokens", "val/audit_squish", "val/squish"):
        assert key in tags
    (about,) = events.Tensors("about/text_summary")
    assert told in about.tensor_proto.string_val[0].decode()
    state = torch.load(tmp_path / "run" / "last.ckpt", weights_only=True)
    (kept,) = (value for key, value in state["callbacks"].items() if "AdapterCheckpoint" in key)
    figures = {round_: found["val/audit_squish"] for round_, found in state["squish"]["validations"].items() if round_}
    assert kept["best"] == max(figures.values())
    assert figures[kept["best_round"]] == kept["best"]
    scores = json.loads((tmp_path / "run" / "best" / "squish.json").read_text())["scores"]
    assert scores["val/audit_squish"] == kept["best"]


def test_without_an_audit_it_is_said_that_the_rewarding_model_judges(tiny_model_folder, tmp_path, capsys):
    code, out, _ = run_cli(["fit", *tiny_arguments(tiny_model_folder, tmp_path, rounds=1)], capsys)
    assert code == 0
    assert "picked by val/squish, measured by the model that gives the reward" in out
    assert "model.validation.audit" in out


@pytest.mark.parametrize("rule", ["mean", "min"])
def test_the_reward_is_made_of_all_references_and_no_adapter_moves_any(rule, tiny_llama_folder):
    other = BaseModel(str(tiny_llama_folder))
    module = SquishModule(
        reference=ReferenceSettings([other], rule), validation=ValidationSettings(audit=other), rewards=[Squish()]
    )
    tokenizer = make_byte_tokenizer()
    backbone = Backbone(make_tiny_model("qwen3"), tokenizer, LoraSettings(r=4))
    module.set_backbone(backbone)
    singles = [
        SquishScorer(FrozenModel(model), tokenizer).score_batch(REQUESTS)
        for model in (make_tiny_model("qwen3"), make_tiny_model("llama"))
    ]
    before = module.scorer.score_batch(REQUESTS)
    audited = module.validator.audit.score_batch(REQUESTS)
    for found, one, two in zip(before, *singles, strict=True):
        pair = torch.stack([one.score, two.score])
        assert torch.equal(found.score, pair.mean(0) if rule == "mean" else pair.min(0).values)
    assert [torch.equal(a.score, two.score) for a, two in zip(audited, singles[1], strict=True)] == [True, True]
    with torch.no_grad():
        for parameter in backbone.adapter_parameters():
            parameter.normal_()
    for scores, again in ((before, module.scorer), (audited, module.validator.audit)):
        for one, two in zip(scores, again.score_batch(REQUESTS), strict=True):
            assert torch.equal(one.score, two.score)
            assert torch.allclose(one.token_saved, two.token_saved, rtol=0, atol=0, equal_nan=True)
