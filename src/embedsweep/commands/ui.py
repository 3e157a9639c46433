"""``embedsweep ui``: MLflow's pages on this machine."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console

from embedsweep.commands.arguments import Option, Verb, parse, whole_number
from embedsweep.commands.sync import TRACKING_OVERRIDES, TRACKING_URI, read_store_arguments
from embedsweep.tracking.browse import open_ui


def run(words: Sequence[str], _console: Console) -> int:
    """Run ``embedsweep ui`` with the words after it and return the server's exit code, 0 after Ctrl-C.

    Raises:
        ConfigError: all that is wrong with the arguments.
        TrackingError: the store cannot be opened, or the port is taken.
    """
    arguments = parse(VERB, words)
    tracking = read_store_arguments(arguments)
    return open_ui(tracking, arguments.values.port)


VERB = Verb(
    name="ui",
    summary="MLflow's pages, to compare runs",
    run=run,
    description=(
        "Serve MLflow's pages on this machine until Ctrl-C. A tracking server serves its own: its address is printed."
        "\n\nWithout --tracking-uri the store is MLFLOW_TRACKING_URI, or mlruns/mlflow.db."
    ),
    options=(Option("--port", "N", "a free port of 127.0.0.1", whole_number(1, 65535)), TRACKING_URI),
    overrides=TRACKING_OVERRIDES,
    former_keys={"port": "--port"},
)
