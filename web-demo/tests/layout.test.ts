import { describe, expect, it } from 'vitest'
import { bestGrid, gridRects, pageCapacity, speakerRects } from '../src/layout'
import type { Rect } from '../src/layout'

const DESKTOP = { width: 1244, height: 672 }
const PHONE = { width: 370, height: 730 }

function overlap(a: Rect, b: Rect): boolean {
  return a.x < b.x + b.width && b.x < a.x + a.width && a.y < b.y + b.height && b.y < a.y + a.height
}

describe('the grid', () => {
  it('puts two side by side on a desktop and one above the other on a phone', () => {
    expect(bestGrid(2, DESKTOP)).toMatchObject({ columns: 2, rows: 1 })
    expect(bestGrid(2, PHONE)).toMatchObject({ columns: 1, rows: 2 })
  })

  it.each([1, 2, 3, 4, 5, 7, 12, 25, 49])('keeps %i tiles inside the area and apart', (count) => {
    for (const area of [DESKTOP, PHONE, { width: 800, height: 300 }]) {
      const rects = gridRects(count, area)
      expect(rects).toHaveLength(count)
      rects.forEach((rect, index) => {
        expect(rect.x).toBeGreaterThanOrEqual(-0.01)
        expect(rect.y).toBeGreaterThanOrEqual(-0.01)
        expect(rect.x + rect.width).toBeLessThanOrEqual(area.width + 0.01)
        expect(rect.y + rect.height).toBeLessThanOrEqual(area.height + 0.01)
        expect(rects.slice(index + 1).some((other) => overlap(rect, other))).toBe(false)
      })
    }
  })

  it('centres the last row', () => {
    const rects = gridRects(3, DESKTOP)
    const last = rects[2]!
    expect(last.x + last.width / 2).toBeCloseTo(DESKTOP.width / 2)
  })

  it('shows no more on a page than stay wide enough', () => {
    const capacity = pageCapacity(PHONE, 150)
    expect(bestGrid(capacity, PHONE).tile.width).toBeGreaterThanOrEqual(150)
    expect(bestGrid(capacity + 1, PHONE).tile.width).toBeLessThan(150)
    expect(pageCapacity({ width: 10, height: 10 }, 150)).toBe(1)
  })
})

describe('the speaker view', () => {
  it('gives one the whole area', () => {
    expect(speakerRects(1, DESKTOP)).toEqual({ main: { x: 0, y: 0, ...DESKTOP }, strip: [] })
  })

  it.each([DESKTOP, PHONE])('keeps the strip beside the large picture', (area) => {
    const { main, strip } = speakerRects(30, area)
    expect(strip.length).toBeGreaterThan(1)
    expect(main.width * main.height).toBeGreaterThan(0.5 * area.width * area.height)
    for (const rect of strip) {
      expect(overlap(main, rect)).toBe(false)
      expect(rect.y + rect.height).toBeLessThanOrEqual(area.height + 0.01)
      expect(rect.x + rect.width).toBeLessThanOrEqual(area.width + 0.01)
    }
  })
})
