"""The `nextchapter` command: finds the sub-command, runs it, and turns user errors into one line.

Nothing heavy is imported here: a command is loaded only when it is the one that was asked for.
"""

from __future__ import annotations

import importlib
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from train.config.hints import did_you_mean
from train.preemption import Preempted
from train.quiet import quiet_loggers

CONFIG_DIR = Path(__file__).resolve().parent.parent / "configs"
EXIT_OK, EXIT_USER_ERROR, EXIT_STOPPED, EXIT_INTERRUPTED = 0, 2, 3, 130
# Python's own, after a traceback.
EXIT_DEFECT = 1
# sysexits.h: a temporary failure, try again later. A batch script can requeue the job on it.
EXIT_PREEMPTED = 75


@dataclass(frozen=True)
class Command:
    """One sub-command.

    `target` is `module:function`. With a `config_name` the function is given the config that
    Hydra composed; without one it is given the arguments as they stand and returns an exit status.
    `saved_run_key` is the override that starts from the config of an earlier run (`resume=DIR`);
    what is written then goes into `saved_run_output`, a folder inside that run.
    `saved_run_settings` are those that no run has saved and the command's own config gives,
    `saved_run_groups` those that may be chosen anew (`env=debate`). `config_names` has the config
    to compose, where there is no saved run, by a setting that asks for another.
    """

    target: str
    summary: str
    config_name: str | None = None
    saved_run_key: str | None = None
    saved_run_output: str = ""
    saved_run_settings: Sequence[str] = ()
    saved_run_groups: Sequence[str] = ()
    config_names: Mapping[str, str] = field(default_factory=dict)

    def load(self) -> Callable[[Any], Any]:
        module, _, function = self.target.partition(":")
        return getattr(importlib.import_module(module), function)


COMMANDS: Mapping[str, Command] = {
    "train": Command(
        "train.commands.train:run",
        "train an agent; resume=runs/<run> goes on with an earlier run",
        config_name="train",
        saved_run_key="resume",
    ),
    "evaluate": Command(
        "train.commands.evaluations:run",
        "evaluate run=runs/<run>, or env=<name>, on unseen books, or preferences: judgments=CSV",
        config_name="evaluate",
        saved_run_key="run",
        saved_run_output="evaluations/${now:%Y-%m-%d_%H-%M-%S}",
        saved_run_settings=("checkpoint", "judgments", "comparisons"),
        saved_run_groups=("env",),
        config_names={"env": "evaluate_env"},
    ),
    "write": Command(
        "train.commands.write:run",
        "write chapter=NUMBER of book=NAME with env=<name>, and show the scratchpad",
        config_name="write",
        saved_run_key="run",
        saved_run_output="written/${now:%Y-%m-%d_%H-%M-%S}",
        saved_run_settings=("checkpoint", "book", "chapter", "writing"),
        saved_run_groups=("env",),
    ),
    "prepare": Command(
        "train.commands.prepare:run",
        "story information for data=published, made from raw books by an agent",
        config_name="prepare",
    ),
    "report": Command(
        "train.commands.report:run",
        "one page on what run=runs/<run>, or several, has shown; figures and tables for a paper",
        config_name="report",
    ),
    "judge": Command(
        "train.commands.judge:run",
        "a page on this machine on which people judge the texts in comparisons=JSONL",
        config_name="judge",
    ),
    "export": Command(
        "train.commands.export:run",
        "the agent of run=runs/<run> as a folder to=FOLDER for from_pretrained, with a model card",
        config_name="export",
    ),
    "books": Command("launch.books:main", "show what is found in book files; --json for machines"),
    "launch": Command("launch.launch:main", "plan: whether a run fits the GPUs it is meant for"),
    "watch": Command("launch.watch:main", "how run=runs/<run> is going, in the terminal"),
    "bench": Command("launch.bench:main", "measure the speed of scoring on this machine"),
}


def main(
    argv: Sequence[str] | None = None,
    commands: Mapping[str, Command] = COMMANDS,
    config_dir: Path = CONFIG_DIR,
) -> int:
    """Runs one command line and returns its exit status.

    0, 2 for a user error, 3 for a run that a monitor stopped, 75 for one that SIGTERM or SIGUSR1
    stopped and that can go on, 130 for Ctrl-C.
    """
    quiet_loggers()
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_usage(commands))
        return EXIT_OK if arguments else EXIT_USER_ERROR
    name, *rest = arguments
    if name not in commands:
        _complain("nextchapter", _unknown_command(name, commands))
        return EXIT_USER_ERROR
    show_traceback = "--debug" in rest
    rest = [argument for argument in rest if argument != "--debug"]
    command = commands[name]
    try:
        if command.config_name is None:
            return command.load()(rest)
        from launch.hydra_app import run_with_hydra

        return run_with_hydra(name, command, rest, config_dir, show_traceback)
    except KeyboardInterrupt as error:
        _complain(f"nextchapter {name}", f"interrupted{error}")
        return EXIT_INTERRUPTED
    except Preempted as stop:
        _complain(f"nextchapter {name}", str(stop))
        return EXIT_PREEMPTED
    except BrokenPipeError:
        # The reader of a pipe (`nextchapter books … | head`) has seen enough.
        sys.stdout = None
        return EXIT_OK
    except Exception as error:
        return report(name, error, show_traceback)


def report(name: str, error: Exception, show_traceback: bool) -> int:
    """One line for what a user can mend; anything else is a defect and keeps its traceback.

    Of several processes that fail together only the first one speaks.
    """
    from launch.explain import explain, is_user_error
    from train import ranks
    from train.monitors.stop import StoppedByMonitor

    if isinstance(error, StoppedByMonitor):
        status = EXIT_STOPPED
    else:
        status = EXIT_USER_ERROR if is_user_error(error) else EXIT_DEFECT
    if not ranks.first_to_say(name):
        return status
    if not is_user_error(error):
        raise error
    if show_traceback:
        traceback.print_exception(error)
    _complain(f"nextchapter {name}", explain(error))
    return status


def _complain(who: str, message: str) -> None:
    print(f"{who}: {message}", file=sys.stderr)


def _unknown_command(name: str, commands: Mapping[str, Command]) -> str:
    hint = did_you_mean(name, commands)
    return f"no command '{name}'; {hint}the commands are {', '.join(commands)}"


def _usage(commands: Mapping[str, Command]) -> str:
    width = max(map(len, commands))
    return "\n".join(
        [
            "usage: nextchapter COMMAND [SETTING=VALUE ...] [--multirun] [--cfg job] [--help]",
            "",
            *(f"  {name:<{width}}  {command.summary}" for name, command in commands.items()),
            "",
            "`nextchapter COMMAND --help` shows a command's settings; --debug shows tracebacks.",
        ]
    )
