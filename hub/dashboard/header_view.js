/** The header: how the page stands with the hub, and the hub's figures. */

import { byId, chart, setText } from "./dom.js";
import { smooth, sparkline } from "./sparkline.js";
import { formatCount, formatRate } from "./text.js";

const CHART = { width: 112, height: 32 };

export class HeaderView {
  #state = byId("state");
  #name = byId("state-name");
  #detail = byId("state-detail");
  #rate = byId("rate");
  #clients = byId("clients");
  #channels = byId("channel-total");
  #nodes = byId("nodes");
  #version = byId("version");
  #chart = chart(byId("rate-chart"), CHART);

  /** Show what `describe` of status.js returned. */
  showState({ state, name, detail }) {
    if (this.#state.dataset.state !== state) this.#state.dataset.state = state;
    setText(this.#name, name);
    setText(this.#detail, detail);
    this.#detail.title = detail;
  }

  /** Show the figures; null means that no node has told them yet. */
  showFigures({ rate, series, channels, totals }) {
    const known = totals.nodes > 0;
    setText(this.#rate, known || rate > 0 ? formatRate(rate) : "–");
    setText(this.#clients, known ? formatCount(totals.clients) : "–");
    setText(this.#channels, known || channels > 0 ? formatCount(channels) : "–");
    setText(this.#nodes, known ? formatCount(totals.nodes) : "–");
    if (known) setText(this.#version, totals.versions.map((version) => `v${version}`).join(", "));
    this.#chart.draw(sparkline(smooth(series), CHART));
  }
}
