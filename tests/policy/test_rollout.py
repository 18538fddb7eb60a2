"""Rollouts: against the library, against teacher forcing, against their distribution, and how they end."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import make_byte_tokenizer, make_tiny_model
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from squish_pl.budget import Budget
from squish_pl.lm.tokens import encode
from squish_pl.policy import prefix_decoder, rollout
from squish_pl.policy.adapter import LoraSettings
from squish_pl.policy.backbone import Backbone
from squish_pl.policy.padded import PaddedPasses
from squish_pl.policy.prompts import PromptTemplate
from squish_pl.policy.rollout import RolloutSettings, SamplingSettings, sample
from squish_pl.policy.trials import choose_passes
from squish_pl.types import Document, Experience, Finish, Prompt

TEMPLATE = PromptTemplate(instruction="{document}\n{limit}\n")


def make_backbone(architecture="qwen3", dtype=torch.float64, way="shared_prefix"):
    tokenizer = make_byte_tokenizer()
    backbone = Backbone(make_tiny_model(architecture, dtype), tokenizer, LoraSettings(r=4, alpha=8))
    torch.manual_seed(1)
    for parameter in backbone.adapter_parameters():  # a fresh adapter does nothing; this one does
        torch.nn.init.normal_(parameter, std=0.1)
    choose_passes(backbone.policy, way)
    return backbone


@pytest.fixture(autouse=True)
def little_room(monkeypatch):
    monkeypatch.setattr(prefix_decoder, "_FIRST_ROOM", 4)  # so that buffers have to grow


def make_prompts(tokenizer, budget="1000 chars"):
    texts = ["A short one.", "A document that is quite a bit longer than the first.", "Third: ünïcödé 🎉!"]
    return [TEMPLATE.build(Document(text), Budget.parse(budget), tokenizer) for text in texts]


@pytest.mark.parametrize("way", ["shared_prefix", "padded"])
@pytest.mark.parametrize("architecture", ["llama", "qwen3"])
def test_greedy_rollouts_equal_generate_token_for_token(architecture, way):
    backbone = make_backbone(architecture, way=way)
    prompts = make_prompts(backbone.tokenizer)
    groups = sample(
        backbone.policy, backbone.tokenizer, TEMPLATE, prompts, 1, SamplingSettings(0.0, max_new_tokens=24), [0, 0, 0]
    )
    for prompt, group in zip(prompts, groups, strict=True):
        with backbone.policy.generating() as model:
            ids = torch.tensor([prompt.token_ids])
            expected = model.generate(
                input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=24, do_sample=False, pad_token_id=0
            )[0, ids.shape[1] :]
        assert group.token_ids[0][group.mask[0]].tolist() == expected.tolist()


@pytest.mark.parametrize("way", ["shared_prefix", "padded"])
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_log_probs_are_those_of_a_teacher_forced_pass(temperature, way):
    backbone = make_backbone(way=way)
    prompts = make_prompts(backbone.tokenizer)
    groups = sample(
        backbone.policy, backbone.tokenizer, TEMPLATE, prompts, 4, SamplingSettings(temperature, 20), [1, 2, 3]
    )
    for group in groups:
        rows = [
            Experience(torch.tensor(group.prompt.token_ids), t[m], p[m], 0.0, 0.0)
            for t, m, p in zip(group.token_ids, group.mask, group.log_probs, strict=True)
        ]
        log_probs, entropies = PaddedPasses(backbone.policy).log_probs(rows, temperature)
        assert torch.allclose(log_probs.detach(), group.log_probs[group.mask].double(), atol=1e-6)  # kept in float32
        assert torch.allclose(entropies, group.entropies[group.mask].double(), atol=1e-5)


def test_a_groups_draws_do_not_depend_on_its_neighbours():
    backbone = make_backbone()
    prompts = make_prompts(backbone.tokenizer)
    settings_ = SamplingSettings(max_new_tokens=12)
    together = sample(backbone.policy, backbone.tokenizer, TEMPLATE, prompts, 3, settings_, [5, 6, 7])
    apart = [
        sample(backbone.policy, backbone.tokenizer, TEMPLATE, [prompt], 3, settings_, [seed])[0]
        for prompt, seed in zip(prompts, [5, 6, 7], strict=True)
    ]
    for one, other in zip(together, apart, strict=True):
        assert torch.equal(one.token_ids, other.token_ids)
    again = sample(backbone.policy, backbone.tokenizer, TEMPLATE, prompts[1:2], 3, settings_, [6])
    assert torch.equal(again[0].token_ids, together[1].token_ids)
    other_seed = sample(backbone.policy, backbone.tokenizer, TEMPLATE, prompts[1:2], 3, settings_, [8])
    assert not torch.equal(other_seed[0].token_ids, together[1].token_ids)


def test_both_decoders_draw_the_same_completions():
    results = []
    for way in ("shared_prefix", "padded"):
        backbone = make_backbone(way=way)
        template = PromptTemplate(instruction="{document}\n{limit}\n", close_tag="H")  # rows end at different steps
        prompts = [template.build(p.document, p.budget, backbone.tokenizer) for p in make_prompts(backbone.tokenizer)]
        results.append(
            sample(
                backbone.policy,
                backbone.tokenizer,
                template,
                prompts,
                6,
                SamplingSettings(max_new_tokens=40),
                [1, 2, 3],
            )
        )
    assert len({length for group in results[0] for length in group.lengths.tolist()}) > 3
    for one, other in zip(*results, strict=True):
        assert torch.equal(one.token_ids, other.token_ids)
        assert torch.equal(one.finish, other.finish)
        assert torch.allclose(one.log_probs, other.log_probs, atol=1e-6)
        assert torch.allclose(one.entropies, other.entropies, atol=1e-5)


def test_sampled_tokens_follow_the_models_distribution():
    """First tokens of many draws against the softmax, by a chi-squared statistic over the likeliest tokens."""
    backbone = make_backbone()
    prompt = make_prompts(backbone.tokenizer)[0]
    draws = 4000
    groups = sample(backbone.policy, backbone.tokenizer, TEMPLATE, [prompt], draws, SamplingSettings(1.0, 1), [3])
    with torch.no_grad(), backbone.policy.generating() as model:
        p = torch.softmax(model(torch.tensor([prompt.token_ids])).logits[0, -1], -1)
    likely = p.topk(8).indices
    counts = torch.stack([(groups[0].token_ids[:, 0] == token).sum() for token in likely]).double()
    observed = torch.cat([counts, (draws - counts.sum()).unsqueeze(0)])
    expected = torch.cat([p[likely], (1 - p[likely].sum()).unsqueeze(0)]) * draws
    assert float(((observed - expected) ** 2 / expected).sum()) < 26.1  # 99.9 % point of chi-squared with 8 degrees


class Script:
    """Draws given completions instead of sampling."""

    def __init__(self, rows):
        self.rows, self.step = rows, 0

    def __call__(self, logits, temperature, generators, group_size, left):
        drawn = torch.tensor([self.rows[i][min(self.step, len(self.rows[i]) - 1)] for i in left.tolist()])
        self.step += 1
        return drawn, torch.full((len(drawn),), -0.5), torch.full((len(drawn),), 2.0)


def test_the_ways_to_end_are_told_apart(monkeypatch):
    backbone = make_backbone(dtype=torch.float32)
    tokenizer = backbone.tokenizer
    prompt = TEMPLATE.build(Document("d" * 100), Budget.parse("10%"), tokenizer)  # ten characters
    closed, tight, outgrown, capped = (
        "ok</summary>junk",
        "1234567890</summary>",
        "12345678901234567890",
        "1 </summar" * 9,
    )
    rows = [encode(tokenizer, text) for text in (closed, tight, outgrown, capped[:8] + " " * 60)]
    rows.append([*encode(tokenizer, "no tag"), tokenizer.eos_token_id])
    monkeypatch.setattr(rollout, "_draw", Script(rows))
    (group,) = sample(backbone.policy, tokenizer, TEMPLATE, [prompt], 5, SamplingSettings(max_new_tokens=30), [0])
    assert [Finish(f) for f in group.finish.tolist()] == [
        Finish.CLOSED,
        Finish.CLOSED,
        Finish.OUTGROWN,
        Finish.CAPPED,
        Finish.ENDED,
    ]
    assert group.summaries == ["ok", "1234567890", None, None, None]
    # generated tokens: up to and with the one that ends the summary
    assert group.lengths.tolist() == [len("ok</summary>"), len(tight), 11, 30, len("no tag") + 1]
    assert torch.equal(group.log_probs, -0.5 * group.mask)
    assert torch.equal(group.entropies, 2.0 * group.mask)
    assert group.token_ids[~group.mask].eq(0).all()


def make_bpe_tokenizer():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    corpus = ["the cat sat on the mat and the other cat that sat there", "at that hat"]
    tokenizer.train_from_iterator(
        corpus, trainers.BpeTrainer(vocab_size=320, initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>")


BPE = make_bpe_tokenizer()


def outgrown(watch, text):
    return watch.measure(text)[1] > watch.limit


@settings(max_examples=200, deadline=None)
@given(
    st.text(alphabet="the catsné京 \n</summary>", max_size=40),
    st.text(alphabet="the catsné京 \n", max_size=20),
    st.sampled_from(["3 chars", "12 chars", "2 tokens", "6 tokens", "3 bytes", "12 bytes"]),
)
def test_outgrown_is_certain(start, more, budget):
    """Whatever is written after a text that has outgrown its budget, the summary is too long."""
    prompt = Prompt(Document("x"), Budget.parse(budget), "", (1,))
    watch = rollout._Watch(prompt, TEMPLATE, BPE)
    if TEMPLATE.close_tag in start or not outgrown(watch, start):
        return
    summary = TEMPLATE.parse(start + more + TEMPLATE.close_tag)
    if TEMPLATE.close_tag not in start + more:
        assert not prompt.budget.allows(summary, "x", BPE)


def test_a_text_within_its_budget_is_never_called_outgrown():
    for budget, text in (("5 chars", " 12345 </summ"), ("3 tokens", "the cat sat")):
        watch = rollout._Watch(Prompt(Document("x"), Budget.parse(budget), "", (1,)), TEMPLATE, BPE)
        assert not outgrown(watch, text)
    watch = rollout._Watch(Prompt(Document("x"), Budget.parse("5 chars"), "", (1,)), TEMPLATE, BPE)
    assert outgrown(watch, "123456")


def test_a_row_under_a_budget_in_bytes_ends_at_the_character_that_is_over(byte_tokenizer):
    watch = rollout._Watch(Prompt(Document("x"), Budget.parse("5 bytes"), "", (1,)), TEMPLATE, byte_tokenizer)
    ids = encode(byte_tokenizer, "東京")  # three bytes each, a token a byte
    ends = [watch.finish(rollout._Completion(ids[: n + 1]), 99) for n in range(6)]
    assert ends == [None] * 5 + [Finish.OUTGROWN]  # of a character that is only begun, nothing is known
    assert watch.finish(rollout._Completion(encode(byte_tokenizer, "東é</summary>")), 99) == Finish.CLOSED


def test_settings():
    assert RolloutSettings(temperature=0.7, max_new_tokens=9).sampling == SamplingSettings(0.7, 9)
    assert RolloutSettings().problems() == []
    assert RolloutSettings(budgets=[]).problems() == ["rollout.budgets must name at least one budget"]
    found = RolloutSettings(["10%", "10"], group_size=1, temperature=0.0, max_new_tokens=0).problems()
    assert [problem.split()[0] for problem in found] == [
        "rollout.budgets:",
        "rollout.group_size",
        "rollout.temperature",
        "rollout.max_new_tokens",
    ]


CURRICULUM = [(0, "20%"), (2, "10 %"), (5, "1%")]


def test_a_budget_of_the_curriculum_is_drawn_from_its_round_on():
    settings = RolloutSettings(["1%", "10%", "20%", "5 tokens"], curriculum=CURRICULUM)
    assert settings.problems() == []
    drawn = {n: [str(budget) for budget in settings.budgets_at(n)] for n in (0, 1, 2, 4, 5, 900)}
    assert drawn[0] == drawn[1] == ["20%", "5 tokens"]  # what is not named is there from the beginning
    assert drawn[2] == drawn[4] == ["10%", "20%", "5 tokens"]
    assert drawn[5] == drawn[900] == ["1%", "10%", "20%", "5 tokens"]
    plain = RolloutSettings(["10%", "10%", "20%"])  # one that is named twice is drawn twice as often
    assert [str(budget) for budget in plain.budgets_at(0)] == ["10%", "10%", "20%"]


@pytest.mark.parametrize(
    ("curriculum", "words"),
    [
        ([(0, "20%"), (3, "7%")], "7% is none of rollout.budgets (10%, 20%)"),
        ([(-1, "20%")], "a round must be at least 0, but is -1"),
        ([(0, "20")], "expected a budget such as"),
        ([(0, "20%"), (3, "20 %")], "2 begin 20%: name it once"),
        ([(1, "20%"), (3, "10%")], "no budget is drawn in round 0: let one begin there"),
    ],
)
def test_curricula_that_are_none(curriculum, words):
    (problem,) = RolloutSettings(["10%", "20%"], curriculum=curriculum).problems()
    assert problem.startswith("rollout.curriculum: ")
    assert words in problem
