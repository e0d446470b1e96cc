"""The command line: reads a command, runs it, and says what came of it or what was wrong."""

import errno
import json
import os
import sys
import traceback
import warnings
from pathlib import Path

from ustoolkit.arguments import build_parser
from ustoolkit.errors import UstoolkitError
from ustoolkit.files import without_nan

_NO_PLACE = {errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS}


def main(arguments: list[str] | None = None) -> int:
    """Runs one command.

    Args:
        arguments: as after `ustoolkit`; None for those of the process.
    Returns:
        the exit code: 0 done, 2 the user's input is wrong, 1 a fault of ours, 130 interrupted.
    """
    parser = build_parser()
    options, others = parser.parse_known_args(arguments)
    options.runner_options = [other for other in others if other != "--"]
    if others and getattr(options, "engine", "") != "beam":
        parser.error(f"unrecognized arguments: {' '.join(others)}")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow's own start-up messages help nobody here
    warnings.showwarning = _show_warning
    try:
        result, text = options.run(options)
        print(json.dumps(without_nan(result), indent=2, ensure_ascii=False) if options.json else text)
        return 0
    except UstoolkitError as problem:
        print(f"ustoolkit: {problem}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print(
            "ustoolkit: interrupted. What was finished is kept"
            + ("; training goes on with --resume." if options.run.__name__ == "train" else "."),
            file=sys.stderr,
        )
        return 130
    except Exception as problem:
        if isinstance(problem, OSError) and problem.errno in _NO_PLACE:
            print(
                f"ustoolkit: {problem}. Make room, or the folder writable, and run this again.",
                file=sys.stderr,
            )
            return 2
        traceback.print_exc()
        print("ustoolkit: a fault of ours, not of your input. Please report the lines above.", file=sys.stderr)
        return 1


def _show_warning(message: Warning | str, category: type[Warning], filename: str, *_: object, **__: object) -> None:
    # Ours are of the user's data; libraries' own help nobody here.
    if category is UserWarning and Path(filename).is_relative_to(Path(__file__).parent):
        print(f"ustoolkit: {message}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
