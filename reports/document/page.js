"use strict";
// What a report's page does: tables that sort, values on pointing at a figure, and the form. Follows model.js.

{
  const byId = (id) => document.getElementById(id);

  const make = (tag, text = "", attributes = {}, ...children) => {
    const element = document.createElement(tag);
    if (text) element.textContent = text;
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.append(...children);
    return element;
  };

  // Tables: a button in every heading sorts by its column, once up and once down.

  const makeSortable = (table) => {
    const headings = [...table.tHead.rows[0].cells];
    headings.forEach((heading, column) => {
      const button = make("button", heading.textContent, { type: "button" });
      button.addEventListener("click", () => {
        const upwards = heading.getAttribute("aria-sort") !== "ascending";
        headings.forEach((other) => other.removeAttribute("aria-sort"));
        heading.setAttribute("aria-sort", upwards ? "ascending" : "descending");
        const body = table.tBodies[0];
        fillIn(body);
        body.append(...[...body.rows].sort((one, other) => compare(one.cells[column], other.cells[column], upwards)));
      });
      heading.replaceChildren(button);
    });
  };

  // A row that begins with an empty cell goes on with the row above: its empty cells hold what stands there. Rows that
  // part company must say it themselves.
  const fillIn = (body) => {
    [...body.rows].slice(1).forEach((row, index) => {
      if (row.cells[0].textContent.trim()) return;
      [...row.cells].forEach((cell, column) => {
        const above = body.rows[index].cells[column];
        if (!cell.textContent.trim() && cell.dataset.value === undefined) cell.replaceWith(above.cloneNode(true));
      });
    });
  };

  // Numbers by value, then words by name; empty cells last, whichever way.
  const compare = (one, other, upwards) => {
    const kinds = [one, other].map((cell) => (isNumber(cell) ? 0 : cell.textContent.trim() ? 1 : 2));
    if (kinds[0] !== kinds[1]) return kinds[0] - kinds[1];
    const order = kinds[0] === 0
      ? Number(one.dataset.value) - Number(other.dataset.value)
      : one.textContent.localeCompare(other.textContent, "en", { numeric: true });
    return upwards ? order : -order;
  };

  const isNumber = (cell) => cell.dataset.value !== undefined && !Number.isNaN(Number(cell.dataset.value));

  // Figures: the <title> of a mark is shown at once, to a pointer, a finger and the keyboard.

  const showTips = () => {
    const tip = byId("tip");
    const place = (x, y) => {
      const { width, height } = tip.getBoundingClientRect();
      tip.style.left = `${Math.max(8, Math.min(x + 12, window.innerWidth - width - 8))}px`;
      tip.style.top = `${y + 16 + height > window.innerHeight ? Math.max(8, y - height - 12) : y + 16}px`;
    };
    const show = (mark, x, y) => {
      tip.textContent = mark.dataset.tip;
      tip.hidden = false;
      place(x, y);
    };
    const hide = () => { tip.hidden = true; };
    for (const figure of document.querySelectorAll("figure svg")) {
      const marks = [...figure.querySelectorAll(".mark")];
      if (marks.length) figure.setAttribute("role", "group");
      marks.forEach((mark, index) => {
        const title = mark.querySelector(":scope > title");
        mark.dataset.tip = title.textContent;
        mark.setAttribute("role", "img");
        mark.setAttribute("aria-label", title.textContent);
        mark.setAttribute("tabindex", index ? "-1" : "0"); // one stop a figure; the arrow keys go on from there
        title.remove(); // or the browser shows it a second time
        mark.addEventListener("pointerenter", (event) => show(mark, event.clientX, event.clientY));
        mark.addEventListener("pointermove", (event) => place(event.clientX, event.clientY));
        mark.addEventListener("pointerleave", hide);
        mark.addEventListener("focus", () => {
          const box = mark.getBoundingClientRect();
          show(mark, box.right, box.bottom);
        });
        mark.addEventListener("blur", hide);
        mark.addEventListener("keydown", (event) => {
          const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
          if (!step) return;
          event.preventDefault();
          marks[(index + step + marks.length) % marks.length].focus();
        });
      });
    }
    window.addEventListener("keydown", (event) => { if (event.key === "Escape") hide(); });
  };

  // The form.

  const CUSTOM = ""; // value of the model's field for a size
  const NUMBERS = ["batch", "prompt_tokens", "new_tokens", "context", "devices"];
  const CHOICES = ["model", "scheme", "hardware", "split", "region"];
  const MOST_ON_SLIDER = { batch: 1024, prompt_tokens: 131072, new_tokens: 32768 };

  // Round numbers from `least` to `most`, nearly even on a logarithmic axis, powers of two among the whole ones.
  const ladder = (least, most, whole) => {
    const found = new Set([least, most]);
    for (let power = 10 ** Math.floor(Math.log10(Math.max(least, 1))); power <= most; power *= 10) {
      for (let digits = 100; digits < 1000; digits += digits < 200 ? 5 : digits < 500 ? 10 : 20) {
        found.add((digits * power) / 100);
      }
    }
    for (let power = 1; whole && power <= most; power *= 2) found.add(power);
    return [...found]
      .filter((value) => value >= least && value <= most && (!whole || Number.isInteger(value)))
      .sort((one, other) => one - other);
  };

  // A size as it is typed: 7B, 1.35B.
  const sizeText = (parameters) => formatCount(parameters).replace(/\.0+(?=\D|$)|(\.\d*?[1-9])0+(?=\D|$)/, "$1");

  const wholeNumber = (text) => {
    const plain = text.replace(/[,\s]/g, "");
    return /^\d+$/.test(plain) ? Number(plain) : parseCount(plain);
  };

  class Form {
    constructor(tables) {
      this.tables = tables;
      this.state = { ...tables.start };
      this.ladders = { size: ladder(tables.sizes.least, tables.sizes.most, true) };
      for (const [name, most] of Object.entries(MOST_ON_SLIDER)) {
        this.ladders[name] = ladder(name === "prompt_tokens" ? 0 : 1, most, true);
      }
      this.fillChoices();
      this.listen();
      byId("form").hidden = false;
      byId("no-script").remove();
      this.update();
    }

    fillChoices() {
      const { models, schemes, hardware, splits, regions } = this.tables;
      const fill = (id, options) =>
        byId(id).append(...options.map(([value, text]) => make("option", text, { value })));
      fill("model", [[CUSTOM, "LLaMA shape of a size"], ...models.map((model, index) => [index, model.title])]);
      fill("scheme", Object.entries(schemes).map(([name, { title }]) => [name, `${name}: ${title}`]));
      fill("hardware", Object.entries(hardware).map(([name, { title }]) => [name, `${name}: ${title}`]));
      const words = { pipeline: "pipeline: each has some layers", tensor: "tensor: each has a part of every matrix" };
      fill("split", splits.map((split) => [split, words[split] ?? split]));
      fill("region", Object.keys(regions).map((region) => [region, region]));
    }

    listen() {
      for (const name of CHOICES) {
        byId(name).addEventListener("change", () => {
          const { value } = byId(name);
          this.state[name] = name === "model" ? (value === CUSTOM ? null : Number(value)) : value;
          this.update();
        });
      }
      this.listenTo("size", (text) => { this.state.size = text.replace(/\s/g, ""); });
      byId("size-slider").addEventListener("input", () => {
        this.state.size = sizeText(this.ladders.size[byId("size-slider").value]);
        this.update();
      });
      for (const name of NUMBERS) {
        this.listenTo(name, (text) => this.setNumber(name, wholeNumber(text)));
        byId(`${name}-slider`)?.addEventListener("input", () => {
          this.setNumber(name, this.ladders[name][byId(`${name}-slider`).value]);
          this.update();
        });
      }
      byId("enough").addEventListener("click", () => {
        try {
          this.state.devices = devicesNeeded(this.tables, this.question());
        } catch (problem) {
          return this.refuse(problem);
        }
        return this.update();
      });
      byId("copy").addEventListener("click", () => this.copy());
      document.querySelector("#form form").addEventListener("submit", (event) => event.preventDefault());
    }

    // Take what is typed at once; when the reader leaves the field, write it as the others are written.
    listenTo(name, take) {
      for (const kind of ["input", "change"]) {
        byId(name).addEventListener(kind, () => {
          take(byId(name).value);
          this.update(kind === "input" ? name : null);
        });
      }
    }

    // A context of just prompt and new tokens follows them; a longer one stays as long as it is longer.
    setNumber(name, value) {
      this.state[name] = value;
      const { context } = this.state;
      if (context === this.needed() || (name !== "context" && context < this.needed())) this.state.context = null;
    }

    needed() {
      return this.state.prompt_tokens + this.state.new_tokens;
    }

    question() {
      const { model, size } = this.state;
      const shape = model === null ? shapeForSize(this.tables, parseCount(size)) : this.tables.models[model].shape;
      return { ...this.state, shape };
    }

    // Show the state everywhere but in the field that is being typed in.
    update(typing = null) {
      this.showFields(typing);
      let answers;
      try {
        const question = this.question();
        const names = question.scheme === "fp16" ? ["fp16"] : ["fp16", question.scheme];
        const chosen = estimate(this.tables, question);
        answers = names.map((scheme) => ({ scheme, result: this.other(question, scheme, chosen) }));
        this.refuse(null);
      } catch (problem) {
        return this.refuse(problem);
      }
      this.showAnswer(answers);
      byId("command").textContent = this.command();
      return undefined;
    }

    // FP16 beside the chosen scheme, or null where the machine can't run it.
    other(question, scheme, chosen) {
      if (scheme === question.scheme) return chosen;
      const unable = this.tables.hardware[question.hardware].schemes[scheme].error;
      return unable ? null : estimate(this.tables, { ...question, scheme });
    }

    refuse(problem) {
      if (problem && !(problem instanceof RangeError)) throw problem;
      byId("problem").hidden = !problem;
      byId("problem").textContent = problem?.message ?? "";
      byId("answer").classList.toggle("stale", Boolean(problem));
      if (problem) byId("command").textContent = "";
      byId("copy").disabled = Boolean(problem);
    }

    showFields(typing) {
      const { state, ladders } = this;
      for (const name of CHOICES) byId(name).value = state[name] ?? CUSTOM;
      for (const option of byId("scheme").options) {
        option.disabled = "error" in this.tables.hardware[state.hardware].schemes[option.value];
      }
      byId("size").disabled = byId("size-slider").disabled = state.model !== null;
      byId("split-field").hidden = !(state.devices > 1);
      const needed = this.needed();
      if (needed >= 1 && Number.isFinite(needed)) ladders.context = ladder(needed, Math.max(2 ** 20, 16 * needed), true);
      const shown = { ...state, context: state.context ?? needed };
      if (typing !== "size") byId("size").value = state.size;
      for (const name of NUMBERS) {
        if (typing !== name) byId(name).value = Number.isFinite(shown[name]) ? withCommas(shown[name]) : "";
      }
      for (const name of Object.keys(ladders)) {
        const value = name === "size" ? parseCount(state.size) : shown[name];
        this.showSlider(byId(`${name}-slider`), ladders[name], value, name === "size" ? sizeText : withCommas);
      }
    }

    showSlider(slider, steps, value, show) {
      slider.min = 0;
      slider.max = steps.length - 1;
      slider.step = 1;
      const above = steps.findIndex((step) => step >= value);
      slider.value = above < 0 ? steps.length - 1 : above;
      slider.setAttribute("aria-valuetext", Number.isFinite(value) ? show(value) : "");
    }

    showAnswer(answers) {
      const present = answers.filter(({ result }) => result);
      byId("bars").replaceChildren(
        bars("Energy of a new token", ENERGY_BARS, present, (result) => result.token_energy_j.total[MID], "J"),
        bars("Memory", MEMORY_BARS, present, (result) => result.dram_bytes.total, "B"),
      );
      const [first, second] = answers;
      const heads = ["", ...answers.map(({ scheme }) => scheme), ...(second ? [`${first.scheme} / ${second.scheme}`] : [])];
      const table = byId("result");
      table.tHead.replaceChildren(
        make("tr", "", {}, ...heads.map((text, index) => make("th", text, { scope: "col", class: index ? "number" : "" }))),
      );
      table.tBodies[0].replaceChildren(...ROWS.filter((row) => row.when?.(present) ?? true).map((row) => line(row, answers)));
      byId("loaded").textContent = this.load();
      byId("notes").textContent = this.notes(answers);
    }

    load() {
      const { state } = this;
      const shape = this.question().shape;
      const size = `${formatCount(allParameters(shape))} parameters: ${shape.layers} layers, ${withCommas(shape.hidden)} wide`;
      const devices = state.devices > 1 ? `${withCommas(state.devices)} x ` : "";
      const earlier = state.context === null ? 0 : state.context - this.needed();
      const work = `${withCommas(state.prompt_tokens)} prompt + ${withCommas(state.new_tokens)} new tokens`;
      const after = earlier ? ` after ${withCommas(earlier)} earlier ones` : "";
      const batch = state.batch > 1 ? `, batch ${withCommas(state.batch)}` : "";
      return `${size}. ${devices}${this.tables.hardware[state.hardware].title}. ${work}${after}${batch}.`;
    }

    notes(answers) {
      const { schemes } = this.tables.hardware[this.state.hardware];
      const notes = answers.map(({ scheme, result }) =>
        result ? `${scheme}: engine ${schemes[scheme].engine}, ${schemes[scheme].note}.` : `${scheme}: ${schemes[scheme].error}.`,
      );
      for (const { scheme, result } of answers) {
        if (result && !result.fits) {
          const room = `${formatSi(result.dram_bytes.total, "B")} of ${formatSi(result.capacity_bytes, "B")}`;
          notes.push(`${scheme} does not fit: ${room}; speeds are as if it did.`);
        }
      }
      const built = this.state.model === null ? null : this.tables.models[this.state.model].max_context;
      const context = this.state.context ?? this.needed();
      if (built && context > built) {
        notes.push(`Context ${withCommas(context)} is beyond the ${withCommas(built)} positions the model was built for.`);
      }
      return notes.join(" ");
    }

    // The command line whose screen has the same numbers.
    command() {
      const { tables, state } = this;
      const words = ["bitsim estimate", state.model === null ? `--size ${state.size}` : tables.models[state.model].option];
      const able = !("error" in tables.hardware[state.hardware].schemes.fp16);
      if (state.scheme !== "fp16" && able) words.push("--scheme fp16");
      words.push(`--scheme ${state.scheme}`, `--hardware ${tables.hardware[state.hardware].option}`);
      words.push(`--batch ${state.batch} --prompt-tokens ${state.prompt_tokens} --new-tokens ${state.new_tokens}`);
      if (state.context !== null) words.push(`--context ${state.context}`);
      if (state.devices > 1) words.push(`--devices ${state.devices} --split ${state.split}`);
      words.push(`--region ${state.region}`);
      return words.join(" ");
    }

    async copy() {
      const command = byId("command");
      try {
        await navigator.clipboard.writeText(command.textContent);
        byId("copy").textContent = "Copied";
      } catch {
        window.getSelection().selectAllChildren(command); // ready for the reader's own copy
        byId("copy").textContent = "Selected";
      }
      window.setTimeout(() => { byId("copy").textContent = "Copy"; }, 1500);
    }
  }

  // The answer: bars by part, and the lines of the table.

  const energy = (...names) => (result) => names.reduce((total, name) => total + result.token_energy_j[name][MID], 0);
  const memory = (...names) => (result) => names.reduce((total, name) => total + result.dram_bytes[name], 0);

  // Name, value and colour, which is that of the part in the report's figures.
  const ENERGY_BARS = [
    ["arithmetic", energy("arithmetic_linear", "arithmetic_attention", "arithmetic_other"), "blue"],
    ["DRAM", energy("dram"), "purple"],
    ["on-chip memory", energy("on_chip"), "sky"],
    ["links", energy("link"), "orange"],
    ["power over time", energy("static"), "grey"],
  ];
  const MEMORY_BARS = [
    ["layer weights", memory("weights"), "blue"],
    ["embedding and head", memory("embedding_and_head"), "red"],
    ["KV cache", memory("kv_cache"), "green"],
    ["activations, run time", memory("activations", "runtime"), "purple"],
  ];

  const joules = (value) => formatSi(value, "J");
  const bytes = (value) => formatSi(value, "B");
  const seconds = (value) => formatSi(value, "s");
  const grams = (kilograms) => formatSi(kilograms * 1e3, "g");
  const dollars = (value) => `$${withCommas(value.toFixed(value < 100 ? 2 : 0))}`;
  const speed = (value) => `${value < 1000 ? Number(value.toPrecision(3)) : withCommas(value.toFixed(0))} /s`;

  // `value` gives a number or [low, mid, high]; `word` a text; the ratio is of FP16 over the other, of speeds inverse.
  const ROWS = [
    { name: "Memory", kind: "main", value: (result) => result.dram_bytes.total, show: bytes },
    ...MEMORY_BARS.map(([name, value]) => ({ name, kind: "part", value, show: bytes })),
    { name: "fits", kind: "part", word: fitting },
    { name: "longest context that fits", kind: "part", word: (result) => withCommas(result.largest_context) },
    { name: "New tokens", kind: "main", value: (result) => result.tokens_per_s, show: speed, inverse: true },
    { name: "time of one", kind: "part", value: (result) => result.per_new_token_s, show: seconds },
    { name: "bound by", kind: "part", word: (result) => result.bound.decode },
    { name: "read from DRAM a step", kind: "part", value: (result) => result.traffic_bytes.per_step, show: bytes },
    { name: "Time to first token", kind: "main", value: (result) => result.prefill_s, show: seconds, when: hasPrompt },
    { name: "bound by", kind: "part", word: (result) => result.bound.prefill, when: hasPrompt },
    { name: "Energy of a new token", kind: "main", value: (result) => result.token_energy_j.total, show: joules },
    ...ENERGY_BARS.map(([name, value]) => ({ name, kind: "part", value, show: joules })),
    {
      name: "Hardware, 1M new tokens", kind: "main", value: (result) => result.cost.hardware_usd_per_million_tokens,
      show: dollars, when: (present) => present.every(({ result }) => result.cost.hardware_usd_per_million_tokens),
    },
    {
      name: "Electricity, 1M new tokens", kind: "main",
      value: (result) => result.cost.electricity_usd_per_million_tokens, show: dollars,
    },
    { name: "CO2e, 1M new tokens", kind: "main", value: (result) => result.cost.kg_co2e_per_million_tokens, show: grams },
  ];

  function hasPrompt(present) {
    return present.some(({ result }) => result.prefill_s[MID] > 0);
  }

  function fitting(result) {
    return result.fits ? `yes, of ${bytes(result.capacity_bytes)}` : `no, of ${bytes(result.capacity_bytes)}`;
  }

  const middle = (value) => (Array.isArray(value) ? value[MID] : value);

  function line(row, answers) {
    const cells = answers.map(({ result }) => (result ? answerCell(row, result) : make("td", "\u2013", { class: "number" })));
    const [first, second] = answers;
    if (second) {
      const both = row.value && first.result ? [first, second].map(({ result }) => middle(row.value(result))) : [0, 0];
      const ratio = row.inverse ? both[1] / both[0] : both[0] / both[1];
      const tells = Number.isFinite(ratio) && Math.abs(ratio - 1) >= 5e-3;
      cells.push(make("td", tells ? formatRatio(ratio) : "", { class: "number" }));
    }
    return make("tr", "", { class: row.kind }, make("th", row.name, { scope: "row" }), ...cells);
  }

  function answerCell(row, result) {
    if (row.word) return make("td", row.word(result), { class: row.word === fitting && !result.fits ? "number no" : "number" });
    const value = row.value(result);
    const cell = make("td", row.show(middle(value)), { class: "number", "data-value": middle(value) });
    if (Array.isArray(value) && value[0] !== value[2]) {
      const [low, high] = [value[0], value[2]].map((end) => row.show(end).replaceAll(" ", "\u00a0"));
      cell.append(make("span", `${low} \u2013 ${high}`, { class: "range" }));
    }
    return cell;
  }

  function bars(title, parts, answers, whole, unit) {
    const most = Math.max(...answers.map(({ result }) => whole(result)));
    const rows = answers.map(({ scheme, result }) => {
      const pieces = parts.map(([name, value, colour]) => {
        const piece = make("span", "", { class: colour, title: `${name}: ${formatSi(value(result), unit)}` });
        piece.style.width = `${(100 * value(result)) / most}%`;
        return piece;
      });
      const total = formatSi(whole(result), unit);
      return make("div", "", { class: "bar" }, make("span", scheme), make("div", "", { class: "track" }, ...pieces), make("span", total));
    });
    const legend = parts.map(([name, , colour]) => make("li", "", {}, make("i", "", { class: colour }), name));
    return make("div", "", { class: "bars" }, make("h3", title), ...rows, make("ul", "", { class: "legend" }, ...legend));
  }

  document.querySelectorAll("table.sortable").forEach(makeSortable);
  showTips();
  if (byId("tables")) new Form(JSON.parse(byId("tables").textContent));
}
