"""What phases cost, against what they hold when they run."""

import pytest
import torch
from tiny import ARCHITECTURES, make_byte_tokenizer, make_tiny_model
from transformers import Qwen3Config, Qwen3ForCausalLM

from squish_pl.budget import Budget
from squish_pl.policy.adapter import LoraSettings
from squish_pl.policy.backbone import Backbone
from squish_pl.policy.memory.costs import Costs
from squish_pl.policy.memory.tracker import peak_bytes
from squish_pl.policy.shared_prefix import SharedPrefixDecoder
from squish_pl.policy.trials import choose_passes
from squish_pl.types import Document, Experience, Prompt


def make_backbone(architecture="qwen3", way="shared_prefix"):
    backbone = Backbone(make_tiny_model(architecture), make_byte_tokenizer(), LoraSettings(r=4))
    choose_passes(backbone.policy, way)
    return backbone


def make_group(prompt, completions):
    prompt_ids = torch.arange(prompt) % 256
    return [Experience(prompt_ids, torch.arange(n) % 256, torch.zeros(n), 0.0, 0.0) for n in completions]


@pytest.mark.parametrize("layers", [0, 1, 2])
@pytest.mark.parametrize("way", ["shared_prefix", "padded"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_policy_pass_takes_what_was_foretold(architecture, way, layers):
    backbone = make_backbone(architecture, way)
    costs = Costs(backbone)
    rows = make_group(4, [130] * 3)  # nearly all tokens are predicted, which is what the plan has to think of
    tokens = backbone.policy.passes.tokens(rows)
    assert tokens == (4 + 3 * 129 if way == "shared_prefix" else 3 * 133)

    def work():
        log_probs, _ = backbone.policy.passes.log_probs(rows)
        log_probs.sum().backward()

    work()  # the gradients are there from now on
    foretold = costs.learning(tokens, layers)
    backbone.checkpoint_layers(layers)
    counted = peak_bytes(work)
    assert 0.98 * counted <= foretold < 1.2 * counted
    if layers == 1:
        assert foretold < costs.learning(tokens, 0)


@pytest.mark.parametrize("way", ["shared_prefix", "padded"])
def test_a_pass_with_the_gradient_of_the_entropies_takes_what_was_foretold(way):
    backbone = make_backbone(way=way)
    costs = Costs(backbone, entropy_gradient=True)
    rows = make_group(4, [130] * 3)

    def work():
        sum(x.sum() for x in backbone.policy.passes.log_probs(rows, entropy_gradient=True)).backward()

    work()
    backbone.checkpoint_layers(2)  # where the head is most of it
    counted = peak_bytes(work)
    assert 0.98 * counted <= costs.learning(backbone.policy.passes.tokens(rows), 2) < 1.2 * counted


def test_scoring_and_rollout_take_what_was_foretold():
    backbone = make_backbone()
    costs = Costs(backbone)
    counted = peak_bytes(lambda: backbone.reference.hidden(torch.zeros(2, 400, dtype=torch.long)))
    assert counted <= costs.scoring(800)
    prompts = [Prompt(Document(""), Budget.parse("1 char"), "", tuple(range(200)))] * 3

    def decode():
        with backbone.policy.generating() as model:
            decoder = SharedPrefixDecoder(model, 4, 20)
            logits = decoder.prefill(prompts)
            for _ in range(19):
                logits = decoder.step(logits.argmax(-1))

    counted = peak_bytes(decode)
    assert counted <= costs.rollout(3, 200, 12, 20) < 2 * counted
    # two layers, keys and values of two heads of eight numbers
    assert costs.cache_bytes == 2 * 2 * 2 * 8 * 4


@pytest.mark.parametrize("way", ["shared_prefix", "padded"])
def test_a_rollout_that_rows_leave_takes_what_was_foretold(way):
    torch.manual_seed(0)
    shape = make_tiny_model().config.to_dict() | {"num_hidden_layers": 8, "layer_types": None}
    model = Qwen3ForCausalLM(Qwen3Config(**shape)).eval()
    backbone = Backbone(model, make_byte_tokenizer(), LoraSettings(r=4))
    choose_passes(backbone.policy, way)
    prompts = [Prompt(Document(""), Budget.parse("1 char"), "", tuple(range(20)))] * 3

    def decode():
        with backbone.policy.generating() as model:
            decoder = backbone.policy.passes.decoder(model, 4, 100)
            tokens = decoder.prefill(prompts).argmax(-1)
            for step in range(99):
                if step in (70, 80, 90):  # near the end, when most is held
                    tokens = tokens[1:]
                    decoder.keep(torch.arange(1, len(tokens) + 1))
                tokens = decoder.step(tokens).argmax(-1)

    counted = peak_bytes(decode)
    assert counted <= Costs(backbone).rollout(3, 20, 12, 100) < 1.6 * counted


def test_counting_leaves_gradients_checkpointing_and_random_numbers_alone():
    backbone = make_backbone()
    backbone.checkpoint_layers(1)
    before = torch.random.get_rng_state()
    Costs(backbone).learning(100, 2)
    assert all(parameter.grad is None for parameter in backbone.adapter_parameters())
    assert backbone.checkpointed_layers == 1
    assert torch.equal(torch.random.get_rng_state(), before)
