"use strict";
/* The recording's player. Without it the audio element works alone. */
(() => {
  const around = (element) => element.closest("[data-recording]");
  const audioOf = (player) => player.querySelector("audio");
  const graphs = new WeakMap(); // one for each audio element: it can be routed once only

  function show() {
    for (const player of document.querySelectorAll("[data-recording]")) {
      player.querySelector("[data-recording-channels]").hidden = false;
      player.querySelector("[data-recording-wave]").classList.add("seekable");
    }
  }

  function seek(player, part) {
    const audio = audioOf(player);
    const seconds = Number(player.dataset.durationMs) / 1000;
    audio.currentTime = Math.min(Math.max(part, 0), 1) * seconds;
    follow(player);
  }

  function follow(player) {
    const head = player.querySelector("[data-recording-head]");
    const seconds = Number(player.dataset.durationMs) / 1000;
    const x = (audioOf(player).currentTime / seconds) * Number(player.dataset.width);
    head.setAttribute("x1", x);
    head.setAttribute("x2", x);
  }

  // "both", or one channel on both ears.
  function route(player, channel) {
    const audio = audioOf(player);
    let graph = graphs.get(audio);
    if (!graph) {
      const context = new AudioContext();
      graph = { context, source: context.createMediaElementSource(audio), splitter: context.createChannelSplitter(2) };
      graphs.set(audio, graph);
    }
    graph.context.resume();
    graph.source.disconnect();
    graph.splitter.disconnect();
    if (channel === "both") {
      graph.source.connect(graph.context.destination);
    } else {
      const merger = graph.context.createChannelMerger(2);
      const output = channel === "caller" ? 0 : 1;
      graph.source.connect(graph.splitter);
      graph.splitter.connect(merger, output, 0);
      graph.splitter.connect(merger, output, 1);
      merger.connect(graph.context.destination);
    }
    player.dataset.channel = channel;
    for (const button of player.querySelectorAll("[data-recording-channel]")) {
      button.setAttribute("aria-pressed", String(button.dataset.recordingChannel === channel));
    }
  }

  document.addEventListener("click", (event) => {
    const wave = event.target.closest("[data-recording-wave]");
    if (wave) {
      const box = wave.getBoundingClientRect();
      const player = around(wave);
      seek(player, (event.clientX - box.left) / box.width);
      audioOf(player).play().catch(() => {}); // the browser may forbid it; the controls are there
      return;
    }
    const button = event.target.closest("[data-recording-channel]");
    if (button) route(around(button), button.dataset.recordingChannel);
  });

  // Events of media do not bubble, but are captured.
  for (const name of ["timeupdate", "seeked"]) {
    document.addEventListener(name, (event) => {
      const player = event.target.closest && around(event.target);
      if (player) follow(player);
    }, true);
  }

  new MutationObserver(show).observe(document.documentElement, { childList: true, subtree: true });
  show();
})();
