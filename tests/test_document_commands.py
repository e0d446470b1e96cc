"""What documents tell readers to type exists: commands, options, recipes, targets, scripts, and what links lead to.

Blocks called `sh` and `python` are run by `tests/test_document_pages.py`, unless `<!-- not run: reason -->` stands on
the line before; their commands are read by the real parser all the same.
"""

import ast
import contextlib
import re

import pytest

from tests.documents.commands import (
    command_names,
    commands,
    make_targets,
    options_of,
    problem_of,
    ustoolkit_words,
)
from tests.documents.markdown import ROOT, anchors, indented_code, links, pages, read_page, spans

PAGES = pages()
RUN, SHOWN = {"sh", "python"}, {"", "text", "toml", "json", "yaml", "nginx", "csv"}
OF_OTHER_PROGRAMS = {"--requeue", "--nodes"}  # of SLURM
ELLIPSIS = "…"
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def typed(text):
    """Our commands in a block that is no shell's, such as a cluster's job; what a shell could not read is left out."""
    variables, found = {}, []
    for line in text.splitlines():
        with contextlib.suppress(ValueError):
            found += [words for words in commands(line, variables) if ustoolkit_words(words)]
    return found


@each_page
def test_every_block_says_what_it_is(page):
    assert not indented_code(page), "fence it, as sh where it is typed, else as text"
    for block in page.blocks:
        assert block.language in RUN | SHOWN, f"{block.place}: {block.language} is not read here; sh is what is run"
        if block.language in {"", "text"}:
            hidden = [line for line in block.text.splitlines() if re.match(r"\$ |(ustoolkit|make) [a-z-]+( |$)", line)]
            assert not hidden, f"{block.place}: commands stand in sh blocks, so that they are run: {hidden}"


@each_page
def test_what_is_not_run_says_why(page):
    for block in page.blocks:
        if block.not_run is not None:
            assert block.language in RUN, f"{block.place}: it would not be run anyway"
            assert len(block.not_run.split()) > 1, f"{block.place}: expected a reason, found '{block.not_run}'"
            print(f"{block.place}: {block.not_run}")  # shown by pytest -rP -k not_run
    reasons = re.findall(r"^ *<!-- not run:", page.text, re.MULTILINE)
    assert len(reasons) == sum(block.not_run is not None for block in page.blocks), (
        f"{page.name}: a reason stands on the line before its block"
    )


@each_page
def test_every_command_is_one(page):
    problems = []
    for block in page.blocks:
        if block.language == "sh":
            assert ELLIPSIS not in "\n".join(" ".join(words) for words in commands(block.text)), (
                f"{block.place}: write the whole command, so that it can be typed"
            )
        found = {"sh": commands, "yaml": typed}.get(block.language, lambda text: [])(block.text)
        problems += [f"{block.place}: {' '.join(words)}: {wrong}" for words in found if (wrong := problem_of(words))]
    assert not problems, "\n".join(problems)


@each_page
def test_python_can_be_read(page):
    for block in page.blocks:
        if block.language == "python":
            ast.parse(block.text, block.place)


@each_page
def test_commands_and_options_within_sentences_exist(page):
    known, problems = options_of(), []
    scripts = {option for path in (ROOT / "benchmarks").glob("*.py") for option in options_in(path)}
    for place, text in spans(page):
        if text.startswith("make ") and (targets := re.findall(r"^make ([a-z-]+)", text)):
            problems += [f"{place}: {text}" for target in targets if target not in make_targets()]
        elif match := re.match(r"ustoolkit ([a-z-]+)", text):
            there = options_of(match[1]) if match[1] in command_names() else set()
            wrong = [option for option in option_words(text) if option not in there and "--engine beam" not in text]
            problems += [f"{place}: {text}"] if wrong or not there else []
        elif (first := text.split()[0]) in command_names():
            problems += [f"{place}: {text}" for option in option_words(text) if option not in options_of(first)]
        elif text.startswith("--"):
            unknown = [o for o in option_words(text) if o not in known | scripts | OF_OTHER_PROGRAMS]
            problems += [f"{place}: {text}" for _ in unknown]
        elif match := re.match(r"python (\S+\.py)", text):
            problems += [f"{place}: {text}"] if problem_of(text.split()) else []
    assert not problems, "\n".join(problems)


def option_words(text):
    """The words of a span that are options."""
    return [word.partition("=")[0] for word in text.split() if re.match(r"--[a-z]", word)]


def options_in(path):
    """The options that a script takes."""
    return re.findall(r'add_argument\(\s*"(--[a-z-]+)"', path.read_text(encoding="utf-8"))


@each_page
def test_links_lead_somewhere(page):
    problems = []
    for place, target in links(page):
        path, _, anchor = target.partition("#")
        there = (ROOT / page.name).parent / path if path else ROOT / page.name
        if not there.exists():
            problems.append(f"{place}: {target}: no such file")
        elif anchor and there.suffix == ".md":
            on_host, on_site = anchors(there.read_text(encoding="utf-8"))
            wrong = [where for where, known in (("host", on_host), ("site", on_site)) if anchor not in known]
            problems += [f"{place}: {target}: no such heading on the {where}" for where in wrong]
    assert not problems, "\n".join(problems)


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        ("ustoolkit train fast --records data --out run --epochs 5", "--epochs"),
        ("ustoolkit train fats --records data --out run", "fats"),
        ("ustoolkit train unet --records data --out run --set training.epoch=5", "no such setting"),
        ("RUN=a; ustoolkit evaluate $RUN --wrong && true", "--wrong"),
        ("CUDA_VISIBLE_DEVICES=0 srun --exclusive ustoolkit evaluate", "RUN"),
        ("ustoolkit study lymph_node --records data --out studies", "lymph_node"),
        ("ustoolkit records tfrecords/nothing.toml --out data", "tfrecords/nothing.toml"),
        ("ustoolkit predict a b --out 'c", "not closed"),
        ("make tests", "tests"),
        ("python benchmarks/nothing.py", "nothing.py"),
        ("python benchmarks/crf.py --quicker", "--quicker"),
        ("pip install 'ustoolkit[nothing]'", "nothing"),
        (".venv/bin/pip install -e '.[cuda,nothing]'", "nothing"),
    ],
)
def test_a_wrong_command_is_found(line, wrong):
    try:
        problems = [str(problem_of(words)) for words in commands(line)]
    except ValueError as problem:
        problems = [str(problem)]
    assert any(wrong in problem for problem in problems), problems


@pytest.mark.parametrize(
    "line",
    [
        "ustoolkit train fast --records data --out run \\\n    --set training.epochs=5   # a comment's end",
        "for index in 0 1; do TF_CONFIG='{\"a\": 1}' ustoolkit evaluate run & done; wait",
        "again=--resume\nustoolkit train unet --records data --out run $again",
        "cat > new.toml <<'EOF'\nit's\nEOF\nustoolkit annotations new.toml --masks a --format via --out b > log 2>&1",
        "ustoolkit records data --out records --engine beam --runner FlinkRunner",
        "make demo DATA=folder",
        "pip install -e '.[bench]'",
    ],
)
def test_a_right_command_is_read(line):
    assert commands(line) and not [wrong for words in commands(line) if (wrong := problem_of(words))]


def test_markdown_is_read_as_readers_see_it():
    text = (
        "# One – two: `three`\n\nText [link](other.md#there), `[no](link)`.\n\n    ustoolkit models\n\n"
        "- item\n\n    of the item\n\n<!-- not run: needs a GPU -->\n```sh\n[no](link)\n```\n"
    )
    page = read_page(text, "page.md")
    assert indented_code(page) == ["page.md:5"]
    assert links(page) == [("page.md:3", "other.md#there")]
    assert spans(page) == [("page.md:1", "three"), ("page.md:3", "[no](link)")]
    assert [(block.place, block.language, block.not_run) for block in page.blocks] == [
        ("page.md:13", "sh", "needs a GPU")
    ]
    assert anchors(text) == ({"one--two-three"}, {"one-two-three"})
    with pytest.raises(ValueError, match=r"page\.md:2"):
        read_page("```sh\nls\n", "page.md")
