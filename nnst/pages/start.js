"use strict";
// What stands still on the report page, filled in once; then the first look.

function fillHeading() {
  const { scan } = data;
  at("archive").replaceChildren(make("bdi", {}, scan.archive || scan.source));
  at("origin").append("seen by ", make("bdi", { class: "model" }, scan.model), runText(scan.run_id), " · ",
    make("bdi", { class: "source" }, scan.source), skippedText(scan.skipped));
  at("notes").append(...data.notes.map((note) => make("li", {}, note)));
  at("reset").textContent = `Model: ${scoreOf(scan.threshold)}`;
  at("reset").title = "Back to the model's threshold (m)";
}

/** The run in short; the footer has it whole. */
function runText(run) {
  return run ? make("span", { class: "facts", title: `MLflow run ${run}` }, ` in run ${run.slice(0, 8)}`) : "";
}

/** What the page shows beside the scan, if anything. */
function fillBeside() {
  const { beside } = data;
  at("compare-field").hidden = !beside;
  document.body.classList.toggle("pairs", Boolean(beside));
  if (!beside) return;
  at("origin").prepend(make("b", {}, "A "));
  at("origin").append(make("br"), make("b", {}, "B "), "seen by ", make("bdi", { class: "model" }, beside.model),
    runText(beside.run_id), " · ", make("bdi", { class: "source" }, beside.scan),
    ` · ${counted(beside.found, "picture")} found at ${scoreOf(beside.threshold)}`);
}

function skippedText(skipped) {
  const total = Object.values(skipped).reduce((sum, count) => sum + count, 0);
  const kinds = Object.entries(skipped).map(([kind, count]) => `${count} ${kind}`);
  return total ? ` · ${counted(total, "other file")} skipped (${kinds.join(", ")})` : "";
}

function fillEvaluations() {
  for (const { truth, pictures, map50 } of data.evaluations) {
    const percent = (value) => (value === null ? "not known" : value.toFixed(3));
    const name = String(truth).split(/[\\/]/).pop();
    at("evaluations").append(make("p", { class: "tile", title: `${truth}, ${counted(pictures, "picture")}` },
      make("span", { class: "tile-name" }, "AP at IoU 0.5"),
      make("span", { class: "tile-count" }, percent(map50.value)),
      make("span", { class: "tile-more" },
        `${percent(map50.low)} to ${percent(map50.high)}, `, make("bdi", {}, name))));
  }
}

function fillKinds() {
  const reasons = Object.entries(data.bad).map(([reason, count]) => `${count} ${reason.replaceAll("_", " ")}`);
  const more = {
    nothing: `of ${WHOLE.format(data.counts.looked_at)} looked at`,
    bad: reasons.slice(0, 2).join(", ") + (reasons.length > 2 ? ", ..." : ""),
    all: "in the archive",
  };
  for (const [kind, name] of Object.entries(KINDS)) {
    const radio = make("input", { type: "radio", name: "kind", value: kind, id: `kind-${kind}` });
    radio.addEventListener("change", () => setKind(kind));
    at("kinds").append(make("label", { class: `tile kind-${kind}`, title: kind === "bad" ? reasons.join(", ") : "" },
      radio,
      make("span", { class: "tile-name" }, name),
      make("span", { class: "tile-count", id: `count-${kind}` }),
      make("span", { class: "tile-more", id: `more-${kind}` }, more[kind] ?? "")));
  }
  at(`kind-${state.kind}`).checked = true;
}

/** How many pictures have their best score between two thresholds; the root keeps few visible. */
function fillHistogram() {
  const reached = data.tally.pictures;
  const bins = reached.map((count, step) => count - (reached[step + 1] ?? 0));
  const most = Math.sqrt(Math.max(1, ...bins));
  const left = (step) => (100 * step) / (bins.length - 1); // where the slider has its step
  const bars = bins.map((count, step) => {
    const height = (100 * Math.sqrt(count)) / most;
    return draw("rect", { class: "bin", x: `${left(step)}%`, y: `${100 - height}%`, width: `${85 / bins.length}%`, height: `${height}%` });
  });
  const model = draw("line", { class: "model-mark", x1: `${left(MODEL_STEP)}%`, x2: `${left(MODEL_STEP)}%`, y1: "0%", y2: "100%" });
  at("histogram").append(...bars, model);
  at("threshold").max = thresholds.length - 1;
}

function fillLabels() {
  const several = LABELS.length > 1;
  at("label-field").hidden = !several;
  at("label").append(make("option", { value: "" }, "every label"));
  for (const label of several ? LABELS : []) at("label").append(make("option", { value: label }, label));
}

function fillProvenance() {
  const { scan } = data;
  const rows = {
    Model: scan.model, "Model's sha256": scan.digest, "Model's threshold": scoreOf(scan.threshold),
    "Model's run": scan.model_run_id, "Scan's run": scan.run_id, "Scan's fingerprint": scan.fingerprint,
  };
  for (const [term, text] of Object.entries(rows)) {
    if (text) at("provenance").append(make("dt", {}, term), make("dd", {}, text));
  }
}

function listen() {
  at("threshold").addEventListener("input", (event) => setStep(Number(event.target.value)));
  at("reset").addEventListener("click", () => setStep(MODEL_STEP));
  for (const id of ["filter", "label", "sort", "compare", "width-least", "width-most", "score-most", "places"]) at(id).addEventListener("input", () => update());
  at("clear").addEventListener("click", () => { clearFilters(); at("compare").value = ""; update(); });
  at("show-more").addEventListener("click", toggleMore);
  at("show-heat").addEventListener("click", toggleHeat);
  at("show-heat").hidden = at("heat-key").hidden = !data.pictures.some((picture) => picture.heat);
  at("show-export").addEventListener("click", openExport);
  at("export-close").addEventListener("click", () => at("export").close());
  for (const form of Object.keys(EXPORTS)) at(`export-${form}`).addEventListener("click", () => download(form));
  at("show-keys").addEventListener("click", () => openDialog("keys"));
  at("keys-close").addEventListener("click", () => at("keys").close());
  at("page-back").addEventListener("click", () => turnPage(-1));
  at("page-on").addEventListener("click", () => turnPage(1));
  at("large-back").addEventListener("click", () => move(-1));
  at("large-on").addEventListener("click", () => move(1));
  at("large-close").addEventListener("click", () => at("large").close());
  at("large").addEventListener("close", closeLarge);
}

for (const step of [fillHeading, fillBeside, fillPlaces, fillEvaluations, fillKinds, fillHistogram, fillLabels, fillProvenance, listen]) step();
update();
