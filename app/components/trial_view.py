"""One trial: what was retrieved, what was asked, how probable each option was, in which order they were guessed."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, NamedTuple

import plotly.graph_objects as go
import streamlit as st

from app import format as words
from app.components import cards, tables
from app.phase_names import named
from app.plots import style
from app.reading import read
from warehouse.queries import snapshot

Row = Mapping[str, Any]
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
    if not isinstance(prompt, str) or len(ids) != len(spans):
        return []
    return [Memo(str(name), prompt[a:b], prompt[c:d]) for name, (a, b, c, d) in zip(ids, spans, strict=True)]


def headline(trial: Row) -> str:
    """What came of it, in a sentence."""
    if trial["error"] is not None:
        return "This trial failed"
    if trial["attempts"] is None:
        return f"{trial['condition'] or trial['problem_id']}: " + (
            "solved" if trial["solved"] else "a measurement, not a guess"
        )
    if trial["solved"]:
        return f"Solved with guess {trial['attempts']}"
    return f"Not solved: the right answer came as guess {trial['attempts']}"


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
        probabilities(trial, read(snapshot.phase_texts, run_id)[trial["phase"]].answers)
        losses(details)
    with right:
        st.html(cards.definitions(_facts(trial, where)))
    memos(details)
    prompt(details)
    others(trial, details)


def _facts(trial: Row, where: Any) -> list[tuple[str, str, str]]:
    def text(name: str) -> str:
        value = trial[name]
        return "" if value is None else words.shortened(str(value), 600)

    received = trial["received_at"]
    return [
        ("Answer", text("answer"), ""),
        ("Right answer", text("truth"), ""),
        ("Attempts", text("attempts"), ""),
        ("Tokens in", text("tokens_in"), ""),
        ("Tokens out", text("tokens_out"), ""),
        ("Took", words.duration(trial["latency_s"]), ""),
        ("Host", text("host"), ""),
        ("Result came in", words.local_time(received, where), words.utc_time(received)),
        ("Attempt of the unit", str(trial["attempt"]), ""),
        ("Unit", text("unit_id"), ""),
        ("Bundle", f"{trial['bundle_sha256'][:16]}…, trial {trial['ordinal'] + 1}", trial["bundle_sha256"]),
    ]


def softmax(logprobs: Sequence[float]) -> list[float]:
    """Probabilities among the options alone."""
    highest = max(logprobs)
    weights = [math.exp(x - highest) for x in logprobs]
    return [w / sum(weights) for w in weights]


def probabilities(trial: Row, answers: Sequence[str]) -> None:
    """How probable the model found each option, the right one marked, with the order of the guesses."""
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
    """A bar an option; the right one in green with its label, the others grey."""
    right = trial["truth"]
    rank = 1 + sum(s > shares[options.index(right)] for s in shares) if right in options else None
    finding = (
        f"The right answer got {words.number(100 * shares[options.index(right)])} %, rank {rank} of {len(options)}"
        if rank
        else f"The model found {options[max(range(len(shares)), key=lambda i: shares[i])]} most probable"
    )
    seed = "" if trial["seed"] is None else f" of seed {trial['seed']}"
    figure = style.titled(
        finding,
        f"n {len(options)} options · softmax of their log-probabilities · order of guesses{seed} beside each",
        "probability among the options (%)",
        "",
        height=30 * len(options),
    )
    label = [f"guess {guesses.index(o) + 1}" + (", right" if o == right else "") for o in options]
    figure.add_trace(
        go.Bar(
            orientation="h",
            x=[100 * s for s in shares],
            y=list(range(len(options))),
            text=label,
            textposition="outside",
            cliponaxis=False,
            textfont={"size": style.FONT_PX},
            marker={"color": [style.GREEN if o == right else style.GREY for o in options]},
            hovertext=[
                f"{escape(words.shortened(o, 80))}: {words.number(100 * s)} %"
                for o, s in zip(options, shares, strict=True)
            ],
            hoverinfo="text",
        )
    )
    figure.update_yaxes(
        tickvals=list(range(len(options))),
        ticktext=[escape(words.shortened(o, 28)) for o in options],
        range=[len(options) - 0.4, -0.6],
        showgrid=False,
    )
    figure.update_xaxes(range=[0, 100 * min(1.0, max(shares) * 1.3)])
    return figure


def losses(details: Row) -> None:
    """What was guessed and how well it fitted, where the answer is found by guessing."""
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
    """The memos that retrieval brought back, the most relevant last, as the prompt shows them."""
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
        with st.expander(_plain(label)):
            st.code(words.shortened(text, MOST_SHOWN), language=None, wrap_lines=True)


def prompt(details: Row) -> None:
    """The whole prompt as the model got it."""
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
    """What else the phase kept: short values as a list, all of it as a file."""
    left = {k: v for k, v in details.items() if k not in SHOWN_ELSEWHERE}
    short = [(words.words(str(k)), _short(v), "") for k, v in left.items()]
    if short:
        st.subheader("Details")
        st.html(cards.definitions(short))
    whole = json.dumps(details, indent=1, ensure_ascii=False)
    st.download_button(
        "JSON",
        whole.encode("utf-8", "replace"),
        f"trial-{trial['bundle_sha256'][:12]}-{trial['ordinal']}.json",
        "application/json",
        on_click="ignore",
        type="tertiary",
        icon=":material/download:",
        help="Download all details",
    )


def _short(value: Any) -> str:
    if isinstance(value, float):
        return words.number(value)
    if isinstance(value, list) and len(value) > 12:
        return f"{len(value)} values"
    return words.shortened(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False), 600) or "empty"


def _plain(text: str) -> str:
    """Text for a label of Streamlit, in which Markdown would mean something."""
    return "".join(f"\\{c}" if c in r"\`*_{}[]()#+-.!|~$:<>" else c for c in text)
