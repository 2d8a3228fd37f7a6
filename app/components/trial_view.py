"""One trial: its prompt and retrieved memos, the probability of each option, the order of the guesses."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from html import escape
from typing import Any, NamedTuple

import plotly.graph_objects as go
import streamlit as st

from app import format as words
from app.components import cards, tables
from app.phase_names import named
from app.plots import style
from app.reading import Row, read
from warehouse.queries import snapshot

MOST_SHOWN = 20_000  # characters of a text on the page; the whole is in the file
SHOWN_ELSEWHERE = {"prompt", "logprobs", "guesses", "losses", "retrieved", "memo_spans"}


class Memo(NamedTuple):
    """A retrieved memo as the prompt shows it."""

    problem_id: str
    text: str
    answer: str


def options_of(details: Row, answers: Sequence[str]) -> Sequence[str] | None:
    """Return the names of the log-probabilities, which are the plan's answers in their order; None when they differ.

    Args:
        answers: of the phase, from the plan of the trial's run.
    """
    guesses, logprobs = [str(g) for g in details.get("guesses") or []], details.get("logprobs") or []
    return answers if sorted(guesses) == sorted(answers) and len(logprobs) == len(answers) else None


def memos_of(details: Row) -> list[Memo]:
    """Return the retrieved memos; [] for a trial that was stored without their places in the prompt."""
    prompt, ids, spans = (details.get(name) or [] for name in ("prompt", "retrieved", "memo_spans"))
    if not (isinstance(prompt, str) and isinstance(ids, list) and isinstance(spans, list) and len(ids) == len(spans)):
        return []
    if not all(isinstance(s, list) and [type(i) for i in s] == [int] * 4 for s in spans):
        return []
    return [Memo(str(name), prompt[a:b], prompt[c:d]) for name, (a, b, c, d) in zip(ids, spans, strict=True)]


def headline(trial: Row) -> str:
    """Return the outcome in a sentence."""
    if trial["error"] is not None:
        return "This trial failed"
    if trial["attempts"] is None:
        return f"{trial['condition'] or trial['problem_id']}: " + (
            "solved" if trial["solved"] else "a measurement, not a guess"
        )
    if "logprobs" in (trial["details"] or {}):
        solved = "Solved" if trial["solved"] else "Not solved"
        return f"{solved}: {trial['attempts']:.2f} guesses expected until the right answer"
    if trial["solved"]:
        return f"Solved with guess {trial['attempts']:.0f}"
    return f"Not solved: the right answer came as guess {trial['attempts']:.0f}"


def show(trial: Row, run_id: str, where: Any) -> None:
    """Draw the page of one trial of a run; no text of it is taken for markup."""
    details = trial["details"]
    seed = "" if trial["seed"] is None else f" · seed {trial['seed']}"
    parts = (named(trial["phase"] or ""), *(words.shortened(trial[k], 120) for k in ("problem_id", "condition")))
    which = " · ".join(f"<bdi>{escape(p)}</bdi>" for p in parts if p)
    st.html(
        f'<div class="lab-head"><div class="lab-over"><strong>Trial</strong></div><h1>{escape(headline(trial))}</h1>'
        f'<p class="lab-quiet">{which}{seed}</p></div>'
    )
    if trial["error"] is not None:
        st.code(words.shortened(trial["error"], MOST_SHOWN), language=None, wrap_lines=True)
    left, right = st.columns([5, 4], gap="large")
    with left:
        probabilities(trial, read(snapshot.phase_texts, run_id).get(trial["phase"], snapshot.PhaseText()).answers)
        losses(details)
    with right:
        st.html(cards.facts(_facts(trial, where)))
    memos(details)
    prompt(details)
    others(trial, details)


def _facts(trial: Row, where: Any) -> list[cards.Fact]:
    def text(name: str) -> str:
        value = trial[name]
        return "" if value is None else words.shortened(str(value), 600)

    received, bundle = trial["received_at"], trial["bundle_sha256"]
    return [
        cards.Fact("Answer", text("answer")),
        cards.Fact("Right answer", text("truth")),
        cards.Fact("Attempts", "" if trial["attempts"] is None else f"{trial['attempts']:.2f}".removesuffix(".00")),
        cards.Fact("First guess right", "" if trial["first_right"] is None else f"{trial['first_right']:.1%}"),
        cards.Fact("Tokens in", text("tokens_in")),
        cards.Fact("Tokens out", text("tokens_out")),
        cards.Fact("Took", words.duration(trial["latency_s"])),
        cards.Fact("Host", text("host")),
        cards.Fact("Result came in", words.local_time(received, where), words.utc_time(received)),
        cards.Fact("Attempt of the unit", str(trial["attempt"])),
        cards.Fact("Unit", text("unit_id")),
        cards.Fact("Bundle", f"{bundle[:16]}…, trial {trial['ordinal'] + 1}", bundle),
    ]


def softmax(logprobs: Sequence[float]) -> list[float]:
    """Return the probabilities among the options alone."""
    highest = max(logprobs)
    weights = [math.exp(x - highest) for x in logprobs]
    return [w / sum(weights) for w in weights]


def probabilities(trial: Row, answers: Sequence[str]) -> None:
    """Draw how probable each option was to the model, the right one marked, with the order of the guesses."""
    details = trial["details"]
    options, logprobs = options_of(details, answers), details.get("logprobs")
    if not logprobs or not all(isinstance(x, (int, float)) and math.isfinite(x) for x in logprobs):
        return
    if options is None:
        st.caption("The plan of this run does not name the options; their log-probabilities are below.")
        return
    style.draw(
        probability_figure(trial, options, softmax(logprobs), [str(g) for g in details["guesses"]]),
        "option-probabilities",
    )


def probability_figure(
    trial: Row, options: Sequence[str], shares: Sequence[float], guesses: Sequence[str]
) -> go.Figure:
    """Draw a bar per option; the right one green with its label, the others grey."""
    right = trial["truth"]
    rank = 1 + sum(s > shares[options.index(right)] for s in shares) if right in options else None
    finding = (
        f"The right answer got {words.number(100 * shares[options.index(right)])} %, rank {rank} of {len(options)}"
        if rank
        else f"The model found {options[max(range(len(shares)), key=lambda i: shares[i])]} most probable"
    )
    figure = style.titled(
        finding,
        f"n {len(options)} options · softmax of their log-probabilities · order of guesses beside each",
        "probability among the options (%)",
        "",
        height=30 * len(options),
    )
    label = [f"guess {guesses.index(o) + 1}" + (", right" if o == right else "") for o in options]
    percents = [100 * s for s in shares]
    colours = [style.GREEN if o == right else style.GREY for o in options]
    hover = [f"{escape(words.shortened(o, 80))}: {words.number(p)} %" for o, p in zip(options, percents, strict=True)]
    figure.add_trace(style.bars(percents, colours, label, hover, "outside"))
    style.rows(figure, options, 30)
    figure.update_xaxes(range=[0, 100 * min(1.0, max(shares) * 1.3)])
    return figure


def losses(details: Row) -> None:
    """List the guesses and their losses, where the answer is found by guessing."""
    if "losses" not in details:
        return
    st.subheader("Guesses")
    rows = [
        {"guess": i + 1, "text": words.shortened(str(text), 300), "loss": loss}
        for i, (text, loss) in enumerate(zip(details.get("guesses") or [], details["losses"], strict=False))
    ]
    if rows:
        tables.show(rows, "guesses", numbers=("loss",))


def memos(details: Row) -> None:
    """Show the retrieved memos as the prompt holds them, the most relevant last."""
    ids = [str(i) for i in details.get("retrieved") or []]
    if "retrieved" not in details:
        return
    st.subheader("Retrieved memos")
    if not ids:
        st.caption("None: this condition asks without memory, or nothing was found.")
        return
    relevance = details.get("relevance")
    known = f" Relevance {words.number(relevance)}." if isinstance(relevance, (int, float)) else ""
    st.caption(f"{words.count(len(ids), 'memo')}, the most relevant last.{known}")
    cut = memos_of(details)
    if not cut:
        st.code("\n".join(words.shortened(i, 300) for i in ids), language=None)
    for i, (name, text, answer) in enumerate(cut):
        label = f"{i + 1}. {words.shortened(name, 60)}: {words.shortened(answer, 60)}"
        with st.expander(words.plain(label)):
            st.code(words.shortened(text, MOST_SHOWN), language=None, wrap_lines=True)


def prompt(details: Row) -> None:
    """Show the whole prompt as the model received it."""
    text = details.get("prompt")
    if not text:
        return
    st.subheader("Prompt")
    st.code(
        words.shortened(str(text), MOST_SHOWN),
        language=None,
        wrap_lines=True,
        height=420 if len(str(text)) > 1200 else "content",
    )


def others(trial: Row, details: Row) -> None:
    """Show the other details: short values as a list, all of them as a file."""
    left = {k: v for k, v in details.items() if k not in SHOWN_ELSEWHERE}
    short = [cards.Fact(words.words(str(k)), _short(v)) for k, v in left.items()]
    if short:
        st.subheader("Details")
        st.html(cards.facts(short))
    whole = json.dumps(details, indent=1, ensure_ascii=False)
    name = f"trial-{trial['bundle_sha256'][:12]}-{trial['ordinal']}.json"
    tables.download("JSON", whole.encode("utf-8", "replace"), name, "application/json", "all details")


def _short(value: Any) -> str:
    if isinstance(value, float):
        return words.number(value)
    if isinstance(value, list) and len(value) > 12:
        return f"{len(value)} values"
    return words.shortened(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False), 600) or "empty"
