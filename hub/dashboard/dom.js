/**
 * The little that the views need of the DOM. What comes from the network only ever becomes
 * text: nothing here takes markup.
 */

const SVG = "http://www.w3.org/2000/svg";

/** Return the element with `id`; the page is broken without it. */
export function byId(id) {
  const found = document.getElementById(id);
  if (!found) throw new Error(`index.html has no element #${id}`);
  return found;
}

/** Return a new element with a class and text or children. */
export function el(tag, className = "", ...children) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  made.append(...children.map((child) => (child instanceof Node ? child : String(child))));
  return made;
}

/** Set text only where it changed: an equal text would still be a change to the browser. */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** Show or hide. */
export function setShown(node, shown) {
  if (node.hidden === shown) node.hidden = !shown;
}

/** Return an SVG line chart that `draw({line, area})` redraws. `svg` is an empty element. */
export function chart(svg, { width, height }) {
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("aria-hidden", "true");
  const [area, line] = ["area", "line"].map((name) => {
    const path = document.createElementNS(SVG, "path");
    path.setAttribute("class", name);
    svg.append(path);
    return path;
  });
  let drawn = "";
  return {
    draw(paths) {
      if (paths.line === drawn) return;
      drawn = paths.line;
      line.setAttribute("d", paths.line);
      area.setAttribute("d", paths.area);
    },
  };
}

/** Return a new, empty SVG element for `chart`. */
export function newChart(size) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("class", "sparkline");
  return { svg, ...chart(svg, size) };
}

/** Let the arrow keys, Home and End move the focus between the `selector`s inside `root`. */
export function moveWithArrows(root, selector) {
  root.addEventListener("keydown", (event) => {
    const steps = { ArrowDown: 1, ArrowUp: -1, Home: -Infinity, End: Infinity };
    const step = steps[event.key];
    const here = event.target.closest?.(selector);
    if (step === undefined || !here || event.ctrlKey || event.metaKey || event.altKey) return;
    const all = [...root.querySelectorAll(selector)];
    const next = Math.min(all.length - 1, Math.max(0, all.indexOf(here) + step));
    event.preventDefault();
    all[next].focus();
  });
}
