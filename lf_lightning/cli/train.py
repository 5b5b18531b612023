"""`lf fit|validate|test|predict`: LightningCLI with links, a run folder and the default callbacks; nothing else.

A config is found by `configs.find`, checked for secrets, and parsed; only then is a run folder chosen. The model and the data
speak through the links alone, so that label names, task, scorers and encoder are said once.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint, ProgressBar
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.loggers import CSVLogger

import lf_lightning
from lf_lightning.callbacks import default_callbacks
from lf_lightning.cli import configs, runs, take_option
from lf_lightning.cli.checkpoint_match import loading_error, refuse_other_model
from lf_lightning.cli.endings import endings_told_apart
from lf_lightning.cli.import_limits import limit_imports
from lf_lightning.cli.parser import CommandParser
from lf_lightning.cli.quiet import quieten
from lf_lightning.cli.quoted_texts import quote_texts
from lf_lightning.cli.secret_check import refuse_secrets
from lf_lightning.errors import ConfigurationError
from lf_lightning.systems.base import ClassifierModule
from lf_lightning.systems.checkpoint_file import refuse_changed

DEFAULT_MODEL = "lf_lightning.systems.fusion.FusionLightningModule"
DEFAULT_DATA = "lf_lightning.data.ScoredTextDataModule"

TRAINER_DEFAULTS = {
    "max_epochs": -1,  # the system knows its phases and sets the number
    "use_distributed_sampler": False,  # Lightning's pads the last batch, so that a row counts twice
}

Amend = Callable[[Sequence[Callback]], list[Callback]]


class RunOptions(NamedTuple):
    """What `lf` itself reads from the command line, beside LightningCLI's arguments.

    Attributes:
        experiment: Name of the folder of this config's runs; by default the first config's file name.
        runs_dir: Folder of all experiments.
        run: An explicit run folder, None to make one or to find the newest.
    """

    experiment: str
    runs_dir: Path
    run: Path | None


class SaveRunConfig(SaveConfigCallback):
    """Writes the config of a fit into the run folder; `lf test --run FOLDER` reads it from there.

    Not before the checkpoint of a run to be resumed was read: a config that does not fit it leaves the run's own in place.
    """

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Does nothing yet."""

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Saves, from rank 0."""
        if trainer.is_global_zero:
            self.save_config(trainer, pl_module, "fit")

    def save_config(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Writes `config.yaml`."""
        config = self.config.clone()
        config["ckpt_path"] = None  # `last` was for this fit: a later test takes the best
        path = Path(trainer.default_root_dir) / self.config_filename
        self.parser.save(config, str(path), skip_none=False, overwrite=True, multifile=False)


class CommandLine(LightningCLI):
    """LightningCLI whose model and data are any classes of their kind, by default this package's fusion and scored texts."""

    def __init__(self, options: RunOptions, args: list[str], amend: Amend = list) -> None:
        """Parses and runs.

        Args:
            options: Where the run goes.
            args: The command and its arguments.
            amend: Changes the config's own callbacks.
        """
        self.options, self._amend = options, amend
        self.run_folder: Path | None = None
        self.checkpoint: Path | None = None
        command = args[0]
        header = {"dump_header": [f"lf_lightning=={lf_lightning.__version__}"]}
        super().__init__(
            model_class=LightningModule,
            datamodule_class=LightningDataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            trainer_defaults=TRAINER_DEFAULTS,
            parser_class=CommandParser,
            parser_kwargs={"prog": "lf", **header, command: header},
            # A test writes into the folder of the fit, whose config stays.
            save_config_callback=SaveRunConfig if command == "fit" else None,
            save_config_kwargs={"save_to_log_dir": False, "overwrite": True},
            auto_configure_optimizers=False,
            args=args,
        )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Links what the data knows to the model, and the model's encoder to the data's tokenizer."""
        parser.set_defaults({"model": {"class_path": DEFAULT_MODEL}, "data": {"class_path": DEFAULT_DATA}})
        parser.link_arguments("data.labels", "model.init_args.labels", compute_fn=list, apply_on="instantiate")
        parser.link_arguments("data.task", "model.init_args.task", apply_on="instantiate")
        parser.link_arguments("data.scorer_names", "model.init_args.scorers", compute_fn=list, apply_on="instantiate")
        parser.link_arguments("data.class_weight", "model.init_args.class_weight", compute_fn=_floats, apply_on="instantiate")
        parser.link_arguments("model.init_args.encoder", "data.init_args.tokenizer")

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parses `args` without Lightning's warning that `sys.argv` holds the same words."""
        self.config = parser.parse_args(args)

    def _parse_ckpt_path(self) -> None:
        # Lightning would lay a checkpoint's hyper-parameters over the config, class paths included: here the config decides.
        pass

    def before_instantiate_classes(self) -> None:
        """Chooses the run folder, once nothing can be wrong with the command line any more."""
        refuse_secrets("the config", self.parser.dump(self.config, skip_validation=True, skip_link_targets=False))
        with_checkpoint = self._get(self.config, "ckpt_path")
        self.run_folder = _run_folder(str(self.subcommand), self.options, with_checkpoint)
        self._config_as_given = self.config.clone()
        for logger in _configs_of(self._get(self.config, "trainer").get("logger")):
            _write_into(logger, self.run_folder)

    def instantiate_classes(self) -> None:
        """Makes data, model and trainer; if one cannot be made, a new run leaves no empty folder."""
        assert self.run_folder is not None
        try:
            super().instantiate_classes()
        except BaseException:
            runs.discard_empty(self.run_folder)
            raise

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Returns a trainer that works in the run folder, with the default callbacks and a CSV logger where none is given."""
        assert self.run_folder is not None
        self.config = self._config_as_given  # what is saved names no folder of this run
        given = self._get(self.config_init, "trainer")
        own = given.get("callbacks") or []
        own = self._amend(own if isinstance(own, list) else [own])
        logger = given.get("logger")
        if logger is None or logger is True:
            logger = CSVLogger(
                self.run_folder, name="logs", version=_log_version(self.run_folder / "logs", str(self.subcommand))
            )
        # The default callbacks read what this package's systems keep; another module gets those that its config names.
        callbacks = callbacks_of(own, given) if isinstance(self.model, ClassifierModule) else list(own)
        kwargs.update(callbacks=callbacks, logger=logger, default_root_dir=str(self.run_folder))
        try:
            return super().instantiate_trainer(**kwargs)
        except (ValueError, MisconfigurationException) as error:
            raise ConfigurationError(f"the trainer's arguments: {error}") from error

    def before_run(self) -> None:
        """Puts the file in the place of `best` or `last`."""
        assert self.run_folder is not None
        given = self._get(self.config_init, "ckpt_path")
        keyword = given or (None if self.subcommand == "fit" else "best")
        if keyword in runs.KEYWORDS:
            given = str(runs.checkpoint(self.run_folder, keyword))
        elif keyword is not None and not Path(keyword).is_file():
            raise ConfigurationError(f"--ckpt_path {keyword!r}: expected `best`, `last` or a file that exists.")
        arguments = self.config_init[str(self.subcommand)]
        arguments["ckpt_path"] = given
        arguments["weights_only"] = True  # a checkpoint is tensors and plain values: nothing in it may run
        self.checkpoint = Path(given) if given else None
        if self.checkpoint is not None:
            refuse_changed(self.checkpoint)
        if self.checkpoint is not None and self.subcommand != "fit" and isinstance(self.model, ClassifierModule):
            refuse_other_model(self.checkpoint, self.model, str(self.subcommand))

    before_fit = before_validate = before_test = before_predict = before_run

    def _run_subcommand(self, subcommand: str) -> None:
        try:
            super()._run_subcommand(subcommand)
        except RuntimeError as error:
            told = loading_error(error, self.checkpoint, self.model, subcommand) if self.checkpoint else None
            if told is not None:
                raise told from error
            raise


def fit(argv: Sequence[str]) -> int:
    """`lf fit`."""
    return _main("fit", argv)


def validate(argv: Sequence[str]) -> int:
    """`lf validate`."""
    return _main("validate", argv)


def test(argv: Sequence[str]) -> int:
    """`lf test`."""
    return _main("test", argv)


def predict(argv: Sequence[str]) -> int:
    """`lf predict`; with `--engine`, tables of any size, part by part."""
    if any(word.partition("=")[0] == "--engine" for word in argv):
        from lf_lightning.cli.predict_parts import main

        return main(argv)
    from lf_lightning.cli.asking import wishes_of  # brings the scorers along

    words, wishes = wishes_of(argv)
    return _main("predict", words, wishes.callback)


def callbacks_of(own: Sequence[Callback], trainer: Mapping[str, Any]) -> list[Callback]:
    """Returns the default callbacks in their order, each replaced by the config's own of its class, then the config's others.

    Args:
        own: The callbacks that the config names.
        trainer: The trainer's arguments; what `enable_checkpointing` or `enable_progress_bar` turns off is left out.
    """
    ordered: list[Callback] = []
    for default in default_callbacks():
        replacements = [callback for callback in own if isinstance(callback, type(default))]
        off = (isinstance(default, Checkpoint) and trainer.get("enable_checkpointing") is False) or (
            isinstance(default, ProgressBar) and trainer.get("enable_progress_bar") is False
        )
        ordered += replacements or ([] if off else [default])
    return [*ordered, *(callback for callback in own if callback not in ordered)]


def _main(command: str, argv: Sequence[str], amend: Amend = list) -> int:
    limit_imports()
    quote_texts()
    quieten()
    options, words = _run_options(argv)
    with _run_variable_restored(), endings_told_apart():
        CommandLine(options, [command, *("--help" if word == "--help-all" else word for word in words)], amend)
    return 0


def _run_options(argv: Sequence[str]) -> tuple[RunOptions, list[str]]:
    words, experiment = take_option(argv, "--experiment")
    words, runs_dir = take_option(words, "--runs-dir")
    words, run = take_option(words, "--run")
    words, found = configs.resolve(words)
    folder = Path(run).expanduser().resolve() if run else None
    if folder is not None and not found and (folder / "config.yaml").is_file():
        words = ["--config", str(folder / "config.yaml"), *words]
    name = experiment or (found[0].stem if found else "unnamed")
    return RunOptions(name, Path(runs_dir or "runs").expanduser().resolve(), folder), words


def _run_folder(command: str, options: RunOptions, checkpoint: str | None) -> Path:
    rank = runs.process_rank()
    if rank is not None and runs.RUN_VARIABLE in os.environ:
        return runs.open_existing(Path(os.environ[runs.RUN_VARIABLE]))
    if rank and options.run is None:
        raise ConfigurationError(
            f"process {rank} does not know the run folder. Way out: export {runs.RUN_VARIABLE}=FOLDER for all processes."
        )
    file = None if checkpoint is None or checkpoint in runs.KEYWORDS else Path(checkpoint)
    if options.run is not None:
        run = runs.open_existing(options.run)
    elif command == "fit" and (checkpoint is None or file is not None):
        run = runs.create(options.runs_dir, options.experiment)
    elif file is not None:
        run = runs.run_of_checkpoint(file) or runs.create(options.runs_dir, options.experiment)
    else:
        run = runs.newest(options.runs_dir, options.experiment)
    os.environ[runs.RUN_VARIABLE] = str(run)
    return run


@contextmanager
def _run_variable_restored() -> Iterator[None]:
    before = os.environ.get(runs.RUN_VARIABLE)
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(runs.RUN_VARIABLE, None)
        else:
            os.environ[runs.RUN_VARIABLE] = before


def _floats(weights: Any) -> list[float] | None:
    return None if weights is None else [float(weight) for weight in weights]


def _configs_of(loggers: Any) -> list[Any]:
    return [item for item in (loggers if isinstance(loggers, list) else [loggers]) if hasattr(item, "init_args")]


def _write_into(logger: Any, run: Path) -> None:
    arguments = logger.init_args
    if "save_dir" in arguments and arguments["save_dir"] in (None, ".", "./mlruns"):
        arguments["save_dir"] = str(run / "mlruns" if arguments["save_dir"] == "./mlruns" else run)


def _log_version(folder: Path, command: str) -> str:
    # A CSVLogger deletes what lies in its folder, and a resumed fit or a second test comes to the same run.
    taken = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    numbered = (f"{command}-{number}" for number in range(2, len(taken) + 3))
    return command if command not in taken else next(name for name in numbered if name not in taken)
