"""The paper's tasks on the hub: where each lies, which columns make a Record, and its wording.

Names, datasets and wording are those of lm-evaluation-harness 0.4.13, and a test compares the two
item by item. Two texts differ from what it reads: mathqa's options where they are a list of Python,
and toxigen's statements where they are bytes of Python. Revisions are pinned to commits of files of
data, because `datasets` runs no dataset scripts. Rows that cannot be asked are left out: those with
a hidden answer, an empty question, an empty choice or the same choice twice.
"""

from __future__ import annotations

import ast
import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, NamedTuple

from forget.errors import BadInput, shown
from forget.settings.identity import digest
from forget.tasks.task import TEMPLATES, Record, Task

Row = dict[str, Any]


class Hub(NamedTuple):
    """Place of a dataset on the hub."""

    path: str
    revision: str
    config: str | None = None
    licence: str = ""
    """Licence that a user has to know of, since it forbids some uses."""

    def __str__(self) -> str:
        config = f" ({self.config})" if self.config else ""
        licence = f" ({self.licence})" if self.licence else ""
        return f"{self.path}{config} at revision {self.revision}{licence}"


ARC = partial(Hub, "allenai/ai2_arc", "210d026faf9955653af8916fad021475a3f00453")
GLUE = partial(Hub, "nyu-mll/glue", "bcdcba79d07bc864c1c254ccfcedcce55bcc9a8c")
SUPERGLUE = partial(Hub, "aps/super_glue", "3de24cf8022e94f4ee4b9d55a6f539891524d646")
SCIQ = Hub(
    "allenai/sciq",
    "2c94ad3e1aafab77146f384e23536f97a4849815",
    licence="CC BY-NC 3.0, not for trade",
)
OPENBOOKQA = Hub("allenai/openbookqa", "388097ea7776314e93a529163e0fea805b8a6454", "main")
PIQA = Hub("baber/piqa", "142f6d7367fd9877f0fb3b5734ea6a545f54cdd1")
HELLASWAG = Hub("Rowan/hellaswag", "218ec52e09a7e7462a5400043bb9a69a41d06b76")
COMMONSENSE_QA = Hub("tau/commonsense_qa", "94630fe30dad47192a8546eb75f094926d47e155")
SOCIAL_IQA = Hub("lighteval/siqa", "54c6a1f8cb6daf4f5abf24a601852612fb35eb25")
WINOGRANDE = Hub("allenai/winogrande", "01e74176c63542e6b0bcb004dcdea22d94fb67b5", "winogrande_xl")
# The harness names a copy, regisss/math_qa; this is the hub's own conversion of the original.
MATHQA = Hub("allenai/math_qa", "fafb9f7ee5b9ec4da9499f9c4177a4c91389f2d6")
# The harness calls it skg/toxigen-data, from where the hub sends on.
TOXIGEN = Hub("toxigen/toxigen-data", "ea082a8973a287097b17973343576e0c8da8eb3b", "annotated")

OWN = ("train", "validation", "test")
"""Splits of the hub, behind ours, where its test has labels."""
NO_TEST = ("train", "train", "validation")
"""Splits of the hub, behind ours, where its test has none: its validation is our test."""

NO_YES = ("no", "yes")
PAIR = "Sentence 1: {sentence1}\nSentence 2: {sentence2}"
STEM = "{question}"


@dataclass(frozen=True)
class Source:
    """A task's dataset and a map of its columns, by which a row becomes a Record.

    Question, choices, passage and suffix are format strings over the columns. The column "label" is
    the index of the true choice; a negative one is hidden.
    """

    name: str
    family: str
    hub: Hub
    question: str
    choices: tuple[str, ...] | str
    """Format strings, one a choice, or the name of the column that lists the choices."""
    passage: str = ""
    suffix: str = ""
    prompt: str = TEMPLATES["qa"]
    option: str = " {choice}"
    prepare: Callable[[Row], Row] = dict
    """Function that adds the columns of this map that the dataset lacks."""
    splits: tuple[str, str, str] = NO_TEST
    """Splits of the hub behind our train, validation and test. Where the first two are one, a tenth
    of it is held out for validation.
    """

    def record(self, row: Row, at: str) -> Record:
        """Return the row as a Record whose id is `at`.

        Raises:
            KeyError, ValueError, IndexError, TypeError, AttributeError: the row lacks a column, or
                a column holds what it cannot.
        """
        row = self.prepare(row)
        if isinstance(self.choices, str):
            choices = row[self.choices]
        else:
            choices = [choice.format(**row) for choice in self.choices]
        if int(row["label"]) >= len(choices):
            raise ValueError(f"label {row['label']} of {len(choices)} choices")
        return Record(
            at,
            self.question.format(**row),
            tuple(choices),
            int(row["label"]),
            self.passage.format(**row),
            self.suffix.format(**row),
        )

    def records(self, split: str) -> tuple[Record, ...]:
        """Return the usable records of one of our splits, in the hub's order.

        Raises:
            BadInput: the dataset cannot be had, or its columns are not those of the revision.
        """
        train, validation, test = self.splits
        there = {"train": train, "validation": validation, "test": test}[split]
        rows = self.rows(there)
        kept = list(range(len(rows)))
        # Where our train and validation share a split of the hub, each takes its part of the rows.
        if train == validation == there:
            held_out = set(random.Random(f"{self.name}/validation").sample(kept, len(kept) // 10))
            kept = [i for i in kept if (i in held_out) == (split == "validation")]
        records = []
        for i in kept:
            try:
                records.append(self.record(rows[i], f"{self.name}/{there}/{i}"))
            except (KeyError, ValueError, IndexError, TypeError, AttributeError) as error:
                raise BadInput(
                    f'task "{self.name}": row {i} of the split "{there}" of {self.hub} is not in '
                    f"the form that the task reads ({type(error).__name__}: {error}); "
                    "provide the data of that revision"
                ) from None
        return tuple(record for record in records if _usable(record))

    def rows(self, split: str) -> list[Row]:
        """Return the rows of one of the hub's splits, from the cache or the network.

        Raises:
            BadInput: neither has it.
        """
        try:
            import datasets
        except ImportError:
            raise BadInput(
                f'task "{self.name}" needs the package "datasets", which is not installed'
            ) from None
        try:
            data = datasets.load_dataset(
                self.hub.path, self.hub.config, revision=self.hub.revision, split=split
            )
        # No network and a dataset that asks for a login are OSErrors; a config or split that the
        # cache lacks is a ValueError.
        except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
            reason = str(error).strip().partition("\n")[0].rstrip(".")
            raise BadInput(
                f'task "{self.name}": the split "{split}" of {self.hub} cannot be loaded '
                f"({reason}); load it once with network, set HF_HOME to a cache that holds it, "
                f"or name a folder {self.name}/ of JSONL in the setting folders"
            ) from None
        return data.to_list()

    def fingerprint(self) -> str:
        """Return the identity of the data and of the map of its columns; nothing is loaded."""
        words = (self.question, self.choices, self.passage, self.suffix, self.prepare.__name__)
        return digest([self.hub[:3], self.splits, words])

    def task(self) -> Task:
        """Return the Task, whose records are loaded once, when they are first asked for."""
        train, validation, test = self.splits
        held_out = f"its {validation}"
        if validation == train:
            held_out = "a tenth of train, held out by a fixed seed"
        return Task(
            self.name,
            self.family,
            self.prompt,
            cache(self.records),
            self.fingerprint,
            splits=OWN,
            kind="hub",
            option=self.option,
            note=f"{self.hub}; test is its split {test}, validation {held_out}; "
            "wording of lm-evaluation-harness 0.4.13",
        )


def _usable(record: Record) -> bool:
    texts = (record.question, *record.choices)
    distinct = len(set(record.choices)) == len(record.choices)
    return distinct and 0 <= record.answer < len(record.choices) and all(map(str.strip, texts))


def _lettered(row: Row) -> Row:
    # In ARC an answer is a letter or, in some states' exams, a number; where hidden, it is empty.
    key = row["answerKey"].strip()
    return row | {
        "texts": row["choices"]["text"],
        "label": row["choices"]["label"].index(key) if key else -1,
    }


def _commonsense_qa(row: Row) -> Row:
    return _lettered(row) | {"question": row["question"].strip()}


def _sciq(row: Row) -> Row:
    # The line break goes with the passage, because lm-evaluation-harness keeps it where the passage
    # is empty.
    return row | {"support": row["support"].lstrip() + "\n", "label": 3}


def _wic(row: Row) -> Row:
    return row | {"word": row["sentence1"][row["start1"] : row["end1"]]}


def _copa(row: Row) -> Row:
    connector = {"cause": "because", "effect": "therefore"}[row["question"]]
    texts = [row[choice][0].lower() + row[choice][1:] for choice in ("choice1", "choice2")]
    return row | {"stem": f"{row['premise'].strip()[:-1]} {connector}", "texts": texts}


def _hellaswag(row: Row) -> Row:
    def clean(text: str) -> str:
        # Brackets are left from WikiHow's markup.
        return re.sub(r"\[.*?\]", "", text.strip().replace(" [title]", ". ")).replace("  ", " ")

    query = clean(f"{row['activity_label']}: {row['ctx_a']} {row['ctx_b'].capitalize()}")
    return row | {
        "query": query,
        "texts": [clean(ending) for ending in row["endings"]],
        "label": row["label"] or -1,
    }


def _social_iqa(row: Row) -> Row:
    return row | {"label": int(row["label"]) - 1}


def _mathqa(row: Row) -> Row:
    # Some rows have "a ) 3 , b ) 4 , ...", others a list of texts, as Python writes it. A choice
    # that is passed over would make the one behind it the true one.
    options: str = row["options"]
    if options.lstrip().startswith("["):
        parts = _python(options.strip())
    else:
        parts = re.split(r",\s*(?=[a-e]\s*\))", options)
    found = [re.fullmatch(r"\s*([a-e])\s*\)(.*)", part, re.DOTALL) for part in parts]
    if [match and match[1] for match in found] != list("abcde"):
        raise ValueError(f"the choices are not a to e: {shown(options)}")
    texts = [match[2].strip(" ,") for match in found if match]
    return row | {"texts": texts, "label": "abcde".index(row["correct"])}


def _python(text: str) -> Any:
    """Return the value that a text is in Python's own writing, or raise ValueError."""
    try:
        return ast.literal_eval(text)
    except SyntaxError:
        raise ValueError(f"{shown(text)} is cut or damaged") from None


def _winogrande(row: Row) -> Row:
    # Partial evaluation (Trinh and Le 2018): a choice fills the blank, and what follows the blank
    # is scored.
    blank = row["sentence"].index("_")
    before, after = row["sentence"][:blank], row["sentence"][blank + 1 :]
    stem = before.rstrip()
    texts = [before[len(stem) :] + row[option] for option in ("option1", "option2")]
    return {
        "stem": stem,
        "texts": texts,
        "after": f" {after.strip()}",
        "label": int(row["answer"] or 0) - 1,
    }


def _toxigen(row: Row) -> Row:
    # In the train split a text is what Python writes for bytes. Texts were generated and cut,
    # perhaps within a letter.
    text: str = row["text"]
    if re.fullmatch(r"""b(['"]).*\1""", text, re.DOTALL):
        text = _python(text).decode(errors="ignore")
    # Both are mean ratings, 1 (benign) to 5, of the harm if a machine or a person had written it.
    return row | {"text": text, "label": row["toxicity_ai"] + row["toxicity_human"] > 5.5}


SOURCES = (
    Source(
        "arc_easy",
        "science facts",
        ARC("ARC-Easy"),
        "{question}",
        "texts",
        prepare=_lettered,
        splits=OWN,
    ),
    Source(
        "arc_challenge",
        "science facts",
        ARC("ARC-Challenge"),
        "{question}",
        "texts",
        prepare=_lettered,
        splits=OWN,
    ),
    Source(
        "openbookqa",
        "science facts",
        OPENBOOKQA,
        "{question_stem}",
        "texts",
        prompt=STEM,
        prepare=_lettered,
        splits=OWN,
    ),
    Source(
        "sciq",
        "science facts",
        SCIQ,
        "{question}",
        ("{distractor1}", "{distractor2}", "{distractor3}", "{correct_answer}"),
        passage="{support}",
        prompt="{passage}Question: {question}\nAnswer:",
        prepare=_sciq,
        splits=OWN,
    ),
    Source("piqa", "physical commonsense", PIQA, "{goal}", ("{sol1}", "{sol2}")),
    Source(
        "hellaswag", "commonsense", HELLASWAG, "{query}", "texts", prompt=STEM, prepare=_hellaswag
    ),
    Source(
        "commonsense_qa",
        "commonsense",
        COMMONSENSE_QA,
        "{question}",
        "texts",
        prompt="Question: {question}\n{listed}\nAnswer:",
        prepare=_commonsense_qa,
    ),
    Source(
        "social_iqa",
        "social commonsense",
        SOCIAL_IQA,
        "{question}",
        ("{answerA}", "{answerB}", "{answerC}"),
        passage="{context}",
        prompt="Q: {passage} {question}\nA:",
        prepare=_social_iqa,
    ),
    # Two spaces: lm-evaluation-harness puts its delimiter before choices that start with a space
    # already.
    Source(
        "copa",
        "cause and effect",
        SUPERGLUE("copa"),
        "{stem}",
        "texts",
        prompt=STEM,
        option="  {choice}",
        prepare=_copa,
    ),
    Source(
        "winogrande",
        "coreference",
        WINOGRANDE,
        "{stem}",
        "texts",
        suffix="{after}",
        prompt=STEM,
        option="{choice}",
        prepare=_winogrande,
    ),
    Source(
        "wnli",
        "coreference",
        GLUE("wnli"),
        "{sentence2} True or False?",
        ("False", "True"),
        passage="{sentence1}",
    ),
    Source(
        "rte",
        "entailment",
        GLUE("rte"),
        "{sentence2} True or False?",
        ("True", "False"),
        passage="{sentence1}",
    ),
    Source(
        "cb",
        "entailment",
        SUPERGLUE("cb"),
        "{hypothesis}. True, False, or Neither?",
        ("True", "False", "Neither"),
        passage="{premise}",
    ),
    Source(
        "qnli",
        "entailment",
        GLUE("qnli"),
        "Does this response answer the question?",
        ("yes", "no"),
        passage="{question}\n{sentence}",
    ),
    Source(
        "boolq",
        "reading comprehension",
        SUPERGLUE("boolq"),
        "{question}?",
        NO_YES,
        passage="{passage}",
    ),
    Source("boolq_closedbook", "world knowledge", SUPERGLUE("boolq"), "{question}?", NO_YES),
    Source(
        "wic",
        "word sense",
        SUPERGLUE("wic"),
        "Is the word '{word}' used in the same way in the two sentences above?",
        NO_YES,
        passage=PAIR,
        prepare=_wic,
    ),
    Source(
        "mrpc",
        "paraphrase",
        GLUE("mrpc"),
        "Do both sentences mean the same thing?",
        NO_YES,
        passage=PAIR,
    ),
    Source(
        "qqp",
        "paraphrase",
        GLUE("qqp"),
        "Do both questions ask the same thing?",
        NO_YES,
        passage="Question 1: {question1}\nQuestion 2: {question2}",
    ),
    Source(
        "cola",
        "linguistic acceptability",
        GLUE("cola"),
        "Does this sentence make sense?",
        NO_YES,
        passage="{sentence}",
    ),
    Source(
        "sst2",
        "sentiment",
        GLUE("sst2"),
        "Is this sentence positive or negative?",
        ("negative", "positive"),
        passage="{sentence}",
    ),
    Source("mathqa", "arithmetic", MATHQA, "{Problem}", "texts", prepare=_mathqa, splits=OWN),
    Source(
        "toxigen",
        "toxicity",
        TOXIGEN,
        "Is the following statement hateful? Respond with either Yes or No.",
        ("No", "Yes"),
        passage="{text}",
        prompt="{question} Statement: '{passage}'",
        prepare=_toxigen,
        splits=("train", "train", "test"),
    ),
)
"""The paper's tasks; the chance level of each is one over the number of options."""

TASKS = {source.name: source.task() for source in SOURCES}
