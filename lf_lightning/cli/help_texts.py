"""The short help pages, written by hand: they answer without importing Lightning. `--help-all` shows every option."""

from __future__ import annotations

OVERVIEW = """\
lf: text classifiers that learn from LLMs, trained with Lightning.

usage: lf COMMAND [options]

  init       a starter config from your data file      lf init texts.csv
  fit        train, calibrate and save one run         lf fit --config quickstart.yaml
  test       evaluate a run on the test rows           lf test --config quickstart.yaml --ckpt_path best
  validate   evaluate a run on the validation rows     lf validate --config quickstart.yaml --ckpt_path best
  predict    label a file                              lf predict --help
  score      let an LLM score texts into a store       lf score --help
  reason     have reasons for labels written           lf reason --help
  compare    rank runs, with intervals and tests       lf compare runs/quickstart
  report     a page to look at, of a run or several    lf report runs/quickstart/latest
  ensemble   several runs as one model                 lf ensemble --help
  serve      a model over HTTP                         lf serve --model runs/quickstart/latest
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

Asking only where it pays (predictions.csv then says who was asked about which text):
  --llm-budget SHARE          ask about this share of the texts, those that gain most; of several scorers: of the cost of all
  --max-cost USD              ask as far as this goes; never more is paid
  --target-accuracy A         ask as little as reaches this accuracy on the validation rows
  --scorer FILE               ask this scorer of lf score now, about the chosen texts only; without it the store is read
  --llm-price USD[,USD]       of one question to each scorer, where it is not known

Promises, for texts like the validation rows:
  --coverage 0.9              column prediction_set: labels that hold the true one this often
  --max-error 0.05            column answered: true where the error stays under this, with 95 % confidence

  lf predict --run runs/quickstart/latest --data.predict texts.csv --llm-budget 0.2 --coverage 0.9

Tables of any size, in bounded memory; a stopped run goes on (docs/scale.md; lf predict --engine local --help-all):
  --engine local|ray          in this process, or in several, here or on the cluster that RAY_ADDRESS names; the same answers
  --workers N                 processes of engine ray
  --source TABLE              CSV, TSV, JSONL or Parquet: a file, a folder or a pattern; path, or URL such as s3://BUCKET/FOLDER
  --out FOLDER                one Parquet file for every --rows_per_part rows; path or URL

  lf predict --engine ray --workers 4 --run runs/quickstart/latest --source shards/ --on_missing mask --out predictions/
"""

INIT = """\
lf init: write a commented starter config from a data file, and say what was assumed.

usage: lf init FILE [options]

  FILE                        CSV, TSV, JSONL, Parquet, a folder of <label>/*.txt, or a folder with train, dev, test files;
                              beside a train file, dev and test files of the same name are found; so is a column `split`
  --text COLUMN ...           the text column, or several, joined by a newline
  --labels COLUMN ...         the column of label names (several in a cell joined by |), or the columns of 0 and 1
  --empty none|unlabelled     what an empty cell says where a text may have several labels
  --llm WHO                   openai, gemini, anthropic, deepseek or local: also write the config of lf score
  --encoder NAME              the encoder (default: by the number of labels)
  --out FILE                  the config (default: named like the data)
  --force                     replace files that are there

examples:
  lf init texts.csv
  lf init reviews/train.csv --llm openai
  lf init messages.csv --text message --labels water food shelter --out messages.yaml

Of a large file the first 32 MB are read. Nothing is asked and nothing is paid for.
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

REASON = """\
lf reason: have a language model write why a text has its label, once, into a score store; systems learn from the reasons.

usage: lf reason --config FILE [options]

  --config FILE               writer, texts, labels, filters and store; a file, or a packaged config by name
  --dry-run                   reasons to write and their cost; asks nothing, writes nothing
  --samples N                 so many reasons for each text
  --sees_label WHEN           never, always, or if_wrong: only after a reason of its own was dropped
  --max_cost USD              never pay more than this for the replies of one response cache, all runs together
  --limit N                   stop after so many texts
  --help-all                  every option

examples:
  lf reason --config reasoning/reasons.yaml
  lf reason --config reasoning/reasons_llm.yaml --dry-run

What was judged is kept, dropped reasons too: a second run writes only the rest. Train on it: --data.reasons FOLDER.
"""

COMPARE = """\
lf compare: rank runs by a measure of their test rows, with intervals and paired tests, and show what differs in their configs.

usage: lf compare [RUNS ...] [options]

  RUNS                        folders of runs, of experiments or of all (default: runs), or quoted patterns
  --by MEASURE                macro_f1 (default), accuracy, micro_f1, weighted_f1, nll, brier, ece, roc_auc
  --against RUN               test the others against this run (default: the best)
  --group                     runs that differ in seeds only become one line: mean and standard deviation
  --top N                     show and test so many (default: 10)
  --format NAME               table (default), markdown, csv or json

examples:
  lf compare runs/quickstart
  lf compare "runs/*" --by nll --top 20 --format markdown
  lf compare runs/bert runs/roberta --group --against runs/bert/latest

Runs are compared on the same test rows only: others are refused by name. p-values are corrected for the runs shown (Holm).
The same from Python, as a DataFrame: lf_lightning.results.ResultsManager("runs/quickstart").compare()
"""

REPORT = """\
lf report: one self-contained HTML page of a run, or of several on the same test rows.

usage: lf report RUN [RUN ...] [options]

  RUN                         run folder; several, an experiment or a quoted pattern make a comparison
  --out FILE                  the page (default: report.html in the run folder, comparison.html for several)
  --by MEASURE                what ranks a comparison (default: macro_f1)
  --rows N                    rows with text on the page, at most (default: 2000; mistakes and disagreements first)

examples:
  lf report runs/quickstart/latest
  lf report runs/quickstart --out comparison.html

The page needs no network and asks for nothing: open it from disk, or send it. It holds texts of the test rows.
"""

CACHE = """\
lf cache: the raw replies that were paid for, and the ledger of what they cost.

usage: lf cache stats|verify|repair|export|prune|close-batch [options]

  stats                       replies, tokens and money by provider, model and day; attempts that may have been billed;
                              batches that are out
  verify                      look for damage; exit code 1 where there is some
  repair                      make a damaged cache sound again, keeping every sound row
  export --to FILE            all replies as .jsonl or .parquet
  prune                       remove replies: [--provider NAME] [--model NAME] [--older_than_days N] [--dry_run]
  close-batch --batch ID      give up a batch whose results the provider has no longer
  --responses FOLDER          folder of the cache (default: responses)
  --backend CLASS             whose cache it is (default: lf_lightning.responses.SQLiteResponses)

examples:
  lf cache stats
  lf cache prune --model gpt-4o-mini --older_than_days 90 --dry_run
  lf cache export --to replies.parquet

What was pruned is asked, and paid for, again by the next lf score that needs it.
The ledger is never pruned: max_cost counts all that was ever spent.
"""

ENSEMBLE = """\
lf ensemble: several fitted systems as one, in a folder for lf serve and load_system.

usage: lf ensemble RUN RUN [RUN ...] --out FOLDER [options]

  RUN                         a run folder, a checkpoint, a saved model or an ensemble; of one task and the same labels
  --out FOLDER                where it is saved with its members inside; new, or empty
  --rule NAME                 average (default) or majority; or, fitted on rows: weighted, stacked, or routed (for each label
                              the member that is best on it)
  --rows TABLE                labelled rows that no member was trained on: they fit the rule and calibrate
  --text-columns, --label-column
                              of these rows (default: those of the first run's fit)
  --scores FOLDER             score store with the members' scorers (default: that of the first run's fit)
  --device NAME               auto, cpu, cuda, cuda:1, mps

examples:
  lf ensemble runs/bert/latest runs/roberta/latest --out models/both
  lf ensemble runs/bert/latest runs/roberta/latest --rule weighted --rows more.csv --out models/weighted

With rows it prints the accuracy and macro-F1 of the ensemble, held out, and of its members.
"""

SERVE = """\
lf serve: a fitted system over HTTP, until Ctrl-C or SIGTERM.

usage: lf serve --model FOLDER [options]

  --model FOLDER              a saved model or ensemble, a run folder, or a checkpoint
  --host ADDRESS --port N     where to listen (default: 127.0.0.1 8000; port 0 takes a free one)
  --max-batch N --max-wait S  texts that the encoder reads at once (32), seconds that an idle one waits for more (0)
  --max-queue N               texts that may wait; a request beyond gets 503 and Retry-After (1024)
  --max-texts, --max-characters, --max-body, --timeout
                              limits of a request (256, 20000, 4194304 bytes, 30 s)
  --scorer FILE               a live LLM to ask where it pays: a config as for lf score; again for each scorer of the system
  --llm-budget SHARE          share of the texts about which it is asked; or --target-accuracy A
  --max-cost USD              never pay more than this in all; then the encoder goes on alone
  --dtype bfloat16, --compile true, --device cuda
  --help-all                  every option

examples:
  lf serve --model runs/quickstart/latest
  lf serve --model models/news --scorer scoring/ag_news.yaml --llm-budget 0.2 --max-cost 5
  curl -s http://127.0.0.1:8000/predict -H 'content-type: application/json' -d @texts.json

texts.json has a list of texts under "texts", and "reasons": true where a reasoning run is to say why; the page at / is to try
it by hand. GET /health, /info, /metrics (Prometheus) and /openapi.json are there too. Told to stop, it answers the requests
under way, and ends with 0 (SIGTERM) or 130 (Ctrl-C).
There is no access control: it listens on this machine only unless --host says otherwise. No text gets into a log.
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
    pages = {
        "init": INIT,
        "fit": FIT,
        "score": SCORE,
        "reason": REASON,
        "ensemble": ENSEMBLE,
        "serve": SERVE,
        "cache": CACHE,
        "compare": COMPARE,
        "report": REPORT,
        "doctor": DOCTOR,
    }
    return pages[command]
