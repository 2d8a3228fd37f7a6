"""A user's notes and tags on runs: a file a run beside the warehouse, in backups and exports, and never part of a result."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from common.errors import LabError
from common.files import write_whole
from warehouse.paths import Paths

RUN_ID = re.compile(r"[A-Za-z0-9_-]{1,100}")
MOST_CHARACTERS, MOST_TAGS, TAG_CHARACTERS = 2000, 10, 40
Tag = Annotated[str, Field(min_length=1, max_length=TAG_CHARACTERS, pattern=r"^[^,\x00-\x1f]+$")]


class RunNote(BaseModel):
    """What a user wrote on a run."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    note: str = Field("", max_length=MOST_CHARACTERS)
    tags: tuple[Tag, ...] = Field((), max_length=MOST_TAGS)


def parsed(note: str, tags: str) -> RunNote:
    """Return the note for a text and tags with commas between them.

    Raises:
        LabError: the text is too long, or a tag is too long or one too many.
    """
    names = tuple(dict.fromkeys(filter(None, (tag.strip() for tag in tags.split(",")))))
    try:
        return RunNote(note=note.strip(), tags=names)
    except ValidationError:
        most = f"at most {MOST_CHARACTERS:,} characters and {MOST_TAGS} tags of {TAG_CHARACTERS} characters"
        raise LabError(f"the note has {len(note):,} characters and {len(names)} tags", f"Write {most}.") from None


def notes(paths: Paths) -> Mapping[str, RunNote]:
    """Return the notes by run; a file that cannot be read or is none of ours is left out."""
    found = {}
    for path in sorted(paths.notes.glob("*.json")):
        try:
            found[path.stem] = RunNote.model_validate_json(path.read_bytes())
        except (OSError, ValidationError):
            continue
    return found


def save(paths: Paths, run_id: str, note: RunNote) -> None:
    """Replace the note on a run; one without a text and tags is removed.

    Raises:
        LabError: this is no run's id.
        OSError: the file cannot be written.
    """
    if not RUN_ID.fullmatch(run_id):
        raise LabError(f"{run_id[:80]!r} is no run", "lab results names the last one")
    path = paths.notes / f"{run_id}.json"
    if note == RunNote():
        path.unlink(missing_ok=True)
        return
    paths.notes.mkdir(parents=True, exist_ok=True)
    write_whole(path, note.model_dump_json(indent=1).encode())
