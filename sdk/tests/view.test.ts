import { describe, expect, it } from 'vitest'
import { ViewQueue, wantedFor } from '../src/view'

const shown = (width: number, height: number, visible = true) => ({ width, height, visible })
const view = (w: number, h: number, paused = false) => ({ w, h, paused })

describe('what a track’s elements want', () => {
  it('is the largest visible one in physical pixels, at most twice its CSS size', () => {
    expect(wantedFor([shown(160, 90), shown(640, 360), shown(999, 999, false)], 1)).toEqual(view(640, 368))
    expect(wantedFor([shown(640, 360)], 3)).toEqual(view(1280, 720))
    expect(wantedFor([shown(640, 360)], 0.5)).toEqual(view(640, 368))
  })

  it('is nothing when none is visible', () => {
    expect(wantedFor([shown(640, 360, false)], 2).paused).toBe(true)
    expect(wantedFor([shown(0, 360)], 2).paused).toBe(true)
    expect(wantedFor([], 2).paused).toBe(true)
  })
})

describe('the view queue', () => {
  it('tells growth after 100 ms and shrinking after 3 s', () => {
    const queue = new ViewQueue()
    queue.want('t', view(320, 192), 0)
    expect(queue.poll(99)).toBeUndefined()
    expect(queue.poll(100)).toEqual({ t: view(320, 192) })
    queue.want('t', view(640, 368), 1000)
    expect(queue.nextMs).toBe(1100)
    expect(queue.poll(1100)).toEqual({ t: view(640, 368) })
    queue.want('t', view(320, 192), 2000)
    expect(queue.poll(4999)).toBeUndefined()
    expect(queue.poll(5000)).toEqual({ t: view(320, 192) })
  })

  it('says nothing when a change is taken back in time', () => {
    const queue = new ViewQueue()
    queue.want('t', view(320, 192), 0)
    queue.poll(100)
    queue.want('t', view(0, 0, true), 200)
    queue.want('t', view(320, 192), 1000)
    expect(queue.nextMs).toBeUndefined()
  })

  it('batches what is due together', () => {
    const queue = new ViewQueue()
    queue.want('a', view(320, 192), 0)
    queue.want('b', view(320, 192), 50)
    expect(Object.keys(queue.poll(150) ?? {})).toEqual(['a', 'b'])
  })

  it('is not put off forever by steady growth', () => {
    const queue = new ViewQueue()
    for (let ms = 0; ms <= 200; ms += 20) {
      queue.want('t', view(320 + ms, 192), ms)
      if (queue.poll(ms)) return
    }
    expect.unreachable('never told')
  })

  it('does not pause at once what nobody has measured yet', () => {
    const queue = new ViewQueue()
    queue.want('t', view(0, 0, true), 0)
    expect(queue.poll(200)).toBeUndefined()
    queue.want('t', view(320, 192), 300)
    expect(queue.poll(400)).toEqual({ t: view(320, 192) })
  })

  it('answers a chosen layer at once', () => {
    const queue = new ViewQueue()
    queue.want('t', view(640, 368), 0)
    queue.poll(100)
    queue.want('t', { ...view(0, 0), layer: 0 }, 200)
    expect(queue.poll(300)).toEqual({ t: { ...view(0, 0), layer: 0 } })
  })

  it('tells everything again to a new session, and nothing of tracks that are gone', () => {
    const queue = new ViewQueue()
    queue.want('a', view(320, 192), 0)
    queue.want('b', view(320, 192), 0)
    queue.poll(100)
    queue.forget('b')
    queue.reset(200)
    expect(queue.poll(200)).toEqual({ a: view(320, 192) })
  })
})
