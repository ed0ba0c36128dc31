"use strict";
// The cost model of bitsim, for the form of a report. Ported function by function from simulator/operations.py, cost.py,
// footprint.py and estimate.py, with the same names of quantities and the same order of additions; only arithmetic is
// here. Shapes, widths, machines and prices come as tables made by Python (page_data.py). SI units throughout.

const CORNERS = [0, 1, 2]; // low, mid, high
const MID = 1;
const ENERGY_PARTS = [
  "arithmetic_linear",
  "arithmetic_attention",
  "arithmetic_other",
  "dram",
  "on_chip",
  "link",
  "static",
];
const SRAM_PASSES = 2;
const HIDDEN_EXCHANGES = 2;
const PREFILL_ROWS = 8192;
const VECTOR_OPS_PER_NORM_ELEMENT = 4;
const VECTOR_OPS_PER_ROPE_ELEMENT = 3;
const VECTOR_OPS_PER_ACTIVATION = 4;
const VECTOR_OPS_PER_SCORE = 5;
const VECTOR_OPS_PER_QUANTISED_INPUT = 3;
const VECTOR_OPS_PER_RESCALED_OUTPUT = 1;

// Estimate one workload; ranges are [low, mid, high].
//
// question: {shape, scheme, hardware, batch, prompt_tokens, new_tokens, context, devices, split, region}, where shape
// is a result of shapeForSize or the shape of one of tables.models, and context is null for prompt and new tokens.
function estimate(tables, question) {
  checkWorkload(tables.limits, question);
  const hardware = tables.hardware[question.hardware];
  const system = hardware.schemes[question.scheme];
  if (system.error) throw new RangeError(system.error);
  if (question.devices > 1 && !hardware.linked) {
    throw new RangeError(`${question.hardware}: no link between several devices is known`);
  }
  const { shape, batch } = question;
  const widths = tables.schemes[question.scheme].widths;
  const needed = question.prompt_tokens + question.new_tokens;
  const context = question.context ?? needed;
  const earlier = context - needed;
  const past = earlier + question.prompt_tokens + (Math.max(question.new_tokens, 1) - 1) / 2;
  const onChip =
    hardware.weights_on_chip && weightBytes(shape, widths) <= question.devices * hardware.on_chip_bytes;
  const phases = CORNERS.map((corner) => {
    const machine = machineOf(tables.machine_fields, system.machine, corner, question, onChip);
    return {
      prefill: phaseCost(shape, widths, prefillLoad(batch, question.prompt_tokens, earlier), machine),
      decode: phaseCost(shape, widths, decodeLoad(batch, past), machine),
    };
  });
  const ranged = (value) => spanning(...phases.map(({ prefill, decode }) => value(prefill, decode)));
  const over = (parts) => {
    const found = phases.map(({ prefill, decode }) => parts(prefill, decode));
    return Object.fromEntries(Object.keys(found[MID]).map((part) => [part, spanning(...found.map((each) => each[part]))]));
  };
  const tokenEnergy = over((_, decode) => divided(stepEnergyParts(decode), batch));
  const perToken = ranged((_, decode) => decode.latency_s);
  const workspace = workspaceBytes(system, shape);
  const memory = footprint(shape, widths, batch, question.prompt_tokens, context, workspace);
  const capacity = question.devices * hardware.capacity_bytes;
  const { prefill, decode } = phases[MID];
  return {
    energy_j: over((prefill, decode) => energyParts(prefill, decode, question.new_tokens)),
    token_energy_j: tokenEnergy,
    prefill_s: ranged((prefill, _) => prefill.latency_s),
    per_new_token_s: perToken,
    latency_s: ranged((prefill, decode) => prefill.latency_s + question.new_tokens * decode.latency_s),
    tokens_per_s: [batch / perToken[2], batch / perToken[1], batch / perToken[0]],
    bound: { prefill: bindingRoof(prefill), decode: bindingRoof(decode) },
    dram_bytes: memory,
    capacity_bytes: capacity,
    fits: memory.total <= capacity,
    largest_context: largestContext(shape, widths, capacity, workspace),
    traffic_bytes: { prefill: sum(prefill, "dram_bytes"), per_step: sum(decode, "dram_bytes") },
    cost: runningCost(hardware, tables.regions[question.region], question, perToken, tokenEnergy.total),
  };
}

function checkWorkload(limits, { batch, prompt_tokens, new_tokens, context, devices }) {
  const check = (what, value, minimum, maximum) => {
    if (!Number.isInteger(value) || value < minimum || value > maximum) {
      throw new RangeError(`${what}: expected a whole number from ${withCommas(minimum)} to ${withCommas(maximum)}`);
    }
  };
  check("batch", batch, 1, limits.batch);
  check("prompt tokens", prompt_tokens, 0, limits.context);
  check("new tokens", new_tokens, 0, limits.context);
  const needed = prompt_tokens + new_tokens;
  if (needed === 0) throw new RangeError("prompt tokens and new tokens: expected at least one of them above 0");
  check("prompt and new tokens", needed, 1, limits.context);
  if (context !== null) check("context", context, needed, limits.context);
  check("devices", devices, 1, limits.devices);
}

// Shapes: a column is a list with a value per step of the size, or one value for all.

function shapeForSize(tables, parameters) {
  const { columns, first, count, step, least, most } = tables.sizes;
  if (!(parameters >= least && parameters <= most)) {
    throw new RangeError(`size: expected ${formatCount(least)} to ${formatCount(most)} parameters`);
  }
  const index = Math.min(Math.max(Math.round(Math.log(parameters) / step) - first, 0), count - 1);
  const pick = (column) => (Array.isArray(column) ? column[index] : column);
  return Object.fromEntries(Object.entries(columns).map(([name, column]) => [name, pick(column)]));
}

function linearParameters(shape) {
  const attention = shape.hidden * (shape.query + 2 * shape.kv) + shape.query * shape.hidden;
  const ffn = shape.experts * (shape.up_matrices + 1) * shape.hidden * shape.ffn;
  return shape.layers * (attention + ffn);
}

function allParameters(shape) {
  const embedding = shape.vocab * shape.hidden * (shape.tied_head ? 1 : 2);
  return linearParameters(shape) + embedding + shape.other_parameters;
}

// Machines: every field is [low, mid, high] or one value for all three; as exported, of one device in a pipeline.

function machineOf(fields, values, corner, { devices, split }, onChip) {
  const machine = {};
  fields.forEach((field, index) => {
    machine[field] = Array.isArray(values[index]) ? values[index][corner] : values[index];
  });
  machine.devices = devices;
  machine.tensor = split === "tensor" ? 1 : 0;
  machine.weights_on_chip = onChip ? 1 : 0;
  if (machine.tensor) {
    for (const field of [
      "memory_s_per_byte",
      "on_chip_s_per_byte",
      "linear_s_per_mac",
      "attention_s_per_mac",
      "head_s_per_mac",
    ]) {
      machine[field] /= devices;
    }
  }
  return machine;
}

function devicesNeeded(tables, question) {
  const hardware = tables.hardware[question.hardware];
  const system = hardware.schemes.fp16;
  if (system.error) throw new RangeError(system.error);
  const { shape, batch, prompt_tokens, new_tokens } = question;
  const context = question.context ?? prompt_tokens + new_tokens;
  const widths = tables.schemes.fp16.widths;
  const needed = footprint(shape, widths, batch, prompt_tokens, context, workspaceBytes(system, shape)).total;
  return Math.ceil(needed / hardware.capacity_bytes);
}

// operations.py

function prefillLoad(batch, prompt, past) {
  const scores = prompt * past + (prompt * (prompt + 1)) / 2;
  return { sequences: batch, tokens: prompt, past, scores, logits: batch };
}

function decodeLoad(batch, past) {
  return { sequences: batch, tokens: 1, past, scores: past + 1, logits: batch };
}

function operations(shape, widths, load) {
  const { hidden, query, kv, ffn } = shape;
  const rows = load.sequences * load.tokens;
  const works = rows > 0 ? 1 : 0;
  const expertRows = rows * shape.experts_per_token;
  const untouched = Math.pow(1 - shape.experts_per_token / shape.experts, rows);
  const experts = works * shape.experts * (1 - untouched);
  return [
    embedding(shape, widths, rows),
    linear("attention.qkv", shape, widths, hidden, query + 2 * kv, rows, works),
    attention(shape, widths, load, rows, works),
    linear("attention.output", shape, widths, query, hidden, rows, works),
    linear("ffn.up", shape, widths, hidden, shape.up_matrices * ffn, expertRows, experts),
    linear("ffn.down", shape, widths, ffn, hidden, expertRows, experts),
    normsAndActivations(shape, widths, rows, works),
    head(shape, widths, works * load.logits, works),
  ];
}

function linear(name, shape, widths, inputs, outputs, uses, copies) {
  const weights = shape.layers * inputs * outputs;
  const vectorOps = VECTOR_OPS_PER_QUANTISED_INPUT * inputs + VECTOR_OPS_PER_RESCALED_OUTPUT * outputs;
  return {
    name,
    kind: "linear",
    macs: uses * weights,
    weight_bytes: copies * weights * widths.weight,
    kv_bytes: 0,
    activation_bytes: shape.layers * uses * (inputs * widths.activation + outputs * widths.hidden),
    vector_ops: widths.quantised * shape.layers * uses * vectorOps,
    repeats: shape.layers,
  };
}

function attention(shape, widths, load, rows, works) {
  const scoreRows = shape.layers * load.sequences * load.scores;
  const kvRows = works * shape.layers * load.sequences * (load.past + 2 * load.tokens);
  const rotated = VECTOR_OPS_PER_ROPE_ELEMENT * shape.layers * rows * (shape.query + shape.kv);
  return {
    name: "attention.scores",
    kind: "attention",
    macs: 2 * shape.query * scoreRows,
    weight_bytes: 0,
    kv_bytes: kvRows * 2 * shape.kv * widths.kv,
    activation_bytes: shape.layers * rows * 2 * shape.query * widths.hidden,
    vector_ops: VECTOR_OPS_PER_SCORE * shape.heads * scoreRows + rotated,
    repeats: shape.layers,
  };
}

function normsAndActivations(shape, widths, rows, works) {
  const gateAndActivation = VECTOR_OPS_PER_ACTIVATION + shape.up_matrices - 1;
  const perRow =
    VECTOR_OPS_PER_NORM_ELEMENT * shape.norm_elements +
    2 * shape.hidden +
    shape.experts_per_token * gateAndActivation * shape.ffn;
  return {
    name: "norms and activations",
    kind: "head",
    macs: shape.experts > 1 ? shape.layers * rows * shape.hidden * shape.experts : 0,
    weight_bytes: works * shape.other_parameters * widths.embedding,
    kv_bytes: 0,
    activation_bytes: shape.layers * rows * 4 * shape.hidden * widths.hidden,
    vector_ops: shape.layers * rows * perRow,
    repeats: shape.layers,
  };
}

function embedding(shape, widths, rows) {
  return {
    name: "embedding",
    kind: "head",
    macs: 0,
    weight_bytes: rows * shape.hidden * widths.embedding,
    kv_bytes: 0,
    activation_bytes: rows * shape.hidden * widths.hidden,
    vector_ops: 0,
    repeats: 1,
  };
}

function head(shape, widths, rows, works) {
  return {
    name: "head",
    kind: "head",
    macs: rows * shape.vocab * shape.hidden,
    weight_bytes: works * shape.vocab * shape.hidden * widths.head,
    kv_bytes: 0,
    activation_bytes: rows * (shape.hidden + shape.vocab) * widths.hidden,
    vector_ops: 0,
    repeats: 1,
  };
}

// cost.py

function phaseCost(shape, widths, load, machine) {
  const costs = operations(shape, widths, load).map((operation) => operationCost(operation, machine));
  const rows = load.sequences * load.tokens;
  const works = rows > 0 ? 1 : 0;
  const fixed = works * shape.layers * (machine.sync_s_per_layer + machine.work_s_per_layer_element * shape.hidden);
  const [linkBytes, linkSeconds] = exchange(shape.layers, rows * shape.hidden * widths.hidden, works, machine);
  const latency = costs.reduce((seconds, cost) => seconds + cost.latency_s, fixed + linkSeconds);
  const linkEnergy = linkBytes * machine.link_j_per_byte;
  const operationEnergy = costs.reduce(
    (joules, cost) => joules + (cost.arithmetic_j + cost.vector_j + cost.dram_j + cost.on_chip_j),
    0,
  );
  return {
    operations: costs,
    fixed_s: fixed,
    link_s: linkSeconds,
    link_j: linkEnergy,
    latency_s: latency,
    static_j: staticEnergy(machine, latency, linkEnergy + operationEnergy),
  };
}

function exchange(layers, hiddenBytes, works, machine) {
  const others = machine.devices - 1;
  const { tensor } = machine;
  const exchanges = HIDDEN_EXCHANGES * layers;
  const linkBytes = hiddenBytes * others * (1 + tensor * (2 * exchanges - 1));
  const atOnce = 1 + tensor * (machine.devices - 1);
  const messages = works * (others * (1 - tensor) + tensor * exchanges * (others > 0 ? 1 : 0));
  return [linkBytes, (linkBytes * machine.link_s_per_byte) / atOnce + messages * machine.link_s_per_message];
}

function staticEnergy(machine, seconds, dynamic) {
  const working = 1 + machine.tensor * (machine.devices - 1);
  const waiting = machine.devices - working;
  const drawn = (machine.static_w * working + machine.idle_w * waiting) * seconds;
  const most = Math.max((machine.peak_w * working + machine.idle_w * waiting) * seconds - dynamic, 0);
  return Math.min(drawn, most);
}

function operationCost(operation, machine) {
  const resident = operation.kind === "linear" ? operation.weight_bytes * machine.weights_on_chip : 0;
  const room = operation.repeats * machine.on_chip_bytes * (1 + machine.tensor * (machine.devices - 1));
  const spilled = Math.max(operation.activation_bytes - room, 0);
  const dramBytes = operation.weight_bytes - resident + operation.kv_bytes + spilled;
  const onChipBytes = resident + operation.activation_bytes + SRAM_PASSES * (dramBytes - spilled) + spilled;
  const compute = operation.macs * machine[`${operation.kind}_s_per_mac`];
  const memory = Math.max(dramBytes * machine.memory_s_per_byte, resident * machine.on_chip_s_per_byte);
  return {
    operation,
    dram_bytes: dramBytes,
    compute_s: compute,
    memory_s: memory,
    latency_s: Math.max(compute, memory),
    arithmetic_j: operation.macs * machine[`${operation.kind}_j_per_mac`],
    vector_j: operation.vector_ops * machine.vector_j_per_op,
    dram_j: dramBytes * machine.dram_j_per_byte,
    on_chip_j: onChipBytes * machine.on_chip_j_per_byte,
  };
}

function sum(phase, field) {
  return phase.operations.reduce((total, cost) => total + cost[field], 0);
}

function partsOf(phase) {
  const ofKind = (kind) =>
    phase.operations
      .filter((cost) => cost.operation.kind === kind)
      .reduce((total, cost) => total + cost.arithmetic_j, 0);
  return [
    ofKind("linear"),
    ofKind("attention"),
    ofKind("head") + sum(phase, "vector_j"),
    sum(phase, "dram_j"),
    sum(phase, "on_chip_j"),
    phase.link_j,
    phase.static_j,
  ];
}

function energyParts(prefill, decode, steps) {
  const before = partsOf(prefill);
  return totalled(partsOf(decode).map((each, index) => before[index] + steps * each));
}

function stepEnergyParts(decode) {
  return totalled(partsOf(decode));
}

function totalled(values) {
  const parts = Object.fromEntries(ENERGY_PARTS.map((name, index) => [name, values[index]]));
  parts.total = values.reduce((total, value) => total + value, 0);
  return parts;
}

// footprint.py

function weightBytes(shape, widths) {
  return linearParameters(shape) * widths.weight + shape.other_parameters * widths.embedding;
}

function kvBytesPerToken(shape, widths) {
  return 2 * shape.layers * shape.kv * widths.kv;
}

function workspaceBytes(system, shape) {
  return Math.max(system.workspace[0] + system.workspace[1] * Math.sqrt(shape.hidden), 0);
}

function footprint(shape, widths, batch, promptTokens, context, workspace) {
  const ffnWidth = shape.up_matrices * shape.ffn * shape.experts_per_token;
  const widest = shape.hidden + Math.max(shape.query + 2 * shape.kv, ffnWidth);
  const rows = Math.max(Math.min(batch * promptTokens, PREFILL_ROWS), batch);
  const parts = {
    weights: weightBytes(shape, widths),
    embedding_and_head: shape.vocab * shape.hidden * (widths.embedding + (shape.tied_head ? 0 : widths.head)),
    kv_cache: batch * context * kvBytesPerToken(shape, widths),
    activations: (rows * widest + batch * shape.vocab) * widths.hidden,
  };
  parts.runtime = Math.max(workspace - parts.kv_cache - parts.activations, 0);
  parts.total = parts.weights + parts.embedding_and_head + parts.kv_cache + parts.activations + parts.runtime;
  return parts;
}

function largestContext(shape, widths, capacity, workspace) {
  const empty = footprint(shape, widths, 1, 512, 0, workspace);
  if (empty.total > capacity) return 0;
  return Math.floor((capacity - (empty.total - empty.runtime)) / kvBytesPerToken(shape, widths));
}

// estimate.py

function bindingRoof(phase) {
  const shares = { memory: 0, compute: 0, overhead: phase.fixed_s, link: phase.link_s };
  for (const cost of phase.operations) {
    shares[cost.memory_s >= cost.compute_s ? "memory" : "compute"] += cost.latency_s;
  }
  const roofs = Object.keys(shares);
  const longest = roofs.reduce((best, roof) => (shares[roof] > shares[best] ? roof : best));
  return shares[longest] > 0 ? longest : "none";
}

// Money and carbon of a million new tokens.
function runningCost(hardware, grid, question, perToken, energy) {
  const million = 1e6;
  const price = hardware.price_usd_per_hour;
  const scale = (question.devices / 3600 / question.batch) * million;
  return {
    hardware_usd_per_million_tokens:
      price && scaled(spanning(...price.map((dollars, corner) => dollars * perToken[corner])), scale),
    electricity_usd_per_million_tokens: scaled(energy, grid.price_usd_per_j * million),
    kg_co2e_per_million_tokens: scaled(
      spanning(...grid.carbon_kg_per_j.map((kilograms, corner) => kilograms * energy[corner])),
      million,
    ),
  };
}

function spanning(low, mid, high) {
  return [Math.min(low, mid, high), mid, Math.max(low, mid, high)];
}

function scaled(range, factor) {
  return range.map((value) => value * factor);
}

function divided(parts, by) {
  return Object.fromEntries(Object.entries(parts).map(([name, value]) => [name, value / by]));
}

// energy_tables/units.py: the two borders where numbers are text.

function withCommas(number) {
  return String(number).replace(/^-?\d+/, (digits) => digits.replace(/\B(?=(\d{3})+$)/g, ","));
}

function threeDigits(value) {
  const magnitude = Math.abs(value);
  return withCommas(value.toFixed(magnitude < 9.995 ? 2 : magnitude < 99.95 ? 1 : 0));
}

function formatSi(value, unit) {
  if (value === 0) return `0 ${unit}`;
  if (!Number.isFinite(value)) return `${value} ${unit}`;
  const prefixes = [
    [1e15, "P"], [1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"],
    [1, ""], [1e-3, "m"], [1e-6, "u"], [1e-9, "n"], [1e-12, "p"],
  ];
  for (const [factor, prefix] of prefixes) {
    if (Math.abs(value) >= factor * 0.9995) return `${threeDigits(value / factor)} ${prefix}${unit}`;
  }
  return `${value.toPrecision(3)} ${unit}`;
}

function formatCount(value) {
  for (const [factor, suffix] of [[1e12, "T"], [1e9, "B"], [1e6, "M"], [1e3, "K"]]) {
    if (value >= factor * 0.9995) return `${threeDigits(value / factor)}${suffix}`;
  }
  return String(value);
}

function formatRatio(value) {
  if (!Number.isFinite(value)) return "n/a";
  return value >= 0.1 ? `${threeDigits(value)}x` : `${Number(value.toPrecision(3))}x`;
}

// Read a count as people write it (70B, 350M, 1.5e9); NaN where it is none.
function parseCount(text) {
  const match = /^(\d+(?:\.\d*)?|\.\d+)(?:e([+-]?\d{1,3}))?\s*([kmbgtp]?)$/i.exec(text.trim());
  if (!match) return NaN;
  const factors = { "": 1, K: 1e3, M: 1e6, B: 1e9, G: 1e9, T: 1e12, P: 1e15 };
  const value = Number(`${match[1]}e${match[2] ?? 0}`) * factors[match[3].toUpperCase()];
  return Number.isFinite(value) && value > 0 ? value : NaN;
}
