// What is asked of the server: one image at a time.

import { number } from "./elements.js";

const BUSY = [429, 503];
const LONGEST_WAIT_SECONDS = 10;

/** What was found in an item; `tell` is called with words where that takes longer than usual. */
export async function segment(item, signal, tell) {
  const { spacing } = item; // it may be corrected while the answer is awaited, and the answer is to this one
  if (!item.content) {
    const found = await reachWhenFree(item.url, { signal }, tell);
    if (!found.ok) throw new Error(`The example could not be loaded (${found.status}). Choose another one.`);
    item.content = await found.blob();
  }
  try {
    await item.content.slice(0, 1).arrayBuffer();
  } catch {
    throw new Error("It cannot be read: it is a folder, or has been moved or deleted. Choose the file again.");
  }
  const query = spacing ? `?spacing_mm=${spacing.join(",")}` : "";
  const headers = { "Content-Type": "application/octet-stream" };
  const asked = { method: "POST", body: item.content, headers, signal };
  const response = await reachWhenFree(`/segment${query}`, asked, tell);
  const answer = await response.json().catch(() => null);
  if (!response.ok || !answer) {
    const reason = answer?.error ?? `The server answered ${response.status} without a reason.`;
    throw Object.assign(new Error(reason), { refused: response.status < 500 && response.status !== 429 });
  }
  const { image_png, mask_png, probability_png, ...rest } = answer;
  return {
    ...rest,
    given: spacing,
    image: picture(image_png),
    mask: picture(mask_png),
    map: probability_png && picture(probability_png),
  };
}

// A busy server that says when to come back is asked once more; after that a person decides.
async function reachWhenFree(url, options, tell) {
  const response = await reach(url, options);
  const named = response.headers.get("Retry-After");
  const seconds = named === null ? NaN : Number(named);
  if (!BUSY.includes(response.status) || !(seconds >= 0)) return response;
  const wait = Math.min(seconds, LONGEST_WAIT_SECONDS);
  tell(`The server is busy, asking again in ${number(wait)} s…`);
  await pause(wait, options.signal);
  return reach(url, options);
}

function pause(seconds, signal) {
  return new Promise((resolve, reject) => {
    signal.throwIfAborted();
    const timer = setTimeout(resolve, 1000 * seconds);
    const stop = () => {
      clearTimeout(timer);
      reject(signal.reason);
    };
    signal.addEventListener("abort", stop, { once: true });
  });
}

export async function reach(url, options) {
  try {
    return await fetch(url, options);
  } catch (problem) {
    if (options.signal?.aborted) throw problem;
    throw new Error(
      "The server gave no answer. It may have stopped, or the file may be larger than it takes. " +
        "See that it runs, then try again.",
    );
  }
}

function picture(base64) {
  return new Blob([Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0))], { type: "image/png" });
}
