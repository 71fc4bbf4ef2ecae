"""`tweetlab validate`: test the twin's predictions on the real system."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import typer

from system.kernel.errors import WrongInput
from tweetlab.commands.results import Json
from tweetlab.terminal import Screen

EXIT = {"holds": 0, "misses": 1, "unknown": 2}


def validate(
    full: Annotated[
        bool,
        typer.Option(
            "--full/--quick", help="`--quick`: two loads, about 10 minutes. `--full`: everything, at most 100 minutes."
        ),
    ] = False,
    questions: Annotated[
        bool,
        typer.Option("--questions", help="Ask `does X help?` instead: as many questions as fit into 25 minutes, added to "
                                         "those of earlier calls."),
    ] = False,
    calibration: Annotated[str, typer.Option(help="Calibration file; default: the one of this machine.")] = "",
    keep: Annotated[bool, typer.Option("--keep", help="Leave the lab running if this command started it.")] = False,
    as_json: Json = False,
) -> int:
    """Predict loads that the twin has not seen, run them on the real system, and judge the predictions.

    The loads are drawn from a hash of the model. Each prediction is written to the ledger before its runs; an interrupted
    validation resumes. Nothing else should run meanwhile. Exit: 0 every bar holds, 1 one is missed, 2 unknown, 3 could not run.
    """
    from tweetlab.validate import campaign
    from tweetlab.validate import questions as of_questions

    screen = Screen(as_json)
    if questions and full:
        raise WrongInput("--questions and --full are two campaigns: run one after the other.")
    if questions:
        answers = asyncio.run(of_questions.campaign_of_questions(screen, keep=keep, file=calibration))
        screen.show(_answers(answers))
        screen.emit(answers)
        return EXIT[answers["verdict"]]
    summary = asyncio.run(campaign.validate(screen, quick=not full, keep=keep, file=calibration))
    screen.show(_table(summary))
    screen.emit(summary)
    return max((EXIT[row["verdict"]] for row in summary["rows"]), key=(EXIT["holds"], EXIT["unknown"], EXIT["misses"]).index)


def _answers(summary: dict[str, Any]) -> Any:
    from rich.table import Table

    table = Table("question", "twin", "system", "result",
                  title=f"{summary['right']} of {summary['counted']} signs are right ({summary['needed']} are needed)")
    for row in summary["rows"]:
        table.add_row(row["question"], row["twin"], row["system"], row["result"])
    return table


def _table(summary: dict[str, Any]) -> Any:
    from rich.table import Table

    table = Table(
        "utilization",
        "statistic",
        "verdict",
        "bar",
        "median |error|",
        "as calibrated",
        "median error",
        "worst",
        "worst cell",
        "loads",
        title=f"validation of model {summary['identity']}",
    )
    for row in summary["rows"]:
        if row["median"] is not None:
            table.add_row(
                row["band"],
                row["statistic"],
                row["verdict"],
                f"{row['bar']:.0%}",
                f"{row['median']:.1%}",
                f"{row['as_calibrated']:.1%}",
                f"{row['bias']:+.0%}",
                f"{row['worst']:.0%}",
                row["worst_cell"],
                str(row["loads"]),
            )
    return table
