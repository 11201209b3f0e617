"use strict";
(() => {
  const page = JSON.parse(document.getElementById("data").textContent);
  const $ = (id) => document.getElementById(id);
  const shown = { hidden: new Set(), query: "", scenario: $("inside-scenario").value };
  const views = {};
  window.shiftgym = { figures: views }; // for the console, and for tests

  // ---- arrays: base64 of single or double precision, or bytes
  const arrays = new Map();
  function unpacked(number, Kind) {
    if (!arrays.has(number)) {
      const bytes = Uint8Array.from(atob(page.replays.arrays[number]), (letter) => letter.charCodeAt(0));
      arrays.set(number, new Kind(bytes.buffer));
    }
    return arrays.get(number);
  }

  // ---- the rows of a figure's data that the reader has chosen
  const visible = (agent) => !shown.hidden.has(agent) && agent.toLowerCase().includes(shown.query);
  const wholes = new Map();
  function choose(source) {
    if (!wholes.has(source)) wholes.set(source, Object.fromEntries(Object.entries(source.data).map(([k, v]) => [k, Array.from(v)])));
    const whole = wholes.get(source);
    if (!whole.agent) return;
    const rows = [...whole.agent.keys()].filter(
      (row) => visible(whole.agent[row]) && (!whole.scenario || whole.scenario[row] === shown.scenario),
    );
    source.data = Object.fromEntries(Object.entries(whole).map(([name, values]) => [name, rows.map((row) => values[row])]));
    return rows.map((row) => whole.short[row]);
  }
  function update() {
    for (const view of Object.values(views)) {
      const plot = view.model;
      const names = new Set();
      for (const source of new Set(plot.renderers.map((renderer) => renderer.data_source))) {
        for (const name of choose(source) || []) names.add(name);
      }
      if (plot.y_range.tags.includes("agents")) {
        plot.y_range.factors = [...names].reverse();
        plot.height = 90 + 30 * Math.max(1, names.size);
      }
    }
    const rows = [...$("board").tBodies[0].rows];
    let count = 0;
    for (const row of rows) {
      const agent = row.dataset.agent;
      row.hidden = !agent.toLowerCase().includes(shown.query);
      row.classList.toggle("off", shown.hidden.has(agent));
      row.querySelector("input").checked = !shown.hidden.has(agent);
      count += visible(agent);
    }
    $("count").textContent = `${count} of ${rows.length} agents`;
  }

  // ---- the leaderboard
  function sort(head) {
    const ascending = head.getAttribute("aria-sort") !== "ascending";
    for (const other of head.parentNode.children) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", ascending ? "ascending" : "descending");
    const column = Number(head.querySelector("button").dataset.column);
    const key = (row) => (column < 0 ? row.dataset.agent : row.cells[column + 1].dataset.value);
    const order = (a, b) => {
      const [x, y] = [key(a), key(b)];
      if (column < 0) return x.localeCompare(y) * (ascending ? 1 : -1);
      if (x === "" || y === "") return (x === "") - (y === ""); // what is missing stays last
      return (Number(x) - Number(y)) * (ascending ? 1 : -1);
    };
    const body = $("board").tBodies[0];
    body.append(...[...body.rows].sort(order));
  }
  for (const button of $("board").querySelectorAll("thead button")) {
    button.addEventListener("click", () => sort(button.parentNode));
  }
  $("board").addEventListener("change", (event) => {
    const agent = event.target.closest("tr").dataset.agent;
    if (event.target.checked) shown.hidden.delete(agent);
    else shown.hidden.add(agent);
    update();
  });
  $("filter").addEventListener("input", (event) => {
    shown.query = event.target.value.trim().toLowerCase();
    update();
  });
  $("all").addEventListener("click", () => { shown.hidden.clear(); update(); });
  $("none").addEventListener("click", () => { shown.hidden = new Set(Object.keys(page.looks)); update(); });

  // ---- the replay
  const replay = { whole: [0, 1] };
  const parts = (name) => [views["replay-figure"], views["regret-figure"]].flatMap((view) =>
    [...view.model.renderers, ...view.model.center].filter((part) => part.name === name));
  const fill = (name, data) => parts(name).forEach((part) => { part.data_source.data = data; });
  const options = (select, names, chosen) => {
    select.replaceChildren(...names.map(([value, text]) => new Option(text, value, false, value === chosen)));
  };
  function chooseReplay() {
    const here = page.replays.scenarios[$("replay-scenario").value];
    if (!here) { $("replay-note").textContent = "The report has no replay of this scenario."; return; }
    options($("stretch"), here.stretches.map((stretch, index) => [String(index), stretch.label]), here.stretches.length > 1 ? "1" : "0");
    const rank = [...$("board").tBodies[0].rows].map((row) => row.dataset.agent);
    const agents = Object.keys(here.stretches[0].agents).sort((a, b) => rank.indexOf(a) - rank.indexOf(b));
    const [first, second] = [$("first").value, $("second").value];
    options($("first"), agents.map((agent) => [agent, agent]), agents.includes(first) ? first : agents[0]);
    options($("second"), [["", "nobody"], ...agents.map((agent) => [agent, agent])], agents.includes(second) ? second : "");
    showReplay();
  }
  function showReplay() {
    const here = page.replays.scenarios[$("replay-scenario").value];
    const stretch = here.stretches[Number($("stretch").value)];
    const time = Array.from(unpacked(stretch.time, Float64Array), (second) => 1000 * second);
    const steps = Array.from(unpacked(stretch.step_time, Float64Array), (second) => 1000 * second);
    const last = time.length > 1 ? 2 * time[time.length - 1] - time[time.length - 2] : time[0] + 1;
    const held = (times, values) => ({ time: [...times, last], value: [...values, values[values.length - 1]] }); // to its end
    const nothing = { time: [], value: [] };
    const outcome = unpacked(stretch.outcome, Float32Array);
    const upper = views["replay-figure"].model;
    const area = upper.renderers[0].data_source;
    area.data = { ...held(time, outcome), zero: new Float32Array(outcome.length + 1) };
    let top = Math.max(...outcome);
    for (const which of ["first", "second"]) {
      const mine = stretch.agents[$(which).value];
      const values = mine ? unpacked(mine.decision, Float32Array) : [];
      const color = mine ? page.looks[$(which).value].color : "#808080";
      for (const name of [which, `regret_${which}`]) for (const part of parts(name)) part.glyph.line_color = color;
      for (const part of parts(`violated_${which}`)) { part.glyph.fill_color = color; part.glyph.line_color = color; }
      const key = $(`legend-${which}`);
      key.style.color = color;
      key.nextElementSibling.textContent = mine ? `decision of ${$(which).value}` : "";
      key.parentNode.hidden = !mine;
      fill(which, mine ? held(time, values) : nothing);
      fill(`regret_${which}`, mine ? held(steps, unpacked(mine.regret, Float32Array)) : nothing);
      if (mine) top = Math.max(top, ...values);
    }
    const oracle = stretch.agents[$("first").value].oracle;
    fill("oracle", held(time, unpacked(oracle, Float32Array)));
    top = Math.max(top, ...unpacked(oracle, Float32Array));
    let broken = 0;
    for (const [which, lift] of [["first", 1.05], ["second", 1.1]]) {
      const mine = stretch.agents[$(which).value];
      const at = mine ? steps.filter((_, row) => unpacked(mine.violated, Uint8Array)[row]) : [];
      fill(`violated_${which}`, { time: at, value: at.map(() => lift * top) });
      if (which === "first") broken = at.length;
    }
    replay.whole = [time[0], last];
    const onset = here.onset === null ? null : 1000 * here.onset;
    const inside = onset !== null && onset < last;
    for (const part of parts("onset")) { part.visible = inside && onset >= time[0]; part.location = onset ?? 0; }
    for (const part of parts("shifted")) { part.visible = inside; part.left = Math.max(onset ?? 0, time[0]); part.right = last; }
    upper.left[0].axis_label = here.axes[1];
    $("legend-outcome").textContent = here.outcome === "outcome" ? "outcome" : `outcome: ${here.outcome}`;
    $("legend-onset").hidden = !inside || onset < time[0];
    move("everything");
    $("replay-note").textContent =
      `From ${new Date(time[0]).toISOString().slice(0, 16).replace("T", " ")} UTC, seed ${here.seed}. ${broken} of ${steps.length} steps shown are violated by ${$("first").value}. ` +
      (inside ? "Where the ground is tinted the shift is active." : "");
  }
  function move(how) {
    const range = views["replay-figure"].model.x_range;
    const [low, high] = replay.whole;
    const width = range.end - range.start;
    const centre = (range.start + range.end) / 2;
    const moves = {
      earlier: [range.start - width / 2, range.end - width / 2],
      later: [range.start + width / 2, range.end + width / 2],
      closer: [centre - width / 4, centre + width / 4],
      wider: [centre - width, centre + width],
      everything: [low, high],
    };
    let [start, end] = moves[how];
    const kept = Math.min(end - start, high - low);
    start = Math.min(Math.max(start, low), high - kept);
    range.setv({ start, end: start + kept });
  }
  const keys = { ArrowLeft: "earlier", ArrowRight: "later", "+": "closer", "=": "closer", "-": "wider", 0: "everything" };
  $("viewer").addEventListener("keydown", (event) => {
    if (!(event.key in keys)) return;
    event.preventDefault();
    move(keys[event.key]);
  });
  for (const button of document.querySelectorAll("[data-move]")) {
    button.addEventListener("click", () => move(button.dataset.move));
  }
  for (const id of ["stretch", "first", "second"]) $(id).addEventListener("change", showReplay);
  for (const select of document.querySelectorAll("select.scenario")) {
    select.addEventListener("change", () => { // one choice for all
      for (const other of document.querySelectorAll("select.scenario")) other.value = select.value;
      shown.scenario = select.value;
      update();
      chooseReplay();
    });
  }

  // ---- light and dark
  const system = matchMedia("(prefers-color-scheme: dark)");
  const themes = ["system", "light", "dark"];
  let theme = "system";
  function paint() {
    document.documentElement.dataset.theme = theme === "system" ? (system.matches ? "dark" : "light") : theme;
    $("theme").textContent = `Theme: ${theme}`;
    for (const view of Object.values(views)) { // canvases read the style sheet only when they are drawn
      view.model.border_fill_alpha = view.model.border_fill_alpha === 0 ? 0.001 : 0;
    }
  }
  system.addEventListener("change", paint);
  $("theme").addEventListener("click", () => { theme = themes[(themes.indexOf(theme) + 1) % 3]; paint(); });
  paint();

  // ---- begin
  Bokeh.set_log_level("warn");
  const touch = matchMedia("(pointer: coarse)").matches; // a finger on a figure scrolls the page
  Promise.all(
    Object.entries(page.figures).map(async ([id, item]) => {
      const manager = await Bokeh.embed.embed_item(item, id);
      views[id] = manager.roots[0];
      if (touch) manager.roots[0].model.toolbar.active_drag = null;
    }),
  ).then(() => {
    const ranges = ["replay-figure", "regret-figure"].map((id) => views[id].model.x_range);
    ranges.forEach((range, index) => range.change.connect(() => {
      const { start, end } = range;
      const other = ranges[1 - index];
      if (other.start !== start || other.end !== end) other.setv({ start, end });
    }));
    update();
    chooseReplay();
    document.documentElement.dataset.ready = "yes";
  });
})();
