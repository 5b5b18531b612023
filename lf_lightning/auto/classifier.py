"""`AutoFusionClassifier`: the few lines of the LabelFusion paper (arXiv 2512.10793), as a scikit-learn estimator."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.metrics import accuracy_score
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from lf_lightning.auto.fit_rows import fit_rows
from lf_lightning.auto.inputs import Targets, labelled, read_targets, read_texts
from lf_lightning.auto.keeping import Keeping
from lf_lightning.auto.llm_scores import opinion_of, scores_of_fit
from lf_lightning.auto.members import scorers_of
from lf_lightning.auto.settings import check_keys, check_no_key, merged
from lf_lightning.auto.training import Choices, Fitted, choose, fit, plan_line, summary_line
from lf_lightning.callbacks.judging import Opinion
from lf_lightning.errors import ConfigurationError
from lf_lightning.predictor.predictor import Predictor
from lf_lightning.predictor.saving import refuse_full
from lf_lightning.scoring.base import Scorer
from lf_lightning.scoring.models import device_of


class AutoFusionClassifier(Keeping, ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Fuses a fine-tuned encoder with what one or more LLMs say of a text: a scikit-learn classifier of texts.

    Args are given as keywords, as the dict `config` of the paper, or both; a keyword that is not its default goes before the
    dict. Texts are a list, a Series, an array of strings or a data frame; labels are strings, numbers or booleans, or several a
    row: an indicator matrix or lists. `predict` gives them back as they came in.

    Where LLMs are asked, every reply is kept in the folder `responses`, so a second fit pays for new texts only. `fit` says
    what it is going to cost before it asks. Nothing else is left on the disk, unless `output_dir` is given.

    Args:
        config: The paper's dict: any of the arguments below.
        llm_provider: None (the encoder alone), openai, gemini, anthropic, deepseek, local (a model on this machine, named by
            llm_model), the address of a server that speaks OpenAI's interface, a `Scorer`, or a list of these.
        label_columns: The labels in order: one-hot columns of the data frame, or the values of its label column.
        llm_model: The LLM's name, or one for each of a list; None: a small one of the provider.
        multi_label: Whether a row may have several labels, or none; None: as the labels show.
        text_column: Column of texts; None: the one called text, or the only one of strings.
        label_column: Column of labels, where label_columns are none of the columns; several are joined by `|`.
        ml_model: Hub name, folder or package:NAME/PATH of the encoder; None: by the number of labels and the machine.
        frozen_layers: Lower layers of the encoder that keep their weights, -1 for all; None: by the number of labels.
        max_length: Tokens kept of each text.
        max_words: Words kept of each text, for encoder and LLM; None: all.
        batch_size: Rows in a batch; None: 32.
        num_epochs: Epochs of the encoder; None: 30 with all layers frozen, else 3.
        fusion_epochs: Epochs of the fusion; None: 10.
        ml_learning_rate: Learning rate of the encoder; None: 2e-5, 3e-4 for the upper layers of MiniLM.
        fusion_lr: Learning rate of the fusion; None: 1e-3.
        validation_share: Share of the labelled rows that calibrate and choose the epoch, if `fit` gets none; None: by number.
        tune_decisions: Tune on validation rows how far decisions lean to rare labels; None: for several labels a row only, as
            scikit-learn expects `predict` to be the most probable label.
        scores: Folder of a score store with scores that one already has; no LLM is asked then.
        description: What the texts are and what is asked about them, in words, for LLMs behind an interface.
        label_descriptions: What is meant by a label, as label: words, for them.
        mode: How they are asked: auto, logprob, verbalized, vote, label, or an `Elicitation`.
        temperature: Theirs; None: as the mode wants it.
        api_key_env: Environment variable that holds the key; None: the provider's usual one, such as OPENAI_API_KEY.
        max_cost: USD that all replies in `responses` may ever have cost; it is never passed. None: no limit.
        on_missing: A text without an answer stops (error), or is decided by the encoder (mask).
        llm_budget: Share in [0, 1] of what asking everybody costs that `predict` may use on average: it asks about the texts
            where that pays most, each decided by itself, as validation rows show it. `fit` asks about all. None: all texts.
        responses: Folder of the replies that were paid for.
        output_dir: Folder in which `fit` saves the fitted classifier, new or empty; None: it saves none.
        device: auto, cpu, cuda, cuda:1, mps.
        random_state: Fixes all that is random: an integer, None, or a `RandomState`.
        verbose: 0 prints nothing, 1 a few lines and a bar, 2 also epochs where there is no terminal.

    Attributes:
        classes_: (K,) the labels; columns of `predict_proba`. In the order of `label_columns`, else sorted.
        task_: multiclass or multilabel.
        predictor_: The fitted system, see `Predictor`.
        figures_: Of the validation rows: accuracy, macro_f1, nll, ece and more of `system`, `encoder` and each LLM.
        choices_: What None in the arguments became.
        cost_usd_: What `fit` paid.
    """

    def __init__(
        self,
        config: Mapping[str, Any] | None = None,
        *,
        llm_provider: Any = None,
        label_columns: Sequence[Any] | None = None,
        llm_model: str | Sequence[str | None] | None = None,
        multi_label: bool | None = None,
        text_column: str | None = None,
        label_column: str = "label",
        ml_model: str | None = None,
        frozen_layers: int | None = None,
        max_length: int = 256,
        max_words: int | None = None,
        batch_size: int | None = None,
        num_epochs: int | None = None,
        fusion_epochs: int | None = None,
        ml_learning_rate: float | None = None,
        fusion_lr: float | None = None,
        validation_share: float | None = None,
        tune_decisions: bool | None = None,
        scores: str | os.PathLike[str] | None = None,
        description: str = "",
        label_descriptions: Mapping[str, str] | None = None,
        mode: Any = "auto",
        temperature: float | None = None,
        api_key_env: str | Sequence[str | None] | None = None,
        max_cost: float | None = None,
        on_missing: Literal["error", "mask"] = "error",
        llm_budget: float | None = None,
        responses: str | os.PathLike[str] = "responses",
        output_dir: str | os.PathLike[str] | None = None,
        device: str = "auto",
        random_state: int | np.random.RandomState | None = 0,
        verbose: int = 1,
    ) -> None:
        check_keys(config, [name for name in self._get_param_names() if name != "config"])
        check_no_key(api_key_env)
        self.config = config
        self.llm_provider = llm_provider
        self.label_columns = label_columns
        self.llm_model = llm_model
        self.multi_label = multi_label
        self.text_column = text_column
        self.label_column = label_column
        self.ml_model = ml_model
        self.frozen_layers = frozen_layers
        self.max_length = max_length
        self.max_words = max_words
        self.batch_size = batch_size
        self.num_epochs = num_epochs
        self.fusion_epochs = fusion_epochs
        self.ml_learning_rate = ml_learning_rate
        self.fusion_lr = fusion_lr
        self.validation_share = validation_share
        self.tune_decisions = tune_decisions
        self.scores = scores
        self.description = description
        self.label_descriptions = label_descriptions
        self.mode = mode
        self.temperature = temperature
        self.api_key_env = api_key_env
        self.max_cost = max_cost
        self.on_missing = on_missing
        self.llm_budget = llm_budget
        self.responses = responses
        self.output_dir = output_dir
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    # ---- scikit-learn

    def fit(self, X: Any, y: Any = None, *, scores: Any = None, validation: Any = None) -> AutoFusionClassifier:
        """Asks the LLMs about the texts, fits encoder and fusion, calibrates, and keeps the best epoch.

        Args:
            X: n texts, or a data frame with texts and labels; its rows without a label are left out.
            y: Labels (n,), an (n, K) indicator, or n lists of labels; None: those in the data frame.
            scores: (n, M, K) or (n, K) probabilities that one already has, NaN where there is none, or the folder of a score
                store; no LLM is asked then.
            validation: Rows that calibrate and choose the epoch: a data frame like X, or (texts, labels); None: a share of X.

        Raises:
            ConfigurationError: An argument that cannot work; the message names it.
            DataError: Texts or labels that cannot be used.
            BudgetError: It would cost more than `max_cost`.
            ProviderAccessError: No key, or one that is not accepted.
        """
        said = self._said()
        rows = fit_rows(said, X, y, validation)
        targets, held_out = rows.targets, rows.validation
        device, seed = device_of(said.device), _seed(said.random_state)
        given = said.scores if scores is None else scores
        if said.scores is not None and said.llm_provider is not None:
            raise ConfigurationError("scores and llm_provider are both set. Way out: one of them.")
        if said.output_dir is not None:
            refuse_full(said.output_dir, "output_dir")
        members = said._members(targets) if given is None else []
        choices = choose(
            len(rows.train),
            len(set(rows.train["text"])),
            len(targets.classes),
            device,
            said.ml_model,
            said.frozen_layers,
            said.num_epochs,
            said.fusion_epochs,
            said.ml_learning_rate,
            said.fusion_lr,
            said.batch_size,
            said.validation_share,
        )
        kept = None if held_out is None else len(held_out)
        said._tell(plan_line(len(rows.train), kept, targets.task, len(targets.classes), choices))
        with tempfile.TemporaryDirectory(prefix="lf_lightning_") as folder:
            found = scores_of_fit(said, rows, given, members, Path(folder))
            fitted = fit(
                rows.train[["text", "label"]],
                held_out,
                targets.names,
                targets.task,
                found.store,
                found.names,
                found.on_missing,
                choices,
                said.max_length,
                said.max_words,
                targets.task == "multilabel" if said.tune_decisions is None else said.tune_decisions,
                seed,
                Path(folder) / "run",
                said.verbose,
            )
        self._take(targets, fitted, choices, members, found.paid)
        said._tell(summary_line(fitted.figures))
        if said.output_dir is not None:
            self.save(said.output_dir)
            said._tell(f"saved in {said.output_dir}")
        return self

    def predict(self, X: Any, *, scores: Any = None) -> Any:
        """Returns the labels of n texts, in the form that the labels of the fit had.

        Args:
            X: n texts, or a data frame with them.
            scores: (n, M, K) or (n, K) probabilities, NaN where there is none, or the folder of a score store; None: as in the
                fit, the LLMs are asked about texts that they were not asked about before. After a fit on an array: none.
        """
        decisions = self._opinion(X, scores).decisions  # first, as it says of a classifier without a fit that it has none
        return self._targets.given_back(decisions)

    def predict_proba(self, X: Any, *, scores: Any = None) -> NDArray[np.float64]:
        """Returns calibrated probabilities (n, K), columns as `classes_`; rows sum to 1 where one label is right.

        Args:
            X: As for `predict`.
            scores: As for `predict`.
        """
        return self._opinion(X, scores).probabilities

    def score(self, X: Any, y: Any = None, sample_weight: Any = None, *, scores: Any = None) -> float:
        """Returns the accuracy, in multi-label the share of rows with all labels right.

        Args:
            X: As for `predict`.
            y: The true labels; None: those in the data frame.
            sample_weight: (n,), or None.
            scores: As for `predict`.
        """
        said = self._said()
        check_is_fitted(self)
        _, true = read_targets(X, y, self.classes_.tolist(), said._label_column, self.task_ == "multilabel")
        decided = self._opinion(X, scores).decisions
        known = labelled(true)
        weights = None if sample_weight is None else np.asarray(sample_weight)[known]
        return float(accuracy_score(true[known].astype(np.int64), decided[known], sample_weight=weights))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.one_d_array = True
        tags.input_tags.two_d_array = False
        tags.input_tags.string = True
        tags.classifier_tags.multi_label = True
        return tags

    # ---- inside

    def _said(self) -> AutoFusionClassifier:
        """The arguments with those of `config` among them, as a classifier of its own that is not fitted."""
        given = self.get_params(deep=False)
        return type(self)(**merged(given, type(self)().get_params(deep=False)))

    @property
    def _label_column(self) -> str:
        """Column of labels in later data frames: what `label_columns` named alone, or `label_column`."""
        one = list(self.label_columns or ())
        return str(one[0]) if len(one) == 1 else self.label_column

    def _texts(self, X: Any) -> list[str]:
        return read_texts(X, self.text_column, self.max_words)

    def _members(self, targets: Targets) -> list[Scorer]:
        return scorers_of(
            self.llm_provider,
            self.llm_model,
            self.api_key_env,
            targets.names,
            targets.task,
            self.mode,
            self.temperature,
            self.description,
            self.label_descriptions,
            self.responses,
            self.device,
        )

    def _take(self, targets: Targets, fitted: Fitted, choices: Choices, members: list[Scorer], paid: float) -> None:
        self.classes_, self.task_ = targets.classes, targets.task
        self.predictor_: Predictor = fitted.predictor
        self.figures_, self.choices_, self.cost_usd_ = fitted.figures, choices, paid
        self._form, self._facts = targets.form, fitted.facts
        self._asked: list[Scorer] | None = members
        self._named: list[dict[str, Any]] = []
        """Whom a saved fit had asked, where nobody is asked now."""

    @property
    def _targets(self) -> Targets:
        return Targets(self.task_, self.classes_, self._form)

    def _opinion(self, X: Any, scores: Any) -> Opinion:
        check_is_fitted(self)
        return opinion_of(self, X, scores)

    def _tell(self, line: str) -> None:
        if self.verbose:
            print(line, flush=True)


def _seed(random_state: Any) -> int:
    if isinstance(random_state, (int, np.integer)) and random_state >= 0:
        return int(random_state)
    return int(check_random_state(random_state).randint(np.iinfo(np.int32).max))
