// Elements of a page. What comes from file names, labels and XML is set as text, never as markup.

export const at = (id) => document.getElementById(id);
const WHOLE = new Intl.NumberFormat("en");

/** An element with attributes; children that are strings become text. */
export function make(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

export function draw(tag, attributes = {}, ...children) {
  return filled(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== false && value !== null) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children);
  return element;
}

export const whole = (number) => WHOLE.format(number);

export function counted(number, noun, many = `${noun}s`) {
  return `${whole(number)} ${number === 1 ? noun : many}`;
}

/** JSON from the server of this page. Throws what there is to say where there is none. */
export async function ask(path, options = {}) {
  const answer = await fetch(path, { cache: "no-store", ...options });
  const text = await answer.text();
  let document = {};
  try {
    document = JSON.parse(text);
  } catch {
    document = { error: text };
  }
  return { ok: answer.ok, status: answer.status, document };
}

/** A table of keys for people, from the table that the page works by. */
export function keyTable(keys) {
  const groups = Map.groupBy(keys.filter((entry) => entry.words), (entry) => entry.group);
  return [...groups].map(([group, entries]) => make("section", {},
    make("h3", {}, group),
    make("dl", {}, ...entries.flatMap(({ shown, words }) => [
      make("dt", {}, ...shown.map((key) => make("kbd", {}, key))), make("dd", {}, words)]))));
}

/** "Ctrl+Shift+ArrowUp" of a key event; letters as they are typed, so that A is Shift and a. */
export function nameOf(event) {
  const letter = event.key.length === 1;
  const parts = [];
  const typed = event.getModifierState("AltGraph"); // as [ is, on many keyboards
  if ((event.ctrlKey || event.metaKey) && !typed) parts.push("Ctrl");
  if (event.altKey && !typed) parts.push("Alt");
  if (event.shiftKey && (!letter || parts.length)) parts.push("Shift");
  parts.push(letter && parts.length ? event.key.toLowerCase() : event.key === " " ? "Space" : event.key);
  return parts.join("+");
}
