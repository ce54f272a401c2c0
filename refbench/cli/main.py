"""The command ``refbench``: finds the verb, runs it, and turns what went wrong into one sentence and an exit code.

A verb's module is imported when the verb is called, typer with it, so that the front page costs next to nothing.
"""

from __future__ import annotations

import importlib
import os
import sys
import warnings
from collections.abc import Sequence
from typing import Any

from refbench.cli.streams import prepare
from refbench.errors import RefbenchError, missing_package, unknown_name
from refbench.plaintext import harmless

VERBS: dict[str, tuple[str, str]] = {
    "eval": ("eval", "Evaluate models on a suite: generate, measure, aggregate."),
    "generate": ("generate", "Only let a model answer a suite; measure later."),
    "measure": ("measure", "Measure a run again, or one image beside its target."),
    "score": ("score", "Score folders of pictures on a suite, and compare them."),
    "import": ("importing", "Make a suite of your own pictures."),
    "compare": ("compare", "Compare runs: which is better, in what, and how sure that is."),
    "figures": ("figures", "Draw the figures and LaTeX tables of a paper from runs."),
    "report": ("report", "Write a page that shows every sample of one or more runs."),
    "leaderboard": ("leaderboard", "Render the board, add to it, or check that it is up to date."),
    "submit": ("submit", "Pack a run as an entry for the board."),
    "verify": ("verify", "Recompute an entry's claims from its images."),
    "arena": ("arena", "Ask people which of two results is better."),
    "agreement": ("agreement", "Hold score and metrics against such votes."),
    "push": ("push", "Put a run, an entry or a suite on the Hugging Face hub."),
    "pull": ("pull", "Fetch a run, an entry or a suite from the Hugging Face hub."),
    "protocol": ("protocol", "Print the columns of another paper's protocol for runs."),
    "list": ("listing", "List models, tasks or metrics."),
    "new-adapter": ("new_adapter", "Write the skeleton of an adapter for your model."),
    "check-adapter": ("check_adapter", "Try an adapter on tiny samples."),
    "doctor": ("doctor", "Check every metric against closed forms and a second library."),
    "audit": ("audit", "Show how each metric answers each kind of failure."),
    "refine": ("refine", "Put a detail of one picture right from a reference."),
    "app": ("app", "Try refiners on a page: paint a mask, run, compare."),
    "train": ("train", "Train OmniRefiner: base editor, stage 1, stage 2."),
    "tasks": ("tasks", "Build suites, and generate training data."),
    "weights": ("weights", "List, fetch and check weight files of metrics and models."),
}
"""Verb -> (module of refbench.cli with a Typer `app`, one line of help), in the order of the front page."""

EXIT_CODES = {
    0: "Done.",
    1: "Finished, but samples or checks failed.",
    2: "Wrong input, or something that is not here; one sentence on stderr says what was expected and what to do.",
    130: "Interrupted; what is finished is kept.",
}
"""Exit code -> what it means; what a command means by 1 in particular stands in its help."""

COMPLETION = "_REFBENCH_COMPLETE"
"""The environment variable by which a shell asks for completions."""
COMPLETION_OPTIONS = ("--install-completion", "--show-completion")

PAGE = """\
Usage: refbench COMMAND [OPTIONS] ...

  How well does a model put a wrong detail right from a reference picture,
  and leave the rest alone?

Commands:
{verbs}

Options:
  --version             Show the version and exit.
  --help                Show this page, or after a command the command's own.
  --install-completion  Let the shell complete commands, options and names.
  --show-completion     Print what that would install.

Start with: refbench eval --model warp-blend
"""


def front_page() -> str:
    """The help page of the command itself."""
    width = max(map(len, VERBS))
    return PAGE.format(verbs="\n".join(f"  {verb:<{width}}  {text}" for verb, (_, text) in VERBS.items()))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: without the program's name; None takes them from the process.

    Returns:
        The exit code. Nothing is raised but under ``REFBENCH_DEBUG=1``, which shows tracebacks.
    """
    prepare()
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = os.environ.get("REFBENCH_DEBUG", "") not in ("", "0")
    if not debug:
        warnings.simplefilter("ignore")  # libraries warn about themselves; what concerns the user is said in results
    try:
        code = _dispatch(given)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        print("Interrupted; what is finished is kept.", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader has seen enough, as in `refbench list metrics | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 0
    except Exception as error:
        if debug:
            raise
        print(harmless(_wrapped(f"Error: {_sentence(error, given)}")), file=sys.stderr)
        return 2


def _dispatch(given: list[str]) -> int:
    if COMPLETION in os.environ or (given and given[0].partition("=")[0] in COMPLETION_OPTIONS):
        from refbench.cli.completion import serve

        serve(given, VERBS)
        return 0
    if not given or given[0] in ("--help", "-h", "help"):
        print(front_page(), end="")
        return 0
    if given[0] in ("--version", "-V"):
        from refbench import __version__

        print(f"refbench {__version__}")
        return 0
    verb = given[0]
    if verb.startswith("-"):
        raise RefbenchError(f"Expected a command, but the option '{verb}' came first; see 'refbench --help'.")
    if verb not in VERBS:
        raise unknown_name("command", verb, VERBS)
    import typer

    command = typer.main.get_command(importlib.import_module(f"refbench.cli.{VERBS[verb][0]}").app)
    if len(given) == 1 and isinstance(command, typer.core.TyperGroup):
        given = [verb, "--help"]
    try:
        code: Any = command.main(given[1:], prog_name=f"refbench {verb}", standalone_mode=False)
    except typer.Abort:
        raise KeyboardInterrupt from None
    except SystemExit:  # typer's own answer to a reader that has gone
        raise BrokenPipeError from None
    if code == 130:
        raise KeyboardInterrupt
    return code if isinstance(code, int) else 0


def _not_installed(module: str) -> str:
    """The sentence for a missing package, with the extra of refbench that brings it."""
    import re
    from importlib.metadata import PackageNotFoundError, requires

    try:
        wanted = requires("refbench") or []
    except PackageNotFoundError:
        wanted = []
    plain = re.sub(r"[-_.]", "", module).lower()
    for one in wanted:
        name, _, condition = one.partition(";")
        extra = re.search(r"extra == ['\"]([\w-]+)", condition)
        if extra and re.sub(r"[-_.]", "", name).lower().startswith(plain):
            brings = f"'refbench[{extra[1]}]'"
            break
    else:
        brings = module
    return f"Expected the package '{module}', but it is not installed; run `uv pip install {brings}`."


def _wrapped(text: str) -> str:
    """Broken between words at the terminal's width, as long paths and commands are to be copied; else one line."""
    if not sys.stderr.isatty():
        return text
    import shutil
    import textwrap

    width = shutil.get_terminal_size().columns
    return textwrap.fill(text, width, break_long_words=False, break_on_hyphens=False)


def _sentence(error: Exception, given: Sequence[str]) -> str:
    """One sentence for the user."""
    if isinstance(error, RefbenchError):
        return str(error)
    lacking = missing_package(error)
    if lacking is not None:
        return str(lacking)
    usage = getattr(error, "format_message", None)
    if callable(usage):  # from the command line's parser: an unknown option, a missing argument
        context = getattr(error, "ctx", None)
        path = context.command_path if context is not None else f"refbench {given[0]}"
        said = str(usage()).replace("Value error, ", "").rstrip(".?")
        return f"{said}; see '{path} --help'."
    if isinstance(error, ModuleNotFoundError) and error.name and not error.name.startswith("refbench"):
        return _not_installed(error.name.partition(".")[0])
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":  # the second is torch's
        return "Expected more memory than there is; try smaller pictures, --batch-size 1 and --workers 1."
    if isinstance(error, OSError):
        where = f" at {error.filename}" if error.filename else ""
        return f"Expected to read and write files, but {error.strerror or error}{where}."
    if isinstance(error, UnicodeEncodeError):
        return f"Expected names in UTF-8, but '{error.object[:300]}' is not; rename the file or folder."
    text = " ".join(str(error).split())[:300]
    return (
        f"Something went wrong that refbench did not foresee ({type(error).__name__}: {text}); "
        "set REFBENCH_DEBUG=1 to see where, and please report it."
    )
