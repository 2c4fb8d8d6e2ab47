"""`ottla profile`: create, use, list, show, delete; `path` and `prompt` for scripts."""

from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple, TypeVar

import click

from ottla.cli.options import HELP_NAMES, confirm, key_values, output_option, yes_option
from ottla.cli.output import Column, print_data, print_pairs, say, show_all
from ottla.cli.profiles import PROJECT_FILE, ProfileError, Profiles, load, project_file, read, user_file, write
from ottla.cli.rows import ProfileRow

T = TypeVar("T")

SECRETS: Final = ("password", "secret", "token", "jaas", "key.pem", "keystore.key")
COLUMNS: Final = (
    Column("NAME", lambda row: ("* " if row.current else "  ") + row.name),
    Column("BOOTSTRAP", lambda row: row.bootstrap),
    Column("FILE", lambda row: row.file),
)
project_option: Final = click.option(
    "--project", is_flag=True, help=f"In the project's {PROJECT_FILE} (made here if there is none above)."
)


@click.group(name="profile", context_settings=HELP_NAMES)
def command() -> None:
    """Names for clusters and how to reach them; per person, or per project."""


@command.command()
@click.argument("name")
@click.option("-b", "--bootstrap", metavar="HOST:PORT,...", required=True, help="Brokers to begin with.")
@click.option("-X", "settings", metavar="KEY=VALUE", multiple=True, callback=key_values, help="A setting; repeatable.")
@click.option("--use", is_flag=True, help="And use it from now on.")
@project_option
@yes_option
def create(name: str, bootstrap: str, settings: dict[str, str], *, use: bool, project: bool, yes: bool) -> None:
    """Create the profile NAME, or replace it. Asks before it replaces another."""
    from ottla.cli.connection import Connection

    config = {"bootstrap.servers": bootstrap, **settings}
    try:
        Connection(config=config).check()
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    file = _Opened.at(project)
    if file.profiles.profiles.get(name, config) != config:
        before = file.profiles.profiles[name].get("bootstrap.servers")
        confirm(f"Replace the profile {name} of {file.path}?", [f"{name}: {before} -> {bootstrap}"], yes=yes)
    current = name if use or (file.profiles.current is None and not file.profiles.profiles) else file.profiles.current
    file.save(current, {**file.profiles.profiles, name: config})
    say(f"{file.path}: profile {name}" + (", in use" if current == name else ""))


@command.command()
@click.argument("name")
@project_option
def use(name: str, *, project: bool) -> None:
    """Use the profile NAME where no other is named."""
    _guard(lambda: load().named(name))
    file = _Opened.at(project)
    file.save(name, file.profiles.profiles)
    say(f"using {name}")


@command.command(name="list")
@output_option(list[ProfileRow])
def list_profiles(*, output: str) -> None:
    """List profiles; * marks the one in use."""
    known = _guard(load)
    rows = [
        ProfileRow(
            name=name,
            current=name == known.current,
            bootstrap=config.get("bootstrap.servers"),
            file=known.origins[name],
        )
        for name, config in sorted(known.profiles.items())
    ]
    show_all(output, rows, COLUMNS)


@command.command()
@click.argument("name", required=False)
@click.option("--secrets", is_flag=True, help="Show passwords and tokens too.")
@output_option(dict[str, str])
def show(name: str | None, *, secrets: bool, output: str) -> None:
    """Print the settings of the profile NAME, or of the one in use."""
    known = _guard(load)
    chosen = name or known.current
    if chosen is None:
        raise click.UsageError("no profile is in use: name one, or `ottla profile use NAME`")
    config = _guard(lambda: known.named(chosen))
    if not secrets:
        config = {key: "(hidden)" if any(word in key for word in SECRETS) else value for key, value in config.items()}
    if output in ("table", "wide"):
        print_pairs(list(config.items()))
    else:
        print_data(output, config)


@command.command()
@click.argument("name")
@project_option
@yes_option
def delete(name: str, *, project: bool, yes: bool) -> None:
    """Delete the profile NAME."""
    file = _Opened.at(project)
    _guard(lambda: file.profiles.named(name))
    confirm(f"Delete the profile {name} from {file.path}?", (), yes=yes)
    current = None if file.profiles.current == name else file.profiles.current
    file.save(current, {key: value for key, value in file.profiles.profiles.items() if key != name})
    say(f"deleted {name}")


@command.command()
def prompt() -> None:
    """Print the name of the profile in use, for a shell's prompt; nothing if there is none."""
    known = _guard(load)
    if known.current is not None:
        click.echo(known.current)


class _Opened(NamedTuple):
    """One file of profiles, read and to be written."""

    path: Path
    profiles: Profiles

    @classmethod
    def at(cls, project: bool) -> "_Opened":
        path = (project_file() or Path.cwd() / PROJECT_FILE) if project else user_file()
        return cls(path, _guard(lambda: read(path)))

    def save(self, current: str | None, profiles: dict[str, dict[str, str]]) -> None:
        write(self.path, Profiles(current=current, profiles=profiles))


def _guard(act: Callable[[], T]) -> T:
    try:
        return act()
    except ProfileError as error:
        raise click.UsageError(str(error)) from None
