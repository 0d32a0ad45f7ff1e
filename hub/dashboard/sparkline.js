/**
 * The path of a small line chart. Pure: numbers in, the `d` of an SVG path out.
 */

const round = (number) => Math.round(number * 10) / 10;

/**
 * Return `{line, area}` for `values`, oldest first, in a box of `width` by `height`.
 *
 * The scale begins at 0 and reaches at least `floor`, so that a single event does not look like
 * a storm. An empty or silent series is a flat line at the bottom.
 */
export function sparkline(values, { width, height, floor = 1 }) {
  const inset = 1; // half a stroke at the top and bottom
  const base = height - inset;
  const top = values.reduce((most, value) => Math.max(most, value), floor);
  const step = values.length > 1 ? width / (values.length - 1) : width;
  const points = (values.length > 1 ? values : [0, 0]).map((value, index) => {
    const x = values.length > 1 ? index * step : index * width;
    return `${round(x)} ${round(base - (Math.max(0, value) / top) * (base - inset))}`;
  });
  const line = `M${points.join("L")}`;
  return { line, area: `${line}L${width} ${height}L0 ${height}Z` };
}

/**
 * Return a calmer series: every `every`th of `values` up to the newest, each averaged with those
 * before it over `over`, so that one event in a few seconds is a line and not a row of spikes.
 */
export function smooth(values, { every = 2, over = 6 } = {}) {
  const calm = [];
  for (let end = values.length; end > 0; end -= every) {
    const near = values.slice(Math.max(0, end - over), end);
    calm.unshift(near.reduce((sum, value) => sum + value, 0) / near.length);
  }
  return calm;
}
