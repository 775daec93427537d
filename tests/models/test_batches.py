"""Tokens, masks and positions of packed examples; test_scoring tests what they compute."""

import itertools
import random
from pathlib import Path

import pytest
import torch
from configurations import made
from tokenizers import Tokenizer, processors
from tokenizers import models as tokenizer_models
from tokenizers.models import WordLevel
from tokenizers.normalizers import NFKC, Lowercase, Sequence
from tokenizers.pre_tokenizers import Whitespace
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    GPT2Config,
    LlamaConfig,
    MistralConfig,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
    RobertaConfig,
)

from forget.errors import BadInput
from forget.evaluation.scoring import score
from forget.models import batches, language_model, loading
from forget.models.batches import Encoded
from forget.models.language_model import LanguageModel
from forget.tasks.task import Example

BYTES = language_model.tiny().tokenizer


def taken(lengths: list[int], row: list[int]) -> int:
    """Sum the lengths of the examples in a row."""
    return sum(lengths[i] for i in row)


def marking(*closing: str) -> PreTrainedTokenizerBase:
    """Make a tokenizer: it opens a text with <s>, ends it with `closing`, has a token "e:"."""
    letters = ["<s>", "</s>", *map(chr, range(32, 127))]
    core = Tokenizer(
        tokenizer_models.BPE(
            vocab={token: i for i, token in enumerate([*letters, "e:"])}, merges=[("e", ":")]
        )
    )
    marks = [("<s>", 0), ("</s>", 1)]
    core.post_processor = processors.TemplateProcessing(
        single=" ".join(["<s>", "$A", *closing]), special_tokens=marks
    )
    return PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<s>", eos_token="</s>")


def test_prompt_option_and_suffix_become_tokens() -> None:
    example = Example("a", "The cup is in", (" a bag", " it"), 0, suffix=" now")
    (encoded,) = batches.encode([example], BYTES, 100)
    assert BYTES.decode(encoded.prompt) == "The cup is in"
    assert [BYTES.decode(ids) for ids in encoded.options] == [" a bag now", " it now"]
    # Only the suffix is scored.
    assert encoded.scored == [4, 4]
    (plain,) = batches.encode([Example("a", "The cup is in", (" a bag", " it"), 0)], BYTES, 100)
    assert plain.scored == [6, 3]
    assert plain.length == 13 + 6 + 3
    assert plain.only(1) == Encoded(plain.prompt, [plain.options[1]], [3])


def test_examples_with_and_without_suffix_do_not_disturb_each_other() -> None:
    some = [
        Example("a", "x", ("1", "22"), 0),
        Example("b", "yy", ("3", "44"), 0, suffix="!?"),
        Example("c", "z", ("5",), 0),
    ]
    together = batches.encode(some, BYTES, 100)
    assert together == [batches.encode([example], BYTES, 100)[0] for example in some]
    assert [e.scored for e in together] == [[1, 2], [2, 2], [1]]


def test_marks_frame_the_prompt_but_stand_before_no_option() -> None:
    """A tokenizer that opens a text with a mark keeps it.

    One that closes with a mark must not close the prompt.
    """
    other_mark = marking("</s>", "</s>")
    other_mark.eos_token = "<s>"  # noqa: S105  no password
    for tokenizer in (marking(), marking("</s>"), other_mark):
        (encoded,) = batches.encode([Example("a", "Q", (" b", " cd"), 0)], tokenizer, 100)
        assert tokenizer.convert_ids_to_tokens(encoded.prompt) == ["<s>", "Q"]
        assert [tokenizer.convert_ids_to_tokens(ids) for ids in encoded.options] == [
            [" ", "b"],
            [" ", "c", "d"],
        ]


@pytest.mark.parametrize("closing", [("</s>",), ("</s>", "<s>")], ids=["one mark", "two marks"])
def test_a_tokenizer_that_closes_its_texts_changes_no_score(
    tmp_path: Path, closing: tuple[str, ...]
) -> None:
    """The mark would stand between prompt and option, or be scored as a part of it."""
    tokenizer = marking(*closing)
    network = made(GPT2Config(vocab_size=len(tokenizer), n_embd=32, n_layer=2, n_head=4))
    with torch.no_grad():
        network.get_output_embeddings().weight.mul_(20)
    language_model.save(LanguageModel("gpt2", network, tokenizer), tmp_path / "model")
    model = loading.load(tmp_path / "model", device="cpu")
    assert model.tokenizer("a")["input_ids"][-1] == model.tokenizer.convert_tokens_to_ids(
        closing[-1]
    )
    examples = [
        Example("two", "Is it", (" so", " not"), 0),
        Example("four", "Where is the cup", (" here", " in a bag", " it", " there"), 2),
        Example("suffix", "The cup is in", (" a bag", " it"), 1, suffix=" so it moved"),
    ]
    begin = tokenizer.convert_tokens_to_ids("<s>")
    for example, found in zip(examples, score(model, examples).logprobs, strict=True):
        for option, ours in zip(example.options, found, strict=True):
            # Letter by letter, by a way of its own: what opens a text, and nothing behind it.
            before = example.prompt + (option if example.suffix else "")
            text = example.prompt + option + example.suffix
            ids = [begin, *map(tokenizer.convert_tokens_to_ids, text)]
            with torch.no_grad():
                logits = network(torch.tensor([ids])).logits[0].double().log_softmax(-1)
            plain = sum(logits[i - 1, ids[i]].item() for i in range(1 + len(before), len(ids)))
            assert ours == pytest.approx(plain, abs=1e-4), (example.id, option)


def test_marks_within_a_text_are_refused_by_name() -> None:
    class Strange(PreTrainedTokenizerFast):
        def __call__(self, text: object, add_special_tokens: bool = True, **of: object) -> object:
            return {"input_ids": [7, 1, 8] if add_special_tokens else [7, 8]}

    tokenizer = Strange(tokenizer_object=marking().backend_tokenizer)
    with pytest.raises(BadInput, match=r"tokenizer \(Strange\) reads a text as .* within the text"):
        batches.encode([Example("a", "Q", (" b", " cd"), 0)], tokenizer, 100)


def test_an_option_that_the_tokenizer_joins_to_the_prompt_is_refused() -> None:
    """Refuse "ae:b", which is [a, e:, b] where the prompt "ae" is [a, e]."""
    tokenizer = marking()
    with pytest.raises(BadInput, match="example a: the tokenizer joins the end of its prompt"):
        batches.encode([Example("a", "ae", (":b", "cd"), 0)], tokenizer, 100)
    (encoded,) = batches.encode([Example("a", "ae", (" :b", "cd"), 0)], tokenizer, 100)
    assert tokenizer.convert_ids_to_tokens(encoded.prompt) == ["<s>", "a", "e"]


@pytest.mark.parametrize(
    "example",
    [Example("ex-7", "", ("a", "b"), 0), Example("ex-7", "Q", ("a", ""), 0)],
    ids=["prompt", "option"],
)
def test_what_has_no_token_is_refused(example: Example) -> None:
    with pytest.raises(
        BadInput, match="example ex-7: its prompt, an option or the suffix has no token of its own"
    ):
        batches.encode([example], BYTES, 100)


def test_what_is_too_long_is_refused_not_cut() -> None:
    example = Example("ex-7", "12345", ("678", "6789"), 0)
    batches.encode([example], BYTES, 9)
    with pytest.raises(
        BadInput, match="example ex-7 has 9 tokens, but the model reads 8 at most; leave it out"
    ):
        batches.encode([example], BYTES, 8)


def test_the_reach_of_a_model() -> None:
    for config, reach in (
        (LlamaConfig(max_position_embeddings=77), 77),
        # A window is what a layer looks back, not what the model reads.
        (MistralConfig(max_position_embeddings=77, sliding_window=33), 77),
        (GPT2Config(n_positions=77), 77),
        # Positions are counted from behind that of the padding, 1.
        (RobertaConfig(max_position_embeddings=77, is_decoder=True), 75),
        (BloomConfig(), 2**31),
    ):
        with torch.device("meta"):
            network = AutoModelForCausalLM.from_config(config)
        assert batches.reach(network) == reach


def test_a_packed_batch_token_by_token() -> None:
    """The batch is worked by hand.

    A prompt of 2 has options of 1 and 2 tokens; a prompt of 1 has an option of 2, of which the last
    is scored.
    """
    batch = batches.pack(
        [[Encoded([7, 8], [[1], [2, 3]], [1, 2])], [Encoded([9], [[4, 5]], [1])]], pad=0
    )
    assert batch.ids.tolist() == [[7, 8, 1, 2, 3], [9, 4, 5, 0, 0]]
    assert batch.positions.tolist() == [[0, 1, 2, 2, 3], [0, 1, 2, 0, 0]]
    assert batch.tokens == 10
    assert batch.prompt_ends.tolist() == [[0, 1], [1, 0]]
    assert batch.starts.tolist() == [[0, 2], [0, 3], [1, 1]]
    assert batch.ends.tolist() == [[0, 2], [0, 4], [1, 2]]
    assert batch.targets.tolist() == [1, 2, 3, 5]
    assert batch.option.tolist() == [0, 1, 1, 2]
    assert batch.predictors[batch.predictor_of].tolist() == [[0, 1], [0, 1], [0, 3], [1, 1]]
    assert batch.mask is not None
    assert batch.mask[0, 0].int().tolist() == [
        [1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [1, 1, 1, 0, 0],
        [1, 1, 0, 1, 0],
        [1, 1, 0, 1, 1],
    ]
    # Padding sees something, or its softmax is NaN.
    assert batch.mask[1, 0].any(dim=1).all()
    assert not batch.mask[1, 0, :3, 3:].any()


def test_two_examples_in_a_row_do_not_see_each_other() -> None:
    """The batch is worked by hand.

    A prompt of 1 has options of 1 and 1 token, a prompt of 2 an option of 1; the other row is of 4.
    """
    row = [Encoded([7], [[1], [2]], [1, 1]), Encoded([8, 9], [[3]], [1])]
    batch = batches.pack([row, [Encoded([4, 5], [[6, 6]], [2])]], pad=0)
    assert batch.ids.tolist() == [[7, 1, 2, 8, 9, 3], [4, 5, 6, 6, 0, 0]]
    assert batch.positions.tolist() == [[0, 1, 1, 0, 1, 2], [0, 1, 2, 3, 0, 0]]
    assert batch.prompt_ends.tolist() == [[0, 0], [0, 4], [1, 1]]
    assert batch.starts.tolist() == [[0, 1], [0, 2], [0, 5], [1, 2]]
    assert batch.ends.tolist() == [[0, 1], [0, 2], [0, 5], [1, 3]]
    assert batch.targets.tolist() == [1, 2, 3, 6, 6]
    assert batch.option.tolist() == [0, 1, 2, 3, 3]
    assert batch.predictors[batch.predictor_of].tolist() == [[0, 0], [0, 0], [0, 4], [1, 1], [1, 2]]
    assert batch.mask is not None
    assert batch.mask[0, 0].int().tolist() == [
        [1, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0],
        [1, 0, 1, 0, 0, 0],
        [0, 0, 0, 1, 0, 0],
        [0, 0, 0, 1, 1, 0],
        [0, 0, 0, 1, 1, 1],
    ]
    assert batch.mask[1, 0, :4, :4].equal(torch.ones(4, 4, dtype=torch.bool).tril())


def test_one_option_an_example_and_one_example_a_row_need_no_mask() -> None:
    batch = batches.pack([[Encoded([7, 8], [[1]], [1])], [Encoded([9], [[2, 3]], [2])]], pad=0)
    assert batch.mask is None
    assert batch.predictors[batch.predictor_of].tolist() == [[0, 1], [1, 0], [1, 1]]
    moved = batch.to(torch.device("cpu"))
    assert moved.mask is None
    assert torch.equal(moved.ids, batch.ids)


def test_a_plan_by_hand() -> None:
    assert list(batches.first_fit([2, 9, 5, 4, 3, 9], budget=20)) == [
        [[1], [5]],
        [[2], [3], [4, 0]],
    ]
    assert list(batches.first_fit([3, 30, 27], budget=20)) == [[[1]], [[2]], [[0]]]
    assert list(batches.first_fit([], budget=20)) == []


def test_a_long_example_has_its_row_alone() -> None:
    assert list(batches.first_fit([batches.WIDE, 10, 20], budget=5000)) == [[[0], [2, 1]]]
    assert list(batches.first_fit([batches.WIDE + 1, 10, 20], budget=5000)) == [[[0], [2], [1]]]


def test_a_plan_holds_every_example_once_within_the_budget() -> None:
    draw = random.Random("plan")
    lengths = [draw.randrange(1, 80) for _ in range(200)] + [500]
    found = list(batches.first_fit(lengths, budget=256))
    every = itertools.chain(*itertools.chain(*found))
    assert sorted(every) == list(range(len(lengths)))
    # The first is longer than the budget; what shares its row costs nothing.
    assert found[0][0][0] == 200
    assert len(found[0]) == 1
    for rows in found[1:]:
        width = max(lengths[i] for i in itertools.chain(*rows))
        assert lengths[rows[0][0]] == width
        assert all(taken(lengths, row) <= width for row in rows)
        assert width * len(rows) <= 256
    for rows, following in itertools.pairwise(found):
        width, left = lengths[rows[0][0]], [lengths[i] for i in itertools.chain(*following)]
        assert width >= max(left)
        assert all(taken(lengths, row) + min(left) > width for row in rows), (
            "room was left for the next example"
        )


def test_little_of_a_training_step_is_padding() -> None:
    """One token in nine is padding where a step has sixteen short examples.

    With one to a row, sorted by length, it is nearly three in ten.
    """
    draw = random.Random("steps")
    tokens = computed = 0
    for _ in range(50):
        lengths = [draw.randrange(10, 60) for _ in range(16)]
        tokens += sum(lengths)
        for rows in batches.first_fit(lengths, budget=512):
            computed += len(rows) * max(taken(lengths, row) for row in rows)
    assert computed <= 1.15 * tokens


def test_blanks_at_the_prompts_end_belong_to_the_options() -> None:
    asked = Example("1", "Answer: ", ("yes", "no"), answer=0)
    same = Example("1", "Answer:", (" yes", " no"), answer=0)
    assert batches.encode([asked], BYTES, 100) == batches.encode([same], BYTES, 100)
    broken = Example("2", "Is it?\n\t", ("yes", "no"), answer=0)
    (encoded,) = batches.encode([broken], BYTES, 100)
    assert BYTES.decode(encoded.prompt) == "Is it?"
    assert [BYTES.decode(option) for option in encoded.options] == ["\n\tyes", "\n\tno"]


def test_a_prompt_of_blanks_alone_is_refused() -> None:
    with pytest.raises(BadInput, match="example 1: its prompt"):
        batches.encode([Example("1", " \n", ("yes", "no"), answer=0)], BYTES, 100)


def words() -> PreTrainedTokenizerFast:
    """Make a tokenizer of whole words, in small letters and compatible forms."""
    vocabulary = ["<unk>", "paris", "rome", "two", "twowords", "words", "x2", "ask"]
    core = Tokenizer(WordLevel({word: i for i, word in enumerate(vocabulary)}, unk_token="<unk>"))
    core.pre_tokenizer = Whitespace()
    core.normalizer = Sequence([NFKC(), Lowercase()])
    return PreTrainedTokenizerFast(tokenizer_object=core, unk_token="<unk>", pad_token="<unk>")


@pytest.mark.parametrize(
    "options", [(" Paris", " paris"), (" x²", " x2"), (" Berlin", " Oslo"), (" rome", " Rome ")]
)
def test_options_that_are_the_same_tokens_are_refused_by_example(options: tuple[str, ...]) -> None:
    example = Example("7", "ask", options, answer=0)
    with pytest.raises(BadInput, match=r"example 7: its options .* are the same tokens"):
        batches.encode([example], words(), 100)
