"""The commands and their options; what they do is in modules of their own."""

import errno
import os
import sys
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from diffusability.core.cli.error_messages import show_bug, show_error
from diffusability.core.cost.devices import DEVICES
from diffusability.core.errors import DiffusabilityError
from diffusability.core.extras import missing_package
from diffusability.core.plugins import registry

app = typer.Typer(
    name="dfz",
    help="Measure how diffusable an autoencoder's latents are, fix them, and prove it.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
)

SpecFile = Annotated[Path, typer.Argument(metavar="SPEC", help="the YAML spec")]
Variants = Annotated[
    list[str] | None,
    typer.Option("--variant", help="only this variant, with all or (NAME-seedN) one of its seeds; may be repeated"),
]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", metavar="A.B=C", help="change a value of the spec; may be repeated")
]
Until = Annotated[str | None, typer.Option("--until", metavar="STAGE", help="stop after this stage")]
NumRanks = Annotated[int, typer.Option("--nproc", min=1, help="local ranks to start")]
RunsFolder = Annotated[Path, typer.Option("--runs", help="folder in which runs are kept")]
TrustCode = Annotated[
    bool, typer.Option("--trust-code", help="run the code that a saved model of kind 'python' carries")
]


def _show_version(asked: bool) -> bool:
    if asked:
        from diffusability.core.run.folder_writer import versions

        for name, version in versions().items():
            typer.echo(f"{name} {version}")
        raise typer.Exit
    return asked


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="print versions and exit")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="show the traceback of an error")] = False,
) -> None:
    """Options of all commands; ``main`` reads --debug itself."""


@app.command()
def run(
    spec: SpecFile,
    variant: Variants = None,
    until: Until = None,
    overrides: Overrides = None,
    nproc: NumRanks = 1,
    runs: RunsFolder = Path("runs"),
    profile: Annotated[
        int, typer.Option("--profile", metavar="N", min=0, help="trace N steps of each training stage that runs")
    ] = 0,
    jobs: Annotated[
        int, typer.Option("--jobs", min=1, help="variants to work on at a time, each in a process of its own")
    ] = 1,
    keep_going: Annotated[
        bool, typer.Option("--keep-going", help="when a variant fails, continue with those that do not depend on it")
    ] = False,
) -> None:
    """Run a spec. Finished stages are kept, an interrupted one resumes, a changed one is redone."""
    from diffusability.core.cli.run_command import run_spec

    run_spec(spec, variant or [], until, overrides or [], nproc, runs, profile, jobs, keep_going)


@app.command()
def check(
    spec: SpecFile,
    variant: Variants = None,
    until: Until = None,
    overrides: Overrides = None,
    nproc: NumRanks = 1,
    runs: RunsFolder = Path("runs"),
    resolved: Annotated[
        bool, typer.Option("--resolved", help="print each variant whole, with what it extends and all defaults")
    ] = False,
    no_files: Annotated[
        bool,
        typer.Option("--no-files", help="skip the checks of files and extras, for a run on another machine"),
    ] = False,
    cost: Annotated[bool, typer.Option("--cost", help="estimate GPU-hours and memory per rank of each stage")] = False,
    gpu: Annotated[
        str,
        typer.Option("--gpu", metavar="DEVICE", help=f"for --cost: {', '.join(DEVICES)}, or 'name:TFLOPS,GB/s,GB'"),
    ] = "h100",
    utilisation: Annotated[
        float, typer.Option("--utilisation", min=0.01, max=1, help="for --cost: share of the device's peak rate")
    ] = 0.4,
) -> None:
    """Validate a spec and print what would run; start nothing."""
    from diffusability.core.cli.check_command import check_spec, print_resolved

    if resolved:
        print_resolved(spec, variant or [], overrides or [], files=not no_files)
        return
    assumed = None
    if cost:
        from diffusability.core.cli.cost_table import Assumptions
        from diffusability.core.cost.devices import device_named

        assumed = Assumptions(device=device_named(gpu), utilisation=utilisation, num_ranks=nproc)
    check_spec(spec, variant or [], until, overrides or [], nproc, runs, files=not no_files, assumed=assumed)


@app.command()
def score(
    autoencoders: Annotated[
        list[str],
        typer.Argument(
            metavar="AUTOENCODER...",
            help="KIND:PATH, FILE.py:NAME, a folder with a saved autoencoder, or the folder of a run",
        ),
    ],
    data: Annotated[str, typer.Option("--data", help="a folder with images or videos, or the kind of a dataset")],
    num: Annotated[int, typer.Option("--num", min=2, help="images or clips, at most")] = 256,
    resolution: Annotated[int, typer.Option("--resolution", min=8, help="height and width in pixels")] = 256,
    frames: Annotated[int, typer.Option("--frames", min=1, help="frames of a clip, of video data")] = 17,
    labels: Annotated[bool, typer.Option("--labels", help="the first folder below the data's is the class")] = False,
    report_file: Annotated[Path | None, typer.Option("--report", metavar="FILE", help="copy the report there")] = None,
    precision: Annotated[str, typer.Option("--precision", help="of encoding and decoding: auto, bf16, fp32")] = "auto",
    full: Annotated[bool, typer.Option("--full", help="every metric on all images; takes longer")] = False,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1)] = 8,
    seed: Annotated[int, typer.Option("--seed", min=0)] = 0,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="write the scorecard there, for programs")
    ] = None,
    name: Annotated[
        str | None, typer.Option("--name", help="folder below --runs; default: by the data and these options")
    ] = None,
    trust_code: TrustCode = False,
    nproc: NumRanks = 1,
    runs: RunsFolder = Path("runs"),
) -> None:
    """Measure how diffusable the latents of one or more autoencoders are; no spec needed."""
    from diffusability.core.cli.score_command import score_autoencoders
    from diffusability.core.scoring.scorecard_spec import ScoreOptions

    options = ScoreOptions(
        data=data,
        num=num,
        resolution=resolution,
        frames=frames,
        labels=labels,
        precision=precision,
        batch_size=batch_size,
        seed=seed,
        full=full,
    )
    score_autoencoders(autoencoders, options, report_file, nproc, runs, json_file, name, trust_code)


@app.command()
def compare(
    real: Annotated[
        Path, typer.Argument(metavar="REAL", help="a folder of images, or an npz file with images or ADM's statistics")
    ],
    generated: Annotated[Path, typer.Argument(metavar="GENERATED", help="a folder of images, or an npz file")],
    features: Annotated[
        list[str] | None,
        typer.Option(
            "--features", metavar="KIND[:FIELD=VALUE]", help="inception (default), or others; may be repeated"
        ),
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option("--only", metavar="EVALUATOR", help="such as frechet or kid; default: all")
    ] = None,
    num: Annotated[int | None, typer.Option("--num", min=2, help="images of each set, at most")] = None,
    resolution: Annotated[
        int | None, typer.Option("--resolution", min=8, help="crop and resize to this side; default: as they are")
    ] = None,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1)] = 64,
    workers: Annotated[int | None, typer.Option("--workers", min=0, help="loading processes; default: by CPUs")] = None,
    spread: Annotated[bool, typer.Option("--spread/--no-spread", help="of Frechet distances, which takes time")] = True,
    device: Annotated[str | None, typer.Option("--device", help="default: the first accelerator, or the CPU")] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="write the metrics there, for programs")
    ] = None,
) -> None:
    """Distances of generated from real images: FID, KID, precision, recall, FDr, sliced Wasserstein; no spec needed."""
    from diffusability.core.cli.compare_command import chosen_device, chosen_workers, show_comparison
    from diffusability.core.scoring.comparison import ComparisonOptions

    where = chosen_device(device)
    options = ComparisonOptions(
        real=real,
        generated=generated,
        features=tuple(dict.fromkeys(features or ["inception"])),
        num=num,
        resolution=resolution,
        batch_size=batch_size,
        num_workers=chosen_workers(workers, where),
        with_spread=spread,
        device=where,
        only=tuple(only) if only else None,
    )
    show_comparison(options, json_file)


@app.command()
def report(
    run_folders: Annotated[
        list[Path], typer.Argument(metavar="RUN...", help="folders of runs, such as runs/quickstart")
    ],
    table: Annotated[
        Path | None, typer.Option("--table", metavar="FILE", help="show the table of this YAML file, not the run's own")
    ] = None,
    table_only: Annotated[bool, typer.Option("--table-only", help="print the table of a run; write nothing")] = False,
    table_format: Annotated[
        str | None, typer.Option("--format", help="of --table-only: markdown (default), html or latex")
    ] = None,
    to: Annotated[
        Path | None,
        typer.Option("--to", metavar="DIR", help="default: the run's folder; of several, one beside the first"),
    ] = None,
) -> None:
    """Rebuild the report of a run; compare several runs in one."""
    from diffusability.core.cli.report_command import show_report

    show_report(run_folders, table, table_only, table_format, to)


@app.command()
def show(
    run_folder: Annotated[Path, typer.Argument(metavar="RUN", help="folder of a run, such as runs/quickstart")],
    form: Annotated[str, typer.Option("--format", help="table, markdown, csv, json or latex")] = "table",
) -> None:
    """Print the results of a run: every metric of every variant, with its difference from the first one."""
    from diffusability.core.cli.show_command import show_results

    show_results(run_folder, form)


@app.command(name="runs")
def runs_command(runs: RunsFolder = Path("runs")) -> None:
    """List the runs of a folder: what each is of, how far it is, and the command that made it."""
    from diffusability.core.cli.show_command import list_runs

    list_runs(runs)


@app.command(name="export")
def export_run(
    run_folder: Annotated[Path, typer.Argument(metavar="RUN", help="folder of a run, such as runs/quickstart")],
    to: Annotated[Path, typer.Option("--to", metavar="DIR", help="a new folder for the model")],
    stage: Annotated[str | None, typer.Option("--stage", metavar="STAGE", help="the training stage")] = None,
    variant: Annotated[str | None, typer.Option("--variant", help="the variant")] = None,
    trust_code: TrustCode = False,
) -> None:
    """Write a trained model in the layout that other libraries read, with a model card."""
    from diffusability.core.cli.export_command import export_model

    export_model(run_folder, to, stage, variant, trust_code)


@app.command()
def sample(
    run_folder: Annotated[
        Path,
        typer.Argument(metavar="RUN", help="a run, a training stage, an exported model, or a denoiser's YAML file"),
    ],
    num: Annotated[int, typer.Option("--num", min=1, help="how many")] = 64,
    label: Annotated[int | None, typer.Option("--class", help="their class; default: drawn at random")] = None,
    seed: Annotated[int, typer.Option("--seed", help="of noise and classes; sample k depends on it and k alone")] = 0,
    sampler: Annotated[str, typer.Option("--sampler", help="kind of sampler")] = "euler",
    steps: Annotated[int | None, typer.Option("--steps", min=1, help="evaluations of the model")] = None,
    guidance_scale: Annotated[
        float | None, typer.Option("--guidance-scale", min=0, help="classifier-free guidance; 1 is none")
    ] = None,
    variant: Annotated[str | None, typer.Option("--variant", help="which variant of the run")] = None,
    stage: Annotated[str | None, typer.Option("--stage", help="which training stage of the run")] = None,
    autoencoder: Annotated[
        Path | None, typer.Option("--autoencoder", help="folder of the decoder; default: what the model names")
    ] = None,
    guidance_channels: Annotated[
        int | None,
        typer.Option("--guidance-channels", min=1, help="guide so many channels; 3 as DiT's and SiT's own code"),
    ] = None,
    to: Annotated[
        Path | None, typer.Option("--to", metavar="DIR", help="where files go; default: RUN/generated/...")
    ] = None,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="samples at a time")] = 16,
    precision: Annotated[str, typer.Option("--precision", help="of the denoiser: fp32, bf16 or auto")] = "fp32",
    fps: Annotated[int, typer.Option("--fps", min=1, help="frames per second of clips")] = 16,
    trust_code: TrustCode = False,
) -> None:
    """Write samples of a trained denoiser as PNG (clips as mp4), and a sheet of them."""
    from diffusability.core.cli.sample_command import SampleRequest, chosen_precision, write_samples

    given = {"steps": steps, "guidance_scale": guidance_scale, "guidance_channels": guidance_channels}
    write_samples(
        SampleRequest(
            run=run_folder,
            stage=stage,
            variant=variant,
            autoencoder=autoencoder,
            sampler={"kind": sampler} | {name: value for name, value in given.items() if value is not None},
            num_samples=num,
            label=label,
            seed=seed,
            batch_size=batch_size,
            precision=chosen_precision(precision),
            frames_per_s=fps,
            to=to,
            trust_code=trust_code,
        )
    )


@app.command()
def correlate(
    run_folders: Annotated[
        list[Path], typer.Argument(metavar="RUN...", help="folders of runs whose variants are compared")
    ],
    target: Annotated[
        str, typer.Option("--target", metavar="METRIC", help="the metric to correlate with, such as fid")
    ],
    to: Annotated[Path | None, typer.Option("--to", metavar="DIR", help="default: the first run's folder")] = None,
) -> None:
    """Rank correlation of every metric with one of them, over variants: how well does each predict it?"""
    from diffusability.core.cli.correlate_command import show_correlation

    show_correlation(run_folders, target, to)


@app.command()
def ema(
    run_folder: Annotated[Path, typer.Argument(metavar="RUN", help="folder of a run, such as runs/quickstart")],
    sigma_rel: Annotated[float, typer.Option("--sigma-rel", help="width of the average, as a share of the training")],
    to: Annotated[Path, typer.Option("--to", metavar="DIR", help="a new folder for the model")],
    stage: Annotated[
        str | None, typer.Option("--stage", metavar="STAGE", help="a stage that trained with ema.power_function")
    ] = None,
    variant: Annotated[str | None, typer.Option("--variant", help="the variant")] = None,
    step: Annotated[int | None, typer.Option("--step", help="as of this step; default: the last")] = None,
) -> None:
    """Write a trained model with a weight average whose length is chosen now, after training."""
    from diffusability.core.cli.ema_command import write_averaged_model

    write_averaged_model(run_folder, stage, sigma_rel, to, variant, step)


@app.command(name="plugins")
def list_plugins(
    group: Annotated[str | None, typer.Argument(metavar="[KIND]", help=f"one of: {', '.join(registry.GROUPS)}")] = None,
    check_imports: Annotated[bool, typer.Option("--check", help="import each one and report those that fail")] = False,
) -> None:
    """List what is installed."""
    from diffusability.core.cli.plugins_command import show_plugins

    show_plugins(group, check_imports)


@app.command(name="new-plugin")
def new_plugin(
    name: Annotated[str, typer.Argument(metavar="NAME", help="the kind that specs will name, such as total-variation")],
    kind: Annotated[
        str,
        typer.Option(
            "--kind",
            help="regularizer, evaluator, autoencoder, denoiser, objective, sampler, dataset, tracker or features",
        ),
    ] = "regularizer",
    to: Annotated[
        Path, typer.Option("--to", metavar="DIR", help="folder in which the package's folder is made")
    ] = Path(),
) -> None:
    """Write a plugin package that passes its own tests, to start from."""
    from diffusability.core.cli.plugins_command import new_plugin as write

    write(name, kind, to)


@app.command()
def schema(
    to: Annotated[
        Path | None, typer.Option("--to", metavar="FILE", help="write it there instead of printing it")
    ] = None,
) -> None:
    """Print the JSON schema of specs, with all installed plugins, for editors."""
    from diffusability.core.cli.schema_command import show_schema

    show_schema(to)


def main() -> None:
    """The entry point of ``dfz``: errors for users come without a traceback, with the exit code of their kind."""
    debug = "--debug" in sys.argv
    if debug:  # accepted before and after the command's name
        sys.argv = [sys.argv[0], *(word for word in sys.argv[1:] if word != "--debug")]
    sys.argv[1:] = [_with_home(word) for word in sys.argv[1:]]
    for stream in (sys.stdout, sys.stderr):  # a character that the locale lacks is printed as an escape
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    _leave(_exit_code_of_command(debug))


def _with_home(word: str) -> str:
    """Expands ``--runs=~/x``, which most shells leave as it is."""
    name, equals, value = word.partition("=")
    return name + equals + os.path.expanduser(value) if name.startswith("--") and value.startswith("~") else word


def _exit_code_of_command(debug: bool) -> int:
    try:
        app()
    except SystemExit as ended:  # how typer ends every command
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except DiffusabilityError as error:
        show_error(error, debug)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    except Exception as error:  # noqa: BLE001 - the last place that distinguishes errors from bugs
        known = _environment_fault(error)
        if known is None:
            show_bug(error, debug)
            return 1
        show_error(known.with_traceback(error.__traceback__), debug)
        return known.exit_code
    return 0


#: What the operating system says of a path that was handed in, or of the disk.
_FAULTS_OF_PATHS = (
    errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP,
    errno.EIO, errno.ESTALE, errno.EMFILE, errno.ENFILE, errno.EFBIG,
)  # fmt: skip


def _environment_fault(error: Exception) -> DiffusabilityError | None:
    """An error for users where the disk, a path or a missing package is to blame; None for a bug."""
    if isinstance(error, ModuleNotFoundError):
        return missing_package(error)
    if not isinstance(error, OSError):
        return None
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiffusabilityError(f"the disk is full: {error}; what is finished is kept")
    if error.errno in _FAULTS_OF_PATHS and error.filename is not None:
        return DiffusabilityError(f"{os.strerror(error.errno)}: {os.fspath(error.filename)!r}")
    return None


def _leave(code: int) -> NoReturn:
    """Ends the process; one of several ranks without tearing down threads of gloo, which now and then abort then."""
    distributed = sys.modules.get("torch.distributed")
    if distributed is not None and distributed.is_initialized() and distributed.get_world_size() > 1:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)
