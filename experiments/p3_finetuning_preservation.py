"""P3 - does fine-tuning leave the model's other abilities intact?

    lab run p3 --scale demo
    p3  PASS  retention 0.95 (0.80 to 1.11), needs >= 0.80   format 1.00, arithmetic 0.90, ...

A LoRA adapter is trained on solved problems, on purpose aggressively. Base and tuned model then answer the same prompts
of four capability benchmarks, each judged by a program, and read the same held-out text.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from pydantic import Field

from experiments import mean_tests, statistics
from experiments.analysis.attempts import errors_of, row
from experiments.analysis.resampling import BOOTSTRAP_SEED
from experiments.backends.lora import LoraSettings
from experiments.backends.model_cache import Backends
from experiments.backends.protocols import LanguageModel, Reply, Unavailable, Unreadable
from experiments.capability import judges
from experiments.contract import Metric, Metrics, NextStep, PhaseConfig, Result, Sides, Status, Trial, Unit, Verdict
from experiments.data import split
from experiments.domains import get_domain
from experiments.expected import Details, Expected, Key, Number, Row, without_costs
from experiments.findings import Earlier, PhaseFindings
from experiments.protocol import next_steps
from experiments.protocol.identity import make_unit
from experiments.solving.choice import option_order
from experiments.solving.replies import UNFINISHED, answers
from experiments.solving.solving import prompt_for

NAME = "p3"
TITLE = "Fine-tuning preservation"
QUESTION = "Does fine-tuning leave the model's other abilities intact?"
BLOCKING = True
PROFILE = "prerequisites"
NEEDS = ("language_model", "chat", "lora")
CATEGORIES = ("instruction", "arithmetic", "format", "knowledge")
PERPLEXITY = "perplexity"
MAX_NATS = 100  # a token; a model that knows nothing has the logarithm of its vocabulary, about 11
# Analyses of the protocol (docs/science.md, P3); what is measured beyond them is marked exploratory.
PLANNED = tuple("retention score perplexity perplexity_ratio training_time_s".split())


def _lora(epochs: int) -> LoraSettings:
    return LoraSettings(rank=16, alpha=32, dropout=0.05, learning_rate=1e-4, epochs=epochs, batch_size=4)


SCALES: Mapping[str, Mapping[str, Any]] = {
    "smoke": {"n_problems": 96, "n_train": 4, "per_category": 2, "n_texts": 1, "lora": _lora(epochs=1)},
    "demo": {"n_problems": 360, "n_train": 12, "per_category": 10, "n_texts": 4, "lora": _lora(epochs=3)},
    "full": {},
}


class Config(PhaseConfig):
    """P3's protocol."""

    n_train: int = Field(50, gt=0, description="problems to train on")
    per_category: int = Field(20, gt=1, le=20, description="prompts of each capability benchmark")
    n_texts: int = Field(12, gt=0, le=12, description="held-out paragraphs for perplexity")
    lora: LoraSettings = _lora(epochs=5)
    overall_threshold: float = Field(0.80, description="overall retention must be at least")
    category_threshold: float = Field(0.60, description="retention of each category must be at least")


class Findings(PhaseFindings, phase=NAME, what="nothing"):
    """None: no phase needs a finding of P3."""


READS = ()
EXPECTED = None


def units(config: Config, findings: Earlier, so_far: Sequence[Result]) -> list[Unit]:
    """First the training and the base model's answers; then, with the adapter, the tuned model's."""

    def answering(which: str, round: int, adapter: str = "", trained: Sequence[str] = ()) -> list[Unit]:
        counts = dict.fromkeys(CATEGORIES, config.per_category) | {PERPLEXITY: config.n_texts}
        return [
            ask(
                {"role": which, "part": part, "adapter": adapter},
                round=round,
                depends_on=trained,
                files=[adapter] if adapter else [],
                n_trials=n,
                cost=0.8 * n,
            )
            for part, n in counts.items()
        ]

    ask = partial(make_unit, NAME, config, models=[config.model])
    if not so_far:
        return [ask({"role": "train"}, cost=1.7 * config.n_train * config.lora.epochs), *answering("base", 1)]
    if any(unit.spec["role"] == "tuned" for unit, _ in so_far):
        return []
    unit, trials = next((u, t) for u, t in so_far if u.spec["role"] == "train")
    if trials[0].error is not None:
        return []
    return answering("tuned", 2, trials[0].details["adapter"], [unit.unit_id])


def sides(config: Config, findings: Earlier) -> Sides:
    """Return the problems to train on, and as many others as there are classes."""
    return Sides(*split(config, config.n_train, len(get_domain(config.domain).options)))


def run(unit: Unit, backends: Backends) -> list[Trial]:
    """Train, or answer one benchmark with the base or the tuned model."""
    config, role = Config(**unit.config), unit.spec["role"]
    if role == "train":
        return [_train(config, backends)]
    part = unit.spec["part"]
    try:
        lm = backends.language_model(config.model, unit.spec["adapter"], config.precision)
        if part == PERPLEXITY:
            return _likelihoods(lm, role, config)
        prompts = judges.prompts(part, config.per_category)
        replies = answers(lm, [p.prompt for p in prompts], max(p.max_new_tokens for p in prompts), chat=True)
    except Unavailable as error:
        return [Trial(i, role, error=str(error), details={"category": part}) for i in _ids(part, config)]
    return [_judged(p, r, role, lm) for p, r in zip(prompts, replies, strict=True)]


def _judged(prompt: judges.CapabilityPrompt, reply: Reply, role: str, lm: LanguageModel) -> Trial:
    if reply.unfinished:
        error = f"{Unreadable.__name__}: {UNFINISHED}"
        return Trial(prompt.prompt_id, role, error=error, details={"category": prompt.category})
    return Trial(
        prompt.prompt_id,
        role,
        solved=judges.judge(prompt, reply.text),
        answer=reply.text,
        tokens_in=reply.tokens_in,
        tokens_out=reply.tokens_out,
        latency_s=reply.latency_s,
        details={"category": prompt.category, "prompt": prompt.prompt, "engine": lm.describe()},
    )


class Training(Details):
    """Of the training, what the analysis reads."""

    adapter: str


class Answer(Details):
    """Of an answer to a prompt, what the analysis reads."""

    category: str


class Likelihood(Answer):
    """Of a held-out text, what the analysis reads."""

    negative_log_likelihood: Number = Field(ge=0)


def expected(unit: Unit) -> Expected:
    """Return the trials that a unit yields: the training, or one a prompt or text."""
    config, role = Config(**unit.config), unit.spec["role"]
    if role == "train":
        key = Key("training", role, config.data_seed)
        return Expected([key], Training, failed=[Key(*key[:2])], attached="adapter", more=without_costs)
    part = unit.spec["part"]
    keys, fixed = [Key(i, role) for i in _ids(part, config)], {role: {"category": part}}
    if part == PERPLEXITY:
        return Expected(keys, Likelihood, fixed=fixed, more=_unlikely)
    return Expected(keys, Answer, fixed=fixed, judged=True)


def _unlikely(rows: Sequence[Row], details: Sequence[Likelihood]) -> str | None:
    most = MAX_NATS * sum(r.tokens_in or 0 for r in rows)
    found = sum(one.negative_log_likelihood for one in details)
    return f"{found:.0f} nats for all texts, more than {MAX_NATS} a token" if found > most else None


def _likelihoods(lm: LanguageModel, role: str, config: Config) -> list[Trial]:
    rows = []
    for text_id, text in zip(_ids(PERPLEXITY, config), judges.HELD_OUT, strict=False):
        loss, tokens = lm.negative_log_likelihood(text)
        details = {"category": PERPLEXITY, "negative_log_likelihood": loss, "engine": lm.describe()}
        rows.append(Trial(text_id, role, tokens_in=tokens, details=details))
    return rows


def _ids(part: str, config: Config) -> list[str]:
    """Problem ids of one benchmark's trials."""
    if part == PERPLEXITY:
        return [f"text-{i:02d}" for i in range(config.n_texts)]
    return [p.prompt_id for p in judges.prompts(part, config.per_category)]


def _train(config: Config, backends: Backends) -> Trial:
    domain = get_domain(config.domain)
    memory = sides(config, Earlier()).memory
    examples = [(prompt_for(domain, p, [], option_order(config, domain, p)), f" {p.truth}") for p in memory]
    try:
        training = backends.train(
            config.model, examples, [], config.lora, config.data_seed, config.precision, config.trainer
        )
    except Unavailable as error:
        return Trial("training", "train", error=str(error))
    adapter = backends.attach("p3-adapter.safetensors", training.adapter)
    facts = {"train_loss": training.train_loss, "examples": len(examples), "engine": training.engine}
    return Trial(
        "training",
        "train",
        seed=config.data_seed,
        tokens_in=training.tokens,
        latency_s=training.seconds,
        details={"adapter": adapter, **facts},
    )


def metrics(trials: Sequence[Trial], config: Config) -> Metrics:
    """Scores and retention per category and overall, perplexity before and after, the training's cost."""
    values: list[Metric] = []
    excluded: list[str] = []  # the base model solves none
    unanswered: list[str] = []  # no prompt has an answer of both models
    base_scores: list[float] = []
    tuned_scores: list[float] = []
    for category in CATEGORIES:
        base, tuned, failed = _paired(trials, category)
        for name, scores in (("base", base), ("tuned", tuned)):
            values.append(row("score", f"{category} {name}", statistics.wilson(int(sum(scores)), len(scores)), failed))
        if not sum(base):
            (excluded if base else unanswered).append(category)
            why = "the base model solves none, so nothing can be retained" if base else "no results"
            values.append(Metric("retention", None, n=len(base), failed=failed, condition=category, method=why))
            continue
        values.append(row("retention", category, statistics.bootstrap_ratio(tuned, base, BOOTSTRAP_SEED), failed))
        base_scores += base
        tuned_scores += tuned
    if base_scores:
        overall = statistics.bootstrap_ratio(tuned_scores, base_scores, BOOTSTRAP_SEED)
        values.append(row("retention", "overall", overall))
    else:
        values.append(Metric("retention", None, condition="overall", method="no category that the base model solves"))
    values.append(_noninferiority(base_scores, tuned_scores, config))
    values += _perplexity(trials)
    values += [
        Metric("training_time_s", t.latency_s, n=1, condition="train", method="measured", timing=True)
        for t in trials
        if t.condition == "train" and t.latency_s is not None
    ]
    return Metrics(
        tuple(values),
        {
            "excluded": excluded,
            "unanswered": unanswered,
            "errors": errors_of(trials)[:3],
            "training_failed": [t.error for t in trials if t.condition == "train" and t.error],
        },
    )


def _noninferiority(base: Sequence[float], tuned: Sequence[float], config: Config) -> Metric:
    """p of a loss as large as the gate allows, over the prompts that retention rests on; shown beside it, decides nothing."""
    share = 1.0 - config.overall_threshold
    margin = share * sum(base) / len(base) if base else 0.0
    if margin <= 0:
        why = "no loss is allowed, so there is no margin" if base else "no category that the base model solves"
        return Metric("noninferiority_p", None, n=len(base), condition="overall", method=why)
    found = mean_tests.noninferiority_paired(base, tuned, margin)
    note = f"; {found.note}" if found.note else ""
    bound = "" if found.high is None else f", at most {found.high:.3f} (95 %, one-sided)"
    method = (
        f"one-sided paired t test that a prompt loses less than {margin:.3f}, {share:.0%} of the base's mean score "
        f"{sum(base) / len(base):.3f}; lost {found.mean_difference:.3f}{bound}{note}"
    )
    return Metric("noninferiority_p", found.p, n=found.n, condition="overall", method=method)


def _paired(trials: Sequence[Trial], category: str) -> tuple[list[float], list[float], int]:
    """(base scores, tuned scores, failed) of the prompts that both models answered."""
    mine = [t for t in trials if t.details.get("category") == category]
    by = {
        which: {t.problem_id: float(bool(t.solved)) for t in mine if t.condition == which and t.error is None}
        for which in ("base", "tuned")
    }
    both = sorted(set(by["base"]) & set(by["tuned"]))
    return [by["base"][i] for i in both], [by["tuned"][i] for i in both], sum(t.error is not None for t in mine)


def _perplexity(trials: Sequence[Trial]) -> list[Metric]:
    """exp(mean negative log-likelihood a token) of the held-out text, before and after."""
    rows, found, n = [], {}, 0
    for which in ("base", "tuned"):
        mine = [t for t in trials if t.condition == which and t.error is None]
        texts = [t for t in mine if t.details.get("category") == PERPLEXITY]
        if tokens := sum(t.tokens_in or 0 for t in texts):
            n, method = len(texts), "held-out text, lower is better"
            found[which] = math.exp(sum(t.details["negative_log_likelihood"] for t in texts) / tokens)
            rows.append(Metric("perplexity", found[which], n=n, condition=which, method=method))
    if len(found) == 2:
        ratio = found["tuned"] / found["base"]
        rows.append(Metric("perplexity_ratio", ratio, n=n, condition="tuned / base", method="held-out text"))
    return rows


def gate(metrics: Metrics, config: Config) -> Verdict:
    """PASS when overall retention >= 80 %, no category is under 60 % and the format is still followed."""
    overall = metrics.find("retention", "overall")
    assert overall is not None  # noqa: S101
    excluded, unanswered, errors = (metrics.facts[k] for k in ("excluded", "unanswered", "errors"))
    rows = {c: m for c in CATEGORIES if (m := metrics.find("retention", c)) and m.value is not None}
    note = f"; excluded, since the base model solves none: {', '.join(excluded)}" if excluded else ""
    if unanswered:
        note += f"; without an answer of both models: {', '.join(unanswered)}"
        note += f" ({errors[0]})" if errors else ""

    def open_(why: str, *steps: NextStep) -> Verdict:
        return Verdict(Status.INCONCLUSIVE, why, None, overall, config.overall_threshold, steps)

    if metrics.facts["training_failed"]:
        failed: list[str] = metrics.facts["training_failed"]
        return open_(f"The training failed: {failed[0]}.", next_steps.install(failed, next_steps.STRONG))
    missing = [*excluded, *unanswered]
    if len(missing) > 1 or "format" in missing or overall.value is None:
        steps = [next_steps.install(errors, next_steps.STRONG)] if unanswered else []
        return open_(f"Too little to retain{note}.", *steps, *(_next_without_base(config) if excluded else ()))
    worst = min(rows, key=lambda c: rows[c].value or 0.0)
    low = rows[worst].value or 0.0
    numbers = (
        f"retention {overall.value:.2f} (needs >= {config.overall_threshold}), "
        f"lowest {worst} {low:.2f} (needs >= {config.category_threshold})"
    )
    shown = metrics.find("noninferiority_p", "overall")
    if shown and shown.value is not None:
        numbers += f", non-inferiority p {shown.value:.3g}"
    # The format counts as followed when its category holds the same 60 % as every other.
    passed = overall.value >= config.overall_threshold and low >= config.category_threshold
    if passed:
        return Verdict(Status.PASS, f"{numbers}{note}.", None, overall, config.overall_threshold)
    return Verdict(
        Status.FAIL, f"{numbers}{note}.", None, overall, config.overall_threshold, next_steps.gentler(NAME, config.lora)
    )


def _next_without_base(config: Config) -> tuple[NextStep, ...]:
    """Return steps where the base model solves too little: more prompts of each kind, or a model that can do more."""
    most = Config.model_fields["per_category"].default  # the protocol's, and all that there are
    larger = next_steps.larger_model(NAME, "its abilities can be lost")
    if config.per_category >= most:
        return (larger,)
    return next_steps.command(NAME, {"per_category": most}, f"{most} prompts of each kind"), larger
