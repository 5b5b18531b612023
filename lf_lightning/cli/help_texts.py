"""The short help pages, written by hand: they answer without importing Lightning. `--help-all` shows every option."""

from __future__ import annotations

OVERVIEW = """\
lf: text classifiers that learn from LLMs, trained with Lightning.

usage: lf COMMAND [options]

  fit        train, calibrate and save one run         lf fit --config quickstart.yaml
  test       evaluate a run on the test rows           lf test --config quickstart.yaml --ckpt_path best
  validate   evaluate a run on the validation rows     lf validate --config quickstart.yaml --ckpt_path best
  predict    label a file                              lf predict --help
  score      let an LLM score texts into a store       lf score --help
  cache      what was paid for: sums, repair, export   lf cache stats
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
  lf {command} --config quickstart.yaml --ckpt_path best{rows}
  lf {command} --run runs/quickstart/latest{rows}
{more}"""
)

_PREDICT_NOTE = """
texts.csv has the text column of the fit. With --data.on_missing mask the encoder decides where no LLM has an opinion; else
have the texts scored first (lf score), into the store of the fit.
"""

SCORE = """\
lf score: let scorers give their opinion of texts, once, into a score store.

usage: lf score --config FILE [options]

  --config FILE               scorer, texts and store; a file, or a packaged config by name
  --dry-run                   texts to score, tokens and cost; asks nothing, writes nothing
  --max_cost USD              never pay more than this for the replies of one response cache, all runs together
  --limit N                   stop after so many texts
  --engine ray --workers N    score in N processes, here or on the Ray cluster that RAY_ADDRESS names; the same scores
  --reparse                   read the replies that are there once more, for nothing, and replace the scorer's rows
  --help-all                  every option

examples:
  lf score --config scoring/bbc_news_smollm2.yaml
  lf score --config scoring/ag_news.yaml --dry-run
  lf score --config scoring/ag_news.yaml --max_cost 5

What was scored is kept: a second run asks only for the rest. Exit codes: 1 too many texts without a score, 5 no key or no
credit, 6 max_cost reached, 130 or 143 stopped.
"""

CACHE = """\
lf cache: the raw replies that were paid for, and the ledger of what they cost.

usage: lf cache stats|verify|repair|export|prune [options]

  stats                       replies, tokens and money by provider, model and day; attempts that may have been billed
  verify                      look for damage; exit code 1 where there is some
  repair                      make a damaged cache sound again, keeping every sound row
  export --to FILE            all replies as .jsonl or .parquet
  prune                       remove replies: [--provider NAME] [--model NAME] [--older_than_days N] [--dry_run]
  --responses FOLDER          folder of the cache (default: responses)
  --backend CLASS             whose cache it is (default: lf_lightning.responses.SQLiteResponses)

examples:
  lf cache stats
  lf cache prune --model gpt-4o-mini --older_than_days 90 --dry_run
  lf cache export --to replies.parquet

What was pruned is asked, and paid for, again by the next lf score that needs it.
The ledger is never pruned: max_cost counts all that was ever spent.
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
        "validate": ("evaluate a run on the validation rows.", ""),
        "test": ("evaluate a run on the test rows.", ""),
        "predict": (
            "label the rows of a file; predictions.csv in the run folder has the probabilities.",
            " --data.predict texts.csv --data.on_missing mask",
        ),
    }
    if command in evaluations:
        what, rows = evaluations[command]
        more = _PREDICT_NOTE if rows else f"  lf {command} --config ag_news.yaml --experiment roberta\n"
        return _EVALUATE.format(command=command, what=what, rows=rows, more=more)
    return {"fit": FIT, "score": SCORE, "cache": CACHE, "doctor": DOCTOR}[command]
