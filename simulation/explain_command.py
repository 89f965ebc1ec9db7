"""``thoracle explain``: what in a film a final model's probabilities rest on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from client.data.vocabulary import canonical
from ledger.console import JsonFlag, emit_json, out, progress, track
from ledger.errors import ConfigError, DataError, OutputError
from simulation.evaluate_command import SUBSETS
from simulation.predict_command import NOTE, about_model, print_model

if TYPE_CHECKING:
    from simulation.predict import FinalModel

LIMITS = "Maps show what scores answer to, not why; check them against the film."


def explain(
    model: Annotated[
        Path, typer.Argument(metavar="RUN|MODEL", help="Run folder, or a file of its models/.")
    ],
    target: Annotated[
        Path,
        typer.Argument(
            metavar="IMAGE|DICOM|FOLDER",
            help="One film, or a folder of them; with --pointing an NIH folder with boxes.",
        ),
    ],
    finding: Annotated[
        list[str] | None, typer.Option(help="A finding to explain; may be given several times.")
    ] = None,
    top: Annotated[
        int, typer.Option(help="Without --finding: how many of the most probable.", min=1)
    ] = 3,
    folder: Annotated[
        Path, typer.Option("--out", help="Folder of the sheets, one PNG a film.")
    ] = Path("explained"),
    pointing: Annotated[
        bool, typer.Option("--pointing", help="Score peaks against BBox_List_2017.csv instead.")
    ] = False,
    subset: Annotated[
        str, typer.Option(help="With --pointing, which list's films: test, train or all.")
    ] = "test",
    trust: Annotated[
        Path | None, typer.Option(help="The federation's anchors (JSON) from outside the run.")
    ] = None,
    threads: Annotated[int, typer.Option(help="Processors to use.", min=1)] = 1,
    as_json: JsonFlag = False,
) -> None:
    """Draw what each finding's score rests on: Grad-CAM per finding, and attention rollout.

    One sheet a film: the film, a map of each finding over it with its peak, and for transformers
    how attention flows to the patches. As with predict, the run's ledger record is audited first
    and must name the model as final. --pointing plays the pointing game on radiologists' boxes.

    Example: thoracle explain runs/first film.png --finding Effusion --out explained
    """
    if subset not in SUBSETS:
        raise ConfigError(f"--subset is {', '.join(SUBSETS)}, not {subset!r}")
    if pointing and finding:
        raise ConfigError("--pointing scores every finding with boxes; leave --finding out")
    from simulation.predict import open_final

    final = open_final(model, trust)
    asked = _asked(finding or [], final.chosen.findings)
    if pointing:
        _point(final, target, subset, threads, as_json)
    else:
        _draw(final, target, folder, asked, top, threads, as_json)


def _asked(given: list[str], known: tuple[str, ...]) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(canonical(name) for name in given))
    strange = [name for name in names if name not in known]
    if strange:
        raise ConfigError(f"the model does not tell {strange[0]!r}; it tells {', '.join(known)}")
    return names


def _draw(
    final: FinalModel,
    target: Path,
    folder: Path,
    asked: tuple[str, ...],
    top: int,
    threads: int,
    as_json: bool,
) -> None:
    from client.learners.target import find_target
    from simulation.explain import explain_film, sheet_names, without_rollout, write_sheet
    from simulation.predict import calibration_of, films

    paths = films(target)
    names = [p.relative_to(target).as_posix() if target.is_dir() else p.name for p in paths]
    sheets = [folder / sheet for sheet in sheet_names(names)]
    present = next((sheet for sheet in sheets if sheet.exists()), None)
    if present is not None:
        raise OutputError(f"{present} is there already; give another --out")
    where = find_target(final.learner, final.module)
    kept = calibration_of(final.chosen, final.learner, final.module, threads)
    told: list[dict[str, Any]] = []
    for name, path, sheet in track(
        zip(names, paths, sheets, strict=True), "explaining", len(paths)
    ):
        try:
            found = explain_film(path, final, where, kept, asked=asked, top=top, threads=threads)
        except DataError as error:
            told.append({"film": name, "error": str(error)})
            continue
        write_sheet(sheet, found)
        told.append({"film": name, "sheet": str(sheet), **found.to_record()})
    if all("error" in film for film in told):
        raise DataError(f"no film can be read: {told[0]['error']}")
    about = about_model(final.chosen.path.stem, final.origin, kept)
    if as_json:
        emit_json({**about, "limits": LIMITS, "films": told})
        return
    print_model(about)
    for film in told:
        _print_film(film)
    if why := without_rollout(where):
        out.print(f"\n{why}")
    out.print(f"\n{LIMITS} {NOTE}")


def _print_film(film: dict[str, Any]) -> None:
    out.print(f"\n{film['film']}", markup=False, highlight=False)
    if "error" in film:
        out.print(f"  not read: {film['error']}", markup=False)
        return
    for entry in film["findings"]:
        at = entry["peak"]
        place = "nothing speaks for it" if at is None else f"peak at {_place(at)}"
        out.print(f"  {entry['finding']:<26} {entry['probability']:.3f}  {place}", markup=False)
    if film["rollout"] is not None:
        out.print(f"  attention rollout: peak at {_place(film['rollout']['peak'])}")
    out.print(f"  {film['sheet']}", markup=False, soft_wrap=True)


def _place(at: list[float]) -> str:
    return f"{at[0]:.0%} from the left, {at[1]:.0%} from the top"


def _point(final: FinalModel, root: Path, subset: str, threads: int, as_json: bool) -> None:
    from simulation.pointing import TOLERANCE, play

    with progress() as bar:
        task = bar.add_task("pointing", total=None)
        game = play(
            final,
            root,
            SUBSETS[subset],
            threads=threads,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    about = about_model(final.chosen.path.stem, final.origin, None)
    if as_json:
        del about["calibration"]  # ranks and peaks need none
        emit_json({**about, "limits": LIMITS, "subset": subset, "pointing": game.to_record()})
        return
    table = Table(title=f"Pointing game, Grad-CAM on {game.grid[0]} x {game.grid[1]} cells")
    table.add_column("Finding")
    for head in ("Films", "Hits", "Rate", "In the box", "Middle", "Random point"):
        table.add_column(head, justify="right")
    for score in (*game.scores, game.total):
        rates = (f"{rate:.3f}" for rate in score.rates.values())
        table.add_row(score.finding, str(score.films), str(score.hits), *rates)
    out.print(table)
    out.print(f"A hit lies within {TOLERANCE:.3f} of the side (15 of 224 px) of a box.")
    if game.outside:
        out.print(f"{game.outside:,} films with boxes are not of this list and were left out.")
    out.print(f"{LIMITS} {NOTE}")
