#include "cached/metrics/status_page.h"

namespace larder {

const std::string_view kStatusPage = R"html(<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Larder</title>
<style>
:root { color-scheme: light dark; --bg: #fafafa; --card: #fff; --text: #1c1e21; --dim: #60656d; --line: #dde0e4;
        --bar: #2f7d4f; --track: #e6e9ec; --bad: #b3261e; }
@media (prefers-color-scheme: dark) {
  :root { --bg: #141618; --card: #1d2023; --text: #e8eaed; --dim: #9aa0a8; --line: #33373c;
          --bar: #5bb882; --track: #2b2f34; --bad: #f28b82; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 64rem; padding: 1rem; background: var(--bg); color: var(--text);
       font: 15px/1.45 system-ui, sans-serif; }
h1 { font-size: 1.25rem; margin: 0; } h2 { font-size: 1rem; margin: 1.5rem 0 .5rem; }
header { display: flex; flex-wrap: wrap; gap: .25rem 1rem; align-items: baseline; }
.dim { color: var(--dim); } .bad { color: var(--bad); }
.grid { display: grid; gap: .75rem; grid-template-columns: repeat(auto-fit, minmax(10rem, 1fr)); margin-top: 1rem; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: .5rem; padding: .75rem; }
.card b { display: block; font-size: 1.2rem; font-variant-numeric: tabular-nums; }
.row { margin-bottom: .5rem; } .row > div:first-child { display: flex; flex-wrap: wrap; gap: .25rem .75rem; }
.name { font-weight: 600; overflow-wrap: anywhere; } .grow { flex: 1; }
.track { height: .5rem; border-radius: .25rem; background: var(--track); margin-top: .4rem; overflow: hidden; }
.track > div { height: 100%; background: var(--bar); }
</style>
<header><h1>Larder</h1><span class="dim" id="about"></span><span class="bad" id="lost" role="alert"></span></header>
<div class="grid" id="node"></div>
<section id="troubles"></section>
<h2>Datasets</h2>
<section id="datasets"></section>
<script>
"use strict";
const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
function bytes(n) { let i = 0; while (n >= 1023.95 && i < 5) { n /= 1024; ++i; } return n.toFixed(i ? 1 : 0) + " " + units[i]; }
const count = n => Math.round(n).toLocaleString("en");
function since(s) {
  const d = Math.floor(s / 86400), h = Math.floor(s / 3600) % 24, m = Math.floor(s / 60) % 60;
  return d ? `${d} d ${h} h` : h ? `${h} h ${m} min` : m ? `${m} min` : `${Math.floor(s)} s`;
}
function element(tag, name, ...children) {
  const e = document.createElement(tag);
  if (name) e.className = name;
  e.append(...children);
  return e;
}
function bar(share) {
  const inside = element("div");
  inside.style.width = (100 * Math.min(1, Math.max(0, share))).toFixed(1) + "%";
  return element("div", "track", inside);
}
function card(title, value, detail, share) {
  const c = element("div", "card", element("span", "dim", title), element("b", "", value), element("span", "dim", detail));
  if (share !== undefined) c.append(bar(share));
  return c;
}
let last = null;
function rate(now, path) {
  const at = s => path.split("/").reduce((o, k) => o[k], s);
  if (!last || now.pid !== last.pid) return null;
  const seconds = now.uptime_s - last.uptime_s;
  return seconds > 0 ? (at(now) - at(last)) / seconds : null;
}
const a_second = (r, text) => r === null ? "–" : text(r) + "/s";
function show(s) {
  document.getElementById("about").textContent = `${s.version}, up ${since(s.uptime_s)}, ${s.meta}`;
  const c = s.cache, opens = s.reads.warm_opens + s.reads.miss_opens, hits = opens ? s.reads.warm_opens / opens : 0;
  const w = s.miss_waits, misses = w ? w.counts.reduce((a, b) => a + b, 0) : 0;
  document.getElementById("node").replaceChildren(
    card("Cache", bytes(c.used), `of ${bytes(c.size)}, ${count(c.files)} files`, c.used / c.size),
    card("Opens", a_second(rate(s, "reads/warm_opens"), count), `${(100 * hits).toFixed(1)} % of ${count(opens)} were hits`),
    card("Misses", a_second(rate(s, "reads/miss_opens"), count),
         misses ? `${(1000 * w.sum / misses).toFixed(1)} ms each, so far` : "none so far"),
    card("From stores", a_second(rate(s, "store/bytes"), bytes),
         `${count(s.store.in_flight)} on the way, ${count(s.store.queued)} wait`),
    card("Store errors", count(s.store.errors), `${count(s.store.retries)} requests were tried again`));
  const troubles = [];
  for (const m of s.waiting_mounts) troubles.push([m.path, m.trouble]);
  for (const d of s.datasets) if (d.trouble) troubles.push([d.name, d.trouble]);
  document.getElementById("troubles").replaceChildren(
    ...(troubles.length ? [element("h2", "bad", "Trouble")] : []),
    ...troubles.map(([name, text]) => element("div", "card row", element("div", "", element("span", "name", name)), text)));
  document.getElementById("datasets").replaceChildren(...s.mounts.map(m => {
    const line = element("div", "", element("span", "name", m.path), element("span", "dim grow", `${m.dataset} ← ${m.source}`),
      element("span", "", `${(100 * m.predicted_hit_ratio).toFixed(1)} % hits expected`));
    const detail = `${count(m.cached_files)} of ${count(m.objects)} files, ${bytes(m.cached_bytes)} of ${bytes(m.bytes)}; ` +
      `fill: ${m.fill.state}` + (m.in_use ? `; ${count(m.in_use)} open` : "") + (m.skipped ? `; ${count(m.skipped)} keys skipped` : "");
    return element("div", "card row", line, element("div", "dim", detail), bar(m.objects ? m.cached_files / m.objects : 0));
  }), ...(s.mounts.length ? [] : [element("p", "dim", "Nothing is mounted.")]));
  last = s;
}
async function update() {
  const lost = document.getElementById("lost");
  try {
    const reply = await fetch("status.json", {cache: "no-store", signal: AbortSignal.timeout(5000)});
    show(await reply.json());
    lost.textContent = "";
  } catch (e) { lost.textContent = "larderd does not answer"; }
  setTimeout(update, 2000);
}
update();
</script>
</html>
)html";

}  // namespace larder
