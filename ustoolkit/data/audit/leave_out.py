"""Which images to leave out, going by an audit: those that would make scores wrong, and no others."""

from typing import Any


def to_leave_out(result: dict[str, Any]) -> dict[str, str]:
    """The images that spoil a data set, and why.

    Of images that show one picture the first with a mask and a label stays (or the first with a mask, or the first).
    All go where their labels differ, since one is wrong and nobody knows which; so does an image whose sources
    contradict each other, and one that cannot be read. Frames of a clip stay, however alike. A patient in two parts is
    put right by another split, not by leaving out.

    Args:
        result: of `audit`.
    Returns:
        the reason by source id.
    """
    reasons: dict[str, str] = {}
    for item in result["refused"]:
        reasons[item["source_id"]] = f"refused: {item['reason']}"
    for group in result["duplicates"]:
        names, kept = group["source_ids"], group["keep"]
        if not kept:
            reasons |= dict.fromkeys(names, f"one picture with different labels: {', '.join(names)}")
        elif not group["clip"]:
            like = "the same picture as" if group["exact"] else "nearly the same picture as"
            reasons |= {name: f"{like} {kept}" for name in names if name != kept}
    for problem in result["problems"]:
        if problem["kind"] == "labels contradict each other":
            for case in problem["details"]:
                reasons |= dict.fromkeys(case["source_ids"], f"labels contradict each other: {case['text']}")
    return reasons
