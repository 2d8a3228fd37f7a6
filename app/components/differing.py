"""Trials in which two hosts differ, side by side: the prompt once, then answers, attempts and option probabilities of each."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import plotly.graph_objects as go
import streamlit as st

from app import format as words
from app.components import cards, filters, tables, trial_view
from app.phase_names import named
from app.plots import style
from app.reading import Row, read
from warehouse.queries import hosts as reading_hosts
from warehouse.queries import snapshot, trials
from warehouse.queries.agreement import Mark, Pair, RunAgreement


def show(view: filters.View, found: RunAgreement, phase: str, host: str, mark: Mark, known: list[str]) -> None:
    """Show how far a host agrees with the one that it is compared with, and the trials that differ."""
    other = mark.against
    pair = next(p for p in found.pairs if p.phase == phase and {p.host, p.other} == {host, other} and p.host != p.other)
    st.html(cards.facts(_facts(view, pair, phase, host, other)))
    rows = read(reading_hosts.differing, view.run_id, phase, host, other)
    if not rows:
        return
    st.markdown(f"**Trials that differ** · {words.count(len(rows), 'problem')} under a condition")
    names = {
        f"{i}": f"{r['problem_id']} · {words.conditions(r['condition'])} · {r['differing']} of {r['trials']} seeds"
        for i, r in enumerate(rows)
    }
    picked = filters.choice("Problem and condition", list(names), "differing", say=lambda i: names[i])
    chosen = rows[int(picked)]
    pairs = [read(trials.trial, chosen[k], chosen["ordinal"]) for k in ("sha256", "other_sha256")]
    if len(there := [t for t in pairs if t is not None]) == 2:
        _beside(view, there, known)
    shown = [{k: r[k] for k in ("problem_id", "condition", "differing", "trials", "difference")} for r in rows]
    with st.expander("All of them as a table"):
        tables.show(shown, f"{view.run_id}-{phase}-{host}-{other}-differing")


def _facts(view: filters.View, pair: Pair, phase: str, host: str, other: str) -> list[cards.Fact]:
    share = words.with_interval(100 * pair.share, 100 * pair.low, 100 * pair.high)
    close = f"{pair.equal:,} equal, {pair.within_tolerance:,} within the tolerance of the precision, {pair.near_ties:,} near ties"
    facts = [
        cards.Fact(
            "Compared",
            f"{words.count(pair.trials, 'trial')} of {words.count(pair.problems, 'problem')}, {host} with {other}",
        ),
        cards.Fact("Differ", f"{pair.differing:,}, {share} %; Wilson 95 %, by problem", warns=bool(pair.differing)),
        cards.Fact("Agree", close),
    ]
    main = read(reading_hosts.main_difference, view.run_id, phase, host, other)
    if main is not None and main.value is not None:
        text = f"{words.with_interval(main.value, main.low, main.high)}, n {main.n} problems, paired, bootstrap"
        facts.append(cards.Fact(f"Main metric, {host} less {other}", text))
    else:
        facts.append(
            cards.Fact(f"Main metric, {host} less {other}", "not compared by problem: it is no mean over problems")
        )
    return facts


def _beside(view: filters.View, pairs: Sequence[Row], known: list[str]) -> None:
    first = pairs[0]
    texts = read(snapshot.phase_texts, view.run_id).get(first["phase"], snapshot.PhaseText())
    for column, trial in zip(st.columns(2, gap="large"), pairs, strict=True):
        with column:
            said = "failed" if trial["error"] else f"answered {words.shortened(str(trial['answer']), 60)}"
            facts = [
                cards.Fact("Attempts", "" if trial["attempts"] is None else f"{trial['attempts']:g}"),
                cards.Fact("Right answer", words.shortened(str(trial["truth"] or ""), 60)),
                cards.Fact("Error", words.shortened(trial["error"] or "", 300)),
                cards.Fact("Order of guesses", ", ".join(map(str, trial["details"].get("guesses") or []))),
            ]
            st.html(
                f'<div class="lab-pair"><p><strong>{escape(trial["host"])}</strong> {escape(said)}</p></div>'
                + cards.facts(facts)
            )
    figure = probabilities(pairs, list(texts.answers), known)
    if figure is not None:
        style.draw(figure, "differing-probabilities")
    if prompt := first["details"].get("prompt"):
        with st.expander(f"Prompt of {named(first['phase'])}, the same on both"):
            st.code(words.shortened(str(prompt), trial_view.MOST_SHOWN), language=None, wrap_lines=True)


def probabilities(pairs: Sequence[Row], answers: list[str], known: list[str]) -> go.Figure | None:
    """Draw how probable each option was on both hosts; None where the trials have no such numbers."""
    options = [trial_view.options_of(t["details"], answers) for t in pairs]
    if not all(options):
        return None
    shares = [[100 * s for s in trial_view.softmax(t["details"]["logprobs"])] for t in pairs]
    apart = [abs(a - b) for a, b in zip(*shares, strict=True)]
    at = max(range(len(apart)), key=lambda i: apart[i])
    finding = f"{answers[at]} is {words.number(apart[at])} points more probable on one host"
    basis = f"seed {pairs[0]['seed']} · softmax of the options' log-probabilities · right: {pairs[0]['truth']}"
    figure = style.titled(finding, basis, "probability among the options (%)", "", height=44 * len(answers))
    for i, (trial, values) in enumerate(zip(pairs, shares, strict=True)):
        colour = style.colour(trial["host"], known)
        y = [n + (i - 0.5) * 0.36 for n in range(len(answers))]
        hover = [
            f"{escape(trial['host'])}, {escape(o)}: {words.number(v)} %" for o, v in zip(answers, values, strict=True)
        ]
        figure.add_bar(
            orientation="h",
            x=values,
            y=y,
            width=0.34,
            name=escape(trial["host"]),
            marker_color=colour,
            **style.hovering(hover),
        )
    style.rows(figure, [f"{o}{' (right)' if o == pairs[0]['truth'] else ''}" for o in answers], 44)
    figure.update_xaxes(rangemode="tozero")
    return style.with_legend(figure)
