"""The training loop against a plain one, and against itself when it is interrupted or shared."""

import gc
import json
import math
import random
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest
import torch
from accelerate import PartialState, debug_launcher
from accelerate.state import AcceleratorState
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn
from torch.multiprocessing.spawn import ProcessException
from torch.nn import functional
from transformers import AutoModelForCausalLM, CTRLConfig, GPT2Config, GPTJConfig, PretrainedConfig

from forget.errors import BadInput
from forget.evaluation.scoring import score
from forget.events import Event, StageStarted, Step
from forget.methods.catalogue import METHODS
from forget.models import language_model, loading, memory
from forget.models.language_model import LanguageModel
from forget.models.sharding import shard
from forget.results.rows import Row
from forget.settings.parts import Lora, Stage
from forget.storage.store import Store
from forget.tasks import labels
from forget.tasks.labels import Labelled
from forget.tasks.task import Example
from forget.training.checkpoints import Checkpoints
from forget.training.loop import fine_tune
from forget.training.terms import Term
from forget.training.watching import Watching

SETTINGS = Stage(epochs=2, batch=4, lr=1e-3, warmup=0.25, weight_decay=0.1, clip=0.5)

in_batches = pytest.mark.parametrize("budget", [512, 40], indirect=True, ids=["whole", "micro"])
"""A step's examples at once, or in micro-batches, of which two processes need not have the same
number.
"""


@pytest.fixture
def budget(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(memory.BUDGET["training"], "cpu", request.param)


def examples(n: int = 10) -> list[Example]:
    """Return ten examples, or `n`; with batches of four an epoch's last batch is smaller.

    Prompts and options differ in length.
    """
    draw = random.Random("examples")
    return [
        Example(
            f"e{i}",
            "".join(draw.choices("abcdefgh ", k=5 + 3 * i)),
            (" yes", " never so"),
            draw.randrange(2),
        )
        for i in range(n)
    ]


def learn(epoch: int) -> list[Labelled]:
    return labels.true(examples())


def weights(model: LanguageModel) -> dict[str, torch.Tensor]:
    return {name: weight.detach().clone() for name, weight in model.network.named_parameters()}


def trained(model: LanguageModel | None = None, **options: object) -> dict[str, torch.Tensor]:
    model = model or language_model.tiny()
    settings = options.pop("settings", SETTINGS)
    term = Term(options.pop("labelled", learn))  # type: ignore[arg-type]
    terms = options.pop("terms", [term])
    fine_tune(model, terms, settings, stage="learn", seed=0, **options)  # type: ignore[arg-type]
    return weights(model)


def made(config: PretrainedConfig) -> LanguageModel:
    torch.manual_seed(0)
    return LanguageModel(
        config.model_type,
        AutoModelForCausalLM.from_config(config).eval(),
        language_model.tiny().tokenizer,
    )


def gpt(kind: type[PretrainedConfig], **fields: float) -> Callable[[], LanguageModel]:
    size = {
        "vocab_size": 257,
        "n_embd": 32,
        "n_layer": 2,
        "n_head": 4,
        "n_positions": 256,
        "bos_token_id": 0,
        "eos_token_id": 0,
    }
    return partial(made, kind(**{**size, **fields}))


STILL = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
MODELS = {
    "llama": language_model.tiny,
    "gpt2": gpt(GPT2Config, **STILL),
    "gptj": gpt(GPTJConfig, rotary_dim=4, **STILL),
}


def plain_loop(
    model: LanguageModel, settings: Stage, rate: Callable[[int, int], float]
) -> list[float]:
    """Train as the loop is meant to, in the plainest words, and return the losses.

    It computes every logit, with labels of -100 where there is no answer.
    """
    network, read = model.network, model.tokenizer
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=settings.lr, weight_decay=settings.weight_decay
    )
    items = learn(0)
    per_epoch = math.ceil(len(items) / settings.batch)
    losses = []
    network.train()
    for step in range(per_epoch * settings.epochs):
        epoch, place = divmod(step, per_epoch)
        order = random.Random(f"0/learn/{epoch}").sample(range(len(items)), len(items))
        chosen = [items[i] for i in order[place * settings.batch : (place + 1) * settings.batch]]
        texts = [
            read(item.example.prompt + item.example.options[item.label])["input_ids"]
            for item in chosen
        ]
        prompts = [len(read(item.example.prompt)["input_ids"]) for item in chosen]
        width = max(map(len, texts))
        ids = torch.tensor([text + [0] * (width - len(text)) for text in texts])
        seen = torch.tensor([[1] * len(text) + [0] * (width - len(text)) for text in texts])
        targets = torch.tensor(
            [
                [-100] * prompt + text[prompt:] + [-100] * (width - len(text))
                for text, prompt in zip(texts, prompts, strict=True)
            ]
        )
        logits = network(ids, attention_mask=seen).logits
        loss = functional.cross_entropy(
            logits[:, :-1].reshape(-1, logits.shape[-1]),
            targets[:, 1:].reshape(-1),
            ignore_index=-100,
        )
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), settings.clip)
        for group in optimizer.param_groups:
            group["lr"] = settings.lr * rate(step, per_epoch * settings.epochs)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


def warmed_up(step: int, steps: int, after: Callable[[float], float]) -> float:
    """Return the share of the peak rate.

    It is linear from 0 over a quarter of the steps, then `after` of the rest's elapsed share. No
    step is taken at either end, where it would be lost.
    """
    warm, taken = round(0.25 * steps), step + 1
    return taken / warm if taken < warm else after((taken - warm) / (steps + 1 - warm))


SCHEDULES: dict[str, Callable[[float], float]] = {
    "linear": lambda done: 1 - done,
    "cosine": lambda done: 0.5 * (1 + math.cos(math.pi * done)),
    "constant": lambda done: 1.0,
}


@pytest.mark.parametrize(
    ("name", "schedule"),
    [(name, "linear") for name in MODELS] + [("llama", "cosine"), ("llama", "constant")],
)
@in_batches
@pytest.mark.usefixtures("budget")
def test_training_is_the_plain_loop(name: str, schedule: str) -> None:
    settings = SETTINGS.model_copy(update={"schedule": schedule})
    ours, reference = MODELS[name](), MODELS[name]()
    events: list[Event] = []
    after = trained(ours, settings=settings, observe=events.append)
    losses = plain_loop(reference, settings, partial(warmed_up, after=SCHEDULES[schedule]))
    assert [step.loss for step in events if isinstance(step, Step)] == pytest.approx(
        losses, rel=1e-5
    )
    start = weights(MODELS[name]())
    for key, weight in weights(reference).items():
        # A thousandth of what training changed; AdamW turns a gradient's rounding into a step where
        # a key's bias has none.
        torch.testing.assert_close(after[key], weight, rtol=0, atol=1e-6)
        assert (weight - start[key]).abs().max() > 1e-3


def test_a_step_that_does_not_fit_the_memory_is_taken_in_smaller_parts(
    device_of: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends as if its parts had been small from the beginning, dropout included."""
    monkeypatch.setitem(memory.BUDGET["training"], "cpu", 64)
    expected = trained(gpt(GPT2Config)())
    monkeypatch.setitem(memory.BUDGET["training"], "cpu", 512)
    device_of(64)
    for name, weight in trained(gpt(GPT2Config)()).items():
        assert torch.equal(weight, expected[name])
    device_of(20)
    with pytest.raises(torch.OutOfMemoryError):
        trained()


def test_an_event_for_the_stage_and_one_a_step() -> None:
    events: list[Event] = []
    trained(observe=events.append)
    begun, *steps = events
    assert begun == StageStarted(stage="learn", steps=6)
    assert [(s.stage, s.step, s.steps) for s in steps if isinstance(s, Step)] == [
        ("learn", n, 6) for n in range(1, 7)
    ]
    assert [s.lr for s in steps if isinstance(s, Step)] == pytest.approx(
        [5e-4, 1e-3, 8e-4, 6e-4, 4e-4, 2e-4]
    )
    assert all(s.tokens > 0 for s in steps if isinstance(s, Step))


def test_each_epoch_has_its_own_order_and_its_own_labels() -> None:
    """Labels change with the epoch, and the rate is nearly nothing.

    So the losses tell what was trained on.
    """
    model = language_model.tiny()
    still = SETTINGS.model_copy(
        update={"lr": 1e-12, "batch": 1, "warmup": 0.0, "weight_decay": 0.0}
    )

    def losses(labelled: Callable[[int], list[Labelled]]) -> list[float]:
        events: list[Event] = []
        trained(model, labelled=labelled, settings=still, observe=events.append)
        return [step.loss for step in events if isinstance(step, Step) and step.loss is not None]

    fixed = losses(learn)
    assert sorted(fixed[:10]) == pytest.approx(sorted(fixed[10:]), rel=1e-4)
    assert fixed[:10] != pytest.approx(fixed[10:], rel=1e-2)
    changing = losses(lambda epoch: [Labelled(e, epoch) for e in examples()])

    def always(label: int) -> list[float]:
        return sorted(losses(lambda epoch: [Labelled(e, label) for e in examples()])[:10])

    by_label = [always(0), always(1)]
    assert sorted(changing[:10]) == pytest.approx(by_label[0], rel=1e-4)
    assert sorted(changing[10:]) == pytest.approx(by_label[1], rel=1e-4)
    assert by_label[0] != pytest.approx(by_label[1], rel=1e-2)


class Killed(Exception):
    pass


@dataclass
class KillAt:
    """An observer that ends the training when a step is reported, before that step is saved.

    It notes the steps it saw.
    """

    step: int
    error: type[BaseException] = Killed
    seen: list[int] = field(default_factory=list)

    def __call__(self, event: Event) -> None:
        if isinstance(event, Step):
            self.seen.append(event.step)
            if event.step == self.step:
                raise self.error


DROPOUT = gpt(GPT2Config)
ADAPTERS = Lora(rank=4, alpha=8, dropout=0.1)


@pytest.mark.parametrize(
    ("model", "options"),
    [
        (language_model.tiny, {}),
        (language_model.tiny, {"bf16": True}),
        (language_model.tiny, {"lora": ADAPTERS}),
        (DROPOUT, {}),
    ],
    ids=["full", "bf16", "lora with dropout", "model with dropout"],
)
def test_a_run_that_was_killed_ends_with_the_same_bits(
    tmp_path: Path, model: Callable[[], LanguageModel], options: dict[str, object]
) -> None:
    undisturbed = trained(model(), **options)
    for kill in range(1, 7):
        checkpoints = Checkpoints(Store(tmp_path), str(kill), minutes=0)
        with pytest.raises(Killed):
            trained(model(), observe=KillAt(kill), checkpoints=checkpoints, **options)
        # Another model's weights at the start: all that counts is in the checkpoint, but for what
        # LoRA does not train.
        torch.manual_seed(kill)
        rest = KillAt(0)
        resumed = trained(model(), observe=rest, checkpoints=checkpoints, **options)
        assert rest.seen == list(range(kill, 7))
        assert resumed.keys() == undisturbed.keys()
        assert all(torch.equal(weight, undisturbed[name]) for name, weight in resumed.items()), (
            f"killed at step {kill}"
        )


def test_a_run_that_is_killed_again_and_again_ends_with_the_same_bits(tmp_path: Path) -> None:
    checkpoints = Checkpoints(Store(tmp_path), "checkpoint", minutes=0)
    for kill in (2, 2, 3, 5):
        with pytest.raises(Killed):
            trained(observe=KillAt(kill), checkpoints=checkpoints)
    resumed, undisturbed = trained(checkpoints=checkpoints), trained()
    assert all(torch.equal(weight, undisturbed[name]) for name, weight in resumed.items())
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]


def test_no_checkpoint_before_its_time(tmp_path: Path) -> None:
    trained(checkpoints=Checkpoints(Store(tmp_path), "checkpoint", minutes=5))
    assert not (tmp_path / "checkpoint").exists()


def looks(seen: list[int] | None = None, points: int = 2) -> Watching:
    """Return looks at steps 2 and 4 of a training of six steps."""

    def look(step: int) -> list[Row]:
        if seen is not None:
            seen.append(step)
        return [Row("", "learn", "a", "test", f"{step}", 0, (-1.0, -2.0), (1, 1), step=step)]

    return Watching(points, held_out=look, trained=lambda step: ())


def test_looks_are_evenly_spaced_within_the_stage() -> None:
    def due(points: int, steps: int) -> list[int]:
        watching = looks(points=points)
        found = [step for step in range(steps + 1) if watching.due(step, steps)]
        assert found == [step for step in range(steps + 1) if watching.look(step, steps)]
        return found

    assert due(2, 6) == [2, 4]
    assert due(4, 100) == [20, 40, 60, 80]
    # As many as there are, where there are few; never the ends.
    assert due(9, 3) == [1, 2]
    assert due(0, 6) == due(2, 1) == []


def test_looking_changes_no_bit_and_is_given_back() -> None:
    undisturbed, seen, found = trained(DROPOUT()), list[int](), list[Row]()
    model = DROPOUT()
    looking = looks(seen)

    def look(step: int) -> list[Row]:
        assert not model.network.training
        torch.rand(3)
        return list(looking.held_out(step))

    watching = Watching(2, held_out=look, trained=lambda step: ())
    found = fine_tune(model, [Term(learn)], SETTINGS, stage="learn", seed=0, watching=watching)
    assert [row.step for row in found] == seen == [2, 4]
    assert all(torch.equal(weight, undisturbed[name]) for name, weight in weights(model).items())


def test_what_was_seen_before_a_kill_is_kept(tmp_path: Path) -> None:
    for kill in range(1, 7):
        checkpoints = Checkpoints(Store(tmp_path), str(kill), minutes=0)
        with pytest.raises(Killed):
            trained(observe=KillAt(kill), checkpoints=checkpoints, watching=looks())
        again: list[int] = []
        found = fine_tune(
            language_model.tiny(),
            [Term(learn)],
            SETTINGS,
            stage="learn",
            seed=0,
            checkpoints=checkpoints,
            watching=looks(again),
        )
        assert [row.step for row in found] == [2, 4]
        # The kill comes before its own step is saved.
        assert again == [step for step in (2, 4) if step >= kill]


def test_adapters_train_and_nothing_else() -> None:
    model = language_model.tiny()
    before, ids = weights(model), torch.tensor([model.tokenizer("Question? yes")["input_ids"]])
    shape = str(model.network)
    unmerged = []

    def look(event: Event) -> None:
        if isinstance(event, Step):
            learned = {
                name for name, weight in model.network.named_parameters() if weight.requires_grad
            }
            assert learned
            assert all("lora_" in name for name in learned)
            assert not any("lm_head" in name or "embed" in name for name in learned)
        if isinstance(event, Step) and event.step == event.steps:
            held = {
                name.replace(".base_layer", ""): weight
                for name, weight in weights(model).items()
                if "lora_" not in name
            }
            assert held.keys() == before.keys()
            assert all(torch.equal(weight, before[name]) for name, weight in held.items())
            with torch.no_grad():
                unmerged.append(model.network(ids).logits)

    fine_tune(
        model,
        [Term(learn)],
        SETTINGS,
        stage="learn",
        seed=0,
        lora=Lora(rank=4, alpha=8),
        observe=look,
    )
    # Merged, it is a plain model again, and computes what it computed with its adapters.
    assert str(model.network) == shape
    assert weights(model).keys() == before.keys()
    assert all(weight.requires_grad for weight in model.network.parameters())
    with torch.no_grad():
        torch.testing.assert_close(model.network(ids).logits, unmerged[0], rtol=0, atol=1e-6)
    changed = {
        name for name, weight in weights(model).items() if not torch.equal(weight, before[name])
    }
    assert changed == {name for name in before if "proj" in name}


def test_a_model_can_be_tuned_with_adapters_twice() -> None:
    model = language_model.tiny()
    once = trained(model, lora=ADAPTERS)
    twice = trained(model, lora=ADAPTERS)
    assert once.keys() == twice.keys()
    assert not torch.equal(
        once["model.layers.0.mlp.up_proj.weight"], twice["model.layers.0.mlp.up_proj.weight"]
    )


def test_bf16_computes_in_half_and_keeps_weights_whole() -> None:
    full, half = trained(), trained(bf16=True)
    start = weights(language_model.tiny())
    for name, weight in half.items():
        assert weight.dtype == torch.float32
        assert not torch.equal(weight, full[name]), name
    # The direction of training is the same.

    def moved(after: dict[str, torch.Tensor]) -> torch.Tensor:
        return torch.cat([(after[name] - start[name]).flatten() for name in start])

    assert functional.cosine_similarity(moved(full), moved(half), dim=0) > 0.95
    # At this rate a step is below what bf16 can tell apart from nothing, 2^-9 of a norm's weight of
    # 1.
    slight = trained(bf16=True, settings=SETTINGS.model_copy(update={"lr": 1e-5}))[
        "model.norm.weight"
    ]
    assert (slight != 1).all()
    assert torch.equal(slight.bfloat16(), torch.ones_like(slight, dtype=torch.bfloat16))


def test_weights_that_the_last_step_made_infinite_end_the_training_with_its_rate() -> None:
    # No loss is computed of them: without a look, they would be kept as what was learned.
    settings = Stage(epochs=1, batch=10, lr=0.5, warmup=0, schedule="constant", weight_decay=1e39)
    model = language_model.tiny()
    with pytest.raises(
        FloatingPointError, match=r"learn: the weights .* rate 0\.5; lower the rate"
    ):
        fine_tune(model, [Term(lambda _: labels.true(examples()))], settings, stage="learn", seed=0)


def test_a_loss_that_is_not_finite_ends_the_training_with_step_and_rate() -> None:
    model = language_model.tiny()
    before: dict[str, torch.Tensor] = {}

    def poison(event: Event) -> None:
        if isinstance(event, Step) and event.step == 3:
            with torch.no_grad():
                model.network.get_output_embeddings().weight[0] = math.inf
            before.update(weights(model))

    with pytest.raises(
        FloatingPointError,
        match=r"learn: the loss is nan at step 4 of 6, rate 0\.0006; lower the rate",
    ):
        trained(model, observe=poison)
    # The step that failed was not taken.
    assert all(torch.equal(weight, before[name]) for name, weight in weights(model).items())


def test_ascent_climbs_where_learning_descends() -> None:
    def losses(method: str) -> list[float]:
        events: list[Event] = []
        trained(
            terms=[Term(learn, METHODS[method]())],
            settings=SETTINGS.model_copy(update={"epochs": 8}),
            observe=events.append,
        )
        return [step.loss for step in events if isinstance(step, Step) and step.loss is not None]

    down, up = losses("random_labels"), losses("gradient_ascent")
    assert down[0] == -up[0]
    assert down[-1] < down[0] - 1
    # What is climbed is the loss of the truth; what is reported, and falls, is its negative.
    assert -up[-1] > -up[0] + 1


def in_one_of_two(folder: Path, options: dict[str, object]) -> None:
    # The launcher forks: what this process knows of itself is that it is alone.
    AcceleratorState._reset_state(reset_partial_state=True)
    events: list[Event] = []
    after = trained(
        settings=SHARED,
        labelled=lambda epoch: labels.true(examples(9)),
        observe=events.append,
        **options,
    )
    state = AcceleratorState()
    assert state.num_processes == 2
    save_file(after, folder / f"{state.process_index}.safetensors")
    (folder / f"{state.process_index}.txt").write_text("\n".join(map(repr, events)))


SHARED = Stage(epochs=2, batch=4, lr=1e-3, warmup=0.0)


@pytest.mark.parametrize("options", [{}, {"lora": Lora(rank=4)}], ids=["full", "lora"])
@in_batches
@pytest.mark.usefixtures("budget")
def test_two_processes_train_as_one_does(tmp_path: Path, options: dict[str, object]) -> None:
    """Nine examples go in batches of four.

    A process has nothing of the last batch's one example, and still takes part.
    """
    events: list[Event] = []
    alone = trained(
        settings=SHARED,
        labelled=lambda epoch: labels.true(examples(9)),
        observe=events.append,
        **options,
    )
    debug_launcher(in_one_of_two, (tmp_path, options), 2)
    first, second = (load_file(tmp_path / f"{process}.safetensors") for process in (0, 1))
    for name, weight in alone.items():
        assert torch.equal(first[name], second[name])
        torch.testing.assert_close(first[name], weight, rtol=0, atol=1e-5)
    # The main process observes every step, with the loss of the whole batch; the other says
    # nothing.
    assert (tmp_path / "1.txt").read_text() == ""
    told = (tmp_path / "0.txt").read_text().splitlines()
    assert len(told) == len(events)


def nine(epoch: int) -> list[Labelled]:
    return labels.true(examples(9))


def in_one_of_two_that_share_a_model(
    folder: Path, kind: str, options: dict[str, object], beside_copies: bool
) -> None:
    """Train a shared model, and leave what it became in the folder.

    That is the model that was saved, its weights as they were gathered one by one, and what each
    process held of it.
    """
    AcceleratorState._reset_state(reset_partial_state=True)
    process = PartialState(cpu=True)
    copied = (
        trained(MODELS[kind](), settings=SHARED, labelled=nine, **options) if beside_copies else {}
    )
    gc.collect()
    model = MODELS[kind]()
    shard(model.answers)
    # One batch for two processes: the second takes part.
    assert score(model, examples()).logprobs == score(MODELS[kind](), examples()).logprobs
    moments = 0

    def look(event: Event) -> None:
        nonlocal moments
        if isinstance(event, Step) and event.step == 6:
            (optimizer,) = (thing for thing in gc.get_objects() if type(thing) is torch.optim.AdamW)
            moments = sum(state["exp_avg"].to_local().numel() for state in optimizer.state.values())

    after = trained(model, **{"settings": SHARED, "labelled": nine, "observe": look, **options})
    language_model.save(model, folder / "model" if process.is_main_process else None)
    gathered = {name: weight.full_tensor() for name, weight in after.items()}
    for name, weight in copied.items():
        # A hundredth of a step: sums over the processes are the same but for their order, which
        # AdamW makes more of.
        torch.testing.assert_close(gathered[name], weight, rtol=0, atol=1e-5)
    save_file(gathered, folder / f"{process.process_index}.safetensors")
    held = sum(weight.to_local().numel() for weight in after.values())
    (folder / f"{process.process_index}.json").write_text(json.dumps([held, moments]))


@pytest.mark.parametrize(
    ("kind", "options"),
    [("llama", {}), ("llama", {"bf16": True}), ("gptj", {})],
    ids=["tied", "bf16", "untied"],
)
@in_batches
@pytest.mark.usefixtures("budget")
def test_two_processes_share_a_model_and_train_it_as_two_copies(
    tmp_path: Path, kind: str, options: dict[str, object]
) -> None:
    debug_launcher(in_one_of_two_that_share_a_model, (tmp_path, kind, options, True), 2)
    whole = MODELS[kind]().parameters
    (first, moments), (second, _) = (
        json.loads((tmp_path / f"{process}.json").read_text()) for process in (0, 1)
    )
    assert first + second == whole
    assert first == pytest.approx(whole / 2, rel=0.01)
    assert moments == first
    saved, gathered = (
        weights(loading.load(tmp_path / "model")),
        load_file(tmp_path / "0.safetensors"),
    )
    assert saved.keys() == gathered.keys() == weights(MODELS[kind]()).keys()
    assert all(torch.equal(weight, gathered[name]) for name, weight in saved.items())


def test_a_model_without_blocks_is_not_sharded() -> None:
    config = CTRLConfig(vocab_size=257, n_embd=32, dff=64, n_layer=2, n_head=4, n_positions=256)
    with pytest.raises(BadInput, match="transformers knows no blocks of a ctrl"):
        shard(made(config).answers)


@pytest.mark.parametrize(
    ("error", "kept"), [(Killed, 3), (KeyboardInterrupt, 4)], ids=["killed", "stopped"]
)
def test_two_processes_that_share_a_model_go_on_where_they_were(
    tmp_path: Path, error: type[BaseException], kept: int
) -> None:
    def together(name: str, **options: object) -> Path:
        (tmp_path / name).mkdir()
        debug_launcher(
            in_one_of_two_that_share_a_model, (tmp_path / name, "llama", options, False), 2
        )
        return tmp_path / name / "0.safetensors"

    checkpoints = Checkpoints(Store(tmp_path), "checkpoint", minutes=0)
    # The launcher takes a KeyboardInterrupt for its own: it comes back when both processes have had
    # theirs.
    with pytest.raises(ProcessException) if error is Killed else nullcontext():
        together("ended", observe=KillAt(4, error), checkpoints=checkpoints)
    assert not list((tmp_path / "ended").iterdir())
    with safe_open(tmp_path / "checkpoint" / "optimizer.safetensors", "pt") as file:
        assert file.metadata() == {"step": str(kept)}
    before = load_file(tmp_path / "checkpoint" / "weights.safetensors")

    # Alone, a process goes on from the same state, and so do two, to the bit.
    later = Checkpoints(Store(tmp_path), "checkpoint")
    rest = KillAt(0)
    alone = trained(settings=SHARED, labelled=nine, observe=rest, checkpoints=later)
    assert rest.seen == list(range(kept + 1, 7))
    resumed, undisturbed = (
        load_file(path)
        for path in (together("resumed", checkpoints=later), together("undisturbed"))
    )
    for name, weight in undisturbed.items():
        assert torch.equal(resumed[name], weight)
        torch.testing.assert_close(alone[name], weight, rtol=0, atol=1e-5)
        assert not torch.equal(before[f"network.{name}"], weight)
