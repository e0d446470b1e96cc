// What is asked of the server: one image at a time.

export async function segment(item, signal) {
  if (!item.content) {
    const found = await reach(item.url, { signal });
    if (!found.ok) throw new Error(`The example could not be loaded (${found.status}). Choose another one.`);
    item.content = await found.blob();
  }
  try {
    await item.content.slice(0, 1).arrayBuffer();
  } catch {
    throw new Error("It cannot be read: it is a folder, or has been moved or deleted. Choose the file again.");
  }
  const query = item.spacing ? `?spacing_mm=${item.spacing.join(",")}` : "";
  const headers = { "Content-Type": "application/octet-stream" };
  const response = await reach(`/segment${query}`, { method: "POST", body: item.content, headers, signal });
  const answer = await response.json().catch(() => null);
  if (!response.ok || !answer) {
    const reason = answer?.error ?? `The server answered ${response.status} without a reason.`;
    throw Object.assign(new Error(reason), { refused: response.status < 500 && response.status !== 429 });
  }
  const { image_png, mask_png, probability_png, ...rest } = answer;
  return {
    ...rest,
    given: item.spacing,
    image: picture(image_png),
    mask: picture(mask_png),
    map: probability_png && picture(probability_png),
  };
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
