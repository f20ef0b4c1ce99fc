// Text for people, and elements that hold it. Data reaches the page as text nodes alone.

const KB = 1024;

function bytes(value) {
  if (value === null || value === undefined) return "–";
  if (value < KB) return `${value.toFixed(0)} B`;
  if (value < KB * KB) return `${(value / KB).toFixed(1)} KB`;
  return `${(value / KB / KB).toFixed(1)} MB`;
}

/** For narrow columns: without the tenths where they hardly matter. */
function shortBytes(value) {
  return bytes(value).replace(/^\d{3,}\.\d/, (number) => Number(number).toFixed(0));
}

function milliseconds(value) {
  if (value === null || value === undefined) return "–";
  if (value < 0.01) return "<0.01";
  return value >= 10 ? value.toFixed(0) : String(Number(value.toPrecision(2)));
}

function minutes(value) {
  if (value === null || value === undefined) return "–";
  return value >= 10 ? value.toFixed(0) : String(Number(value.toPrecision(2)));
}

function percent(share) {
  return share === null || share === undefined ? "–" : (100 * share).toFixed(1);
}

function count(value) {
  if (value === null || value === undefined) return "–";
  for (const [size, letter] of [[1e9, "G"], [1e6, "M"], [1e3, "k"]]) {
    if (value >= size) return `${Number((value / size).toPrecision(3))} ${letter}`;
  }
  return String(value);
}

function clock(seconds) {
  const whole = Math.round(seconds);
  const hours = Math.floor(whole / 3600), rest = Math.floor((whole % 3600) / 60);
  if (hours) return `${hours} h ${rest} min`;
  return rest ? `${rest} min ${whole % 60} s` : `${whole} s`;
}

/** An element with attributes and children; a string becomes a text node. */
function make(name, attributes, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes || {})) {
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (value === true) element.setAttribute(key, "");
    else if (value !== false && value !== null && value !== undefined) {
      element.setAttribute(key, value);
    }
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

function byId(id) {
  return document.getElementById(id);
}

/** The text of a script element that holds zlib as base64. */
async function unpack(id) {
  const letters = atob(byId(id).textContent.trim());
  const packed = new Uint8Array(letters.length);
  for (let at = 0; at < letters.length; at++) packed[at] = letters.charCodeAt(at);
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Response(stream).text();
}
