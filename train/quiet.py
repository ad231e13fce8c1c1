"""Keeps other libraries' banners and bars off the terminal."""

from __future__ import annotations

import logging
import os
import warnings


def quiet_libraries() -> None:
    """Warnings of the libraries about themselves go; their errors stay."""
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"(transformers|trl)\b.*")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    import datasets
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    datasets.disable_progress_bars()
    for name in ("DeepSpeed", "deepspeed", "trl", "torch.distributed", "httpx", "huggingface_hub"):
        logging.getLogger(name).setLevel(logging.ERROR)
