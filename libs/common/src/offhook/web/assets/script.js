// What pages can do with script, and do without when there is none: live pieces, forms that lose nothing when they are
// refused, dialogs, relative times. One listener each on the document, so that replaced pieces need no new ones.
"use strict";
(() => {
  const $ = (selector, root = document) => root.querySelector(selector);
  const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];
  const announce = (text) => { const place = $("#announce"); if (place) place.textContent = text; };

  // ---- times ----------------------------------------------------------------------------------------------------
  const relative = new Intl.RelativeTimeFormat("en", { numeric: "auto" });
  const steps = [[60, "second", 1], [3600, "minute", 60], [86400, "hour", 3600], [2592000, "day", 86400]];
  const tellTimes = (root = document) => {
    for (const time of $$("time[data-relative]", root)) {
      const seconds = (Date.parse(time.dateTime) - Date.now()) / 1000;
      const step = steps.find(([below]) => Math.abs(seconds) < below);
      const text = step ? (Math.abs(seconds) < 5 ? "just now" : relative.format(Math.round(seconds / step[2]), step[1]))
        : new Date(time.dateTime).toLocaleDateString();
      if (time.textContent !== text) time.textContent = text;
    }
  };

  // What only works with script is hidden until here.
  const enhance = (root = document) => {
    for (const one of $$("[data-reveal], [data-copy], [data-call]", root)) one.hidden = false;
    tellTimes(root);
  };

  // ---- live pieces ----------------------------------------------------------------------------------------------
  const waiting = new Map(); // pieces that are being used: replaced when they no longer are
  const shown = new Map(); // the HTML a piece was last given
  const busy = (element) => {
    const active = document.activeElement;
    return element.querySelector("dialog[open]") || (element.contains(active) && active.matches("input, select, textarea"))
      || $("form[aria-busy=true]", element);
  };
  const replace = (id, html) => {
    const old = document.getElementById(id);
    if (!old) return;
    if (shown.get(id) === html) { waiting.delete(id); return; }
    if (busy(old)) { waiting.set(id, html); return; }
    waiting.delete(id);
    const template = document.createElement("template");
    template.innerHTML = html;
    const fresh = template.content.firstElementChild;
    if (!fresh) return;
    const first = !shown.has(id);
    shown.set(id, html);
    if (old.dataset.keyed !== undefined) merge(old, fresh, first); else swap(old, fresh);
  };
  // One element for another: who was in it stays where he was, what was unfolded stays so.
  const swap = (old, fresh) => {
    const focusables = "a[href], button, input, select, textarea, summary, [tabindex]";
    const active = old.contains(document.activeElement) ? document.activeElement : null;
    const place = active && (active === old ? -1 : $$(focusables, old).indexOf(active));
    const states = new Map($$("[data-announce]", old).map((one) => [one.dataset.announce, one.dataset.state]));
    const open = new Set($$("details[open][id]", old).map((one) => one.id));
    enhance(fresh);
    for (const details of $$("details[id]", fresh)) if (open.has(details.id)) details.open = true;
    old.replaceWith(fresh);
    if (active) {
      const again = (active.id && document.getElementById(active.id)) || $$(focusables, fresh)[place] || fresh;
      if (again === fresh) fresh.tabIndex = -1;
      again.focus({ preventScroll: true });
    }
    for (const one of $$("[data-announce]", fresh)) {
      const before = states.get(one.dataset.announce);
      if (before === undefined || before === one.dataset.state) continue;
      one.classList.add("changed");
      announce(`${one.dataset.announce}: ${one.textContent.trim()}`);
    }
  };
  // A list whose entries have ids: only what changed is touched, and what is being read stays where it is on the screen.
  const entries = new Map(); // the HTML an entry was last given, by its id
  const merge = (list, fresh, first) => {
    const wanted = [...fresh.children];
    const kept = new Set(wanted.map((one) => one.id));
    const read = window.scrollY > 0 && [...list.children].find((one) => kept.has(one.id) && one.getBoundingClientRect().bottom > 60);
    const was = read ? read.getBoundingClientRect().top : 0;
    for (const one of [...list.children]) if (!kept.has(one.id)) { entries.delete(one.id); one.remove(); }
    let next = list.firstElementChild;
    for (const one of wanted) {
      const html = one.outerHTML;
      const there = document.getElementById(one.id);
      let stays = there;
      if (there && entries.get(one.id) !== html) {
        if (there === next) next = there.nextElementSibling;
        swap(there, one);
        stays = one;
      } else if (there) {
        if (there === next) next = there.nextElementSibling;
      } else {
        enhance(one);
        if (!first) one.classList.add("changed");
        stays = one;
      }
      entries.set(one.id, html);
      if (stays.parentElement !== list || stays.nextElementSibling !== next) list.insertBefore(stays, next);
    }
    const again = read && document.getElementById(read.id);
    if (again) window.scrollBy({ top: again.getBoundingClientRect().top - was, behavior: "instant" });
  };
  const settle = () => { for (const [id, html] of [...waiting]) replace(id, html); };

  const source = $("[data-live]");
  if (source && window.EventSource) {
    const state = $("#live-state");
    let stream = null, over = false, again = 0;
    const tell = (is, text) => { if (!state) return; state.hidden = false; state.dataset.is = is; state.textContent = text; };
    const close = () => { clearTimeout(again); if (stream) stream.close(); stream = null; };
    const connect = () => {
      close();
      if (over || document.hidden) return;
      stream = new EventSource(source.dataset.live);
      stream.onopen = () => tell("on", "Live");
      stream.onmessage = (event) => { for (const [id, html] of Object.entries(JSON.parse(event.data))) replace(id, html); };
      stream.addEventListener("gone", () => { over = true; close(); tell("ended", "No longer there: reload the page"); announce("What this page shows is no longer there."); });
      stream.addEventListener("ended", () => { close(); tell("waiting", "Reconnecting…"); again = setTimeout(connect, 2000); });
      stream.onerror = () => {
        tell("waiting", "Reconnecting…");
        if (stream && stream.readyState === EventSource.CLOSED) { close(); again = setTimeout(connect, 10000); }
      };
    };
    // A page nobody looks at needs no connection (browsers have few for one host).
    document.addEventListener("visibilitychange", () => { if (document.hidden) close(); else connect(); });
    window.addEventListener("pagehide", close);
    window.addEventListener("pageshow", (event) => { if (event.persisted) connect(); });
    connect();
  }

  // ---- forms ----------------------------------------------------------------------------------------------------
  const clear = (form) => {
    for (const error of $$(".field-error", form)) { error.hidden = true; error.textContent = ""; }
    for (const field of $$(".has-error", form)) field.classList.remove("has-error");
    for (const input of $$("[aria-invalid]", form)) input.removeAttribute("aria-invalid");
    for (const box of $$(".form-error", form)) { box.hidden = true; box.replaceChildren(); }
  };
  const sayAll = (form, text, location) => {
    let box = $("[data-form-error]", form);
    if (!box) { box = document.createElement("div"); box.className = "form-error"; box.setAttribute("role", "alert"); box.dataset.formError = ""; form.prepend(box); }
    const line = document.createElement("p");
    line.textContent = text;
    if (location) {
      const link = document.createElement("a");
      link.href = location; link.textContent = "Sign in"; link.target = "_blank"; link.rel = "opener";
      line.append(" ", link);
    }
    box.hidden = false;
    box.append(line);
  };
  const refuse = (form, problem) => {
    const loose = [];
    let first = null;
    for (const { location = [], message } of problem.errors || []) {
      const name = location.slice(1).join(".");
      const field = $$("[data-field]", form).find((one) => one.dataset.field === name);
      if (!field) { loose.push(name ? `${name}: ${message}` : message); continue; }
      const place = $(".field-error", field);
      field.classList.add("has-error");
      const folded = field.closest("details");
      if (folded) folded.open = true;
      if (place) { place.textContent = message; place.hidden = false; }
      const input = $("input, select, textarea", field);
      if (input) { input.setAttribute("aria-invalid", "true"); first = first || input; }
    }
    if (loose.length || !first) {
      sayAll(form, problem.detail || problem.title || "That did not work. Try again.", problem.location);
      for (const text of loose) sayAll(form, text);
    }
    const box = $("[data-form-error]:not([hidden])", form);
    if (first) first.focus(); else if (box) { box.tabIndex = -1; box.focus(); }
  };
  // Whoever signed in again in another tab has a page whose forms are from the login before. Says whether it was so.
  const renew = async () => {
    const known = $("meta[name=csrf]");
    const html = await fetch(location.href, { headers: { Accept: "text/html" } }).then((answer) => answer.text()).catch(() => "");
    const fresh = $("meta[name=csrf]", new DOMParser().parseFromString(html, "text/html"));
    if (!known || !fresh || known.content === fresh.content) return false;
    known.content = fresh.content;
    for (const input of $$("input[name=csrf]")) input.value = fresh.content;
    return true;
  };
  const send = async (form, submitter) => {
    const body = new URLSearchParams(new FormData(form));
    if (submitter && submitter.name) body.append(submitter.name, submitter.value);
    clear(form);
    form.setAttribute("aria-busy", "true");
    if (submitter) submitter.setAttribute("aria-busy", "true");
    const done = () => { form.removeAttribute("aria-busy"); if (submitter) submitter.removeAttribute("aria-busy"); };
    let answer;
    try {
      answer = await fetch((submitter && submitter.getAttribute("formaction")) || form.action, {
        method: "POST", body, credentials: "same-origin", headers: { Accept: "application/json" },
      });
    } catch {
      done();
      refuse(form, { detail: "The server did not answer. Your entries are still here; try again in a moment." });
      return;
    }
    const json = await answer.json().catch(() => ({}));
    if (answer.status === 403 && await renew()) json.detail = "You have signed in anew. Your entries are still here: send them again.";
    if (answer.ok && json.location) {
      const to = new URL(json.location, document.baseURI);
      if (to.origin !== location.origin) { done(); return; }
      if (to.pathname === location.pathname && to.search === location.search) location.reload(); else location.assign(to);
      return; // busy until the next page is there: a second click does nothing
    }
    done();
    if (answer.ok) {
      for (const [id, html] of Object.entries(json.fragments || {})) replace(id, html);
      if (json.notice) announce(json.notice);
      settle();
    } else refuse(form, json);
  };

  // ---- a test call: ordered from the calls API, and followed there until it has ended ---------------------------
  const over = ["completed", "busy", "no-answer", "failed", "canceled"];
  let followed = "";
  const follow = async (form, run, to) => {
    followed = run;
    const place = $("[data-call-state]", form.parentElement);
    const link = $("[data-call-link]", place);
    link.href = link.dataset.callLink + encodeURIComponent(run);
    $("[data-call-to]", place).textContent = to;
    place.hidden = false;
    let told = "";
    const tell = (status) => {
      if (status === told) return;
      told = status;
      for (const one of $$("[data-call-status]", place)) one.hidden = one.dataset.callStatus !== status;
    };
    tell("initiated");
    while (followed === run && !over.includes(told)) {
      await new Promise((wake) => setTimeout(wake, 700));
      if (document.hidden) continue;
      const answer = await fetch(`${form.dataset.call}/${encodeURIComponent(run)}`, { headers: { Accept: "application/json" } }).catch(() => null);
      if (answer && answer.status === 401) { refuse(form, { detail: "You are not signed in any more.", location: "/login" }); return; }
      const call = answer && answer.ok ? await answer.json().catch(() => ({})) : {};
      if (call.status && followed === run) tell(call.status);
    }
  };
  const orders = new WeakMap(); // what a form last asked for, and the key under which it asked
  const order = async (form, submitter) => {
    const fields = Object.fromEntries([...new FormData(form)].filter(([, value]) => value.trim() !== ""));
    const body = JSON.stringify(fields);
    // An order whose answer was lost is repeated under its key: it stays one call.
    let sent = orders.get(form);
    if (!sent || sent.body !== body) {
      const key = [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
      sent = { body, key };
      orders.set(form, sent);
    }
    clear(form);
    followed = "";
    $("[data-call-state]", form.parentElement).hidden = true;
    form.setAttribute("aria-busy", "true");
    if (submitter) submitter.setAttribute("aria-busy", "true");
    const token = $("meta[name=csrf]");
    const answer = await fetch(form.dataset.call, {
      method: "POST", body, credentials: "same-origin",
      headers: { Accept: "application/json", "Content-Type": "application/json", "X-CSRF-Token": token ? token.content : "", "Idempotency-Key": sent.key },
    }).catch(() => null);
    const json = answer ? await answer.json().catch(() => ({})) : {};
    const renewed = answer && answer.status === 403 && await renew();
    form.removeAttribute("aria-busy");
    if (submitter) submitter.removeAttribute("aria-busy");
    if (!answer || answer.status >= 500) {
      refuse(form, { detail: json.detail || "The server did not answer. Try again: it will be the same call." });
      return;
    }
    if (!renewed) orders.delete(form);
    if (answer.ok) { follow(form, json.workflow_run_id, json.to_number || fields.to); return; }
    if (renewed) json.detail = "You have signed in anew. Your entries are still here: send them again.";
    if (answer.status === 401) json.location = "/login";
    const field = JSON.parse(form.dataset.reasons || "{}")[json.reason];
    if (field && json.detail) json.errors = [{ location: ["body", field], message: json.detail }];
    refuse(form, json);
  };
  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (form.getAttribute("aria-busy") === "true") { event.preventDefault(); return; }
    if (form.matches("form[data-call]")) { event.preventDefault(); order(form, event.submitter); return; }
    if (!form.matches("form[data-fetch]") || form.method !== "post") return;
    event.preventDefault();
    send(form, event.submitter);
  });

  // A page that is gone back to is as it was left: with the form that was sent last.
  window.addEventListener("pageshow", (event) => {
    if (event.persisted) for (const busyOne of $$("[aria-busy]")) busyOne.removeAttribute("aria-busy");
  });

  // ---- dialogs and small things ---------------------------------------------------------------------------------
  document.addEventListener("click", async (event) => {
    const target = event.target.closest("[data-confirm], [data-close], [data-reveal], [data-copy], [data-check-all]");
    if (!target) {
      if (event.target.matches("dialog[open]") && event.target === event.target.closest("dialog")) {
        const box = event.target.getBoundingClientRect();
        const inside = event.clientX >= box.left && event.clientX <= box.right && event.clientY >= box.top && event.clientY <= box.bottom;
        if (!inside && event.detail) event.target.close();
      }
      return;
    }
    if (target.dataset.confirm !== undefined) {
      const dialog = document.getElementById(target.dataset.confirm);
      if (!dialog || !dialog.showModal || event.ctrlKey || event.metaKey || event.shiftKey) return;
      event.preventDefault();
      dialog.showModal();
    } else if (target.dataset.close !== undefined) {
      const dialog = target.closest("dialog");
      if (dialog) dialog.close();
    } else if (target.dataset.reveal !== undefined) {
      const input = document.getElementById(target.dataset.reveal);
      const show = input.type === "password";
      input.type = show ? "text" : "password";
      target.textContent = show ? "Hide" : "Show";
      target.setAttribute("aria-pressed", String(show));
    } else if (target.dataset.copy !== undefined) {
      const before = target.textContent;
      try { await navigator.clipboard.writeText(target.dataset.copy); target.textContent = "Copied"; announce("Copied"); }
      catch { target.textContent = "Select it and copy"; }
      setTimeout(() => { target.textContent = before; }, 1500);
    } else if (target.dataset.checkAll !== undefined) {
      for (const box of $$(`input[type=checkbox][name="${CSS.escape(target.dataset.checkAll)}"]:not(:disabled)`)) box.checked = target.checked;
    }
  });
  document.addEventListener("close", settle, true);
  document.addEventListener("focusout", () => setTimeout(settle, 0));

  enhance();
  setInterval(tellTimes, 15000);
})();
