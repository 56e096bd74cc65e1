// A clock burned into pictures: 40 cells across the whole width of the topmost strip, white, black, 32 bits
// of a time in milliseconds, 4 bits of check and black, white. Loaded by Node and by pages alike.
globalThis.barCode = (() => {
  const CELLS = 40;
  /** How much of the picture's height the strip takes. */
  const STRIP = 1 / 15;
  const [DARK, LIGHT] = [16, 235];

  /** The cells of a time (ms, modulo 2^32), as booleans. */
  function cells(ms) {
    const value = ms % 2 ** 32 >>> 0;
    const bits = [...Array(32).keys()].map((n) => Boolean((value >>> (31 - n)) & 1));
    const check = [...Array(4).keys()].map((n) => Boolean((checkOf(value) >>> (3 - n)) & 1));
    return [true, false, ...bits, ...check, false, true];
  }

  /** All nibbles and their places in four bits: one wrong cell never fits. */
  function checkOf(value) {
    let check = 0b1010;
    for (let n = 0; n < 8; n += 1) {
      check ^= (value >>> (4 * n)) & 15;
      check = ((check << 1) | (check >>> 3)) & 15;
    }
    return check;
  }

  /** Writes the strip into the luma plane of a picture. */
  function burn(luma, width, height, ms) {
    const rows = Math.round(height * STRIP);
    cells(ms).forEach((light, n) => {
      const [from, to] = [Math.round((n * width) / CELLS), Math.round(((n + 1) * width) / CELLS)];
      luma.fill(light ? LIGHT : DARK, from, to);
    });
    for (let row = 1; row < rows; row += 1) luma.copyWithin(row * width, 0, width);
  }

  /** The time in 40 brightnesses, one for each cell; `null`: there is none, or it is damaged. */
  function read(brightnesses) {
    const at = (n) => brightnesses[n];
    const [light, dark] = [(at(0) + at(39)) / 2, (at(1) + at(38)) / 2];
    if (light - dark < 60) return null;
    const limit = (light + dark) / 2;
    const number = (from, to) => {
      let value = 0;
      for (let n = from; n < to; n += 1) value = value * 2 + (at(n) > limit ? 1 : 0);
      return value;
    };
    const value = number(2, 34);
    return checkOf(value) === number(34, 38) ? value : null;
  }

  /** How long ago a time that was read is, in ms; `now` in ms since 1970. */
  function age(now, ms) {
    const past = (now % 2 ** 32) - ms;
    return past < -(2 ** 31) ? past + 2 ** 32 : past;
  }

  /** The time that was read, in ms since 1970. */
  const whole = (now, ms) => Math.floor(now) - age(Math.floor(now), ms);

  return { whole, CELLS, STRIP, burn, read, age };
})();
