"""The short help pages, written by hand: they answer without importing Lightning. `--help-all` shows every option."""

from __future__ import annotations

OVERVIEW = """\
lf: text classifiers that learn from LLMs, trained with Lightning.

usage: lf COMMAND [options]

  fit        train, calibrate and save one run         lf fit --config quickstart.yaml
  test       evaluate a run on the test rows           lf test --config quickstart.yaml --ckpt_path best
  validate   evaluate a run on the validation rows     lf validate --config quickstart.yaml --ckpt_path best
  predict    label a file                              lf predict --config quickstart.yaml --data.predict texts.csv
  score      let an LLM score texts into a store       lf score --help
  doctor     what this machine has, a config needs     lf doctor --config quickstart.yaml

  lf --version · lf COMMAND --help · lf COMMAND --help-all (fit, validate, test, predict: every option)

options of all commands:
  --allow-imports PKG[,PKG]   packages of yours whose classes a config may name (or LF_ALLOW_IMPORTS)
  --traceback                 show where an error came from (or LF_TRACEBACK=1)
"""

_RUNS = """\
  --experiment NAME           folder of this config's runs (default: the config's file name)
  --runs-dir FOLDER           folder of all experiments (default: runs)
  --run FOLDER                this run folder and no other{run_note}
"""

_COMMON = """\
  --config FILE               a file, or a packaged config by name; a second one is laid over the first
  --model.NAME VALUE          any argument of the model, --data.NAME of the data, --trainer.NAME of the Trainer
  --seed_everything N         seed of everything
  --print_config[=comments]   print the whole config [each option explained] and exit
  --help-all                  every option
"""

FIT = (
    """\
lf fit: train, calibrate and save one run.

usage: lf fit --config FILE [--config FILE ...] [options]

"""
    + _COMMON
    + "  --ckpt_path last            go on with the newest run of this experiment, in its folder\n"
    + _RUNS.format(run_note="")
    + """
examples:
  lf fit --config quickstart.yaml
  lf fit --config ag_news.yaml --model.encoder bert-base-uncased --trainer.precision bf16-mixed
  lf fit --config ag_news.yaml --allow-imports my_heads --model.head my_heads.Mine

A run is a folder, runs/EXPERIMENT/TIME: config.yaml, results.json, predictions_test.csv, checkpoints/, plots/, logs/.
"""
)

_EVALUATE = (
    """\
lf {command}: {what}

usage: lf {command} --config FILE [--ckpt_path best|last|FILE] [options]
       lf {command} --run FOLDER [options]

  --ckpt_path best|last|FILE  which weights (default: best); results are written into their run folder
"""
    + _COMMON.replace("{", "{{").replace("}", "}}")
    + _RUNS.format(run_note="; its config.yaml is read where no --config is given")
    + """
examples:
  lf {command} --config quickstart.yaml --ckpt_path best
  lf {command} --run runs/quickstart/latest
  {example}
"""
)

SCORE = """\
lf score: let scorers give their opinion of texts, once, into a score store.

usage: lf score --config FILE [options]

  --config FILE               scorers, texts and store; a file, or a packaged config by name
  --help-all                  every option

examples:
  lf score --config scoring/bbc_news_smollm2.yaml
"""

DOCTOR = """\
lf doctor: what this machine has, and what a config needs that is missing.

usage: lf doctor [--config FILE] [--online]

  --config FILE               also check the packages, files, models and environment variables that it names
  --online                    also try whether the model hub answers (1 second); without it no connection is made

examples:
  lf doctor
  lf doctor --config ag_news.yaml
  lf doctor --online

Keys are shown by name, never by value. Exit code 1: something that the config needs is missing.
"""


def of(command: str) -> str:
    """Returns the help page of a command."""
    evaluations = {
        "validate": ("evaluate a run on the validation rows.", "lf validate --config ag_news.yaml --experiment roberta"),
        "test": ("evaluate a run on the test rows.", "lf test --config ag_news.yaml --experiment roberta"),
        "predict": (
            "label the rows of a file; predictions.csv in the run folder has the probabilities.",
            "lf predict --config ag_news.yaml --data.predict texts.csv",
        ),
    }
    if command in evaluations:
        what, example = evaluations[command]
        return _EVALUATE.format(command=command, what=what, example=example)
    return {"fit": FIT, "score": SCORE, "doctor": DOCTOR}[command]
