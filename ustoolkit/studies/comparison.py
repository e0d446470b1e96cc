"""What a study is made of: arms to train, and tables that set some of them beside a baseline. Plain values."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ustoolkit.recipe.data_set import CleanStep
    from ustoolkit.studies.results import Results
    from ustoolkit.studies.stages import FinishedRuns

CRF = "+crf"
SECOND = "second"
SHOWN = ("dice", "hausdorff95_pixel", "hausdorff95_penalised_pixel")


@dataclass(frozen=True)
class Arm:
    """One way of training, repeated with several seeds.

    Attributes:
        name: letters, digits, hyphens and dots; it names a folder.
        recipe: name of a shipped recipe, or a path to one.
        overrides: 'table.key=value' as for `train --set`.
        network_of: another recipe, whose `[model]` is taken in place of the recipe's; '' for the recipe's own.
        pretraining: name of the study's pre-training that it starts from; '' where it starts from scratch.
        preview_overrides: for previews alone; stronger than the others, and weaker than what the user sets.
        protocol: name of the study's `Protocol` by which images are divided; '' for the split that is given.
        quick: whether the recipe is trained as it is in a preview too.
        full_size: whether it is left out of previews, where it would be the same as another arm.
        images: name of the study's `Preparation` of them; `SECOND` for other records; '' for those that are given.
    """

    name: str
    recipe: str
    overrides: tuple[str, ...] = ()
    network_of: str = ""
    pretraining: str = ""
    preview_overrides: tuple[str, ...] = ()
    protocol: str = ""
    quick: bool = False
    full_size: bool = False
    images: str = ""


@dataclass(frozen=True)
class FusionArm:
    """Classifiers of several arms fused, once a seed.

    Attributes:
        name: letters, digits, hyphens and dots; it names a folder.
        of: names of the arms.
        how: as for `fuse --how`.
    """

    name: str
    of: tuple[str, ...]
    how: str


@dataclass(frozen=True)
class Protocol:
    """A way of dividing images that ignores patients, drawn anew for each seed, to show what that does to scores.

    Attributes:
        name: letters, digits, hyphens; it names a folder.
        expand_to: images in all parts together once copies are added, before they are divided; 0 for none.
        train: of these, how many to train on; for `expand_to` alone, since otherwise the parts are as large as those of
            the split that is given.
    """

    name: str
    expand_to: int = 0
    train: int = 0


@dataclass(frozen=True)
class Preparation:
    """Images as `ustoolkit clean` makes them, to train and to test on.

    Attributes:
        name: letters, digits, hyphens; it names a folder.
        steps: what is done to them; not 'crop', so that every arm is scored on the same pixels.
    """

    name: str
    steps: "tuple[CleanStep, ...]"


@dataclass(frozen=True)
class Ladder:
    """Settings changed one after the other, each kept if the mean validation Dice over all seeds and folds is higher.

    Attributes:
        steps: the first holds what is begun with, each other one only its change; their recipe is the same.
        labels: of the steps, for a reader.
    """

    steps: tuple[Arm, ...]
    labels: tuple[str, ...]


@dataclass(frozen=True)
class Table:
    """A table that a study made itself.

    Attributes:
        name: of its files.
        title: a heading.
        rows: to compute with, all with the same keys; at least one.
        header, lines: to read.
        about: what a reader must know of it, Markdown.
    """

    name: str
    title: str
    rows: list[dict[str, Any]]
    header: Sequence[str]
    lines: Sequence[Sequence[str]]
    about: str


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
        metrics: of an image, that are shown; the first is `dice`.
        pixels: whether what is counted over all pixels together is shown too.
    """

    name: str
    title: str
    arms: tuple[tuple[str, str], ...]
    by_size: bool = False
    baselines: Mapping[str, str] = field(default_factory=dict)
    metrics: tuple[str, ...] = SHOWN
    pixels: bool = False

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
            arms, whatever their recipes say, and so are their learning rates where no override sets them. One whose
            recipe is a `backbone_fcn` takes the arms' network as its backbone, and keeps its own learning rate.
        crf: where given, every run is scored with a CRF, too.
        fusions: each name once; of arms that classify.
        protocols: each name once.
        preparations: each name once.
        ladder: where given, it is climbed beside the arms.
        folds: patient-wise folds that each arm is trained on, unless the user says otherwise; 0 for the split given.
        seeds: that each arm is trained with, unless the user says otherwise.
        tabulate: makes tables of the runs that are finished; beside the comparisons, which are of segmentation.
        draw: makes figures of all that is finished, by the name of their file.
    """

    name: str
    description: str
    arms: tuple[Arm, ...]
    comparisons: tuple[Comparison, ...]
    pretraining: tuple[Arm, ...] = ()
    crf: CrfTuning | None = None
    fusions: tuple[FusionArm, ...] = ()
    protocols: tuple[Protocol, ...] = ()
    preparations: tuple[Preparation, ...] = ()
    ladder: Ladder | None = None
    folds: int = 0
    seeds: int = 3
    tabulate: "Callable[[FinishedRuns], list[Table]] | None" = None
    draw: "Callable[[Results], dict[str, Figure]] | None" = None
