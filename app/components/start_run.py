"""Start a run, with the values of an earlier one where one is chosen."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import tzinfo

import streamlit as st

from app import commands, prefect_api
from app import format as words
from app.components import shell, under_way
from app.phase_names import ORDER, tab
from app.reading import Row
from common.errors import LabError
from common.settings import set_options
from workpools.pipelines import RUN_ID

SCALES = ("smoke", "demo", "full")
DOMAINS = ("big_o", "equations")  # that make their own problems
DEFAULT = ""  # the model that is used unless one is named
ANSWERED = "start-answered"  # the answer to the last start of this session
MOST_CHARACTERS = 4000  # of all values
CHOSEN_ABOVE = ("domain", "model")  # fields that name files of this machine: only known values are taken


@dataclass(frozen=True)
class Values:
    """What a run was started with."""

    scale: str = "demo"
    domain: str = DOMAINS[0]
    model: str = DEFAULT
    lines: tuple[str, ...] = ()  # PHASE.KEY=VALUE, as after --set


def values_of(run: Row) -> Values:
    """Return what a run of the snapshot was started with."""
    given = run["arguments_given"]
    settings = dict(o.split("=", 1) for o in set_options(given.get("config") or {}, ORDER)[1::2])
    domain, model = (settings.pop(name, "") for name in CHOSEN_ABOVE)
    return Values(
        str(given["scale"]),
        json.loads(domain) if domain else DOMAINS[0],
        json.loads(model) if model else DEFAULT,
        tuple(f"{key}={value}" for key, value in settings.items()),
    )


def command(values: Values, override: str, until: str, domains: Collection[str], models: Collection[str]) -> list[str]:
    """Return the words of the command that starts a run with these values.

    Args:
        values, override, until: what came over the page's socket, where a box may have another value than it offers.
        domains: those that a reader may choose.
        models: the same.

    Raises:
        LabError: a value names a file, which the page lets nobody choose, or the texts are too long.
    """
    own = "on the coordinator's own command line: lab pipeline"
    for line in values.lines:
        key = line.partition("=")[0].strip()
        if key.rpartition(".")[2] in CHOSEN_ABOVE:
            raise LabError(f"{key} is not set by a line", f"choose it above, or {own}")
    for name, value, known in (("problems", values.domain, domains), ("model", values.model, models)):
        if value not in known:
            raise LabError(f"the {name} {value[:80]!r} cannot be chosen on this page", own)
    if len(override) + sum(map(len, values.lines)) > MOST_CHARACTERS:
        raise LabError(f"the values have more than {MOST_CHARACTERS:,} characters", own)
    settings = list(values.lines)
    settings += [f"domain={json.dumps(values.domain)}"] if values.domain != DOMAINS[0] else []
    settings += [f"model={json.dumps(values.model)}"] if values.model else []
    return [
        *("pipeline", "--detach", f"--scale={values.scale}"),
        *(f"--set={setting}" for setting in settings),
        *([f"--override={override}"] if override else []),
        *([f"--until={until}"] if until != ORDER[-1] else []),
    ]


def show(runs: Sequence[Row], models: Sequence[str], where: tzinfo | None) -> None:
    """Show the form.

    Args:
        runs: all runs, the latest first.
        models: names of the language models of this machine.
        where: the reader's time zone.
    """
    st.subheader("Start a run")
    if not commands.allowed():
        st.caption("This page was started by hand. The one that lab up opens starts and stops runs.")
        return None
    try:
        prefect_api.pipelines(prefect_api.address())
    except prefect_api.AwayError as away:
        return shell.hint(f"{away.what} Without it no run is started.", away.mend)
    by_id = {r["run_id"]: r for r in runs}
    chosen = st.selectbox(
        "Run again with changes",
        list(by_id),
        index=None,
        format_func=lambda run_id: f"{words.local_time(by_id[run_id]['started_at'], where)} · {run_id}",
        placeholder="Choose a run, and its values are filled in",
        key="start-from",
    )
    known = [values_of(r) for r in runs]
    begin = values_of(by_id[chosen]) if chosen else Values()
    domains = list(dict.fromkeys((*DOMAINS, *(v.domain for v in known))))
    _form(begin, chosen or "", domains, list(dict.fromkeys((DEFAULT, *models, *(v.model for v in known)))))
    answer = st.session_state.get(ANSWERED)
    if answer:
        (st.success if answer.done else st.error)(words.plain(answer.text))
    return None


def _form(begin: Values, key: str, domains: list[str], models: list[str]) -> None:
    with st.form(f"start-{key}", enter_to_submit=False):
        first, second, third = st.columns(3)
        scale = first.selectbox("Scale", SCALES, SCALES.index(begin.scale), key=f"start-scale-{key}")
        domain = second.selectbox("Problems", domains, domains.index(begin.domain), key=f"start-domain-{key}")
        model = third.selectbox(
            "Language model",
            models,
            models.index(begin.model),
            format_func=lambda name: name or "the default",
            key=f"start-model-{key}",
        )
        lines = st.text_area(
            "Other values, one a line",
            "\n".join(begin.lines),
            placeholder="p2.n_test=8",
            help="PHASE.KEY=VALUE, as after --set; lab config lists all keys. What stands here replaces the scale's own value.",
            max_chars=MOST_CHARACTERS,
            key=f"start-lines-{key}",
        )
        first, second = st.columns([2, 1])
        why = first.text_input(
            "Go on after a gate that does not say PASS, because",
            placeholder="empty: the run stops there",
            help="The reason stands beside the verdict.",
            max_chars=500,
            key=f"start-why-{key}",
        )
        until = second.selectbox("Last phase", ORDER, len(ORDER) - 1, format_func=tab, key=f"start-until-{key}")
        asked = st.form_submit_button("Start", type="primary")
    if asked:
        values = Values(scale, domain, model, tuple(filter(None, map(str.strip, lines.splitlines()))))
        with st.spinner("Checking the values and starting the run …", show_time=True):
            answer = st.session_state[ANSWERED] = _lab(values, why.strip(), until, domains, models)
            if answer.done and (run := RUN_ID.search(answer.text)):
                st.session_state[under_way.STARTED] = run[0]
        st.rerun()


def _lab(values: Values, why: str, until: str, domains: Collection[str], models: Collection[str]) -> commands.Answer:
    try:
        return commands.lab(*command(values, why, until, domains, models))
    except LabError as error:
        return commands.Answer(False, str(error))
