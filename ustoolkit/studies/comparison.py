"""What a study is made of: arms to train, and tables that set some of them beside a baseline. Plain values."""

from collections.abc import Mapping
from dataclasses import dataclass, field

CRF = "+crf"


@dataclass(frozen=True)
class Arm:
    """One way of training, repeated with several seeds.

    Attributes:
        name: letters, digits, hyphens and dots; it names a folder.
        recipe: name of a shipped recipe, or a path to one.
        overrides: 'table.key=value' as for `train --set`.
        network_of: another recipe, whose `[model]` is taken in place of the recipe's; '' for the recipe's own.
        pretraining: name of the study's pre-training that it starts from; '' where it starts from scratch.
    """

    name: str
    recipe: str
    overrides: tuple[str, ...] = ()
    network_of: str = ""
    pretraining: str = ""


@dataclass(frozen=True)
class Comparison:
    """One table of a study.

    Attributes:
        name: of its files.
        title: a heading.
        arms: (label in the table, name of the arm), the baseline first; an arm may be in several tables. The name
            followed by `CRF` stands for the arm's masks with the CRF, in a study that has one.
        by_size: whether it is given for small, medium and large lesions too.
        baselines: name of what each is compared with, by name, where that is not the first for all; those that have
            none here are baselines themselves.
    """

    name: str
    title: str
    arms: tuple[tuple[str, str], ...]
    by_size: bool = False
    baselines: Mapping[str, str] = field(default_factory=dict)

    def baseline_of(self, arm: str) -> str:
        """Name of what an arm of the table is compared with; its own where it is a baseline."""
        return self.baselines.get(arm, arm) if self.baselines else self.arms[0][1]

    @property
    def trained(self) -> set[str]:
        """Names of the arms whose runs the table needs."""
        return {name.removesuffix(CRF) for _, name in self.arms}


@dataclass(frozen=True)
class CrfTuning:
    """How the CRF of every run is tuned on the validation part.

    Attributes:
        trials: settings that are tried, as for `tune-crf --trials`.
        images: of the validation part, at most, as for `tune-crf --images`.
    """

    trials: int
    images: int


@dataclass(frozen=True)
class Study:
    """Arms, each trained once a seed, and the tables made of them.

    Attributes:
        name: as on the command line.
        description: one line.
        arms: each name once.
        comparisons: each name once.
        pretraining: trained once, on other records, for the arms that name them. Their networks are those of these
            arms, whatever their recipes say, and so are their learning rates where no override sets them.
        crf: where given, every run is scored with a CRF, too.
    """

    name: str
    description: str
    arms: tuple[Arm, ...]
    comparisons: tuple[Comparison, ...]
    pretraining: tuple[Arm, ...] = ()
    crf: CrfTuning | None = None
