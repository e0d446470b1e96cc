"""What a study is made of: arms to train, and tables that set some of them beside a baseline. Plain values."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Arm:
    """One way of training, repeated with several seeds.

    Attributes:
        name: letters, digits and hyphens; it names a folder.
        recipe: name of a shipped recipe, or a path to one.
        overrides: 'table.key=value' as for `train --set`.
    """

    name: str
    recipe: str
    overrides: tuple[str, ...] = ()


@dataclass(frozen=True)
class Comparison:
    """One table of a study.

    Attributes:
        name: of its files.
        title: a heading.
        arms: (label in the table, name of the arm), the baseline first; an arm may be in several tables.
        by_size: whether it is given for small, medium and large lesions too.
    """

    name: str
    title: str
    arms: tuple[tuple[str, str], ...]
    by_size: bool = False

    @property
    def baseline(self) -> str:
        """Name of the arm that the others are compared with."""
        return self.arms[0][1]


@dataclass(frozen=True)
class Study:
    """Arms, each trained once a seed, and the tables made of them.

    Attributes:
        name: as on the command line.
        description: one line.
        arms: each name once.
        comparisons: each name once.
    """

    name: str
    description: str
    arms: tuple[Arm, ...]
    comparisons: tuple[Comparison, ...]
