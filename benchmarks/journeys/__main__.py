"""A hundred things that users do: does each end with the right code, and say why in its first lines?

    python -m benchmarks.journeys [--only TEXT] [--in-process] [--folder FOLDER --rows FILE] [--out benchmarks/results]

Models and images are made in a folder of their own, outside the checkout. Each journey is a process, as users start it;
`--in-process` is quicker and measures less. With `--folder` and `--rows` a run that was stopped goes on. The exit code
of this command says whether any journey failed.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path

from benchmarks import command
from benchmarks.journeys.materials import prepare
from benchmarks.journeys.running import Arrival, in_process, in_this_process
from benchmarks.journeys.situations import Journey, journeys
from benchmarks.provenance import circumstances
from benchmarks.table import grid, page

_LIBRARIES = ("onnx", "onnxruntime", "torch")


def chosen(only: str, *, fast: bool) -> list[Journey]:
    """The journeys whose situation or command holds a text."""
    return [each for each in journeys() if only in f"{each.situation} {each.typed}" and (each.fast or not fast)]


def table(arrivals: Sequence[Arrival]) -> list[str]:
    """A row for each."""
    rows = [
        (each.situation, f"`scanner {each.typed}`", each.code, f"{each.seconds:.1f}", each.first_line, each.fault)
        for each in arrivals
    ]
    return grid(("situation", "command", "exit code", "seconds", "first line of the answer", "fault"), rows)


def main() -> int:
    """Run them; 1 if any ends otherwise than it should."""
    parser = command.parser(__doc__, out="the table")
    parser.add_argument("--only", default="", help="journeys with this text in situation or command")
    parser.add_argument("--fast", action="store_true", help="those that CI runs")
    parser.add_argument("--in-process", action="store_true", help="no process for each")
    parser.add_argument("--folder", type=Path, help="folder for models and images, empty or of a run before")
    parser.add_argument(
        "--rows", type=Path, help="file of journeys that are done; those that ended rightly are not done again"
    )
    arguments = parser.parse_args()
    run = in_this_process if arguments.in_process else in_process
    known = {
        (row["situation"], row["typed"]): Arrival(**row)
        for row in command.read_lines(arguments.rows)
        if not row["fault"]
    }
    arrivals: list[Arrival] = []
    place = nullcontext(str(arguments.folder)) if arguments.folder else tempfile.TemporaryDirectory()
    with place as name:
        folder = Path(name).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        if not any(folder.iterdir()):
            prepare(folder)
        todo = chosen(arguments.only, fast=arguments.fast)
        left = [each for each in todo if each.needs and find_spec(each.needs) is None]
        for journey in (each for each in todo if each not in left):
            arrivals.append(known.get((journey.situation, journey.typed)) or run(journey, folder))
            if (journey.situation, journey.typed) not in known:
                command.append_line(arguments.rows, asdict(arrivals[-1]))
            print(arrivals[-1].line, file=sys.stderr, flush=True)
    faults = [each for each in arrivals if each.fault]
    how = (" --in-process" if arguments.in_process else "") + (" --folder FOLDER --rows FILE" if arguments.rows else "")
    said = f"Made by `python -m benchmarks.journeys{how}` {circumstances(_LIBRARIES)}."
    counted = f"{len(arrivals)} journeys, {len(faults)} of them wrong."
    counted += "".join(f" Left out, as {each.needs} is not installed: {each.situation}." for each in left)
    text = page("Journeys", said, counted, table(arrivals))
    print(text)
    command.publish(arguments.out, "journeys", text, [asdict(each) for each in arrivals])
    return int(bool(faults))


if __name__ == "__main__":
    raise SystemExit(main())
