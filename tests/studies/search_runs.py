"""Searches whose trials leave run folders without training, an epoch at each look of a clock that they drive."""

from itertools import pairwise

from ustoolkit.data.records import Records
from ustoolkit.data.split import read_splits
from ustoolkit.recipe import load_recipe
from ustoolkit.run import Run
from ustoolkit.studies.search import run_search
from ustoolkit.studies.search_options import SearchOptions

TINY = (
    "data.image_size=[32,32]",
    "data.channels=1",
    "model.widths=[4,8,8]",
    "training.epochs=8",
    "training.batch_size=4",
    "training.minutes=0",
)
DECAYS = ("training.weight_decay=1e-2|1e-3|1e-4|1e-5|0",)
RATES = ("training.learning_rate=1e-3..1e-1",)
SECONDS_A_LOOK = 6.0


def asked(records, out, search=DECAYS, changes=TINY, **others):
    others = {"jobs": 1, **others}
    return SearchOptions("demo", records.folder, out, search=tuple(search), changes=tuple(changes), **others)


class Trainings:
    """A clock, and trainings that are an epoch further whenever it is waited for.

    `curve(recipe)` gives the validation Dice of each epoch, or raises what the training dies of.
    """

    def __init__(self, records, curve):
        self.records, self.curve = records, curve
        self.seconds, self.begun, self.ended, self.under_way = 0.0, [], [], []

    def clock(self):
        return self.seconds

    def wait(self, seconds):
        self.seconds += SECONDS_A_LOOK
        for training in self.under_way:
            training.go_on()

    def start(self, job, threads):
        training = Training(self, job)
        self.begun.append((job.name, "--resume" in job.commands[0]))
        self.under_way.append(training)
        return training

    def run(self, options, say=lambda line, changed: None):
        return run_search(options, say, self.clock, self.wait, self.start)


class Training:
    """What a search knows of a job, and of the process that it ends."""

    def __init__(self, trainings, job):
        self.trainings, self.job, self.error, self.process = trainings, job, "", self
        words, self.over = list(job.commands[0]), False
        folder = words[words.index("--out") + 1]
        if "--resume" in words:
            self.run = Run(folder)
        else:
            changes = [word for before, word in pairwise(words) if before == "--set"]
            recipe, records = load_recipe(words[1], changes), Records(trainings.records.folder)
            splits = read_splits(records.folder / "splits.json", records)
            self.run = Run.create(folder, recipe, records.manifest, records.folder, splits, [])
        self.began = trainings.seconds
        self.history = self.run.read_history()

    @property
    def seconds(self):
        return self.trainings.seconds - self.began

    def go_on(self):
        if self.over:
            return
        try:
            scores = self.trainings.curve(self.run.recipe)
        except ValueError as problem:
            self.error, self.over = str(problem), True
            return
        epoch = len(self.history) + 1
        self.history.append({"epoch": epoch, "validation_dice": scores[epoch - 1], "seconds": SECONDS_A_LOOK})
        self.run.write_history(self.history)
        if epoch == len(scores):
            self.run.update(status="finished", best_validation_dice=max(scores))
            self.over = True

    def is_over(self):
        return self.over

    def poll(self):
        """Asked of a process that is to be ended."""
        if not self.over:
            self.over = True
            self.trainings.ended.append(self.job.name)
        return 0

    def wait(self, seconds=None):
        return 0


def rising(best):
    """Eight epochs, each better than the last."""
    return [round(best * epoch / 8, 6) for epoch in range(1, 9)]
