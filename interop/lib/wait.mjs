// Waiting for what is expected, with a message that tells what was seen instead.

export const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** Waits for a promise, but no longer than `ms`; afterwards no timer keeps the process. */
export async function atMost(ms, promise) {
  let timer;
  const over = new Promise((resolve) => (timer = setTimeout(resolve, ms)));
  await Promise.race([promise, over]);
  clearTimeout(timer);
}

/**
 * Polls `check` until it returns something truthy and returns that.
 * `check` may return `{ ok, ...seen }`: then `ok` decides and the rest is shown on failure.
 */
export async function eventually(what, check, { timeoutMs = 20_000, everyMs = 250 } = {}) {
  const deadline = Date.now() + timeoutMs;
  let seen;
  for (;;) {
    try {
      seen = await check();
      if (seen && (typeof seen !== 'object' || !('ok' in seen) || seen.ok)) return seen;
    } catch (error) {
      seen = error;
    }
    if (Date.now() > deadline) {
      const shown = seen instanceof Error ? seen.message : JSON.stringify(seen);
      throw new Error(`${what}: not within ${timeoutMs} ms; last seen: ${shown}`);
    }
    await sleep(everyMs);
  }
}

/** The smallest value with at least `share` (0 to 1) of `values` at or below it. */
export function percentile(values, share) {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)];
}
