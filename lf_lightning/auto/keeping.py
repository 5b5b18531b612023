"""What a fitted `AutoFusionClassifier` does beyond scikit-learn: into a folder and back, to the hub and back, and its card."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, cast

from sklearn.utils.validation import check_is_fitted

if TYPE_CHECKING:
    from lf_lightning.auto.classifier import AutoFusionClassifier


class Keeping:
    """The methods; a part of `AutoFusionClassifier` alone."""

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Writes the fitted classifier into a folder: safetensors and JSON, no pickle, no key, no training text.

        Args:
            folder: New, or empty.

        Raises:
            ConfigurationError: There is something in it, or it cannot be written.
        """
        from lf_lightning.auto.folder import save

        check_is_fitted(self)
        save(cast("AutoFusionClassifier", self), folder)

    @classmethod
    def load(cls, folder: str | os.PathLike[str], *, llm_provider: Any = None, device: str = "auto") -> AutoFusionClassifier:
        """Returns a classifier that `save` wrote; nothing in the folder is run, and nobody whom only it names is asked.

        Args:
            folder: The folder.
            llm_provider: Who is asked about new texts: as in the fit; or saved, those that the folder names, with texts and the
                key of api_key_env going there; None: nobody, so that `predict` wants scores, or on_missing mask.
            device: auto, cpu, cuda, cuda:1, mps.

        Raises:
            DataError: It is damaged, was changed, or holds more than tensors and plain values.
            ConfigurationError: It is no such folder.
        """
        from lf_lightning.auto.folder import load

        return load(cast("type[AutoFusionClassifier]", cls), folder, llm_provider, device)

    def model_card(self, test: Any = None, license: str | None = None) -> str:
        """Returns the README.md of the model: what it decides, how well, who takes part, limits, how to load it.

        Args:
            test: A data frame with texts and labels, or (texts, labels), whose figures stand in the card; None: the
                validation rows' figures, which are no test.
            license: The model's licence, as the hub spells it; None: the card says that none is given.
        """
        from lf_lightning.auto.card import model_card

        check_is_fitted(self)
        return model_card(cast("AutoFusionClassifier", self), test, license)

    def push_to_hub(
        self, repo_id: str, *, test: Any = None, license: str | None = None, private: bool = True, token: str | None = None
    ) -> str:
        """Uploads the saved folder with a model card to the Hugging Face hub, and returns its address.

        Args:
            repo_id: `user/name`.
            test: See `model_card`.
            license: See `model_card`.
            private: Whether a repository that is new is visible to its owner only.
            token: The hub's token; None: the one that `hf auth login` left.
        """
        from lf_lightning.auto.folder import push_to_hub

        check_is_fitted(self)
        return push_to_hub(cast("AutoFusionClassifier", self), repo_id, test, license, private, token)

    @classmethod
    def from_pretrained(
        cls,
        repo_id_or_folder: str | os.PathLike[str],
        *,
        revision: str | None = None,
        llm_provider: Any = None,
        device: str = "auto",
    ) -> AutoFusionClassifier:
        """Returns a classifier from a folder, or from the Hugging Face hub; nothing in it is run.

        Args:
            repo_id_or_folder: `user/name`, or a folder.
            revision: Branch, tag or commit of the hub's repository.
            llm_provider: See `load`.
            device: See `load`.
        """
        from lf_lightning.auto.folder import fetched

        return cls.load(fetched(repo_id_or_folder, revision), llm_provider=llm_provider, device=device)
