"""The command `offhook`, also `python -m offhook.command`.

`offhook prepare` is its own. A service adds its part by an entry point of the group `offhook.commands`:

[project.entry-points."offhook.commands"]
keys = "number_sync.commands:keys"      # a typer.Typer; here it becomes `offhook keys …`
"""

import asyncio
import os
import sys
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Annotated, Final

if TYPE_CHECKING:
    from typer import Typer

GROUP: Final = "offhook.commands"


def main() -> None:
    """Run the command line."""
    try:
        import typer
    except ModuleNotFoundError:
        sys.exit("The command needs one more package: pip install 'offhook[command]'")
    command = typer.Typer(
        help="Offhook, from the command line. Settings are environment variables, as for the services.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,  # its frames show local variables, and with them secrets
    )

    @command.callback()
    def root() -> None:
        """Offhook, from the command line. Settings are environment variables, as for the services."""

    _add_prepare(command)
    for part in sorted(entry_points(group=GROUP), key=lambda found: found.name):
        command.add_typer(part.load(), name=part.name)
    command()


def _add_prepare(command: "Typer") -> None:
    import typer

    @command.command()
    def prepare(
        within: Annotated[
            float, typer.Option(min=0, help="Seconds to wait for what does not answer.")
        ] = 60.0,
        topics: Annotated[bool, typer.Option(help="Create the topics that are missing on Kafka.")] = True,
    ) -> None:
        """Create the topics, and migrate the databases that OFFHOOK_CALL_TRACKER_DATABASE_URL and
        OFFHOOK_NUMBER_SYNC_DATABASE_URL name. Safe to repeat; the services may run meanwhile."""
        from offhook import preparation
        from offhook.settings import load_settings

        settings = load_settings(preparation.PrepareSettings)
        databases = preparation.named_databases()
        try:
            asyncio.run(
                preparation.prepare(settings, databases, topics=topics, within_s=within, say=typer.echo)
            )
        except preparation.PreparationError as error:
            typer.echo(f"Not everything is prepared: {error}.", err=True)
            raise typer.Exit(1) from None
        for name in preparation.named_variables():
            if not os.environ.get(name):
                typer.echo(f"{name} is not set: that database was left alone.", err=True)


if __name__ == "__main__":
    main()
