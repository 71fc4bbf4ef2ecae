"""`tweetlab graph`: how a graph file would be read; and the options that name such a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from system.kernel.errors import WrongInput
from tweetlab.commands.results import Json
from tweetlab.terminal import Screen

Graph = Annotated[
    str,
    typer.Option(
        "--graph",
        help="Read the follow graph from this file (edge list, CSV or Matrix Market, also compressed) "
        "instead of generating it.",
    ),
]
Undirected = Annotated[
    bool, typer.Option("--undirected", help="Each line of the graph file names two users who follow each other.")
]
Direction = Annotated[
    str,
    typer.Option(
        "--direction",
        help="`follower_followee`: the user in the first column of the graph file follows the one in the "
        "second; `followee_follower`: the other way around.",
    ),
]


def graph(
    file: Annotated[
        str, typer.Argument(help="An edge list, a CSV file with named columns, or a Matrix Market file.")
    ],
    undirected: Undirected = False,
    direction: Direction = "",
    as_json: Json = False,
) -> int:
    """Show how a graph file would be read: users, follows, dropped lines, the largest audience."""
    from scenarios import units, vocabulary
    from scenarios.world import graph_files

    path = Path(file)
    if not path.is_file():
        raise WrongInput(f"There is no file {file!r} ({path.resolve()}); give the path of a graph file.")
    if direction and direction not in vocabulary.GRAPH_DIRECTIONS:
        words = list(vocabulary.GRAPH_DIRECTIONS)
        raise WrongInput(
            f"--direction is {direction!r}; it must be one of {', '.join(words)}."
            f"{units.nearest(direction, words)}"
        )
    screen = Screen(as_json)
    summary = graph_files.read(path, undirected or None, direction or None).summary
    screen.show(summary.line)
    for hint in summary.hints:
        screen.warn(f"hint: {hint}")
    screen.emit(summary.as_dict())
    return 0


def overrides(graph: str, undirected: bool, direction: str) -> list[str]:
    """Return the options as `--set` overrides, in JSON: a path may contain YAML syntax."""
    options = {"graph": graph, "undirected": undirected, "direction": direction}
    return [
        f"population.{key}={json.dumps(value, ensure_ascii=False)}" for key, value in options.items() if value
    ]
