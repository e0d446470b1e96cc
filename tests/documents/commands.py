"""Commands as a shell would see them, and whether the command line, the Makefile and the scripts take them."""

import argparse
import configparser
import contextlib
import importlib.util
import io
import re
import shlex
from collections.abc import Iterator

from tests.documents.markdown import ROOT
from ustoolkit.arguments import build_parser
from ustoolkit.errors import UstoolkitError
from ustoolkit.recipe import load_recipe, shipped_recipes
from ustoolkit.studies import STUDIES

_ASSIGNMENT = re.compile(r"([A-Za-z_]\w*)=(.*)", re.DOTALL)
_HEREDOC = re.compile(r"<<-?\s*['\"]?(\w+)['\"]?")
_BEFORE = {"do", "then", "else", "exec", "time", "if", "while", "!", "{", "sudo", "export"}
_PYTHON = re.compile(r"(?:\S*/)?python3?$")


def commands(text: str, variables: dict[str, str] | None = None) -> list[list[str]]:
    """The commands of a shell script, each as its words; variables that it sets itself are put in.

    Args:
        text: the script.
        variables: what is set before; those set here are added. A loop's is its first value.
    Raises:
        ValueError: a quotation is not closed.
    """
    found, variables = [], {} if variables is None else variables
    for line in _whole_lines(text):
        for words in _parts(line):
            while words and (words[0] in _BEFORE or _ASSIGNMENT.fullmatch(words[0])):
                if assigned := _ASSIGNMENT.fullmatch(words[0]):
                    variables[assigned[1]] = assigned[2]
                words = words[1:]
            words = [each for word in words for each in _filled(word, variables)]
            if words[:1] == ["for"] and words[2:3] == ["in"]:
                variables[words[1]] = "".join(words[3:4])
            if words:
                found.append(words)
    return found


def ustoolkit_words(words: list[str]) -> list[str] | None:
    """What stands behind `ustoolkit`, also where another program starts it; None where the command is none of ours."""
    at = words.index("ustoolkit") if "ustoolkit" in words else len(words)
    return words[at + 1 :] or None


def problem_of(words: list[str]) -> str | None:
    """What is wrong with a command, as far as can be told without running it; None where nothing is."""
    ours = ustoolkit_words(words)
    if ours:
        return _problem_of_ours(ours)
    if words[0] == "make":
        return _problem_of_make(words[1:])
    if _PYTHON.match(words[0]) and len(words) > 1:
        return _problem_of_script(words[1:])
    if words[0].endswith("/pip") or words[0] == "pip":
        return _problem_of_extras(words)
    return None


def make_targets() -> set[str]:
    """The targets of the Makefile."""
    return set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))


def options_of(command: str | None = None) -> set[str]:
    """The options of a command, or of all."""
    stages = next(each for each in build_parser()._actions if isinstance(each, argparse._SubParsersAction))
    parsers = [stages.choices[command]] if command else [build_parser(), *stages.choices.values()]
    return {option for parser in parsers for option in parser._option_string_actions}


def command_names() -> set[str]:
    """What may stand behind `ustoolkit`."""
    return set(next(each for each in build_parser()._actions if isinstance(each, argparse._SubParsersAction)).choices)


def _problem_of_ours(words: list[str]) -> str | None:
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
            options, others = build_parser().parse_known_args(words)
    except SystemExit as leave:
        return said.getvalue().strip().splitlines()[-1] if leave.code else None
    if others and getattr(options, "engine", "") != "beam":
        return f"unrecognized arguments: {' '.join(others)}"
    named = getattr(options, "recipe", [])
    recipes = [*getattr(options, "recipes", []), *([named] if isinstance(named, str) else named)]
    for recipe in recipes:
        if recipe in shipped_recipes():
            try:
                load_recipe(recipe, options.set, options.preview)
            except UstoolkitError as problem:
                return str(problem)
        elif recipe != "auto" and not recipe.endswith(".toml"):
            return f"'{recipe}' is no recipe"
    if getattr(options, "study", None) not in {None, *STUDIES}:
        return f"'{options.study}' is no study"
    described = [word for word in words if re.match(r"(?:tfrecords|ustoolkit/recipes)/[\w-]+\.toml$", word)]
    return next((f"{file}: no such file" for file in described if not (ROOT / file).is_file()), None)


def _problem_of_make(words: list[str]) -> str | None:
    targets = [word for word in words if "=" not in word and not word.startswith("-")]
    return next(
        (f"'{target}' is no target of the Makefile" for target in targets if target not in make_targets()), None
    )


def _problem_of_script(words: list[str]) -> str | None:
    if words[0] == "-m":
        missing = len(words) < 2 or importlib.util.find_spec(words[1]) is None
        return f"no module for {' '.join(words)}" if missing else None
    if words[0].startswith("-"):
        return None
    script = ROOT / words[0]
    if not script.is_file():
        return f"{words[0]}: no such script"
    text = script.read_text(encoding="utf-8")
    options = [word.partition("=")[0] for word in words[1:] if word.startswith("--")]
    return next((f"{words[0]} has no {option}" for option in options if f'"{option}"' not in text), None)


def _problem_of_extras(words: list[str]) -> str | None:
    settings = configparser.ConfigParser(interpolation=None)
    settings.read(ROOT / "setup.cfg", encoding="utf-8")
    asked = re.findall(r"(?:^\.|ustoolkit)\[([\w,]+)\]", " ".join(words).replace(" .[", "\n.["), re.MULTILINE)
    extras = [extra for group in asked for extra in group.split(",")]
    there = settings["options.extras_require"]
    return next((f"'{extra}' is no extra of setup.cfg" for extra in extras if extra not in there), None)


def _whole_lines(text: str) -> Iterator[str]:
    """Lines of a script, those joined that a quotation or a backslash carries on; here-documents left out."""
    waiting, ends_with = "", ""
    for line in text.splitlines():
        if ends_with:
            ends_with = "" if line.strip() == ends_with else ends_with
            continue
        waiting += line
        if waiting.endswith("\\"):
            waiting = waiting[:-1] + " "
            continue
        try:
            shlex.split(waiting, comments=True)
        except ValueError:
            waiting += "\n"
            continue
        if document := _HEREDOC.search(waiting):
            ends_with = document[1]
        yield waiting
        waiting = ""
    if waiting.strip():
        raise ValueError(f"a quotation is not closed: {waiting.strip()[:80]}")


def _parts(line: str) -> Iterator[list[str]]:
    """The simple commands of a line, redirections left out."""
    lexer = shlex.shlex(re.sub(r"(?<=\s)[12]>", ">", line), posix=True, punctuation_chars=";&|()<>")
    lexer.whitespace_split = True
    words, skip = [], False
    for token in lexer:
        if set(token) <= set(";&|()"):
            yield words
            words = []
        elif set(token) <= set("<>&"):
            skip = True
        elif skip:
            skip = False
        else:
            words.append(token)
    yield words


def _filled(word: str, variables: dict[str, str]) -> list[str]:
    """A word with the variables put in that are known; one that is nothing else may become several."""
    alone = re.fullmatch(r"\$\{?(\w+)\}?", word)
    if alone and alone[1] in variables:
        return variables[alone[1]].split()
    return [re.sub(r"\$\{?(\w+)\}?", lambda match: variables.get(match[1], match[0]), word)]
