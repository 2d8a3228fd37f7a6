"""Reports, labelled data, settings, addresses and arguments of any kind: a sentence that says what is wrong, never a traceback."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hostile_values import TEXTS, deep, fingerprint, numbers, scalars, texts, values
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from common.environment import checked_host
from common.errors import LabError
from common.text import printable
from experiments.domains import jsonl_file
from experiments.registry import PHASES, configure
from lab.commands.options import by_phase, parse_settings
from lab.main import main
from lab.network import lan
from lab.services import join
from warehouse.delivery.bundles import NAME
from warehouse.delivery.results_store import Store
from warehouse.paths import Paths
from workpools.assess import assess, parse_report
from workpools.pools import checked_url

many = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def good_report() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(assess(quick=True).model_dump_json())
    return found


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a LAB_HOME that does not exist yet and a neighbour's file, in an environment in which nothing is set."""
    for name in [v for v in os.environ if v.startswith(("PREFECT_", "LAB_"))]:
        monkeypatch.delenv(name)
    (tmp_path / "precious").write_text("untouched")
    monkeypatch.setenv("LAB_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("LAB_SECRETS", str(tmp_path / "secrets"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@contextlib.contextmanager
def clear_error_or_none(limit: int = 12_000) -> Iterator[None]:
    """Whatever is done inside ends well or in a LabError whose text is short."""
    try:
        yield
    except LabError as error:
        if not error.what or len(str(error)) >= limit:
            raise AssertionError(str(error)[:300]) from error


@many
@given(st.data())
def test_reports_of_other_machines_are_checked_field_by_field(good_report: dict[str, Any], data: st.DataObject) -> None:
    """They decide what a machine is given, and their text is shown on terminals and pages."""
    fields = data.draw(st.lists(st.sampled_from(sorted(good_report)), min_size=1, max_size=3))
    changed = (
        good_report
        | {name: data.draw(values) for name in fields}
        | data.draw(st.dictionaries(texts, values, max_size=1))
    )
    content = json.dumps(changed).encode(errors="surrogatepass")
    with clear_error_or_none():
        report = parse_report(content)
        assert checked_host(report.host) == report.host
        assert report.ram_total_gb > 0


@many
@given(st.binary(max_size=400) | values.map(lambda v: json.dumps(v).encode(errors="surrogatepass")))
def test_what_is_no_report_is_refused(content: bytes) -> None:
    """Bytes of any kind, and JSON of any shape."""
    with pytest.raises(LabError) as refused:
        parse_report(content)
    assert len(str(refused.value)) < 1200


@pytest.mark.parametrize(
    "content",
    [
        json.dumps(deep(900)).encode(),
        b"[" * 200_000,
        b'{"a":' * 100_000,
        b" " * 2**21,
        gzip.compress(b"0" * 2**20),
        b'{"report_version": 2, "report_version": 1}',
        b"1" * 100_000,
    ],
    ids=["deep", "deeper", "deep objects", "large", "gzip", "twice", "a long number"],
)
def test_bombs_are_no_reports(content: bytes) -> None:
    """A report of a megabyte must not cost a gigabyte or the stack."""
    with pytest.raises(LabError) as refused:
        parse_report(content)
    assert len(str(refused.value)) < 1200


LINE = st.fixed_dictionaries(
    {}, optional={"id": scalars, "text": scalars, "label": scalars, "group": scalars, "more": values}
).map(lambda x: json.dumps(x).encode(errors="surrogatepass"))


@many
@given(
    st.lists(LINE | st.binary(max_size=80) | values.map(lambda v: json.dumps(v).encode(errors="replace")), max_size=6)
)
def test_labelled_data_of_anything_are_checked_line_by_line(world: Path, lines: list[bytes]) -> None:
    """Whatever a line holds, the report names it, in short sentences, and the file is accepted only when it can be used."""
    path = world / "data.jsonl"
    path.write_bytes(b"\n".join(lines))
    with clear_error_or_none():
        report = jsonl_file.check(path)
        assert len(report.errors) <= jsonl_file.LISTED
        assert all(len(str(f)) < 1000 for f in report.errors + report.leaks)
        if not report.n_errors:
            assert len(list(jsonl_file.read_rows(path))) == report.lines >= 2


@pytest.mark.parametrize(
    "content",
    [
        gzip.compress(b'{"id": 1}\n' * 200_000),
        b'{"text": "' + b"a" * 2**22,
        b"[" * 2**21,
        b"\x00" * 2**21,
        b"\xff\xfe" + b"a\x00" * 999,
    ],
    ids=["gzip", "one long line", "brackets", "zeros", "UTF-16"],
)
def test_bombs_are_no_labelled_data(world: Path, content: bytes) -> None:
    """A file in one line, or compressed, is told, not loaded."""
    path = world / "data.jsonl"
    path.write_bytes(content)
    with clear_error_or_none():
        assert jsonl_file.check(path).n_errors > 0


@many
@given(st.sampled_from(sorted(PHASES)), st.dictionaries(texts, values, max_size=3), st.data())
def test_settings_of_anything_are_taken_or_named(phase: str, more: dict[str, Any], data: st.DataObject) -> None:
    """A run's config is stored and hashed: a value of a wrong type that slipped in would name another experiment."""
    name = data.draw(st.sampled_from(sorted(type(configure(phase, "smoke")).model_fields)))
    value = data.draw(values)
    read = parse_settings([f"{name}={json.dumps(value)}", *(f"{k}={v}" for k, v in more.items() if k and "=" not in k)])
    with clear_error_or_none(200_000):
        by_phase({f"{phase}.{k}": v for k, v in read.items()})
    with clear_error_or_none():
        made = configure(phase, "smoke", {name: value})
        assert type(made).model_validate_json(made.model_dump_json()) == made


URL = st.builds(
    "{}{}{}{}".format,
    st.sampled_from(["", "http://", "https://", "file://", "ftp://", "javascript:", "quack://", "rsync+ssh://", "//"]),
    texts,
    st.sampled_from(["", ":4200", ":99999", ":-1", "@evil", "/api", "?a=b", "#x"]),
    texts,
)


@many
@given(URL)
def test_addresses_of_anything_are_addresses_or_refused(url: str) -> None:
    """An address goes to libraries and programs that read more into it: other hosts, files, options, headers."""
    with clear_error_or_none():
        api = join.api_of(url)
        assert api.startswith(("http://", "https://")) and api.endswith("/api")
        assert api.isprintable() and " " not in api and "@" not in api.split("/")[2]
    with clear_error_or_none():
        assert checked_url(url) == url
    with clear_error_or_none():
        lan.checked_address(url)
    assert NAME.fullmatch(url) is None


@many
@given(url=URL)
def test_a_results_store_of_anything_is_a_place_or_refused(world: Path, url: str) -> None:
    """LAB_RESULTS_URL becomes a path, or the argument of a program."""
    assume("\x00" not in url and url)
    before = fingerprint(world)
    with pytest.MonkeyPatch.context() as patch:
        try:
            patch.setenv("LAB_RESULTS_URL", url)
        except UnicodeEncodeError:
            return
        with clear_error_or_none():
            store = Store.configured(Paths.local())
            for digest in (url, "../" * 8 + "etc/passwd", "a" * 63):
                with pytest.raises(LabError):
                    store.get_file(digest)
                with pytest.raises(LabError):
                    store.has_bundle(digest)
            with pytest.raises(LabError):
                store.put_report(f"../{url}", b"{}")
    assert fingerprint(world) == before


NOBODY = "http://127.0.0.1:1/api"  # a port on which nothing listens without root
# Commands that take a name, a path or a value, none of which starts anything before it was judged.
COMMANDS = [
    ["run"],
    ["run", "p1", "--scale"],
    ["run", "p1", "--set"],
    ["pipeline", "--set"],
    ["drain"],
    ["undrain"],
    ["data", "check"],
    ["assess", "--from"],
    ["join"],
    ["plan", "--scale"],
    ["join", "http://127.0.0.1:1", "--also"],
]


@settings(many, max_examples=40)
@given(st.sampled_from(COMMANDS), texts)
@example(["data", "check"], "/etc/passwd")
def test_arguments_of_anything_are_answered_in_a_line(world: Path, command: list[str], text: str) -> None:
    """Exit code 2, one line without control characters, nothing written; names come from scripts and other programs too."""
    assume("\x00" not in text)
    before = fingerprint(world)
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        patch.setattr(sys, "argv", ["lab", *command, text])
        patch.setenv("PREFECT_API_URL", NOBODY)
        with pytest.raises(SystemExit) as ended:
            main()
    said = err.getvalue()
    if ended.value.code == 0:
        assert text in ("--help", "-h") and out.getvalue().startswith(("Usage", "\nUsage", " \n Usage"))
    else:
        assert ended.value.code == 2, said
        # What is wrong with a file of data is listed before, a line each, and how much more there is.
        listed = 2 * (jsonl_file.LISTED + 1) if command == ["data", "check"] else 0
        assert 1 <= said.count("\n") <= 1 + listed
        assert printable(said) == said, repr(said[:300])
    assert fingerprint(world) == before


@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
def test_a_host_is_one_lowercase_label(text: str) -> None:
    """Hosts are file names, queue names and rows; everything rests on this one check."""
    if text in ("null", "1e999"):  # words like any other
        assert checked_host(text) == text
        return
    with pytest.raises(LabError):
        checked_host(text)


@many
@given(numbers)
def test_ports_of_anything_are_refused_before_anything_starts(world: Path, port: float) -> None:
    """A port that is none must be told before the server's database is made."""
    from lab.services import up

    assume(not 1 <= port < 65536)  # int(1.5) is a port, and would be opened
    with pytest.raises((LabError, TypeError, ValueError, OverflowError)):
        up.up(int(port), 8501, page=False, say=print)
    assert not (world / "home").exists()
