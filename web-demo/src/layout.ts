/** Where tiles go: pure geometry, all numbers in CSS pixels. */

export interface Rect {
  x: number
  y: number
  width: number
  height: number
}

export interface Size {
  width: number
  height: number
}

const ASPECT = 16 / 9
// How near to square a tile may become to fill its cell; cameras of upright phones lose less by it.
const ASPECT_MIN = 4 / 3
const ASPECT_MIN_UPRIGHT = 1.15
const GAP = 10
const STRIP_SHARE = 0.22
const STRIP_MIN = 92
const STRIP_MAX = 210

/** How many columns and rows show `count` tiles largest, and how large. */
export function bestGrid(count: number, area: Size): { columns: number; rows: number; tile: Size } {
  let best = { columns: 1, rows: Math.max(1, count), tile: { width: 0, height: 0 } }
  const aspectMin = area.width < area.height ? ASPECT_MIN_UPRIGHT : ASPECT_MIN
  for (let columns = 1; columns <= count; columns += 1) {
    const rows = Math.ceil(count / columns)
    const cell = {
      width: (area.width - GAP * (columns - 1)) / columns,
      height: (area.height - GAP * (rows - 1)) / rows,
    }
    const tile = fit(cell, aspectMin)
    if (tile.width * tile.height > best.tile.width * best.tile.height) best = { columns, rows, tile }
  }
  return best
}

/** The largest tile in a cell: 16:9, or closer to square where the cell is narrow. */
function fit({ width, height }: Size, aspectMin: number): Size {
  if (width <= 0 || height <= 0) return { width: 0, height: 0 }
  if (width / height > ASPECT) return { width: height * ASPECT, height }
  return { width, height: Math.min(height, width / aspectMin) }
}

/** Rectangles of a grid; every row is centred. */
export function gridRects(count: number, area: Size): Rect[] {
  if (count === 0) return []
  const { columns, rows, tile } = bestGrid(count, area)
  const top = (area.height - rows * tile.height - (rows - 1) * GAP) / 2
  return Array.from({ length: count }, (_, index) => {
    const row = Math.floor(index / columns)
    const inRow = row === rows - 1 ? count - row * columns : columns
    const left = (area.width - inRow * tile.width - (inRow - 1) * GAP) / 2
    return {
      x: left + (index - row * columns) * (tile.width + GAP),
      y: top + row * (tile.height + GAP),
      ...tile,
    }
  })
}

/** How many tiles go on one page, so that none is narrower than `widthMin`. */
export function pageCapacity(area: Size, widthMin: number): number {
  let count = 1
  while (count < 49 && bestGrid(count + 1, area).tile.width >= widthMin) count += 1
  return count
}

/** One large rectangle and as many small ones beside or below it as there is room for. */
export function speakerRects(count: number, area: Size): { main: Rect; strip: Rect[] } {
  if (count <= 1) return { main: { x: 0, y: 0, ...area }, strip: [] }
  const isWide = area.width / area.height > 1.25
  return isWide ? besideMain(count - 1, area) : belowMain(count - 1, area)
}

function besideMain(count: number, area: Size): { main: Rect; strip: Rect[] } {
  const width = clamp(area.width * STRIP_SHARE, STRIP_MIN, STRIP_MAX)
  const height = width / ASPECT
  const shown = Math.min(count, Math.max(1, Math.floor((area.height + GAP) / (height + GAP))))
  const main = { x: 0, y: 0, width: area.width - width - GAP, height: area.height }
  const top = (area.height - shown * height - (shown - 1) * GAP) / 2
  const strip = Array.from({ length: shown }, (_, index) => ({
    x: main.width + GAP,
    y: top + index * (height + GAP),
    width,
    height,
  }))
  return { main, strip }
}

function belowMain(count: number, area: Size): { main: Rect; strip: Rect[] } {
  const third = (area.width - 2 * GAP) / 3 // a phone held upright shows three
  const height = Math.min(clamp(area.height * STRIP_SHARE, STRIP_MIN, STRIP_MAX * 0.75), third / ASPECT_MIN_UPRIGHT)
  const width = Math.min(height * 1.25, third)
  const shown = Math.min(count, Math.max(1, Math.floor((area.width + GAP) / (width + GAP))))
  const main = { x: 0, y: 0, width: area.width, height: area.height - height - GAP }
  const left = (area.width - shown * width - (shown - 1) * GAP) / 2
  const strip = Array.from({ length: shown }, (_, index) => ({
    x: left + index * (width + GAP),
    y: main.height + GAP,
    width,
    height,
  }))
  return { main, strip }
}

function clamp(value: number, low: number, high: number): number {
  return Math.min(Math.max(value, low), high)
}
