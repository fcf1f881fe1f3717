"""`nnst explain`: the computation on both kinds of detector, the command, and the page."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nnst import boxes as boxes_
from nnst import images, models
from nnst.detector import Detector, DetectorSettings, detector_of, explaining
from nnst.detector.explaining import GRID, Explained, Explanation
from nnst.report import explanation

Command = Callable[..., Any]
Draw = Callable[..., np.ndarray]

MARK = (60, 40, 140, 88)  # wider than the window of either model shows at full size


# What is computed


@pytest.fixture(scope="module", params=["mark_model", "mark_cascade"])
def detector(request: pytest.FixtureRequest) -> Detector:
    """A sliding network, and a cascade, that tell of every score."""
    folder = request.getfixturevalue(request.param)
    return detector_of(models.load(folder), DetectorSettings(min_score=0.0))


@pytest.fixture(scope="module")
def sliding(mark_model: str) -> Detector:
    return detector_of(models.load(mark_model), DetectorSettings(min_score=0.0))


@pytest.fixture(scope="module")
def cascade(mark_cascade: str) -> Detector:
    return detector_of(models.load(mark_cascade), DetectorSettings(min_score=0.0))


def explained(detector: Detector, pixels: np.ndarray, least: float = 0.5) -> Explanation:
    return explaining.explain(detector, pixels, least, most=5)


def best(detector: Detector, pixels: np.ndarray) -> Explained:
    """The best detection of a picture that has one."""
    told = explained(detector, pixels)
    assert told.reached
    return told.explained[0]


def test_what_is_explained_is_what_the_detector_finds(detector: Detector, draw: Draw) -> None:
    pixels = draw([MARK, (150, 100, 200, 130)])
    told, (found,) = explained(detector, pixels), detector.detect_all([pixels], [1.0])
    count = int((found.scores >= 0.5).sum())
    assert count == len(told.explained) > 0
    for row, each in enumerate(told.explained):
        np.testing.assert_array_equal(each.box[0], found.boxes[row])
        assert each.score == pytest.approx(float(found.scores[row]))


def test_windows_that_vote_end_on_the_detection(detector: Detector, draw: Draw) -> None:
    """Far from the other mark; and the best of them is where the detection came from."""
    for each in explained(detector, draw([MARK, (150, 110, 200, 140)])).explained:
        votes = each.votes
        assert len(votes) > 0
        assert (boxes_.pairwise_iou(votes.ends, each.box)[:, 0] > 0.3).all()
        assert (np.diff(votes.scores) <= 0).all()
        came_from = votes.ends[votes.counted][0]
        clipped = boxes_.clip(came_from[None], (160, 220))
        np.testing.assert_allclose(clipped, each.box, atol=0.01)
        assert float(votes.scores[votes.counted][0]) == pytest.approx(each.score, abs=1e-3)


def test_a_cascades_votes_have_the_scouts_score_and_a_sliding_networks_none(
    cascade: Detector, sliding: Detector, draw: Draw
) -> None:
    threshold = cascade.spec.stages[0].threshold
    assert (best(cascade, draw([MARK])).votes.scouts >= threshold - 1e-6).all()
    assert np.isnan(best(sliding, draw([MARK])).votes.scouts).all()


def test_more_windows_of_a_cascade_end_on_a_mark_than_were_looked_at(
    mark_cascade: str, draw: Draw
) -> None:
    """Those that gave way to a better one beside them are told of, and told apart."""
    settings = DetectorSettings(min_score=0.0, levels_per_octave=4)
    cascade = detector_of(models.load(mark_cascade), settings)
    marks = (MARK, (20, 30, 60, 54), (110, 60, 210, 120), (30, 20, 130, 80))
    every = [best(cascade, draw([mark])).votes for mark in marks]
    assert all(votes.counted.any() for votes in every)
    assert any(not votes.counted.all() for votes in every)


def test_the_best_level_scores_what_the_detection_scores(sliding: Detector, draw: Draw) -> None:
    """For a sliding network the detection is a window of one of the levels."""
    for box in (MARK, (20, 30, 60, 54), (110, 60, 210, 120)):
        each = best(sliding, draw([box]))
        top = max(each.levels, key=lambda level: level.score)
        assert top.score == pytest.approx(each.score, abs=0.02)
        assert top.width == pytest.approx(float(boxes_.size_hw(each.box)[0, 1]), rel=0.15)


def test_the_levels_peak_near_the_marks_size(detector: Detector, draw: Draw) -> None:
    levels = best(detector, draw([MARK])).levels
    widths = [level.width for level in levels]
    assert widths == sorted(widths)
    # The judge of a cascade moves boxes, also from a level that shows the mark too large or small:
    # there it is the scout that must know at which level the mark is.
    seen = [level.score if level.scout is None else level.scout for level in levels]
    top = levels[int(np.argmax(seen))]
    assert 80 / 1.7 < top.width < 80 * 1.7
    assert top.score > 0.5
    far = [
        score
        for level, score in zip(levels, seen, strict=True)
        if not 80 / 2.5 < level.width < 80 * 2.5
    ]
    assert max(far, default=0.0) < max(seen)


def test_the_evidence_lies_on_the_mark_and_not_beside_it(detector: Detector, draw: Draw) -> None:
    """Of what the network sees, greying out a part of the mark costs more than one beside it."""
    saliency = best(detector, draw([MARK])).saliency
    frame = saliency.frame[0]
    step_xy = (frame[2:] - frame[:2]) / GRID
    x = frame[0] + (np.arange(GRID) + 0.5) * step_xy[0]
    y = frame[1] + (np.arange(GRID) + 0.5) * step_xy[1]
    on_x, on_y = (MARK[0] < x) & (x < MARK[2]), (MARK[1] < y) & (y < MARK[3])
    row, column = np.unravel_index(saliency.fall.argmax(), saliency.fall.shape)
    assert on_y[row]
    assert on_x[column]
    # A patch is two parts wide: what reaches over the edge is neither on the mark nor beside it.
    beside_x = (x < MARK[0] - step_xy[0]) | (x > MARK[2] + step_xy[0])
    beside_y = (y < MARK[1] - step_xy[1]) | (y > MARK[3] + step_xy[1])
    beside = beside_y[:, None] | beside_x[None, :]
    on = saliency.fall[np.ix_(on_y, on_x)]
    assert on.mean() > 0
    if beside.any():
        assert np.abs(saliency.fall[beside]).mean() < 0.25 * on.mean()


def test_the_evidence_follows_a_mark_that_is_not_in_the_middle(
    cascade: Detector, draw: Draw
) -> None:
    """Of a box that the mark fills to three quarters, the last quarter does not count."""
    view = explaining.View(cascade, draw([MARK]), 1.0)
    beside = np.array([[MARK[0] + 20, MARK[1], MARK[2] + 20, MARK[3]]], np.float32)
    saliency = explaining.occlude(view, beside, 1)
    left, _, right, _ = saliency.frame[0]
    x = left + (np.arange(GRID) + 0.5) * (right - left) / GRID
    empty = x > MARK[2] + (right - left) / GRID
    assert 1 <= empty.sum() < GRID / 2
    on = saliency.fall[2:-2, (x > MARK[0]) & (x < MARK[2])]
    assert np.abs(saliency.fall[:, empty]).mean() < 0.25 * on.mean()


def test_greying_out_lowers_the_score_as_far_as_its_log_odds_say(
    detector: Detector, draw: Draw
) -> None:
    saliency = best(detector, draw([MARK])).saliency
    odds = np.log(saliency.score / (1 - saliency.score)) - saliency.fall.astype(np.float64)
    np.testing.assert_allclose(1 / (1 + np.exp(-odds)), saliency.covered, atol=1e-4)


def test_where_nothing_is_found_the_nearest_to_it_is_explained(
    detector: Detector, draw: Draw
) -> None:
    told = explained(detector, draw([]))
    assert not told.reached
    assert 1 <= len(told.explained) <= 3
    assert all(each.score < 0.5 for each in told.explained)


def test_a_picture_of_one_colour_has_a_nearest_window_too(detector: Detector) -> None:
    (each, *_) = explained(detector, np.full((60, 50, 3), 128, np.uint8)).explained
    assert 0 <= each.score < 0.5
    assert each.box[0, 0] < each.box[0, 2] <= 50


def test_no_more_are_explained_than_asked_for(sliding: Detector, draw: Draw) -> None:
    pixels = draw([MARK, (150, 110, 200, 140)])
    assert len(explaining.explain(sliding, pixels, 0.5, most=1).explained) == 1


def test_two_pictures_whose_names_look_alike_have_two_folders() -> None:
    names = ["a/b.png", "a_b.png", "a b.png"]
    assert len({explanation.name_of(name) for name in names}) == 3


# The command


def make_scan(nnst: Command, scenes: Any, model: str, place: Path) -> Path:
    """A scan of the drawn pictures, one of them below a folder and one cut short."""
    pictures, out = place / "pictures", place / "scan"
    shutil.copytree(scenes.folder, pictures)
    (pictures / "deep").mkdir()
    shutil.move(pictures / "scene8.png", pictures / "deep" / "scene8.png")
    whole = (pictures / "scene1.png").read_bytes()
    (pictures / "broken.png").write_bytes(whole[: len(whole) // 2])
    words = ("scan", pictures, "--model", model, "--out", out)
    assert nnst(*words, "--set", "fanout.max_bad=1").code == 0
    return out


@pytest.fixture(scope="module")
def scanned(
    nnst: Command, scenes: Any, mark_model: str, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    return make_scan(nnst, scenes, mark_model, tmp_path_factory.mktemp("explain"))


@pytest.fixture
def scan(scanned: Path, tmp_path: Path) -> Path:
    """A scan without explanations, of pictures that no test changes."""
    return Path(shutil.copytree(scanned, tmp_path / "scan"))


@pytest.fixture
def own_scan(nnst: Command, scenes: Any, mark_model: str, tmp_path: Path) -> Path:
    """A scan of pictures that may be changed."""
    return make_scan(nnst, scenes, mark_model, tmp_path)


def test_the_chain_leads_from_the_source_to_the_scores(
    nnst: Command, scan: Path, scanned: Path, mark_model: str
) -> None:
    done = nnst("explain", scan, "scene3.png", "--json")
    assert (done.code, done.err) == (0, "")
    chain, plan = done.document, json.loads((scan / "plan.json").read_text())
    data = (scanned.parent / "pictures" / "scene3.png").read_bytes()
    assert chain["image_id"] == images.content_hash(data)
    assert chain["source"] == {
        "archive": str(scanned.parent / "pictures"),
        "container": "scene3.png",
        "offset": -1,
        "bytes": len(data),
    }
    assert chain["model"]["digest"] == models.digest(mark_model)
    assert chain["scan"]["fingerprint"] == plan["fingerprint"]
    assert chain["scan"]["run_id"] == plan["notes"]["run_id"]
    assert chain["problems"] == []
    told, strong = chain["explanation"], [d for d in chain["detections"] if d["score"] >= 0.5]
    assert told["reached"]
    assert [item["box"] for item in told["items"]] == [found["box"] for found in strong]
    assert [item["score"] for item in told["items"]] == [found["score"] for found in strong]
    assert json.loads((Path(chain["page"]).parent / "explanation.json").read_text()) == chain


def test_people_are_told_in_a_few_lines(nnst: Command, scan: Path) -> None:
    done = nnst("explain", scan, "scene3.png")
    assert done.code == 0
    lines = done.out.splitlines()
    assert lines[0] == "2 of 2 found with a score of 0.50 or more, explained"
    assert "voted; its most telling part greyed out" in lines[1]
    assert lines[-1].startswith(f"page:     {scan}/explain/scene3.png-")


def test_boxes_are_those_of_the_stored_picture(
    nnst: Command, mark_model: str, draw: Draw, with_orientation: Any, tmp_path: Path
) -> None:
    """A picture that lies on its side is explained upright and told of as it is stored."""
    upright = draw([MARK])
    stored = np.ascontiguousarray(np.rot90(upright, 1))  # orientation 6 turns it back
    (tmp_path / "pictures").mkdir()
    data = with_orientation(images.encode_jpeg(stored, 95), 6)
    (tmp_path / "pictures" / "turned.jpg").write_bytes(data)
    out = tmp_path / "scan"
    words = ("scan", tmp_path / "pictures", "--model", mark_model, "--out", out)
    assert nnst(*words).code == 0
    chain = nnst("explain", out, "turned.jpg", "--json").document
    (item,) = chain["explanation"]["items"]
    np.testing.assert_allclose(item["box"], chain["detections"][0]["box"], atol=0.02)
    (x0, y0, x1, y1), (left, top, right, bottom) = item["box"], MARK
    expected = (top, 220 - right, bottom, 220 - left)
    np.testing.assert_allclose((x0, y0, x1, y1), expected, atol=12)


def test_the_end_of_a_name_is_enough_where_one_picture_has_it(nnst: Command, scan: Path) -> None:
    done = nnst("explain", scan, "scene8.png", "--json")
    assert done.document["image"] == "deep/scene8.png"
    several = nnst("explain", scan, ".png")
    assert (several.code, several.out) == (2, "")
    assert "11 pictures of" in several.err


def test_a_wrong_name_is_answered_with_the_nearest(nnst: Command, scan: Path) -> None:
    done = nnst("explain", scan, "scene33.png")
    assert (done.code, done.out) == (2, "")
    assert "has no picture 'scene33.png'; did you mean" in done.err
    assert "scene3.png" in done.err
    assert not (scan / "explain").exists()


def test_a_picture_that_changed_since_is_refused(nnst: Command, own_scan: Path) -> None:
    path = own_scan.parent / "pictures" / "scene3.png"
    path.write_bytes(path.read_bytes() + b"\0")
    done = nnst("explain", own_scan, "scene3.png")
    assert (done.code, done.out) == (2, "")
    assert "scene3.png" in done.err
    assert "changed since the scan" in done.err or "cannot be read any more" in done.err
    path.unlink()
    assert "cannot be read any more (missing" in nnst("explain", own_scan, "scene3.png").err


def test_another_model_in_its_place_is_refused(
    nnst: Command, scenes: Any, mark_model: str, tmp_path: Path
) -> None:
    """A folder may hold another model by now; its reasons would be those of other scores."""
    folder, out = tmp_path / "model", tmp_path / "scan"
    shutil.copytree(mark_model, folder)
    assert nnst("scan", scenes.folder, "--model", f"{folder}/", "--out", out).code == 0
    model = models.load(folder)
    weights = {name: value * 2 for name, value in model.network.state_dict().items()}
    models.save(folder, model.spec, weights)
    done = nnst("explain", out, "scene3.png")
    assert done.code == 2
    assert "has changed since the scan" in done.err
    shutil.rmtree(folder)
    assert "is not the folder of a model" in nnst("explain", out, "scene3.png").err


def test_a_picture_that_could_not_be_looked_at_has_its_reason(nnst: Command, scan: Path) -> None:
    done = nnst("explain", scan, "broken.png")
    assert done.code == 0
    assert done.out.startswith("broken.png could not be looked at: the file ends before")
    assert nnst("explain", scan, "broken.png", "--json").document["explanation"] is None


def test_a_picture_with_nothing_in_it_is_explained_too(nnst: Command, scan: Path) -> None:
    done = nnst("explain", scan, "scene9.png")
    assert done.code == 0
    assert done.out.startswith("nothing with a score of 0.50 or more; nearest to it\n  0.")


def test_a_threshold_of_ones_own_counts(nnst: Command, scan: Path) -> None:
    told = nnst("explain", scan, "scene3.png", "--threshold", "1", "--json").document
    assert (told["explanation"]["reached"], told["explanation"]["threshold"]) == (False, 1.0)
    assert nnst("explain", scan, "scene3.png", "--threshold", "2").code == 2


def test_a_dry_run_writes_nothing(nnst: Command, scan: Path) -> None:
    done = nnst("explain", scan, "scene3.png", "--dry-run")
    assert done.out.startswith("would explain scene3.png in ")
    assert not (scan / "explain").exists()


def test_a_second_explanation_takes_the_place_of_the_first(nnst: Command, scan: Path) -> None:
    first = nnst("explain", scan, "scene3.png", "--json").document
    folder = Path(first["page"]).parent
    pngs = {f"{name}-{number}.png" for name in ("seen", "saliency") for number in (1, 2)}
    assert {path.name for path in folder.iterdir()} == {*pngs, "index.html", "explanation.json"}
    nnst("explain", scan, "scene3.png", "--detections", "1")
    assert len(list(folder.glob("*.png"))) == 2


def test_a_fresh_scan_takes_the_explanations_away(
    nnst: Command, own_scan: Path, mark_model: str
) -> None:
    assert nnst("explain", own_scan, "scene3.png").code == 0
    words = (
        "scan",
        own_scan.parent / "pictures",
        "--model",
        mark_model,
        "--out",
        own_scan,
        "--fresh",
    )
    assert nnst(*words, "--set", "fanout.max_bad=1").code == 0
    assert not (own_scan / "explain").exists()


# The pages in a browser


def test_the_page_shows_windows_levels_and_evidence(
    nnst: Command, scan: Path, open_file: Any
) -> None:
    chain = nnst("explain", scan, "scene3.png", "--json").document
    page, items = open_file(Path(chain["page"])), chain["explanation"]["items"]
    assert page.text_content("h1") == "scene3.png"
    assert page.locator(".item").count() == len(items) == 2
    assert page.locator("#whole .box").count() == 2
    windows = sum(len(item["windows"]) for item in items)
    assert page.locator("#whole .window").count() == windows
    assert page.locator(".levels .bar").count() == sum(len(item["levels"]) for item in items)
    drawn = page.eval_on_selector_all(".pair img", "all => all.map(img => img.naturalWidth > 0)")
    assert drawn == [True] * 4
    assert chain["scan"]["fingerprint"] in page.text_content("footer")


def test_a_box_of_the_closeup_lies_where_the_detection_is(
    nnst: Command, scan: Path, open_file: Any
) -> None:
    """The mark's own pixels, under the box that is drawn on the whole picture."""
    chain = nnst("explain", scan, "scene4.png", "--json").document
    page = open_file(Path(chain["page"]))
    drawn = page.evaluate(
        """() => {
          const img = document.querySelector('#whole img').getBoundingClientRect();
          const box = document.querySelector('#whole .box .outline').getBoundingClientRect();
          const {left, top, width} = img;
          return [box.left - left, box.top - top, box.right - left, box.bottom - top]
            .map(value => value * 220 / width);
        }"""
    )
    np.testing.assert_allclose(drawn, chain["explanation"]["items"][0]["box"], atol=0.5)


@pytest.mark.parametrize("image", ["broken.png", "scene9.png"])
def test_pages_without_a_detection_say_so(
    nnst: Command, scan: Path, open_file: Any, image: str
) -> None:
    page = open_file(Path(nnst("explain", scan, image, "--json").document["page"]))
    words = {"broken.png": "Could not look: the file ends", "scene9.png": "Nothing with a score"}
    assert page.text_content("#verdict").startswith(words[image])


def test_the_report_leads_to_an_explanation_or_to_the_command_for_one(
    nnst: Command, scan: Path, open_file: Any
) -> None:
    explained_page = Path(nnst("explain", scan, "deep/scene8.png", "--json").document["page"])
    assert nnst("report", scan).code == 0
    page = open_file(scan / "report" / "index.html")
    page.locator(".card", has_text="scene8.png").click()
    page.click("#large .why a")
    assert page.url == explained_page.as_uri()
    page.goto((scan / "report" / "index.html").as_uri())
    page.locator(".card", has_text="scene3.png").first.click()
    assert page.text_content("#large .why code") == f"nnst explain {scan} scene3.png"
