"""`ottla explain`: what one of Kafka's errors means, whether trying again helps, and what to do."""

import click

from ottla.cli.options import HELP_NAMES, output_option
from ottla.cli.output import print_data, print_pairs
from ottla.cli.rows import ErrorRow


@click.command(name="explain", context_settings=HELP_NAMES)
@click.argument("error", metavar="NAME|NUMBER")
@output_option(ErrorRow)
def command(error: str, *, output: str) -> None:
    """Explain the error with this NAME or NUMBER, UNKNOWN_TOPIC_OR_PARTITION or 3 say."""
    import msgspec

    from ottla.cli.failures import fix_of
    from ottla.client import ErrorCode

    name = error.upper()
    digits = name.removeprefix("-")
    known = {one.name: one for one in ErrorCode}
    code = known.get(name) or (ErrorCode.of(int(name)) if digits.isdigit() and int(name) in set(ErrorCode) else None)
    if code is None:
        from difflib import get_close_matches

        near = get_close_matches(name, known, n=1)
        raise click.UsageError(f"Kafka has no error {error!r}" + (f"; did you mean {near[0]}?" if near else ""))
    row = ErrorRow(
        name=code.name, number=int(code), meaning=code.description, retriable=code.retriable, fix=fix_of(code)
    )
    if output not in ("table", "wide"):
        print_data(output, msgspec.to_builtins(row))
        return
    again = "yes: clients do that by themselves" if row.retriable else "no"
    print_pairs(
        (
            ("error", f"{row.name} ({row.number})"),
            ("meaning", row.meaning),
            ("try again", again),
            ("fix", row.fix),
        )
    )
