"""Matching, curves, intervals, pairing and calibration, against hand sums and slow twins."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, precision_recall_curve

from nnst.boxes import area, pairwise_intersection, pairwise_iou
from nnst.errors import InputError
from nnst.evaluation import (
    Evaluation,
    EvaluationSettings,
    JudgedPicture,
    average_precision,
    best_threshold,
    calibrate,
    evaluate,
    image_average_precision,
    least_threshold,
    match,
    meet,
    precision_recall,
    recall_at,
)
from nnst.evaluation.curves import Ranking
from nnst.records import Annotation

QUICK = settings(max_examples=60, deadline=None)
NO_INTERVALS = EvaluationSettings(resamples=0)
SQUARE = (0, 0, 10, 10)
SHIFTED = (0, 0, 10, 8)  # IoU 0.8 with SQUARE
FAR = (50, 50, 60, 60)


def floats(*boxes: Sequence[float]) -> np.ndarray:
    return np.array(boxes, dtype=np.float32).reshape(-1, 4)


# Matching boxes


def test_the_best_detection_of_a_truth_box_is_true_and_its_others_are_false() -> None:
    matched = match(floats(SHIFTED, SQUARE, FAR), [0.9, 0.8, 0.7], floats(SQUARE), [False], 0.5)
    assert matched.tp.tolist() == [True, False, False]
    assert matched.ignored.tolist() == [False, False, False]


def test_a_second_detection_is_not_passed_on_to_a_neighbouring_truth_box() -> None:
    """PASCAL VOC looks at the best truth box only, taken or not."""
    truth = floats(SQUARE, (0, 0, 10, 6))  # IoU 1 and 0.6
    matched = match(floats(SQUARE, SQUARE), [0.9, 0.8], truth, [False, False], 0.5)
    assert matched.tp.tolist() == [True, False]


@pytest.mark.parametrize(
    ("iou_threshold", "found"),
    [
        (0.8, True),  # exactly at the threshold
        (0.81, False),
    ],
)
def test_an_overlap_at_the_threshold_is_enough(iou_threshold: float, found: bool) -> None:
    matched = match(floats(SHIFTED), [0.5], floats(SQUARE), [False], iou_threshold)
    assert matched.tp.tolist() == [found]


@pytest.mark.parametrize(
    ("box", "tp", "ignored"),
    [
        (SQUARE, True, False),  # the truth box
        (FAR, False, True),  # the ignore box itself
        ((60, 60, 65, 65), False, True),  # a small box that lies inside the ignore box
        ((40, 40, 140, 140), False, False),  # only a corner of it is covered
        ((20, 20, 30, 30), False, False),  # nowhere
        ((0, 0, 0, 10), False, False),  # without area
    ],
)
def test_a_detection_on_an_ignore_box_is_neither_true_nor_false(
    box: tuple[int, ...], tp: bool, ignored: bool
) -> None:
    truth = floats(SQUARE, (50, 50, 80, 80), FAR)
    matched = match(floats(box), [0.5], truth, [False, True, True], 0.5)
    assert (matched.tp.tolist(), matched.ignored.tolist()) == ([tp], [ignored])


def test_a_truth_box_inside_an_ignore_box_can_be_found_and_its_duplicate_is_false() -> None:
    truth = floats((0, 0, 100, 100), SQUARE)
    matched = match(floats(SQUARE, SHIFTED), [0.9, 0.8], truth, [True, False], 0.5)
    assert matched.tp.tolist() == [True, False]
    assert matched.ignored.tolist() == [False, False]


def test_of_equal_overlaps_the_truth_box_comes_before_the_ignore_box() -> None:
    """Each detection has IoU 0.75 with its own truth box and with the ignore box between them."""
    truth = floats((5, 0, 25, 10), (0, 0, 20, 10), (10, 0, 30, 10))
    found = floats((5, 0, 20, 10), (10, 0, 25, 10))
    assert match(found, [0.9, 0.8], truth, [True, False, False], 0.5).tp.tolist() == [True, True]


def test_without_truth_boxes_every_detection_is_false() -> None:
    matched = match(floats(SQUARE, FAR), [0.9, 0.8], floats(), [], 0.5)
    assert not matched.tp.any()
    assert not matched.ignored.any()


def match_one_by_one(
    boxes: np.ndarray, scores: np.ndarray, truth: np.ndarray, ignore: np.ndarray, least: float
) -> tuple[list[bool], list[bool]]:
    tp, ignored = [False] * len(boxes), [False] * len(boxes)
    taken: set[int] = set()
    for i in sorted(range(len(boxes)), key=lambda index: -scores[index]):
        here = boxes[i : i + 1]
        best, owner = np.float32(0), -1
        for j in range(len(truth)):
            iou = pairwise_iou(here, truth[j : j + 1])[0, 0]
            if iou > best or (iou == best and owner >= 0 and ignore[owner] and not ignore[j]):
                best, owner = iou, j
        if owner >= 0 and best >= least and not ignore[owner]:
            tp[i] = owner not in taken
            taken.add(owner)
            continue
        for j in np.flatnonzero(ignore):
            shared = pairwise_intersection(here, truth[j : j + 1])[0, 0]
            if shared > 0 and shared >= least * area(here)[0]:
                ignored[i] = True
    return tp, ignored


corners = st.integers(0, 6)
some_boxes = st.lists(
    st.tuples(corners, corners, st.integers(0, 6), st.integers(0, 6)).map(
        lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3])
    ),
    max_size=8,
).map(lambda boxes: floats(*boxes))


@QUICK
@given(some_boxes, some_boxes, st.sampled_from([0.3, 0.5]), st.randoms(use_true_random=False))
def test_matching_equals_one_detection_at_a_time(boxes, truth, iou_threshold, random) -> None:
    scores = np.array([random.choice([0.2, 0.4, 0.6]) for _ in boxes], dtype=np.float32)
    ignore = np.array([random.random() < 0.3 for _ in truth], dtype=bool)
    matched = match(boxes, scores, truth, ignore, iou_threshold)
    tp, ignored = match_one_by_one(boxes, scores, truth, ignore, iou_threshold)
    assert matched.tp.tolist() == tp
    assert matched.ignored.tolist() == ignored


@QUICK
@given(some_boxes, some_boxes, st.randoms(use_true_random=False))
def test_the_order_of_detections_changes_no_average_precision(boxes, truth, random) -> None:
    """Tied scores may change which detection is true, never how many of each score are."""
    scores = np.array([random.choice([0.2, 0.4]) for _ in boxes], dtype=np.float32)
    ignore = np.array([random.random() < 0.3 for _ in truth], dtype=bool)
    order = np.array(random.sample(range(len(boxes)), len(boxes)), dtype=int)

    def score(order: np.ndarray) -> float:
        matched = match(boxes[order], scores[order], truth, ignore, 0.3)
        kept = ~matched.ignored
        return average_precision(scores[order][kept], matched.tp[kept], int((~ignore).sum()))

    np.testing.assert_equal(score(order), score(np.arange(len(boxes))))


# Curves

ranked = st.lists(st.tuples(st.sampled_from([0.1, 0.3, 0.5, 0.7, 0.9]), st.booleans()), max_size=12)


def test_average_precision_of_a_case_summed_by_hand() -> None:
    """Recall 1/2 at precision 1, recall 1 at precision 2/3: 1/2 * 1 + 1/2 * 2/3."""
    assert average_precision([0.9, 0.8, 0.7, 0.6], [1, 0, 1, 0], 2) == pytest.approx(5 / 6)


def test_precision_at_a_recall_is_the_best_at_that_recall_or_a_larger_one() -> None:
    """Raw precisions 0, 1/2, 2/3; the curve is 2/3 at both recalls."""
    assert average_precision([0.9, 0.8, 0.7], [0, 1, 1], 2) == pytest.approx(2 / 3)


def test_truth_that_was_never_detected_lowers_average_precision() -> None:
    assert average_precision([0.9], [1], 4) == pytest.approx(1 / 4)


@pytest.mark.parametrize("tp", [[1, 0], [0, 1]])
def test_tied_scores_are_one_step_whichever_comes_first(tp: list[int]) -> None:
    assert average_precision([0.5, 0.5], tp, 1) == pytest.approx(1 / 2)


def test_figures_without_detections_are_zero_and_without_positives_nan() -> None:
    assert average_precision([], [], 3) == 0
    assert recall_at([], [], 3, 10) == 0
    assert math.isnan(average_precision([0.5], [0], 0))
    assert math.isnan(recall_at([0.5], [0], 0, 10))
    assert np.isnan(precision_recall([0.5], [0], 0).recall).all()


def sweep(pairs: Sequence[tuple[float, bool]]) -> list[tuple[float, int, int]]:
    """Threshold, tp and fp for each distinct score."""
    kept = [(t, [true for score, true in pairs if score >= t]) for t, _ in pairs]
    return [(t, sum(true), len(true) - sum(true)) for t, true in kept]


@QUICK
@given(ranked, st.integers(0, 5))
def test_average_precision_equals_a_sweep_over_thresholds(pairs, missed) -> None:
    """The mean, over the positives, of the best precision at which so many are found."""
    positives = sum(true for _, true in pairs) + missed
    area_under = Fraction(0)
    for wanted in range(1, positives + 1):
        precisions = [Fraction(tp, tp + fp) for _, tp, fp in sweep(pairs) if tp >= wanted]
        area_under += max(precisions, default=Fraction(0)) / positives
    scores, tp = [score for score, _ in pairs], [true for _, true in pairs]
    expected = float(area_under) if positives else math.nan
    assert average_precision(scores, tp, positives) == pytest.approx(expected, nan_ok=True)


@QUICK
@given(ranked, st.integers(1, 5), st.floats(0, 6))
def test_recall_at_equals_a_sweep_over_thresholds(pairs, missed, allowed) -> None:
    positives = sum(true for _, true in pairs) + missed
    expected = max((tp for _, tp, fp in sweep(pairs) if fp <= allowed), default=0) / positives
    scores, tp = [score for score, _ in pairs], [true for _, true in pairs]
    assert recall_at(scores, tp, positives, allowed) == pytest.approx(expected)


@QUICK
@given(ranked, st.integers(0, 5))
def test_best_threshold_keeps_what_has_the_best_f1(pairs, missed) -> None:
    positives = sum(true for _, true in pairs) + missed
    scores = np.array([score for score, _ in pairs])
    tp = np.array([true for _, true in pairs], dtype=bool)
    threshold = best_threshold(scores, tp, positives)
    if not tp.any():
        assert threshold == 0.5
        return
    best = max(Fraction(2 * t, t + f + positives) for _, t, f in sweep(pairs))
    kept = scores >= threshold
    assert Fraction(2 * int(tp[kept].sum()), int(kept.sum()) + positives) == best
    below = scores[~kept].max(initial=0)
    assert threshold == pytest.approx((scores[kept].min() + below) / 2)


def test_of_two_thresholds_with_one_f1_the_higher_is_best() -> None:
    """F1 is 2/3 with the first alone and with all four."""
    assert best_threshold([0.9, 0.8, 0.7, 0.6], [1, 0, 0, 1], 2) == pytest.approx(0.85)


def test_the_curve_has_one_point_a_score_and_its_rises_are_where_truth_is_found() -> None:
    curve = precision_recall([0.9, 0.8, 0.8, 0.6, 0.5], [1, 1, 0, 0, 1], 4)
    assert curve.thresholds.tolist() == [0.9, 0.8, 0.6, 0.5]
    assert curve.precision.tolist() == pytest.approx([1, 2 / 3, 1 / 2, 3 / 5])
    assert curve.recall.tolist() == pytest.approx([1 / 4, 1 / 2, 1 / 2, 3 / 4])
    assert curve.rises().thresholds.tolist() == [0.9, 0.8, 0.5]


@QUICK
@given(
    st.lists(
        st.tuples(st.sampled_from([0.1, 0.3, 0.5, 0.7]), st.booleans(), st.integers(0, 3)),
        max_size=12,
    ),
    st.lists(st.integers(0, 3), min_size=4, max_size=4),
    st.floats(0, 6),
)
def test_weighted_pictures_equal_pictures_that_are_there_several_times(
    rows, copies, allowed
) -> None:
    """The bootstrap's fast path against plain repetition."""
    scores, tp, picture = ([row[column] for row in rows] for column in range(3))
    positives = np.bincount(np.array(picture, dtype=int)[np.array(tp, dtype=bool)], minlength=4) + 1
    counts = Ranking.of(scores, tp, picture, positives).count(np.array(copies, dtype=float))
    repeats = [copies[p] for p in picture]
    many = np.repeat(scores, repeats), np.repeat(tp, repeats), int(positives @ copies)
    expected = average_precision(*many), recall_at(*many, allowed)
    assert (counts.average_precision(), counts.recall_at(allowed)) == pytest.approx(
        expected, nan_ok=True
    )


# Pictures as a whole


@QUICK
@given(ranked.filter(lambda pairs: any(true for _, true in pairs)))
def test_image_average_precision_is_the_area_under_scikit_learns_curve(pairs) -> None:
    """Scikit-learn's own average precision does not interpolate, so it is never larger."""
    best, present = [score for score, _ in pairs], [true for _, true in pairs]
    precision, recall, _ = precision_recall_curve(present, best)  # recall falls to 0
    envelope = np.maximum.accumulate(precision[:-1])  # the best at this recall or larger
    figure = image_average_precision(best, present)
    assert figure == pytest.approx(-np.diff(recall) @ envelope)
    plain = average_precision_score(present, best)
    assert figure >= plain - 1e-12
    rising = np.all(np.diff(precision[:-1]) >= 0)  # nothing to interpolate
    assert not rising or figure == pytest.approx(plain)


def test_a_picture_without_detections_is_never_returned() -> None:
    assert image_average_precision([0.9, math.nan, math.nan], [True, True, False]) == 0.5


# A whole scan


def annotation(*boxes: Sequence[float], label: str = "logo", **columns: object) -> Annotation:
    no = [False] * len(boxes)
    plain = Annotation("a.jpg", "", floats(*boxes), [label] * len(boxes), no, no)
    return replace(plain, **columns)


def picture(
    *found: tuple[Sequence[float], float], truth: Annotation | None, label: str = "logo"
) -> JudgedPicture:
    boxes, scores = floats(*(box for box, _ in found)), [score for _, score in found]
    return JudgedPicture("a.jpg", boxes, scores, [label] * len(found), truth)


def judge(
    *pictures: JudgedPicture, labels: Sequence[str] = ("logo",), **choices: object
) -> Evaluation:
    return evaluate(pictures, labels, 0.5, replace(NO_INTERVALS, **choices))


def test_a_small_scan_judged_by_hand() -> None:
    loose = (0, 0, 10, 4)  # IoU 0.4 with SQUARE: found at 0.3, not at 0.5
    result = judge(
        picture((SQUARE, 0.9), (FAR, 0.2), truth=annotation(SQUARE)),
        picture((loose, 0.8), truth=annotation(SQUARE)),
        picture(truth=annotation(SQUARE)),
        picture((FAR, 0.7), truth=annotation()),
    )
    (logo,) = result.labels
    assert logo.ap50.value == pytest.approx(1 / 3)
    assert logo.ap30.value == pytest.approx(2 / 3)
    assert logo.recall_at_fp_rate.value == pytest.approx(1 / 3)
    assert logo.image_ap.value == pytest.approx(2 / 3)
    assert (logo.truth_boxes, logo.tp, logo.fp, logo.missed) == (3, 1, 2, 2)
    assert (logo.precision, logo.recall) == pytest.approx((1 / 3, 1 / 3))
    assert (result.pictures, result.skipped, result.map50.value) == (4, 0, logo.ap50.value)


def test_the_false_positive_rate_is_per_judged_picture() -> None:
    """Of 20 pictures, 0.1 each allow 2 false positives: the third stands above the last find."""
    pictures = [picture((FAR, 0.9 - 0.1 * i), truth=annotation()) for i in range(3)]
    pictures += [picture((SQUARE, 0.75), truth=annotation(SQUARE))]
    pictures += [picture((SQUARE, 0.05), truth=annotation(SQUARE))]
    pictures += [picture(truth=annotation())] * 15
    assert judge(*pictures).labels[0].recall_at_fp_rate.value == 0.5
    more = judge(*pictures, false_positives_per_picture=0.15)
    assert more.labels[0].recall_at_fp_rate.value == 1.0


def test_unlisted_pictures_are_skipped_or_negative_as_told() -> None:
    listed = picture((SQUARE, 0.6), truth=annotation(SQUARE))
    unlisted = picture((FAR, 0.9), truth=None)
    skipped = judge(listed, unlisted)
    assert (skipped.pictures, skipped.skipped, skipped.unlisted) == (1, 1, 0)
    assert skipped.labels[0].ap50.value == 1.0
    negative = judge(listed, unlisted, unlisted="negative")
    assert (negative.pictures, negative.skipped, negative.unlisted) == (2, 0, 1)
    assert negative.labels[0].ap50.value == 0.5
    assert negative.labels[0].truth_boxes == 1


def test_when_no_picture_is_left_to_judge_the_way_out_is_named() -> None:
    with pytest.raises(InputError, match="--unlisted negative"):
        judge(picture((FAR, 0.9), truth=None))


def test_a_truth_box_on_an_unreadable_picture_is_a_miss() -> None:
    good = picture((SQUARE, 0.9), truth=annotation(SQUARE))
    bad = replace(picture(truth=annotation(SQUARE)), readable=False)
    result = judge(good, bad)
    assert (result.pictures, result.unreadable, result.labels[0].missed) == (2, 1, 1)
    assert (result.labels[0].ap50.value, result.labels[0].image_ap.value) == (0.5, 0.5)


def test_an_ignore_box_of_any_label_hides_a_detection_from_every_figure() -> None:
    hidden = annotation(SQUARE, label="other", ignore=[True])
    (logo,) = judge(
        picture((SQUARE, 0.9), truth=hidden), picture((SQUARE, 0.8), truth=annotation(SQUARE))
    ).labels
    assert (logo.ap50.value, logo.image_ap.value, logo.fp) == (1.0, 1.0, 0)
    assert (logo.truth_boxes, logo.ignored_boxes) == (1, 1)


def test_difficult_boxes_are_ignored_unless_they_are_to_count() -> None:
    pictures = [
        picture((SQUARE, 0.9), truth=annotation(SQUARE)),
        picture(truth=annotation(SQUARE, difficult=[True])),
    ]
    assert judge(*pictures).labels[0].ap50.value == 1.0
    assert judge(*pictures, count_difficult=True).labels[0].ap50.value == 0.5
    other = picture((SQUARE, 0.9), truth=annotation(SQUARE, label="other", difficult=[True]))
    assert judge(pictures[0], other).labels[0].fp == 1


def test_labels_are_judged_apart_and_the_mean_leaves_out_a_label_without_truth() -> None:
    result = judge(
        picture((SQUARE, 0.9), truth=annotation(SQUARE, label="cat"), label="cat"),
        picture((SQUARE, 0.9), truth=annotation(SQUARE, label="dog"), label="cat"),
        labels=["cat", "dog", "cow"],
    )
    cat, dog, cow = result.labels
    assert (cat.ap50.value, cat.fp) == (0.5, 1)  # the box on the dog ties with the one on the cat
    assert (dog.ap50.value, dog.missed) == (0.0, 1)
    assert math.isnan(cow.ap50.value)
    assert result.map50.value == pytest.approx((cat.ap50.value + dog.ap50.value) / 2)


def test_a_score_at_the_threshold_as_stored_is_kept() -> None:
    """0.7 is a little less as float32; the threshold of a model is rounded in the same way."""
    result = evaluate(
        [picture((SQUARE, 0.7), truth=annotation(SQUARE))], ["logo"], 0.7, NO_INTERVALS
    )
    assert result.labels[0].tp == 1


def test_the_result_is_json_with_null_where_nothing_can_be_said() -> None:
    result = judge(picture((SQUARE, 0.9), truth=annotation(SQUARE)), labels=["logo", "none"])
    document = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert document["labels"][0]["ap50"] == {"value": 1.0, "low": None, "high": None}
    assert document["labels"][0]["curve"]["recall"] == [1.0]
    assert document["labels"][1]["ap50"]["value"] is None
    assert document["settings"]["false_positives_per_picture"] == 0.1


def scan(pictures: int, seed: int, random_scores: bool = False) -> list[JudgedPicture]:
    """Pictures with one logo each and ten detections, one of them on the logo."""
    rng = np.random.default_rng(seed)
    result = []
    for _ in range(pictures):
        columns = [(20 * i, 0, 20 * i + 10, 10) for i in range(10)]
        scores = rng.uniform(0.01, 0.6, 10)
        if not random_scores:
            scores[0] = rng.uniform(0.4, 1)
        found = zip(columns, scores, strict=True)
        result.append(picture(*found, truth=annotation(SQUARE)))
    return result


def test_intervals_cover_the_figure_and_shrink_with_more_pictures() -> None:
    few = evaluate(scan(25, seed=1), ["logo"], 0.5)
    many = evaluate(scan(400, seed=1), ["logo"], 0.5)
    for result in (few, many):
        logo = result.labels[0]
        for figure in (logo.ap50, logo.ap30, logo.recall_at_fp_rate, result.map50):
            assert 0 <= figure.low <= figure.value <= figure.high <= 1
    few_ap, many_ap = few.labels[0].ap50, many.labels[0].ap50
    ratio = (few_ap.high - few_ap.low) / (many_ap.high - many_ap.low)
    assert 2.5 < ratio < 6.5  # 4 = sqrt(400 / 25)


def test_the_interval_holds_the_true_figure_about_19_times_in_20() -> None:
    choices = EvaluationSettings(resamples=200)
    true = evaluate(scan(3000, seed=99), ["logo"], 0.5, NO_INTERVALS).labels[0].ap50.value
    drawn = [evaluate(scan(60, seed), ["logo"], 0.5, choices).labels[0].ap50 for seed in range(60)]
    held = sum(figure.low <= true <= figure.high for figure in drawn)
    assert 49 <= held <= 60  # a 95 % interval holds 49 or more of 60 with probability 0.99995


def test_one_seed_gives_one_result_and_the_order_of_pictures_changes_no_figure() -> None:
    pictures = scan(30, seed=2)
    result = evaluate(pictures, ["logo"], 0.5)
    assert evaluate(pictures, ["logo"], 0.5).to_dict() == result.to_dict()
    turned = evaluate(pictures[::-1], ["logo"], 0.5)
    assert turned.labels[0].ap50.value == result.labels[0].ap50.value
    other = evaluate(pictures, ["logo"], 0.5, EvaluationSettings(seed=1))
    assert other.labels[0].ap50.value == result.labels[0].ap50.value
    assert other.labels[0].ap50 != result.labels[0].ap50


def test_scores_that_know_nothing_give_the_base_rate() -> None:
    """One detection in ten lies on a logo, and so does one in ten of any score."""
    blind = evaluate(scan(400, seed=3, random_scores=True), ["logo"], 0.5, NO_INTERVALS)
    assert blind.labels[0].ap50.value == pytest.approx(0.1, abs=0.03)
    seeing = evaluate(scan(400, seed=3), ["logo"], 0.5, NO_INTERVALS)
    assert seeing.labels[0].ap50.value > 0.6


def test_columns_of_different_length_are_refused() -> None:
    with pytest.raises(ValueError, match="one length"):
        JudgedPicture("a.jpg", floats(SQUARE), [0.5, 0.4], ["logo"], None)


# Rates, thresholds and sizes


def test_recall_at_a_rate_of_megapixels_is_read_before_so_many_false_positives() -> None:
    """150 MP allow one false positive at 1 a 100 MP, 99 MP none, and 100 MP exactly one."""
    pictures = [
        picture((SQUARE, 0.9), (FAR, 0.8), truth=annotation(SQUARE)),
        picture((SQUARE, 0.7), (FAR, 0.6), truth=annotation(SQUARE)),
        picture((SQUARE, 0.5), truth=annotation(SQUARE)),
    ]
    for megapixels, recall in ((50.0, 2 / 3), (33.0, 1 / 3), (100 / 3, 2 / 3), (0.0, 1 / 3)):
        result = judge(*(replace(each, megapixels=megapixels) for each in pictures))
        assert result.megapixels == pytest.approx(3 * megapixels)
        assert result.labels[0].recall50_at_megapixel_rate.value == pytest.approx(recall)
    twice = judge(
        *(replace(each, megapixels=66.7) for each in pictures), false_positives_per_100_megapixels=1
    )
    assert twice.mean_recall50_at_megapixel_rate.value == 1


def test_a_loose_box_counts_at_the_megapixel_rate_at_iou_03_only() -> None:
    (logo,) = judge(picture(((0, 0, 10, 4), 0.9), truth=annotation(SQUARE))).labels
    assert logo.recall50_at_megapixel_rate.value == 0
    assert logo.recall30_at_megapixel_rate.value == 1


def test_precision_and_recall_at_the_threshold_have_intervals_that_hold_them() -> None:
    logo = evaluate(scan(60, seed=1), ["logo"], 0.5).labels[0]
    for value, (low, high) in (
        (logo.precision, logo.precision_interval),
        (logo.recall, logo.recall_interval),
    ):
        assert 0 < low < value < high < 1
    assert (logo.precision, logo.recall) == (
        logo.tp / (logo.tp + logo.fp),
        logo.tp / logo.truth_boxes,
    )


@QUICK
@given(ranked, st.integers(0, 3), st.sampled_from([0.3, 0.5, 0.75, 0.95, 1.0]))
def test_no_lower_threshold_has_the_wanted_precision(pairs, missed, target) -> None:
    pictures = [
        picture((SQUARE, score), truth=annotation(*([SQUARE] if true else [])))
        for score, true in pairs
    ] + [picture(truth=annotation(SQUARE))] * missed
    found = least_threshold(pictures, ["logo"], target)
    reached = [(t, tp / (tp + fp)) for t, tp, fp in sweep(pairs) if tp / (tp + fp) >= target]
    if not reached:
        assert math.isnan(found.threshold)
        best = max((tp / (tp + fp) for _, tp, fp in sweep(pairs)), default=math.nan)
        assert found.precision == pytest.approx(best, nan_ok=True)
        return
    assert (found.threshold, found.precision) == min(reached)
    logo = evaluate(pictures, ["logo"], found.threshold, NO_INTERVALS).labels[0]
    assert logo.precision == found.precision
    np.testing.assert_equal(logo.recall, found.recall)


def test_a_threshold_for_a_precision_keeps_the_score_that_it_is() -> None:
    """A float32 score in its fewest digits, as a person types it, is the same float32."""
    rng = np.random.default_rng(0)
    for score in rng.random(50).astype(np.float32):
        pictures = [picture((SQUARE, score), truth=annotation(SQUARE))]
        found = least_threshold(pictures, ["logo"], 1.0)
        assert np.float32(found.threshold) == score
        assert len(repr(found.threshold)) <= 12


def test_without_a_threshold_nothing_is_said_at_it() -> None:
    pictures = [picture((SQUARE, 0.9), truth=annotation(SQUARE))]
    result = evaluate(pictures, ["logo"], math.nan)
    logo = result.labels[0]
    assert math.isnan(logo.precision)
    assert math.isnan(logo.recall)
    assert math.isnan(logo.slices[0].recall)
    assert (logo.ap50.value, logo.slices[0].ap50) == (1, 1)
    assert result.to_dict()["threshold"] is None


@pytest.mark.parametrize(
    ("side", "size"), [(31, "small"), (32, "medium"), (96, "medium"), (97, "large")]
)
def test_a_logo_has_the_size_of_the_root_of_its_area(side: int, size: str) -> None:
    box = (0, 0, side / 2, side * 2)
    (logo,) = judge(picture((box, 0.9), truth=annotation(box))).labels
    assert [each.size for each in logo.slices] == ["small", "medium", "large"]
    (here,) = [each for each in logo.slices if each.boxes]
    assert (here.size, here.boxes, here.recall, here.ap50) == (size, 1, 1.0, 1.0)


def test_a_detection_counts_where_its_logo_does_and_a_false_one_by_its_own_size() -> None:
    """A detection of 30 on a logo of 32 is no false alarm among the small ones."""
    pictures = [
        picture(((0, 0, 30, 30), 0.9), truth=annotation((0, 0, 32, 32))),
        picture(((0, 0, 10, 10), 0.8), ((0, 0, 200, 200), 0.95), truth=annotation(SQUARE)),
    ]
    small, medium, large = judge(*pictures).labels[0].slices
    assert (small.boxes, small.recall, small.ap50) == (1, 1.0, 1.0)
    assert (medium.boxes, medium.recall, medium.ap50) == (1, 1.0, 1.0)
    assert large.boxes == 0
    assert math.isnan(large.ap50)


# What may change no figure, and what must


@st.composite
def some_scan(draw: st.DrawFn) -> list[JudgedPicture]:
    """A few pictures with truth and detections of many ties; scores, sizes and labels vary."""
    boxes = [SQUARE, SHIFTED, FAR, (0, 0, 40, 40), (0, 0, 120, 120)]
    pictures = []
    for _ in range(draw(st.integers(1, 5))):
        truth = draw(st.lists(st.sampled_from(boxes), max_size=2, unique=True))
        found = draw(
            st.lists(
                st.tuples(st.sampled_from(boxes), st.sampled_from([0.2, 0.5, 0.8])), max_size=5
            )
        )
        label = draw(st.sampled_from(["logo", "other"]))
        megapixels = draw(st.sampled_from([0.0, 0.1, 33.3, 50.0]))
        one = picture(*found, truth=annotation(*truth, label=label))
        pictures.append(replace(one, megapixels=megapixels))
    return pictures


def values_of(result: Evaluation) -> list[object]:
    """Every figure, without intervals, which follow the order of pictures."""
    logo = result.labels[0]
    estimates = (
        logo.ap50, logo.ap30, logo.image_ap, logo.recall_at_fp_rate,
        logo.recall50_at_megapixel_rate, logo.recall30_at_megapixel_rate,
    )  # fmt: skip
    sizes = [(each.boxes, each.recall, each.ap50) for each in logo.slices]
    counts = (logo.tp, logo.fp, logo.missed, logo.precision, logo.recall)
    return [[each.value for each in estimates], counts, sizes]


@QUICK
@given(some_scan(), st.randoms(use_true_random=False))
def test_the_order_of_pictures_and_detections_changes_no_figure(pictures, random) -> None:
    expected = values_of(judge(*pictures))
    turned = []
    for each in random.sample(pictures, len(pictures)):
        order = np.array(random.sample(range(len(each.boxes)), len(each.boxes)), dtype=int)
        columns = {name: getattr(each, name)[order] for name in ("boxes", "scores", "labels")}
        turned.append(replace(each, **columns))
    np.testing.assert_equal(values_of(judge(*turned)), expected)


@QUICK
@given(some_scan())
def test_the_sizes_add_up_to_the_whole(pictures) -> None:
    (logo,) = judge(*pictures).labels
    assert sum(each.boxes for each in logo.slices) == logo.truth_boxes
    found = sum(each.recall * each.boxes for each in logo.slices if each.boxes)
    assert round(found, 6) == logo.tp


def drawn_scan(pictures: int, seed: int) -> list[JudgedPicture]:
    """Pictures with one logo each, somewhere, found exactly; and three detections elsewhere."""
    rng = np.random.default_rng(seed)
    result = []
    for _ in range(pictures):
        x, y = rng.integers(0, 1900, (2, 4))
        boxes = [(a, b, a + 40, b + 20) for a, b in zip(x, y, strict=True)]
        scores = [rng.uniform(0.6, 1), *rng.uniform(0, 0.5, 3)]
        result.append(picture(*zip(boxes, scores, strict=True), truth=annotation(boxes[0])))
    return result


def test_truth_shuffled_among_the_pictures_leaves_next_to_nothing() -> None:
    """A control: boxes of another picture are not where this picture's detections are."""
    pictures = drawn_scan(60, seed=4)
    shuffled = [
        replace(each, truth=other.truth)
        for each, other in zip(pictures, [*pictures[1:], pictures[0]], strict=True)
    ]
    assert judge(*pictures).labels[0].ap50.value == 1
    figures = judge(*shuffled).labels[0]
    assert figures.ap30.value < 0.02
    assert figures.recall50_at_megapixel_rate.value < 0.05


def test_labels_shuffled_among_the_pictures_leave_chance() -> None:
    """With one of two labels at random, half of the detections are of the wrong one."""
    rng = np.random.default_rng(5)
    own = [replace(each, labels=np.repeat(["cat", "dog"][i % 2], 4))
           for i, each in enumerate(drawn_scan(400, seed=5))]  # fmt: skip
    pictures = [replace(each, truth=replace(each.truth, labels=each.labels[:1])) for each in own]
    assert judge(*pictures, labels=["cat", "dog"]).map50.value == 1
    order = rng.permutation(len(pictures))
    shuffled = [
        replace(each, truth=replace(each.truth, labels=pictures[i].truth.labels))
        for each, i in zip(pictures, order, strict=True)
    ]
    # Half are found, at a precision of a half.
    assert judge(*shuffled, labels=["cat", "dog"]).map50.value == pytest.approx(0.25, abs=0.06)


def test_scores_shuffled_among_the_detections_leave_the_base_rate() -> None:
    """One detection in four is true."""
    rng = np.random.default_rng(6)
    pictures = drawn_scan(400, seed=6)
    scores = rng.permutation(np.concatenate([each.scores for each in pictures])).reshape(-1, 4)
    shuffled = [replace(each, scores=row) for each, row in zip(pictures, scores, strict=True)]
    assert judge(*shuffled).labels[0].ap50.value == pytest.approx(0.25, abs=0.05)


# Pairing pictures


def test_pictures_meet_by_content_whatever_they_are_called() -> None:
    pairing = meet([("x/1.jpg", "A"), ("x/2.jpg", "B")], [("2.jpg", "A"), ("q.jpg", "C")])
    assert pairing.truth_of == (0, None)
    assert (pairing.by_path, pairing.unscanned) == (0, (1,))


@pytest.mark.parametrize(
    ("scanned", "truth"),
    [
        ("train/1.jpg", "/home/me/pare/train/1.jpg"),  # truth was drawn on another machine
        ("pare/train/1.jpg", "train\\1.jpg"),  # imglab on Windows
        ("1.jpg", "./1.jpg"),
    ],
)
def test_pictures_of_unknown_content_meet_by_path(scanned: str, truth: str) -> None:
    pairing = meet([("other.jpg", "B"), (scanned, "A")], [(truth, None)])
    assert (pairing.truth_of, pairing.by_path) == ((None, 0), 1)


def test_the_longest_common_suffix_wins_and_each_picture_is_used_once() -> None:
    scanned = [("y/b/1.jpg", "A"), ("y/a/1.jpg", "B"), ("y/c/1.jpg", "C")]
    pairing = meet(scanned, [("x/a/1.jpg", ""), ("x/b/1.jpg", "")])
    assert pairing.truth_of == (1, 0, None)


def test_a_picture_met_by_content_is_not_given_to_another_of_its_name() -> None:
    pairing = meet([("new/1.jpg", "B"), ("old/copy.jpg", "A")], [("1.jpg", "A")])
    assert pairing.truth_of == (None, 0)


def test_of_several_copies_in_the_truth_the_nearest_path_is_taken() -> None:
    pairing = meet(
        [("s/b/1.jpg", "A"), ("s/a/1.jpg", "A"), ("z.jpg", "A")],
        [("t/a/1.jpg", "A"), ("t/b/1.jpg", "A")],
    )
    assert pairing.truth_of == (1, 0, 0)
    assert pairing.unscanned == ()


def test_two_pictures_that_fit_equally_well_are_refused_by_name() -> None:
    with pytest.raises(InputError, match=r'"a/1.jpg" and "b/1.jpg" of the scan fit "1.jpg"'):
        meet([("a/1.jpg", "A"), ("b/1.jpg", "B")], [("1.jpg", None)])
    with pytest.raises(InputError, match=r'"a/1.jpg" and "b/1.jpg" of t.xml fit "1.jpg"'):
        meet([("1.jpg", "A")], [("a/1.jpg", None), ("b/1.jpg", None)], truth_name="t.xml")


@pytest.mark.parametrize(
    ("scanned", "truth"),
    [
        ("a/1.JPG", "a/1.jpg"),  # another case
        ("a/11.jpg", "a/1.jpg"),  # whole components only
        ("a/1.jpg", "a/2.jpg"),  # the same folder is not enough
    ],
)
def test_truth_that_names_no_picture_is_refused_with_both_names(scanned: str, truth: str) -> None:
    with pytest.raises(InputError, match=r"t\.xml names no picture of work/scan") as caught:
        meet([(scanned, "A")], [(truth, None)], "work/scan", "t.xml")
    assert scanned in str(caught.value)
    assert caught.value.remedy


def test_a_picture_that_the_truth_lists_twice_is_refused() -> None:
    with pytest.raises(InputError, match=r'lists "1\.jpg" twice'):
        meet([("1.jpg", "A")], [("1.jpg", "A"), ("1.jpg", "A")])


# Calibration


def cross_entropy(line: tuple[float, float], x: np.ndarray, truth: np.ndarray) -> float:
    """What Platt minimises, written out."""
    n_true, n_false = truth.sum(), (~truth).sum()
    target = np.where(truth, (n_true + 1) / (n_true + 2), 1 / (n_false + 2))
    p = 1 / (1 + np.exp(-(line[0] * x + line[1])))
    return float(-(target * np.log(p) + (1 - target) * np.log(1 - p)).sum())


def test_calibration_finds_the_line_that_made_the_truth() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(0, 2, 20_000)
    truth = rng.random(20_000) < 1 / (1 + np.exp(-(0.5 * x - 1)))
    assert calibrate(x, truth) == pytest.approx((0.5, -1), abs=0.06)


@QUICK
@given(
    st.lists(st.tuples(st.floats(-6, 6), st.booleans()), min_size=2, max_size=15),
    st.floats(0.01, 4),
    st.floats(-4, 4),
)
def test_no_other_line_that_keeps_the_order_is_likelier(points, a, b) -> None:
    x, truth = np.array([x for x, _ in points]), np.array([true for _, true in points])
    line = calibrate(x, truth)
    assert line[0] >= 0.01
    assert np.isfinite(line).all()
    if truth.all() or not truth.any():
        assert line == (1.0, 0.0)
        return
    least = cross_entropy(line, x, truth)
    nearby = [(line[0] + 0.01, line[1]), (line[0], line[1] + 0.01), (line[0], line[1] - 0.01)]
    for other in [(a, b), (1.0, 0.0), *nearby]:
        assert least <= cross_entropy(other, x, truth) + 1e-9


@pytest.mark.parametrize(
    ("log_odds", "is_true"),
    [
        ([-3, -2, 2, 3], [False, False, True, True]),  # separable
        ([1, 1, 1], [True, False, False]),  # equal scores
        ([np.inf, 4, -np.inf], [True, True, False]),  # scores of exactly 1 and 0
        ([0.5, -0.5], [True, False]),  # two points
        ([1000.0] * 20 + [-1000.0] * 20, [True, False] * 20),  # far out and worthless
    ],
)
def test_calibration_is_finite_and_keeps_the_order(log_odds, is_true) -> None:
    a, b = calibrate(log_odds, is_true)
    assert a > 0
    assert math.isfinite(a)
    assert math.isfinite(b)


def test_scores_of_exactly_0_and_1_count_as_log_odds_of_40() -> None:
    truth = [True, True, False]
    assert calibrate([np.inf, 4, -np.inf], truth) == calibrate([40, 4, -40], truth)


def test_scores_that_are_turned_around_get_the_least_slope() -> None:
    a, b = calibrate([3, 2, -2, -3], [False, False, True, True])
    assert (a, b) == pytest.approx((0.01, 0), abs=1e-6)


@pytest.mark.parametrize("is_true", [[], [False, False], [True, True]])
def test_one_kind_of_truth_alone_changes_nothing(is_true: list[bool]) -> None:
    assert calibrate(np.arange(len(is_true)), is_true) == (1.0, 0.0)


def test_log_odds_that_are_nan_are_refused() -> None:
    with pytest.raises(ValueError, match="nan"):
        calibrate([0.0, math.nan], [True, False])
