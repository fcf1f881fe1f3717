"use strict";
// What is shown, as a file: the same bytes that `nnst export` writes for these detections. Names are
// those in the archive; imglab's file belongs into the archive's folder.

const FORMULA = /^[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]/;
const NOT_A_NAME = /[\x00-\x1f\x7f-\x9f\u2028\u2029\ufffe\uffff]|\p{Surrogate}/u; // in any format but CSV

/** The pictures that are shown and have boxes, in the scan's order: the best first. */
function selection() {
  const shown = new Map(matches.filter(({ boxes }) => boxes.length).map(({ picture, boxes }) => [picture, boxes]));
  return data.pictures.filter((picture) => shown.has(picture)).map((picture) => ({
    picture,
    marks: shown.get(picture).map((box) => ({
      corners: picture.stored[picture.boxes.indexOf(box)], score: box[4], label: box[5],
    })),
  }));
}

const fileOf = (picture) => picture.file || picture.image;

/** A number as Python writes a float: 30.0, 0.95, 1e-05. */
function floatText(value) {
  if (Number.isInteger(value)) return value.toFixed(1);
  if (Math.abs(value) >= 1e-4) return String(value);
  return value.toExponential().replace(/e-(\d)$/, "e-0$1");
}

const whole = (value) => Math.floor(value + 0.5);
const rounded = (value) => Math.floor(value * 1e6 + 0.5) / 1e6;
const setName = () => `Found by ${data.scan.model}`;
const setComment = () => `scores of ${Number(thresholds[state.step].toPrecision(6))} or more`;

function csvCell(text) {
  const safe = FORMULA.test(text) ? `'${text}` : text;
  return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}

function asCsv(chosen) {
  const rows = chosen.flatMap(({ picture, marks }) => marks.map(({ corners, score, label }) => [
    picture.image, picture.image_id, ...[...corners, score].map(floatText), label, data.scan.model]));
  const head = ["image", "image_id", "x0", "y0", "x1", "y1", "score", "label", "model"];
  return [head, ...rows].map((row) => `${row.map(csvCell).join(",")}\r\n`).join("");
}

/** What no format can name is refused here as `nnst export` refuses it. */
function refuseNames(chosen) {
  const bad = chosen.find(({ picture }) => NOT_A_NAME.test(fileOf(picture)));
  if (bad) throw new Error(`${JSON.stringify(fileOf(bad.picture))} holds a control character: narrow the selection`);
}

function asCoco(chosen) {
  refuseNames(chosen);
  const drawn = chosen.flatMap(({ marks }) => marks.map(({ label }) => label));
  const others = [...new Set(drawn)].filter((label) => !data.scan.labels.includes(label)).sort();
  const labels = [...data.scan.labels, ...others];
  const annotations = [];
  const images = chosen.map(({ picture, marks }, index) => {
    const [width, height] = picture.stored_size;
    for (const { corners: [x0, y0, x1, y1], score, label } of marks) {
      const sides = [rounded(x1 - x0), rounded(y1 - y0)];
      annotations.push({
        area: rounded(sides[0] * sides[1]), bbox: [rounded(x0), rounded(y0), ...sides],
        category_id: labels.indexOf(label) + 1, id: annotations.length + 1, image_id: index + 1, iscrowd: 0, score,
      });
    }
    return { file_name: fileOf(picture), height, id: index + 1, width };
  });
  const categories = labels.map((name, index) => ({ id: index + 1, name }));
  const info = { comment: setComment(), description: setName() };
  return `${JSON.stringify({ annotations, categories, images, info }, null, 1)}\n`;
}

const escaped = (text) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");

function quoted(text) {
  const value = escaped(text).replaceAll("\t", "&#9;").replaceAll("\n", "&#10;").replaceAll("\r", "&#13;");
  return value.includes("'") ? `"${value.replaceAll('"', "&quot;")}"` : `'${value}'`;
}

function asImglab(chosen) {
  refuseNames(chosen);
  const images = chosen.flatMap(({ picture, marks }) => {
    const [width, height] = picture.stored_size;
    return [`  <image file=${quoted(fileOf(picture))} width='${width}' height='${height}'>`,
      ...marks.flatMap(imglabLines), "  </image>"];
  });
  return ["<?xml version='1.0' encoding='UTF-8'?>", "<dataset>", `<name>${escaped(setName())}</name>`,
    `<comment>${escaped(setComment())}</comment>`, "<images>", ...images, "</images>", "</dataset>", ""].join("\n");
}

function imglabLines({ corners, score, label }) {
  const [left, top, right, bottom] = corners.map(whole);
  const [width, height] = [Math.max(right - left, 1), Math.max(bottom - top, 1)];
  const sides = `top='${top}' left='${left}' width='${width}' height='${height}'`;
  return [`    <box ${sides} detection_score='${floatText(score)}'>`, `      <label>${escaped(label)}</label>`, "    </box>"];
}

const EXPORTS = { imglab: [asImglab, "detections.xml"], coco: [asCoco, "detections.json"], csv: [asCsv, "selection.csv"] };

/** Hand a file of the selection to the browser's downloads. */
function download(form) {
  const [write, name] = EXPORTS[form];
  try {
    const link = make("a", { href: URL.createObjectURL(new Blob([write(selection())])), download: name });
    link.click();
    URL.revokeObjectURL(link.href);
    at("export-told").textContent = `${name} is in your downloads.`;
  } catch (error) {
    at("export-told").textContent = String(error.message);
  }
}

function openExport() {
  const chosen = selection();
  const boxes = chosen.reduce((sum, { marks }) => sum + marks.length, 0);
  at("export-count").textContent = `${counted(boxes, "detection")} in ${counted(chosen.length, "picture")}, as the filters have it.`;
  const cut = data.counts.looked_at > data.pictures.filter(({ status }) => status === "ok").length
    || data.pictures.some((picture) => picture.boxes.length < picture.detections);
  at("export-cut").hidden = !cut;
  at("export-command").textContent = `nnst export ${inShell(data.explain.scan)} --threshold ${thresholds[state.step]} --to coco --out found.json`;
  at("export-told").textContent = "";
  openDialog("export");
}
