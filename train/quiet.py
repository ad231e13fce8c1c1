"""Keeps other libraries' banners and bars off the terminal."""

from __future__ import annotations

import logging
import os
import warnings


def quiet_libraries() -> None:
    """Warnings of the libraries about themselves go; their errors stay."""
    about_themselves = r"(transformers|trl|torch\.distributed)\b.*"
    warnings.filterwarnings("ignore", category=FutureWarning, module=about_themselves)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("WANDB_SILENT", "true")
    import datasets
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    datasets.disable_progress_bars()


def quiet_loggers() -> None:
    """Of loggers only the errors, before their libraries are loaded: some complain as they are."""
    for name in (
        *("DeepSpeed", "deepspeed", "trl", "torch.distributed", "huggingface_hub"),
        # Which of them huggingface_hub asks with depends on what is installed.
        *("httpx", "httpx2"),
        # What transformers sets for it, and the compiler that makes DeepSpeed's kernel for CPUs.
        *("accelerate.accelerator", "compilers.C.base"),
        # peft loads it wherever it is installed; it looks for kernels that this machine cannot run.
        *("torchao", "torch.utils._pytree"),
    ):
        show_only_errors(name)


def show_only_errors(logger_name: str) -> None:
    """Also of a library that is imported later and then sets the level of its logger itself."""
    logger = logging.getLogger(logger_name)
    logger.setLevel(logging.ERROR)
    logger.addFilter(_is_error)


def _is_error(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.ERROR
