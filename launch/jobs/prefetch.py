"""`nextchapter launch prefetch`: brings what a run needs from the Hub into the cache.

On a cluster this is done on a node that reaches the Internet; the job then runs offline. The cache
is the one of huggingface_hub (`HF_HOME` on a shared disk), which locks each file that it brings, so
that several may do this at once.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from train.config.validate import parse, plain
from train.schema import RunConfig

# Weights as safetensors, tokenizers and configs: nothing that would be run.
_WANTED = ["*.safetensors", "*.json", "*.txt", "*.model", "*.jinja"]
_COMMIT = re.compile(r"[0-9a-f]{40}\Z")
_DATA_PREFIX = "hf:"
# Which of them it is depends on the version of huggingface_hub.
_HTTP_LIBRARIES = ("httpx", "httpx2")


@dataclass(frozen=True)
class HubModel:
    """A model or adapters that a config takes from the Hub; `key` is the setting that names it."""

    key: str
    name: str
    revision: str | None
    revision_key: str | None

    @property
    def is_pinned(self) -> bool:
        return self.revision is not None and bool(_COMMIT.match(self.revision))


def run(config: DictConfig) -> None:
    """Brings all models and data sets of the config, and says how to pin them.

    Raises:
        ValueError: one cannot be had; the line names the setting and the reason.
    """
    content = plain(config)
    content.pop("launch", None)
    parse(RunConfig, content)
    models, data = list(hub_models(content)), list(hub_data(content))
    for model in models:
        commit = fetch(model, local_only=False)
        print(f"{model.name}: {commit}")
        if not model.is_pinned and model.revision_key is not None:
            print(f"  to pin it: {model.revision_key}={commit}")
    for key, source in data:
        num_rows = _read_data(key, source)
        print(f"{source}: {num_rows} rows")
    if not models and not data:
        print("nothing of this run comes from the Hub")


def hub_models(node: Any, key: str = "") -> Iterator[HubModel]:
    """The models of a plain config that lie in no folder, wherever they stand in it."""
    if isinstance(node, list | tuple):
        for number, item in enumerate(node):
            yield from hub_models(item, f"{key}.{number}")
    if not isinstance(node, Mapping):
        return
    if "path" in node and ("dtype" in node or "revision" in node or key.endswith("model")):
        revision = node.get("revision")
        if _is_hub_id(node["path"]):
            yield HubModel(f"{key}.path", node["path"], revision, f"{key}.revision")
        if _is_hub_id(node.get("adapter")):
            yield HubModel(f"{key}.adapter", node["adapter"], None, None)
        return
    for name, item in node.items():
        yield from hub_models(item, f"{key}.{name}" if key else str(name))


def hub_data(node: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """The data sets of the Hub that a config names, as `hf:NAME`."""
    if isinstance(node, str):
        name = node.removeprefix(_DATA_PREFIX)
        if node.startswith(_DATA_PREFIX) and not Path(name.partition(":")[0]).exists():
            yield key, node
    items = node.items() if isinstance(node, Mapping) else ()
    if isinstance(node, list | tuple):
        items = enumerate(node)
    for name, item in items:
        yield from hub_data(item, f"{key}.{name}" if key else str(name))


def pinned(content: Mapping[str, Any]) -> dict[str, str]:
    """The revision of every model of a config as the cache has it, by the key of the setting.

    Raises:
        ValueError: a model is not in the cache, so that a job without the Internet would fail.
    """
    commits = {}
    for model in hub_models(content):
        commit = fetch(model, local_only=True)
        if model.revision_key is not None:
            commits[model.revision_key] = commit
    return commits


def fetch(model: HubModel, *, local_only: bool) -> str:
    """The commit of the model's files, which are in the cache afterwards."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        folder = snapshot_download(
            model.name,
            revision=model.revision,
            allow_patterns=_WANTED,
            local_files_only=local_only,
        )
    except LocalEntryNotFoundError as error:
        if local_only:
            raise ValueError(
                f"{model.key}: {model.name} is not in the cache; run nextchapter launch prefetch "
                "with the same settings where there is Internet, or set launch.offline=false"
            ) from error
        # It hides what the Hub answered, if it did.
        raise ValueError(f"{model.key}: {_why(model, error.__cause__)}") from error
    except HfHubHTTPError as error:
        raise ValueError(f"{model.key}: {_why(model, error)}") from error
    except Exception as error:
        # What a proxy or a connection that breaks raises is of the library below huggingface_hub.
        if type(error).__module__.partition(".")[0] not in _HTTP_LIBRARIES:
            raise
        raise ValueError(f"{model.key}: {_why(model, error)}") from error
    return Path(folder).name


def _why(model: HubModel, error: BaseException | None) -> str:
    """Why the Hub does not give the model, and what to do about it."""
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    if isinstance(error, GatedRepoError):
        return (
            f"{model.name} is gated; ask for access on its page, and give a token that has it in "
            "HF_TOKEN"
        )
    if isinstance(error, RepositoryNotFoundError):
        return (
            f"the Hub shows no {model.name}; check the name, or, of a private one, give a token "
            "that may read it in HF_TOKEN"
        )
    if isinstance(error, RevisionNotFoundError):
        return f"{model.name} has no revision {model.revision}; set {model.revision_key}"
    if not isinstance(error, HfHubHTTPError):
        return (
            f"this machine does not reach {model.name}; see HF_ENDPOINT, HF_HUB_OFFLINE and the "
            "proxy in HTTPS_PROXY"
        )
    status = error.response.status_code
    if status == 404:
        return f"nothing answers for {model.name} (404); check the name and HF_ENDPOINT"
    wrong_token = "the token in HF_TOKEN is wrong, or may not read it"
    remedy = wrong_token if status in (401, 403) else "try again later"
    return f"the Hub refused {model.name} ({status}); {remedy}"


def _is_hub_id(path: Any) -> bool:
    """Whether a setting names no folder: `owner/name`, or a name of the Hub's early days."""
    return (
        isinstance(path, str)
        and not path.startswith(("assets/", "/", ".", "~"))
        and path.count("/") <= 1
        and not Path(path).exists()
    )


def _read_data(key: str, source: str) -> int:
    from envs.books.hub import read_dataset_rows

    try:
        return sum(1 for _ in read_dataset_rows(source))
    except ValueError as error:
        raise ValueError(f"{key}: {error}") from error
