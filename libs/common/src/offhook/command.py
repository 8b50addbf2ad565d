"""The command `offhook`. A service adds its own part by an entry point of the group `offhook.commands`:

[project.entry-points."offhook.commands"]
keys = "number_sync.commands:keys"      # a typer.Typer; here it becomes `offhook keys …`
"""

import sys
from importlib.metadata import entry_points
from typing import Final

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

    for part in sorted(entry_points(group=GROUP), key=lambda found: found.name):
        command.add_typer(part.load(), name=part.name)
    command()
