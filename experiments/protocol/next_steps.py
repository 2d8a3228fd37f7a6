"""The failure protocol: what to try after a FAIL or INCONCLUSIVE, each a command with its reason."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from experiments import power
from experiments.backends.catalog import EMBEDDERS as PACKAGED
from experiments.contract import LabRun, Metric, NextStep, PhaseConfig
from experiments.data import zone_of
from experiments.domains import get_domain
from experiments.domains.jsonl import JsonLines

if TYPE_CHECKING:
    from experiments.backends.lora import LoraSettings

# Embedders to try besides those that were; the first comes with the project (docs/science.md, P1).
EMBEDDERS = ("all-MiniLM-L6-v2", "all-mpnet-base-v2", "paraphrase-MiniLM-L6-v2", "BAAI/bge-small-en-v1.5")
BUNDLED_EMBEDDER = PACKAGED[EMBEDDERS[0]][2]
WEAK, STRONG = "pip install '.[weak]'", "pip install '.[strong]'"  # the packages of embedding and choice, and of LoRA
LARGER_REPOSITORY = "microsoft/Phi-3-mini-4k-instruct"  # a model that fits a strong machine
HALF_WIDTHS = 2 * 1.96  # standard errors between the ends of a 95 % interval
UNUSABLE = (
    " cannot be used: "  # in the error of a model that is here and that its library refuses (backends.model_cache)
)
INSTALL = re.compile(r"pip install [^\n;]+")


def command(phase: str, settings: Mapping[str, Any], why: str) -> NextStep:
    """Return the step that runs `phase` again with these settings."""
    return NextStep(LabRun(phase, settings), why)


def install(errors: Iterable[str], otherwise: str) -> NextStep:
    """The install command that an error names, the search for another model if a library refuses this one, or the given one."""
    told = list(errors)
    named = next((found[0].strip() for e in told if (found := INSTALL.search(e))), None)
    if named is None and any(UNUSABLE in e for e in told):
        return NextStep("lab doctor", "lists the models of this machine; choose one that loads: --set model=NAME")
    return NextStep(named or otherwise, "what could not be loaded; then run the phase again")


def needed_pairs(difference: Metric, level: power.Level) -> int | None:
    """Problems that see a mean difference such as this at 80 % power; None without an interval or a difference."""
    if difference.value is None or difference.low is None or difference.high is None or not difference.n:
        return None
    spread = (difference.high - difference.low) / HALF_WIDTHS * difference.n**0.5
    return power.required_n(abs(difference.value) / spread, level) if spread > 0 and difference.value else None


def new_study(
    phase: str, config: PhaseConfig, difference: Metric, level: power.Level, memory: int, feeds: Sequence[str] = ()
) -> tuple[NextStep, ...]:
    """As many *other* problems as the effect seen asks for, under another data seed.

    More of the same problems would be a second look at a test that allows one: doubling 30 to 240 until it passes raises
    false passes from 2.7 to 7.4 % (measured). () when there were enough, or the domain cannot make so many; also for
    files of rows, whose other split has the same rows.

    Args:
        level: of the test that the study is to pass.
        memory: problems that stand in memory beside the test's.
        feeds: phases whose n_test must grow with it.
    """
    needed = needed_pairs(difference, level)
    if needed is None or needed <= difference.n or isinstance(get_domain(config.domain), JsonLines):
        return ()
    settings: dict[str, Any] = {"n_test": needed} | {f"{other}.n_test": needed for other in feeds}
    if not _has_room(config, settings, memory, needed):
        return ()
    why = (
        f"a new study of {needed} other problems, as many as an effect such as this needs at 80 % power; this verdict "
        "stands, and more problems added to it would not be a test"
    )
    return (command(phase, {**settings, "data_seed": config.data_seed + 1}, why),)


def _has_room(config: PhaseConfig, settings: dict[str, Any], *counts: int) -> bool:
    """Return True if the domain can make so many problems; a larger n_problems is added to `settings` where it must grow."""
    domain = get_domain(config.domain)
    classes = len(domain.options)
    # Each side is balanced by itself, so each class must be there for the rounded-up counts, beside the other sides' zones.
    memory, *asked = sorted((-(-n // classes) for n in counts), reverse=True)
    each = memory + sum(asked)
    while memory + (max(sum(asked), zone_of(each)) if asked else 0) + zone_of(each) > each:
        each += 1
    total = each * classes
    if isinstance(domain, JsonLines) and each > min(Counter(p.label for p in domain.rows).values()):
        return False  # the rarest label of a file has no more
    if total > config.n_problems:
        settings["n_problems"] = total
    return total <= max(config.n_problems, get_domain(config.domain).maximum)


def doubled(phase: str, config: PhaseConfig, field: str, why: str, *others: int) -> tuple[NextStep, ...]:
    """Twice as many problems in a memory, beside `others`; () where the domain cannot make so many."""
    count = 2 * getattr(config, field)
    settings = {field: count}
    return (command(phase, settings, why),) if _has_room(config, settings, count, *others) else ()


def others_doubled(phase: str, config: PhaseConfig, field: str, why: str, *others: int) -> tuple[NextStep, ...]:
    """Twice as many *other* problems, under another data seed, beside `others`, for a threshold that a share must reach.

    () where the domain cannot make so many, and for files of rows, as in `new_study`.
    """
    count = 2 * getattr(config, field)
    settings: dict[str, Any] = {field: count}
    if isinstance(get_domain(config.domain), JsonLines) or not _has_room(config, settings, count, *others):
        return ()
    return (command(phase, {**settings, "data_seed": config.data_seed + 1}, why),)


def other_embedders(phase: str, tried: Sequence[str], also: Sequence[str] = ()) -> tuple[NextStep, ...]:
    """Up to two embedders that were not tried, and `also`, as the `embedders` of P1 or E0."""
    new = [name for name in EMBEDDERS if name not in tried][:2]
    return (command(phase, {"embedders": [*new, *also]}, "another embedder"),) if new else ()


def easier(phase: str, config: PhaseConfig, why: str) -> tuple[NextStep, ...]:
    """For a floor: easier problems, more guesses, or else a larger model."""
    domain = get_domain(config.domain)
    steps = []
    if config.domain == "big_o" and config.names == "neutral":
        steps.append(command(phase, {"names": "natural"}, f"easier problems, with telling names: {why}"))
    if domain.answers == "guessing":
        if config.max_guesses < domain.max_attempts:
            steps.append(command(phase, {"max_guesses": domain.max_attempts}, f"more guesses: {why}"))
        steps.append(command(phase, {"domain": "big_o"}, f"easier problems, with answers to choose from: {why}"))
    return tuple(steps or [larger_model(phase, why)])


def harder(phase: str, config: PhaseConfig, why: str) -> tuple[NextStep, ...]:
    """For a ceiling: problems that are not solved at the first guess."""
    if config.names == "natural":
        return (command(phase, {"names": "neutral"}, f"harder problems, without telling names: {why}"),)
    other = "big_o" if config.domain == "equations" else "equations"
    return (command(phase, {"domain": other}, f"harder problems, of another domain: {why}"),)


def larger_model(phase: str, why: str) -> NextStep:
    """A model with more ability. Few hosts have it, and nothing is downloaded unasked, so the reason says how it comes."""
    fetch = f"hf download {LARGER_REPOSITORY}"
    return command(
        phase, {"model": f"hf/{LARGER_REPOSITORY}"}, f"a larger model: {why}; a machine without it first: {fetch}"
    )


def gentler(phase: str, lora: LoraSettings) -> tuple[NextStep, ...]:
    """A training that changes less: half the rate; half the rank."""
    changes: list[dict[str, Any]] = [{"learning_rate": lora.learning_rate / 2}]
    if lora.rank > 1:
        changes.append({"rank": lora.rank // 2, "alpha": max(1, lora.alpha // 2)})
    return tuple(
        command(
            phase,
            {"lora": lora.model_copy(update=c).model_dump(mode="json")},
            f"{' and '.join(c)} halved".replace("_", " "),
        )
        for c in changes
    )
