"use strict";

// A chat with the server that this page came from. Text is only ever put in as text, never as markup.

const KEPT = "bitsim-chat"; // in the browser's storage: the conversation and the settings
const KEY = "bitsim-key"; // until the tab is closed
const NEAR_END_PX = 60;
const GO_ON_TOKENS = 200; // by how much a model without a chat format continues a text, where nothing else is set

const part = (id) => document.getElementById(id);
const main = document.querySelector("main");
const text = part("text");

let chat = { turns: [], system: "", temperature: "", maxTokens: "" };
let running = null; // what stops the answer that is being written
let leaving = false;
let chats = true; // or the model has no chat format: it goes on with the text so far

// ---- what is kept over a reload

function recall() {
  try {
    const kept = JSON.parse(localStorage.getItem(KEPT)) ?? {};
    const turns = Array.isArray(kept.turns) ? kept.turns : [];
    chat = { ...chat, ...kept, turns: turns.filter((turn) => typeof turn?.said === "string") };
    part("key").value = sessionStorage.getItem(KEY) ?? "";
  } catch {
    // no storage here, or something else in it: begin anew
  }
  part("system").value = chat.system;
  part("temperature").value = chat.temperature;
  part("max-tokens").value = chat.maxTokens;
}

function keep() {
  try {
    localStorage.setItem(KEPT, JSON.stringify(chat));
    sessionStorage.setItem(KEY, part("key").value);
  } catch {
    // no storage, or full: the page works without
  }
}

// ---- what is seen

function element(name, className, content = "") {
  const made = document.createElement(name);
  made.className = className;
  made.textContent = content;
  return made;
}

function show(turn) {
  const shown = element("article", turn.role);
  const who = element("h2", "unseen", turn.role === "user" ? "You" : "The model");
  const said = element("div", "said", turn.said);
  const note = element("p", "note", turn.note ?? "");
  shown.append(who, said, note);
  part("log").append(shown);
  part("empty").hidden = true;
  return { shown, said, note };
}

function showAll() {
  part("log").replaceChildren();
  part("empty").hidden = false;
  chat.turns.forEach(show);
  scrollDown();
}

const nearEnd = () => main.scrollHeight - main.scrollTop - main.clientHeight < NEAR_END_PX;
const scrollDown = () => main.scrollTo(0, main.scrollHeight);

function complain(message) {
  part("error").textContent = message ?? "";
  part("error").hidden = !message;
  if (message) {
    scrollDown();
  }
}

function grow() {
  text.style.height = "auto";
  text.style.height = `${text.scrollHeight + 2}px`; // and its border
}

function busy(stop) {
  running = stop;
  part("send").hidden = Boolean(stop);
  part("stop").hidden = !stop;
  part("clear").disabled = Boolean(stop);
  part("log").setAttribute("aria-busy", String(Boolean(stop)));
}

// ---- asking the server

function ask(path, options = {}) {
  const key = part("key").value;
  const headers = { "Content-Type": "application/json" };
  if (key) {
    headers.Authorization = `Bearer ${key}`;
  }
  return fetch(path, { ...options, headers });
}

async function refusal(response) {
  try {
    return (await response.json()).error.message;
  } catch {
    return `${response.status} ${response.statusText}`;
  }
}

// Yields the objects of a stream of server-sent events.
async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) {
      return;
    }
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const line of lines) {
      if (line.startsWith("data: ") && line !== "data: [DONE]") {
        yield JSON.parse(line.slice("data: ".length));
      }
    }
  }
}

function question() {
  if (!chats) {
    return { prompt: chat.system + chat.turns.map(({ said }) => said).join(""), max_tokens: GO_ON_TOKENS };
  }
  const system = chat.system ? [{ role: "system", content: chat.system }] : [];
  return { messages: [...system, ...chat.turns.map(({ role, said }) => ({ role, content: said }))] };
}

function body() {
  const asked = {
    ...question(),
    stream: true,
    stream_options: { include_usage: true, continuous_usage_stats: true },
  };
  if (chat.temperature !== "") {
    asked.temperature = Number(chat.temperature);
  }
  if (chat.maxTokens !== "") {
    asked.max_tokens = Number(chat.maxTokens);
  }
  return JSON.stringify(asked);
}

// Says how many tokens came, and how many a second since the first of them; `begun` is how many came with that.
function speed(tokens, begun, seconds) {
  const rate = tokens > begun && seconds > 0 ? `, ${((tokens - begun) / seconds).toFixed(1)} tokens/s` : "";
  return `${tokens} ${tokens === 1 ? "token" : "tokens"}${rate}`;
}

// Takes an answer as it comes into a turn, and calls `news` whenever there is some; throws what goes wrong.
async function listen(request, turn, news, signal) {
  const path = chats ? "v1/chat/completions" : "v1/completions";
  const response = await ask(path, { method: "POST", body: request, signal });
  if (!response.ok) {
    throw new Error(await refusal(response));
  }
  let first = 0; // when the first text came, and the last
  let last = 0;
  let begun = 0;
  let ended = "";
  let finished = false;
  for await (const event of events(response)) {
    if (event.error) {
      throw new Error(event.error.message);
    }
    const choice = event.choices?.[0];
    const piece = choice?.delta?.content ?? choice?.text;
    if (piece) {
      last = performance.now();
      first ||= last;
      begun ||= event.usage.completion_tokens;
      turn.said += piece;
    }
    if (choice?.finish_reason) {
      finished = true;
      ended = chats && choice.finish_reason === "length" ? ", cut: no more room" : "";
    }
    if (event.usage) {
      turn.note = speed(event.usage.completion_tokens, begun, (last - first) / 1000) + ended;
    }
    news();
  }
  if (!finished) {
    throw new Error("The answer ended too early: the connection was lost.");
  }
}

async function send() {
  const said = chats ? text.value.trim() : text.value;
  if (running || !said.trim()) {
    return;
  }
  complain();
  chat.turns.push({ role: "user", said });
  const question = show(chat.turns.at(-1));
  text.value = "";
  grow();
  const request = body();
  const turn = { role: "assistant", said: "", note: "" };
  chat.turns.push(turn);
  const answer = show(turn);
  scrollDown();
  const stop = new AbortController();
  busy(stop);
  const paint = () => {
    const follow = nearEnd();
    answer.said.textContent = turn.said;
    answer.note.textContent = turn.note;
    if (follow) {
      scrollDown();
    }
  };
  let asked = false; // for the next picture
  const news = () => {
    if (!asked) {
      asked = true;
      requestAnimationFrame(() => {
        asked = false;
        paint();
      });
    }
  };
  let wrong = null;
  try {
    await listen(request, turn, news, stop.signal);
  } catch (error) {
    if (leaving) {
      return;
    }
    wrong = stop.signal.aborted ? "" : error.message;
    const how = wrong ? "not finished" : "stopped";
    turn.note += turn.note ? `, ${how}` : how;
  }
  if (wrong !== null && !turn.said) {
    takeBack(said, question, answer);
  }
  paint();
  busy(null);
  complain(wrong);
  keep();
  text.focus();
}

// Nothing was answered: the question goes back to where it was written.
function takeBack(said, question, answer) {
  chat.turns.splice(-2);
  question.shown.remove();
  answer.shown.remove();
  part("empty").hidden = chat.turns.length > 0;
  text.value ||= said;
  grow();
}

// The browser ends the answer that is being written: what came of it is kept.
function leave() {
  if (!running) {
    return;
  }
  leaving = true;
  const last = chat.turns.at(-1);
  last.note += last.note ? ", stopped" : "stopped";
  if (!last.said) {
    chat.turns.splice(-2);
  }
  keep();
}

async function greet() {
  try {
    const response = await ask("v1/models");
    if (!response.ok) {
      throw new Error(await refusal(response));
    }
    const { id: name, chat: made } = (await response.json()).data[0];
    chats = made !== false;
    text.placeholder = chats ? "Message" : "A text to go on with";
    part("model").textContent = name;
    document.title = name;
    complain();
  } catch (error) {
    complain(`The server says: ${error.message}`);
  }
}

// ---- what the person does

part("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  send();
});

text.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    send();
  }
});

text.addEventListener("input", grow);
part("stop").addEventListener("click", () => running?.abort());

part("clear").addEventListener("click", () => {
  chat.turns = [];
  showAll();
  complain();
  keep();
  text.focus();
});

part("open-settings").addEventListener("click", () => part("settings").showModal());

part("settings").addEventListener("close", () => {
  const valid = (id) => (part(id).validity.valid ? part(id).value : "");
  chat.system = part("system").value;
  chat.temperature = valid("temperature");
  chat.maxTokens = valid("max-tokens");
  keep();
  greet();
});

window.addEventListener("pagehide", leave);

recall();
showAll();
grow();
greet();
