// As much of fragmented MP4 (ISO/IEC 14496-12) as tells when the frames of a part are shown.

/** The boxes of a range of bytes, as [type, start of content, end]. */
function* boxes(bytes, from = 0, to = bytes.length) {
  for (let at = from; at + 8 <= to;) {
    const size = bytes.readUInt32BE(at) || to - at;
    if (size < 8 || at + size > to) throw new Error(`a box of ${size} bytes at ${at}`);
    yield [bytes.toString('latin1', at + 4, at + 8), at + 8, at + size];
    at += size;
  }
}

/** The content of the box at the end of a path of types. */
function find(bytes, ...types) {
  let range = [0, bytes.length];
  for (const type of types) {
    const box = [...boxes(bytes, ...range)].find(([name]) => name === type);
    if (!box) throw new Error(`no ${type}`);
    range = box.slice(1);
  }
  return bytes.subarray(...range);
}

/** Ticks a second of an initialisation segment's only track. */
export function timescaleOf(init) {
  const mdhd = find(init, 'moov', 'trak', 'mdia', 'mdhd');
  return mdhd.readUInt32BE(mdhd[0] === 1 ? 20 : 12);
}

/** When each frame of a fragment is decoded, in ticks, and how long it is said to last. */
export function framesOf(part) {
  const traf = find(part, 'moof', 'traf');
  const tfhd = find(traf, 'tfhd');
  const flags = tfhd.readUIntBE(1, 3);
  const before = [[0x1, 8], [0x2, 4]].reduce((at, [flag, size]) => at + (flags & flag ? size : 0), 8);
  const usual = flags & 0x8 ? tfhd.readUInt32BE(before) : 0;
  const tfdt = find(traf, 'tfdt');
  let at = tfdt[0] === 1 ? Number(tfdt.readBigUInt64BE(4)) : tfdt.readUInt32BE(4);
  const frames = [];
  for (const [type, from, to] of boxes(traf)) {
    if (type !== 'trun') continue;
    const trun = traf.subarray(from, to);
    const has = trun.readUIntBE(1, 3);
    let place = 8 + (has & 0x1 ? 4 : 0) + (has & 0x4 ? 4 : 0);
    for (let n = trun.readUInt32BE(4); n > 0; n -= 1) {
      const duration = has & 0x100 ? trun.readUInt32BE(place) : usual;
      frames.push({ at, duration });
      at += duration;
      place += [0x100, 0x200, 0x400, 0x800].filter((flag) => has & flag).length * 4;
    }
  }
  return frames;
}
