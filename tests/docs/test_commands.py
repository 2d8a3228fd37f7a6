"""docs/commands.md against the commands themselves."""

from __future__ import annotations

from pathlib import Path

from docs.generate.commands import commands, page
from lab import exit_codes

FILE = Path(__file__).resolve().parent.parent.parent / "docs" / "commands.md"


def test_the_page_is_what_the_commands_say() -> None:
    """A command, option or example that changes has to change here: python -m docs.generate.commands > docs/commands.md."""
    assert FILE.read_text(encoding="utf-8") == page()


def test_the_page_has_every_command_option_and_exit_code() -> None:
    """The generator must not drop what it does not expect: each name, option, help and exit code stands on the page."""
    text = FILE.read_text(encoding="utf-8")
    for name, command in commands().items():
        section = text.partition(f"\n## lab {name}\n")[2].partition("\n## ")[0]
        assert f"```sh\nlab {name}" in section
        for parameter in command.params:
            assert parameter.help in section
            assert all(f"`{option}`" in section for option in parameter.opts if option.startswith("-"))
    codes = {v for k, v in vars(exit_codes).items() if k.startswith("EXIT_")}
    assert codes == {1, 2, 3, 130}
    assert all(f"\n| {code} | " in text for code in (0, *codes))
