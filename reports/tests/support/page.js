// What a test asks of a page that stands in a browser. Each answer is a list of what is wrong, in words.
globalThis.page = (() => {
  "use strict";
  const CONTRAST_MIN = 4.5;
  const LARGE_CONTRAST_MIN = 3;
  const CONTROLS = 'a[href], button, summary, input, select, [tabindex]:not([tabindex="-1"])';

  const named = (element) => {
    const text = (element.getAttribute("aria-label") ?? element.textContent).trim().replace(/\s+/g, " ").slice(0, 60);
    return `<${element.localName}${element.id ? `#${element.id}` : ""}> “${text}”`;
  };
  const shown = (element) => element.checkVisibility({ checkOpacity: true, checkVisibilityCSS: true }) && element.getClientRects().length > 0;
  const once = (words) => [...new Set(words)];

  // Every chart has its canvas; of those that say why they are empty there is no plot.
  const drawn = async () => {
    const waiting = () => [...document.querySelectorAll(".plot")].some((plot) => !plot.querySelector("canvas"));
    while (waiting()) await new Promise((done) => setTimeout(done, 10));
    await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
  };

  // Colours as red, green, blue in 0..=255 and opacity, whatever function the style says them with.
  const brush = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
  const known = new Map();
  const rgba = (colour) => {
    if (!known.has(colour)) {
      brush.clearRect(0, 0, 1, 1);
      brush.fillStyle = colour;
      brush.fillRect(0, 0, 1, 1);
      const [r, g, b, a] = brush.getImageData(0, 0, 1, 1).data;
      known.set(colour, [r, g, b, a / 255]);
    }
    return known.get(colour);
  };
  const over = (top, below) => top.slice(0, 3).map((v, i) => v * top[3] + below[i] * (1 - top[3]));
  const paper = (element) => {
    const layers = [];
    for (let at = element; at; at = at.parentElement) {
      const layer = rgba(getComputedStyle(at).backgroundColor);
      if (layer[3] > 0) layers.push(layer);
      if (layer[3] === 1) break;
    }
    return layers.reverse().reduce((below, layer) => over(layer, below), [255, 255, 255]);
  };
  // WCAG 2, relative luminance and contrast ratio.
  const luminance = (colour) => {
    const [r, g, b] = colour.map((v) => v / 255).map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const contrast = (a, b) => {
    const [light, dark] = [luminance(a), luminance(b)].sort((x, y) => y - x);
    return (light + 0.05) / (dark + 0.05);
  };
  const faint = () => {
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    const found = [];
    while (walker.nextNode()) {
      const element = walker.currentNode.parentElement;
      if (!walker.currentNode.textContent.trim() || ["SCRIPT", "STYLE", "NOSCRIPT"].includes(element.tagName) || !shown(element)) continue;
      const style = getComputedStyle(element);
      const below = paper(element);
      const ratio = contrast(over(rgba(style.color), below), below);
      const size = parseFloat(style.fontSize);
      const large = size >= 24 || size >= 18.66 && Number(style.fontWeight) >= 700;
      if (ratio < (large ? LARGE_CONTRAST_MIN : CONTRAST_MIN)) found.push(`${named(element)} has a contrast of ${ratio.toFixed(2)}`);
    }
    return once(found);
  };

  const scrollsItself = (element) => {
    for (let at = element.parentElement; at && at !== document.body; at = at.parentElement) {
      if (["auto", "scroll", "hidden", "clip"].includes(getComputedStyle(at).overflowX)) return true;
    }
    return false;
  };
  // Wider than the page, unless a part of it scrolls or cuts on its own.
  const wide = () => {
    const width = document.documentElement.clientWidth;
    const found = document.documentElement.scrollWidth > width ? [`scrolls sideways: ${document.documentElement.scrollWidth} of ${width} pixels`] : [];
    for (const element of document.body.querySelectorAll("*")) {
      const box = element.getBoundingClientRect();
      if (box.width > 0 && box.right > width + 1 && shown(element) && !scrollsItself(element)) found.push(`${named(element)} ends at ${Math.round(box.right)} of ${width} pixels`);
    }
    return found.slice(0, 5);
  };
  const foreign = () => [...document.querySelectorAll("[src], [href], [srcset], [data]")]
    .flatMap((element) => ["src", "href", "srcset", "data"].map((name) => element.getAttribute(name)))
    .filter((link) => link && /^(https?:)?\/\//.test(link))
    .map((link) => `leads to ${link}`);
  const nameless = () => [...document.querySelectorAll(CONTROLS)]
    .filter((element) => shown(element) && !element.getAttribute("aria-label") && !element.getAttribute("aria-labelledby") && !element.textContent.trim())
    .map((element) => `${named(element)} has no name`);
  const dead = () => [...document.querySelectorAll('a[href^="#"]')]
    .filter((link) => !document.getElementById(decodeURIComponent(link.hash.slice(1))))
    .map((link) => `${named(link)} leads nowhere`);
  const twice = () => {
    const ids = [...document.querySelectorAll("[id]")].map((element) => element.id);
    return once(ids.filter((id, at) => ids.indexOf(id) !== at)).map((id) => `two elements are “${id}”`);
  };

  const onScreen = () => [...wide(), ...faint(), ...foreign(), ...nameless(), ...dead(), ...twice()];

  // Paper is white, shows what is folded in, and has nothing to press.
  const onPaper = () => {
    const found = [...wide(), ...faint()];
    const white = paper(document.body);
    if (white.some((v) => v < 255)) found.push(`paper is ${white.join(" ")}`);
    for (const element of document.querySelectorAll("details:not([open])")) found.push(`${named(element)} is folded`);
    for (const element of document.querySelectorAll(".bar, .copy, .skip")) if (shown(element)) found.push(`${named(element)} is printed`);
    return found;
  };

  // What was drawn for paper of so many pixels before the page became that narrow.
  const drawnFor = (paper) => [...document.querySelectorAll(".plot .uplot")]
    .filter((plot) => plot.offsetWidth > paper)
    .map((plot) => `${named(plot.closest(".plot"))} is drawn ${plot.offsetWidth} pixels wide`);

  // One stop of the tab key: null once the page is left.
  const stops = new Set();
  const stop = () => {
    const element = document.activeElement;
    if (!element || element === document.body || stops.has(element)) return null;
    stops.add(element);
    const found = [];
    const style = getComputedStyle(element);
    const ring = style.outlineStyle !== "none" && parseFloat(style.outlineWidth) > 0;
    if (!ring) found.push(`${named(element)} does not show that it has the focus`);
    else if (contrast(over(rgba(style.outlineColor), paper(element)), paper(element)) < LARGE_CONTRAST_MIN) found.push(`${named(element)} has a faint focus ring`);
    const box = element.getBoundingClientRect();
    const bar = document.querySelector(".bar");
    const top = bar && !bar.contains(element) && !element.matches(".skip") ? bar.getBoundingClientRect().bottom : 0;
    const seen = Math.min(box.bottom, innerHeight) - Math.max(box.top, top);
    const across = Math.min(box.right, innerWidth) - Math.max(box.left, 0);
    if (seen < Math.min(box.height, 12) - 1 || across < Math.min(box.width, 12) - 1) found.push(`${named(element)} has the focus and is not in sight`);
    return found;
  };
  const missed = () => [...document.querySelectorAll(CONTROLS)]
    .filter((element) => shown(element) && !stops.has(element))
    .map((element) => `the tab key does not reach ${named(element)}`);

  return { drawn, onScreen, onPaper, drawnFor, stop, missed };
})(), null;
