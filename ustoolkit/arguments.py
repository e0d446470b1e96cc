"""The options of each command. Nothing heavy is imported before a command is known."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import get_args

from ustoolkit import __version__, commands
from ustoolkit.choices import AnnotationFormat, Strategy
from ustoolkit.comparison_arguments import comparisons
from ustoolkit.options import count, crf, duration, export, output, positive, segmenter, source, tuning

_Command = Callable[[str, Callable[[argparse.Namespace], commands.Outcome], str], argparse.ArgumentParser]


def build_parser() -> argparse.ArgumentParser:
    """The parser of the whole command line: each command's options have its function in `run`."""
    parser = argparse.ArgumentParser(
        prog="ustoolkit", description="Annotated ultrasound images in, segmentation out: one command a stage."
    )
    parser.add_argument("--version", action="version", version=f"ustoolkit {__version__}")
    stages = parser.add_subparsers(title="stages, in order", required=True, metavar="COMMAND")

    def command(name: str, run: Callable[[argparse.Namespace], commands.Outcome], text: str) -> argparse.ArgumentParser:
        added = stages.add_parser(name, help=text, description=text)
        added.add_argument("--json", action="store_true", help="print the result as JSON")
        added.set_defaults(run=run)
        return added

    for group in (_data_sets, _parts, _training, _use, comparisons, _what_there_is):
        group(command)
    return parser


def _data_sets(command: _Command) -> None:
    """Images to records, and what is wrong with them."""
    added = command("phantom", commands.phantom, "simulate annotated ultrasound images")
    output(added, "folder to make")
    added.add_argument("--count", type=int, default=200, metavar="N", help="images (default: 200)")
    added.add_argument("--seed", type=int, default=0, metavar="S", help="another seed, other images (default: 0)")
    added.add_argument("--size", type=int, nargs=2, default=[256, 256], metavar=("HEIGHT", "WIDTH"), help="pixels")
    added.add_argument("--frame", action="store_true", help="draw a scanner's frame, text and calipers")

    added = command("inspect", commands.inspect, "say what a data set holds, and what is wrong with it")
    source(added)
    output(added, "folder to make, for the findings as a page and as JSON", required=False)
    added.add_argument("--splits", type=Path, metavar="FILE", help="split to check (default: fold attributes)")
    added.add_argument("--exclude", type=Path, metavar="FILE", help="write the list of images to leave out")

    added = command("clean", commands.clean, "crop images to the scan and filter them, as a new data set")
    source(added)
    output(added, "folder to make, or with --preview the picture (default: clean-preview.png)", required=False)
    added.add_argument("--preview", action="store_true", help="only draw a few images before and after each step")
    added.add_argument(
        "--steps", metavar="A,B", help="of crop, colours, smooth, bright, open (default: the description's)"
    )

    added = command("records", commands.records, "convert a data set to TFRecords")
    source(added)
    output(added, "folder to make")
    added.add_argument("--exclude", type=Path, metavar="FILE", help="list of images to leave out, one id a line")
    added.add_argument(
        "--engine", choices=["local", "beam"], default="local", help="beam: a pipeline; takes its runner's options too"
    )

    added = command("annotations", commands.annotations, "write masks as annotations to correct by hand")
    added.add_argument("path", type=Path, help="records folder, folder of images and masks, or a description (TOML)")
    added.add_argument(
        "--format", dest="to", required=True, choices=get_args(AnnotationFormat), help="annotator's form"
    )
    added.add_argument("--masks", type=Path, metavar="DIR", help="what `predict` wrote, in place of the masks there")
    added.set_defaults(format=None, patient=None)
    output(added, "folder to make")


def _parts(command: _Command) -> None:
    """Who trains, who is tested."""
    added = command("split", commands.split, "divide records into train, validation and test, by patient")
    added.add_argument("records", type=Path, help="records folder")
    added.add_argument("--test", type=float, metavar="SHARE", help="of the images (default: 0.2)")
    added.add_argument("--validation", type=float, metavar="SHARE", help="of the rest (default: 0.15)")
    added.add_argument("--seed", type=int, metavar="S", help="another seed, another draw (default: 0)")
    added.add_argument("--fold-attribute", metavar="NAME", help="the data set's own folds, such as Fold: a file a fold")
    added.add_argument("--test-folds", nargs="+", metavar="FOLD", help="folds that make up the test part")
    added.add_argument("--folds", type=int, metavar="K", help="cross-validation: a file a fold, each image tested once")
    added.add_argument(
        "--keep-test", type=Path, metavar="FILE", help="with --folds: that split's test part is tested on in every fold"
    )
    added.add_argument("--allow-leak", action="store_true", help="let own folds divide a patient or a picture")
    added.add_argument("--out", type=Path, metavar="DIR|FILE", help="default: splits.json in the records folder")

    added = command("expand", commands.expand, "expand the training part to equal numbers of each class")
    added.add_argument("records", type=Path, help="records folder")
    output(added, "records folder to make")
    added.add_argument("--count", type=int, metavar="N", help="training images afterwards (default: as few as balance)")
    added.add_argument("--seed", type=int, metavar="S", help="another seed, other images (default: 0)")
    added.add_argument("--splits", type=Path, metavar="FILE", help="default: splits.json in the records folder")
    added.add_argument("--method", choices=["augment", "smote"], help="changed copies, or Borderline-SMOTE2 on regions")
    added.add_argument("--size", type=int, metavar="PIXELS", help="of a region's side, for smote (default: 64)")
    added.add_argument("--margin", type=float, metavar="SHARE", help="around a region, for smote (default: 0.1)")
    added.add_argument("--allow-leak", action="store_true", help="take a split that divides a patient or a picture")
    added.add_argument("--workers", type=count, default=0, metavar="N", help="processes (default: one a core)")


def _training(command: _Command) -> None:
    """Training and scores."""
    added = command("train", commands.train, "train a recipe")
    added.add_argument(
        "recipe", help="a TOML file; a shipped recipe: demo, fast, unet, light_unet, …; or auto: chosen for --budget"
    )
    added.add_argument("--records", type=Path, required=True, metavar="DIR", help="records folder")
    output(added, "run folder to make")
    added.add_argument(
        "--budget",
        type=duration,
        metavar="TIME",
        help="of recipe auto: 90s, 30m or 2h from here to the scores of the test part (default: 30m)",
    )
    added.add_argument("--set", action="append", default=[], metavar="A.B=C", help="change a setting")
    added.add_argument(
        "--preview",
        action="store_true",
        help="smaller images, fewer filters, minutes on a CPU: to try a recipe, not to judge it",
    )
    added.add_argument("--splits", type=Path, metavar="FILE", help="default: splits.json in the records folder")
    added.add_argument("--strategy", choices=get_args(Strategy), help="devices to train on")
    added.add_argument("--allow-leak", action="store_true", help="take a split that divides a patient or a picture")
    added.add_argument("--resume", action="store_true", help="go on with an interrupted run")

    added = command("evaluate", commands.evaluate, "score a run on images it was not trained on")
    added.add_argument("run_folder", type=Path, metavar="RUN", help="run folder")
    added.add_argument("--records", type=Path, metavar="DIR", help="default: those it was trained on")
    added.add_argument(
        "--split", metavar="PART", help="train, validation, test, all (default: test; others' records: all)"
    )
    added.add_argument("--all-components", action="store_true", help="do not reduce masks to their largest region")
    segmenter(added, required=False)
    crf(added, "score with the dense CRF too, beside without (default: as the recipe says)")

    added = command("fuse", commands.fuse, "average the probabilities of several classifiers, by validated weights")
    added.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="run folders of classifiers, of one split")
    output(added, "folder to make; evaluate and diagnose take it like a run")
    added.add_argument(
        "--how", default="simplex", metavar="HOW", help="equal, auc, simplex or stacked (default: simplex)"
    )
    added.add_argument("--records", type=Path, metavar="DIR", help="where their records are now, if they were moved")
    segmenter(added, required=False)

    added = command("tune-crf", commands.tune_crf, "search the dense CRF's parameters on a run's validation part")
    tuning(added)
    added.add_argument("--trials", type=count, default=30, metavar="N", help="parameters to try (default: 30)")
    added.add_argument("--images", type=count, default=128, metavar="N", help="validation images (default: up to 128)")
    added.add_argument("--seed", type=count, default=0, metavar="S", help="another seed, other trials (default: 0)")
    added.add_argument("--workers", type=count, default=0, metavar="N", help="processes (default: one a core)")

    added = command("tune-threshold", commands.tune_threshold, "search the threshold on a run's validation part")
    tuning(added)


def _use(command: _Command) -> None:
    """What a trained network is for."""
    added = command("predict", commands.predict, "segment images")
    added.add_argument("model", type=Path, metavar="MODEL", help="run, SavedModel, .keras, .tflite or .onnx file")
    added.add_argument("images", type=Path, nargs="+", metavar="IMAGES", help="image files, folders, records folders")
    output(added, "folder to make, for masks, overlays and panels")
    added.add_argument(
        "--split", default="all", metavar="PART", help="of the records that RUN was trained on (default: all)"
    )
    crf(added, "refine by the dense CRF (default: as the model's settings say)")

    added = command("diagnose", commands.diagnose, "find, measure and classify the lesion of each image")
    added.add_argument("images", type=Path, nargs="+", metavar="IMAGES", help="image files, folders, records folders")
    segmenter(added, required=True)
    added.add_argument(
        "--classifier",
        type=Path,
        nargs="+",
        required=True,
        metavar="RUN",
        help="runs that classify, averaged, or a fusion of some",
    )
    output(added, "folder to make, for a panel of each image and a table")
    added.add_argument(
        "--split", default="all", metavar="PART", help="of the records that the classifiers were trained on"
    )

    added = command(
        "explain", commands.explain, "show what layers have learned, and why images are decided as they are"
    )
    added.add_argument("run_folder", type=Path, metavar="MODEL", help="run folder")
    added.add_argument("--layers", metavar="all|NAME,…", help="layers to show (default: all, unless there is --image)")
    added.add_argument(
        "--image", type=Path, nargs="+", default=[], metavar="FILE", help="images to explain, or folders"
    )
    output(added, "folder to make (default: MODEL/explain, where the report looks)", required=False)
    added.add_argument(
        "--engine",
        choices=["batched", "keras-vis"],
        default="batched",
        help="batched: all filters of a layer at once; keras-vis: that library, one by one (default: batched)",
    )
    added.add_argument(
        "--compare", type=Path, metavar="RUN", help="the same network before, such as what it began from"
    )
    added.add_argument("--filters", type=count, default=16, metavar="N", help="of a layer at most (default: 16)")
    added.add_argument("--steps", type=count, metavar="N", help="of maximization (default: 200)")
    added.add_argument(
        "--parametrization",
        choices=["pixels", "fourier"],
        help="what is moved: pixels, as keras-vis does, or the spectrum, for smooth shapes (default: the engine's)",
    )
    added.add_argument(
        "--scales", type=count, metavar="N", help="sizes to go through, each twice the last (batched: 2)"
    )
    added.add_argument("--jitter", type=float, metavar="SHARE", help="shift at each step, of the side (default: 0.05)")
    added.add_argument(
        "--image-size", type=count, metavar="PIXELS", help="of pictures (default: three times what a layer sees)"
    )
    added.add_argument(
        "--backprop",
        choices=["guided", "rectified"],
        help="with keras-vis: what ReLUs pass back (default: the gradient)",
    )
    added.add_argument("--seed", type=count, metavar="S", help="another seed, other starts (default: 0)")
    added.add_argument("--records", type=Path, metavar="DIR", help="where its records are now, if they were moved")
    added.add_argument(
        "--target", default="", metavar="NAME", help="class or label to explain (default: that decided on)"
    )
    added.add_argument(
        "--region", type=int, nargs=4, metavar=("LEFT", "TOP", "WIDTH", "HEIGHT"), help="part of the image, pixels"
    )
    added.add_argument(
        "--cam-layer", metavar="NAME", help="layer of Grad-CAM (default: the bottleneck, or a classifier's last)"
    )
    added.add_argument("--sanity", action="store_true", help="test whether maps change when weights are random")
    segmenter(added, required=False)

    export(command("export", commands.export, "write files for downstream apps: SavedModel, LiteRT, ONNX, Keras"))

    added = command("serve", commands.serve, "answer requests with an export, and show a page to try it on")
    added.add_argument("model", type=Path, metavar="EXPORT", help="folder that export made")
    added.add_argument("--port", type=count, default=8501, metavar="N", help="0 for any that is free (default: 8501)")
    added.add_argument(
        "--host", default="127.0.0.1", metavar="ADDRESS", help="0.0.0.0: other machines too (default: this one only)"
    )
    added.add_argument("--name", default="", metavar="NAME", help="of the model in addresses (default: as exported)")
    added.add_argument(
        "--public-host", default="", metavar="NAME", help="under which a reverse proxy on this machine gives it out"
    )
    added.add_argument(
        "--largest-upload-mb", type=positive, default=20.0, metavar="MB", help="of one request (default: 20)"
    )
    added.add_argument(
        "--largest-megapixels", type=positive, default=16.0, metavar="N", help="of one request's images (default: 16)"
    )
    added.add_argument(
        "--queue", type=count, default=64, metavar="N", help="requests that may wait; more are told to come back"
    )
    added.add_argument("--batch", type=count, default=8, metavar="N", help="images computed together (default: 8)")
    added.add_argument("--workers", type=count, default=2, metavar="N", help="calls of the model at once (default: 2)")

    added = command("report", commands.report, "write the page of a run, of two runs side by side, or of a study")
    added.add_argument(
        "run_folder",
        type=Path,
        metavar="RUN|STUDY",
        help="run (a segmenter is scored first where it was not), fusion, or folder of a study",
    )
    added.add_argument(
        "other", type=Path, nargs="?", metavar="OTHER", help="another run that segments, to set beside the first"
    )
    added.add_argument(
        "--out", type=Path, metavar="FILE", help="of two runs: the page (default: RUN/report-against-OTHER.html)"
    )
    added.add_argument("--records", type=Path, metavar="DIR", help="default: those it was trained on")
    added.add_argument("--split", default="test", metavar="PART", help="evaluation to show (default: test)")
    added.add_argument(
        "--audit", type=Path, metavar="PATH", help="what `inspect --out` made (default: beside the records, in the run)"
    )


def _what_there_is(command: _Command) -> None:
    """What comes with the toolkit."""
    added = command("models", commands.models, "list the networks, with their weights and multiply-adds")
    added.add_argument("networks", nargs="*", metavar="NETWORK", help="such as unet or resnet50 (default: all)")
    added.add_argument("--measure", action="store_true", help="time each on this machine; takes minutes")
